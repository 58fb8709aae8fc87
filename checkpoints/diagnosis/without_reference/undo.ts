/** An undone fault of a file, as `diagnose` tries them; undos.ts lists all. */
import type { Alteration } from "../../files/altered_file.ts";
import type { Cause } from "../causes.ts";

/** A fault that a file may have, undone. */
export interface Undo {
  readonly cause: Cause;
  /** One line: what is done. */
  readonly detail: string;
  readonly alteration: Alteration;
  /** Whether the fault is there beyond doubt, whatever the loss says. */
  readonly certain?: boolean;
  /** What mends nothing but has the undo's side effects: the undo must do better. */
  readonly control?: Alteration;
  /** Whether what the undo leaves is plausible in itself: it is not tried where it is not. */
  readonly isPlausible?: () => Promise<boolean>;
  /** The only layer that is concerned; undefined where a fault is one of the whole model. */
  readonly layer?: number;
}

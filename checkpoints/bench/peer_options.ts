/** How peers are started. */
import type { Config } from "../../engine/model/config.ts";

/** What peers are measured with. */
export interface PeerOptions {
  readonly path: string;
  readonly name: string;
  readonly config: Config;
  /** Told a line before something that takes long. */
  readonly onProgress: (line: string) => void;
  readonly signal?: AbortSignal;
}

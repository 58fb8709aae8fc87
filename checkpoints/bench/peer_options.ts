/** How peers are started. */
import type { Config } from "../../engine/model/config.ts";

/** What peers are measured with. */
export interface PeerOptions {
  readonly path: string;
  readonly name: string;
  readonly config: Config;
  /** What Lamina runs on: a peer on another kind of device is none. */
  readonly backend: "webgpu" | "cpu";
  /** Threads of peers that run on the CPU; by default half of the cores or all of them, whichever is the faster each time. */
  readonly threads?: number;
  /** Told a line before something that takes long. */
  readonly onProgress: (line: string) => void;
  readonly signal?: AbortSignal;
}

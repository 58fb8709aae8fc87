/** Work that takes long: in a notebook its progress is shown, and Stop ends it. */
import { untilStop } from "./interrupt.ts";
import { inNotebook, outputsLeft } from "./kernel.ts";
import { progressBar } from "./progress.ts";

/** The options that all long work has. */
export interface WorkOptions {
  /** Ends the work. */
  readonly signal?: AbortSignal;
  /**
   * Told how far it is, and what of it goes on where it has parts. In a notebook a bar shows it, unless somebody listens here.
   */
  readonly onProgress?: (done: number, total: number, what?: string) => void;
}

/** Work that is part of other work shows no bar of its own. */
let showing = false;

/**
 * Does work that takes long. Outside a notebook it is just done.
 *
 * @param name what is done: `Patching`
 * @param work is given the caller's options, tied to the notebook
 * @throws {Stopped} when the notebook's Stop ended it
 */
export async function longWork<T>(
  name: string,
  options: WorkOptions,
  work: (options: WorkOptions) => Promise<T>,
): Promise<T> {
  if (!inNotebook) return await work(options);
  const bar = showing || options.onProgress ? undefined : progressBar(name);
  if (bar) showing = true;
  let reached = "";
  const onProgress = options.onProgress ?? ((done, total, what) => {
    reached = what ?? `${done} of ${total}`;
    bar?.update(done, total, what);
  });
  const stop = untilStop(() => `${name} was stopped${reached && ` (${reached})`}`, options.signal);
  let ended = "failed";
  try {
    const result = await work({ signal: stop.signal, onProgress });
    stop.check(); // some work ends early with what it has
    ended = "done";
    return result;
  } catch (error) {
    if (stop.signal?.aborted) ended = "stopped";
    stop.check(); // rather than what came of it
    throw error;
  } finally {
    stop.end();
    if (bar) {
      showing = false;
      bar.finish(ended);
      if (ended !== "done") await outputsLeft();
    }
  }
}

/** Work that takes long: in a notebook its progress is shown, and Stop ends it. */
import { untilStop } from "./interrupt.ts";
import { inNotebook, outputsLeft } from "./kernel.ts";
import { progressBar } from "./progress.ts";

/** What ends work, and who is told how far it is: a bar, unless the caller listens. */
interface Followed {
  readonly signal?: AbortSignal;
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
  options: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (done: number, total: number, what: string) => void;
  },
  work: (options: Followed) => Promise<T>,
): Promise<T> {
  // Who listens knows whether the work has parts.
  const { signal, onProgress: listener } = options as Followed;
  if (!inNotebook) return await work({ signal, onProgress: listener });
  const bar = showing || listener ? undefined : progressBar(name);
  if (bar) showing = true;
  let reached = "";
  const onProgress = (done: number, total: number, what?: string) => {
    reached = what ?? `${done} of ${total}`;
    bar?.update(done, total, what);
    listener?.(done, total, what);
  };
  const stop = untilStop(() => `${name} was stopped${reached && ` (${reached})`}`, signal);
  let ended = "failed";
  try {
    const result = await work({ signal: stop.signal, onProgress });
    stop.check(); // some work ends early with what it has
    ended = "done";
    return result;
  } catch (error) {
    await stop.settle();
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

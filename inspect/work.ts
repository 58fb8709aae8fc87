/** Work that takes long: what ends it, and who is told how far it is. The place that Lamina runs in, a notebook, adds to both. */

/** What a cell ends with after a Stop. */
export class Stopped extends Error {
  /** The class's name. */
  override readonly name = "Stopped";
  /**
   * Thrown out of whatever was running.
   *
   * @param what was stopped, and how far it was
   */
  constructor(readonly what: string) {
    super(`${what}; variables and models stay usable`);
  }
}

/** Shows how far work is. */
export interface ProgressBar {
  readonly update: (done: number, total?: number, what?: string) => void;
  /** To be awaited before an error is thrown. */
  readonly finish: (how: "done" | "stopped" | "failed") => Promise<void>;
}

/** A place that shows progress and has a Stop. Commands are none: they hand in listeners and signals of their own. */
export interface Host {
  readonly progressBar: (name: string) => ProgressBar;
  /** Has a function called at each Stop. */
  readonly onStop: (stop: () => void) => void;
}

let host: Host | undefined;
/** What a Stop ends, and what is said of it, the outermost first. */
const running = new Map<AbortController, () => string>();
/** Work that is part of other work shows no bar of its own. */
let showing = false;

/** Tells where Lamina runs: once, before any work. */
export function installHost(given: Host): void {
  host = given;
  given.onStop(() => {
    const [outermost] = running.values();
    if (!outermost) return;
    const stopped = new Stopped(outermost());
    for (const controller of running.keys()) controller.abort(stopped);
  });
}

/** Something that a Stop ends, until it is disposed of. */
export interface Stoppable extends Disposable {
  /** Aborts at a Stop, and when the caller's own signal does. */
  readonly signal: AbortSignal | undefined;
  /** @throws {Stopped} once it was stopped */
  readonly check: () => void;
}

/**
 * Begins something that a Stop ends. Where there is none only the caller's signal does.
 *
 * @param what was stopped and how far it is, as a sentence's beginning: `the sweep was stopped at 3 of 40`
 */
export function untilStop(what: () => string, signal?: AbortSignal): Stoppable {
  if (!host) return { signal, check() {}, [Symbol.dispose]() {} };
  const controller = new AbortController();
  running.set(controller, what);
  return {
    signal: signal ? AbortSignal.any([controller.signal, signal]) : controller.signal,
    check: () => controller.signal.throwIfAborted(),
    [Symbol.dispose]: () => void running.delete(controller),
  };
}

/**
 * Does something short: after a Stop it ends, and then throws.
 *
 * @throws {Stopped}
 */
export async function stoppable<T>(work: () => Promise<T>): Promise<T> {
  using stop = untilStop(() => "What ran was stopped");
  const result = await work();
  stop.check();
  return result;
}

/** How long work goes on, and how it is followed. */
export interface WorkOptions {
  /** Ends the work; the function then fails with its reason. */
  readonly signal?: AbortSignal;
  /** Called before each part of the work: how many are done, of how many, and what comes next. */
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

/**
 * Does work that takes long: the host shows a bar, unless the caller listens, and its Stop ends it. Without a host it is just done.
 *
 * @param name what is done: `Patching`
 * @param work is given the caller's options, tied to the host
 * @throws {Stopped} when the host's Stop ended it
 */
export async function longWork<Options extends WorkOptions, T>(
  name: string,
  options: Options,
  work: (options: Options) => Promise<T>,
): Promise<T> {
  if (!host) return await work(options);
  const { onProgress: listener } = options;
  const bar = showing || listener ? undefined : host.progressBar(name);
  if (bar) showing = true;
  let reached = "";
  const onProgress = (done: number, total: number, what?: string) => {
    reached = what ?? `${done} of ${total}`;
    bar?.update(done, total, what);
    listener?.(done, total, what!); // who listens knows whether the work has parts
  };
  using stop = untilStop(
    () => `${name} was stopped${reached && ` (${reached})`}`,
    options.signal,
  );
  let ended: Parameters<ProgressBar["finish"]>[0] = "failed";
  try {
    const result = await work({ ...options, signal: stop.signal, onProgress });
    stop.check(); // some work ends early with what it has
    ended = "done";
    return result;
  } catch (error) {
    // A process that works for us is interrupted too, and may have ended before we know.
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (stop.signal?.aborted) ended = "stopped";
    stop.check(); // rather than what came of it
    throw error;
  } finally {
    if (bar) showing = false;
    await bar?.finish(ended);
  }
}

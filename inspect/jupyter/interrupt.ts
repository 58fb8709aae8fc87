/**
 * A notebook's Stop. It comes as SIGINT, of which Deno's kernel dies unless somebody listens; here it ends what Lamina is doing, and
 * kernel, variables and models stay. A cell that computes without ever awaiting anything lets no signal in.
 */

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

/** Something that a Stop ends. */
export interface Stoppable {
  /** Aborts at a Stop, and when the caller's own signal does. */
  readonly signal: AbortSignal | undefined;
  /** To be awaited before an error is looked at: a process that works for us is interrupted too, and may have ended before we know. */
  readonly settle: () => Promise<void>;
  /** @throws {Stopped} once it was stopped */
  readonly check: () => void;
  /** To be called whatever happens. */
  readonly end: () => void;
}

const running = new Map<AbortController, () => string>();
let listening = false;

/** Listens from now on. */
export function listenToStop(): void {
  listening = true;
  Deno.addSignalListener("SIGINT", () => {
    const [outermost] = running.values();
    if (!outermost) return;
    const stopped = new Stopped(outermost());
    for (const controller of running.keys()) controller.abort(stopped);
  });
}

/**
 * Does something short: after a Stop it ends, and then throws.
 *
 * @throws {Stopped}
 */
export async function stoppable<T>(work: () => Promise<T>): Promise<T> {
  const stop = untilStop(() => "What ran was stopped");
  try {
    const result = await work();
    stop.check();
    return result;
  } finally {
    stop.end();
  }
}

/**
 * Begins something that a Stop ends. Outside a notebook only the caller's signal does.
 *
 * @param what was stopped and how far it is, as a sentence's beginning: `the sweep was stopped at 3 of 40`
 */
export function untilStop(what: () => string, signal?: AbortSignal): Stoppable {
  if (!listening) return { signal, async settle() {}, check() {}, end() {} };
  const controller = new AbortController();
  running.set(controller, what);
  return {
    signal: signal ? AbortSignal.any([controller.signal, signal]) : controller.signal,
    settle: () => new Promise((resolve) => setTimeout(resolve, 20)),
    check: () => controller.signal.throwIfAborted(),
    end: () => void running.delete(controller),
  };
}

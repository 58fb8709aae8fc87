/** Ctrl-C in a command. */

/** What a shell reports for a process that Ctrl-C ended. */
const INTERRUPTED = 130;

/** Listens for Ctrl-C until it is disposed of. */
export interface Interrupt extends Disposable {
  /** Aborted by the first Ctrl-C; the second ends the process at once. */
  readonly signal: AbortSignal;
}

/** Begins to listen for Ctrl-C. */
export function listenForInterrupt(): Interrupt {
  const controller = new AbortController();
  const onInterrupt = () => {
    if (controller.signal.aborted) Deno.exit(INTERRUPTED);
    controller.abort(new Error("interrupted"));
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", onInterrupt),
  };
}

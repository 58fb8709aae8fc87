/** A Python process that is asked one thing after the other. */
import { ReferenceFailure } from "../reference.ts";
import type { Frame } from "./frames.ts";
import { type FrameProcess, runFrames } from "./process.ts";

/**
 * A process that stays and answers one request, a line of JSON, after the other. When one of them fails, the process is gone and so
 * do all that follow.
 */
export class AskedProcess {
  readonly #name: string;
  readonly #over = new AbortController();
  readonly #frames: AsyncGenerator<Frame>;
  #requests!: ReadableStreamDefaultController<Uint8Array>;
  #last: Promise<unknown> = Promise.resolve();

  /** @param name of the reference, for errors */
  constructor(name: string, process: Omit<FrameProcess, "input" | "signal">) {
    this.#name = name;
    const input = new ReadableStream<Uint8Array>({
      start: (requests) => void (this.#requests = requests),
    });
    this.#frames = runFrames(name, { ...process, input, signal: this.#over.signal });
  }

  /**
   * Sends a request and takes the frames of its answer.
   *
   * @param take gets each frame; what it makes of the last one is the answer
   */
  ask<T>(
    request: Readonly<Record<string, unknown>>,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    const answer = this.#last.then(() => this.#ask(request, take, signal));
    this.#last = answer.catch((reason) => this.#over.abort(reason));
    return answer;
  }

  async #ask<T>(
    request: Readonly<Record<string, unknown>>,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    this.#over.signal.throwIfAborted();
    signal?.throwIfAborted();
    const abort = () => this.#over.abort(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      this.#requests.enqueue(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
      while (true) {
        const frame = await this.#frames.next();
        if (frame.done) {
          throw new ReferenceFailure(this.#name, "its output ended before it was done");
        }
        const answer = take(frame.value);
        if (answer !== undefined) return answer;
      }
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends it. */
  async close(): Promise<void> {
    this.#over.abort(new ReferenceFailure(this.#name, "it is closed"));
    await this.#last;
    await this.#frames.return(undefined);
  }
}

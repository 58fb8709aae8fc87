/** A process that is asked one thing after the other. */
import { ReferenceFailure } from "../reference.ts";
import type { Frame, writeFrame } from "./frames.ts";
import { type FrameProcess, runFrames } from "./process.ts";

/** What a process is asked for. */
type Request = Readonly<Record<string, unknown>>;

/** A process that stays and answers one request after the other. When one of them fails, the process is gone and so do all that follow. */
export class RequestProcess {
  readonly #name: string;
  readonly #write: typeof writeFrame;
  readonly #over = new AbortController();
  readonly #frames: AsyncGenerator<Frame>;
  #requests!: ReadableStreamDefaultController<Uint8Array>;
  #last: Promise<unknown> = Promise.resolve();

  /**
   * @param name of the reference, for errors
   * @param write how requests are written; default a line of JSON each
   */
  constructor(
    name: string,
    process: Omit<FrameProcess, "input" | "signal">,
    write: typeof writeFrame = writeLine,
  ) {
    this.#name = name;
    this.#write = write;
    const input = new ReadableStream<Uint8Array>({
      start: (requests) => void (this.#requests = requests),
    });
    this.#frames = runFrames(name, { ...process, input, signal: this.#over.signal });
  }

  /** Sends what asks for no answer. */
  give(request: Request): void {
    this.#write((bytes) => (this.#requests.enqueue(bytes), bytes.length), request);
  }

  /**
   * Sends a request and takes the frames of its answer.
   *
   * @param take gets each frame; what it makes of the last one is the answer
   */
  ask<T>(
    request: Request,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    const answer = this.#last.then(() => this.#ask(request, take, signal));
    this.#last = answer.catch((reason) => this.#over.abort(reason));
    return answer;
  }

  async #ask<T>(
    request: Request,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    this.#over.signal.throwIfAborted();
    signal?.throwIfAborted();
    const abort = () => this.#over.abort(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      this.give(request);
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

function writeLine(write: (bytes: Uint8Array) => number, request: Request): void {
  write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
}

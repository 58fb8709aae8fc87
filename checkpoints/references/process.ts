/** A reference in a process of its own: requests as lines of JSON on its standard input, answers as frames on its output. */
import { ReferenceFailure } from "../reference.ts";
import { type Frame, readFrames } from "./frames.ts";

/** What is known of the process. */
export interface ReferenceProcessOptions {
  /** Of the reference, for errors. */
  readonly name: string;
  /** Starts it; standard input, output and errors must be piped. */
  readonly spawn: () => Deno.ChildProcess;
  /** How long it may take for the next frame before it counts as hanging; default {@linkcode PATIENCE_MS}. */
  readonly timeoutMs?: number;
}

/** Between two frames: a pass of a large model on a slow CPU takes minutes. */
export const PATIENCE_MS = 10 * 60_000;

/** The last lines of standard error say why a process died. */
const ERROR_BYTES = 16_384;

/**
 * A process that answers one request at a time. When it dies, hangs, answers nonsense or the request is aborted, it is ended, the
 * request fails, and so does every later one.
 */
export class ReferenceProcess {
  readonly #options: ReferenceProcessOptions;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #frames: AsyncGenerator<Frame>;
  readonly #errors: Promise<string>;
  /** Requests wait for the one before them. */
  #last: Promise<unknown> = Promise.resolve();
  #ended: unknown;

  /** @throws {ReferenceFailure} when it cannot be started */
  constructor(options: ReferenceProcessOptions) {
    this.#options = options;
    try {
      this.#child = options.spawn();
    } catch (error) {
      throw new ReferenceFailure(
        options.name,
        `it cannot be started: ${error instanceof Error ? error.message : error}`,
      );
    }
    this.#writer = this.#child.stdin.getWriter();
    this.#frames = readFrames(options.name, this.#child.stdout);
    this.#errors = endOf(this.#child.stderr);
  }

  /**
   * Sends a request and takes the frames of its answer.
   *
   * @param take looks at each frame; the one for which it returns a value is the last
   * @returns that value
   * @throws {ReferenceFailure} when there is no such answer; a frame `failed` says why and leaves the process alive
   */
  request<T>(
    request: Readonly<Record<string, unknown>>,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    const answer = this.#last.then(() => this.#exchange(request, take, signal));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #exchange<T>(
    request: Readonly<Record<string, unknown>>,
    take: (frame: Frame) => T | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    if (this.#ended) throw this.#ended;
    const line = new TextEncoder().encode(`${JSON.stringify(request)}\n`);
    // A process that is dead already says so below, where its output ends.
    this.#writer.write(line).catch(() => {});
    try {
      while (true) {
        const frame = await this.#next(signal);
        if (frame.header.kind === "failed") {
          throw new Refusal(this.#options.name, String(frame.header.problem));
        }
        const result = take(frame);
        if (result !== undefined) return result;
      }
    } catch (error) {
      if (!(error instanceof Refusal)) await this.#end(error);
      throw error;
    }
  }

  async #next(signal: AbortSignal | undefined): Promise<Frame> {
    const { name, timeoutMs = PATIENCE_MS } = this.#options;
    signal?.throwIfAborted();
    const limit = Promise.withResolvers<never>();
    const seconds = Math.round(timeoutMs / 1000);
    const timer = setTimeout(
      () => limit.reject(new ReferenceFailure(name, `it hangs: no answer for ${seconds} s`)),
      timeoutMs,
    );
    const abort = () => limit.reject(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      const { value, done } = await Promise.race([this.#frames.next(), limit.promise]);
      if (!done) return value;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
    throw await this.#death();
  }

  async #death(): Promise<ReferenceFailure> {
    const { code, signal } = await this.#child.status;
    const said = (await this.#errors).trim().split("\n").at(-1)!.trim();
    const why = signal === "SIGKILL"
      ? "killed by SIGKILL: perhaps there was not enough memory"
      : signal
      ? `killed by ${signal}`
      : `exit code ${code}`;
    return new ReferenceFailure(this.#options.name, `it died (${why})${said && `: ${said}`}`);
  }

  async #end(reason: unknown): Promise<void> {
    this.#ended ??= reason;
    try {
      this.#child.kill("SIGKILL");
    } catch { /* dead already */ }
    await this.#writer.close().catch(() => {});
    await this.#child.status;
    // The generator may stand in a read: only now is there an end to it.
    await this.#frames.return(undefined).catch(() => {});
    await this.#errors;
  }

  /** Ends the process. */
  async close(): Promise<void> {
    await this.#end(new ReferenceFailure(this.#options.name, "it is closed"));
  }
}

/** A request that the process itself refused; it goes on. */
class Refusal extends ReferenceFailure {}

/** The last part of a stream, as text. */
async function endOf(stream: ReadableStream<Uint8Array>): Promise<string> {
  let end: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  for await (const chunk of stream) {
    const joined = new Uint8Array(end.length + chunk.length);
    joined.set(end);
    joined.set(chunk, end.length);
    end = joined.slice(-ERROR_BYTES);
  }
  return new TextDecoder().decode(end);
}

/** A reference in a process of its own, which may crash, hang or print nonsense without taking us along. */
import { ReferenceFailure } from "../reference.ts";
import { type Frame, readFrames } from "./frames.ts";

/** What is started, and what it is given. */
export interface FrameProcess {
  readonly command: string;
  readonly args: readonly string[];
  /** Variables besides our own. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads on its standard input: all at once, in pieces, or request after request. */
  readonly input?: readonly Uint8Array[] | ReadableStream<Uint8Array>;
  /** Milliseconds that may pass without a frame; 5 minutes. A process that has more to do than that sends frames in between. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 5 * 60_000;
/** How long a process may take to end once it has closed its output. */
const GRACE_MS = 5000;
/** What is kept of its messages. */
const MESSAGE_BYTES = 64 * 1024;

/**
 * Runs a process and yields its frames; the last has the kind `done`. A frame of the kind `failure` says in `problem`, on one line,
 * why there is no more. However this ends, the process is gone afterwards.
 *
 * @param name of the reference, for errors
 * @throws {ReferenceFailure} when it cannot be started, says that it failed, dies, hangs or ends without `done`
 */
export async function* runFrames(name: string, process: FrameProcess): AsyncGenerator<Frame> {
  const { timeout = TIMEOUT_MS, signal, input = [] } = process;
  signal?.throwIfAborted();
  const child = spawn(name, process);
  const messages = lastText(child.stderr);
  // A process that dies early does not read to the end; what it died of is said below.
  const over = new AbortController();
  const pieces = input instanceof ReadableStream
    ? input
    : new Blob([...input] as BlobPart[]).stream();
  const fed = pieces.pipeTo(child.stdin, { signal: over.signal }).catch(() => {});
  const frames = readFrames(name, child.stdout);

  let ended = false;
  const status = child.status.finally(() => ended = true);
  let stopped: { readonly why: unknown } | undefined;
  function stop(why?: unknown): void {
    stopped ??= { why };
    if (!ended) child.kill("SIGKILL");
  }
  const onAbort = () => stop(signal?.reason);
  signal?.addEventListener("abort", onAbort);

  let broken: unknown;
  async function nextFrame(): Promise<Frame | undefined> {
    const line = `no sign of life for ${timeout / 1000} s; its process was stopped`;
    const timer = setTimeout(() => stop(new ReferenceFailure(name, line)), timeout);
    try {
      const next = await frames.next();
      return next.done ? undefined : next.value;
    } catch (error) {
      broken = error;
    } finally {
      clearTimeout(timer);
    }
  }

  try {
    let done = false;
    for (let frame = await nextFrame(); frame; frame = await nextFrame()) {
      if (frame.header.kind === "failure") {
        throw new ReferenceFailure(name, String(frame.header.problem));
      }
      done = frame.header.kind === "done";
      yield frame;
    }
    if (stopped) throw stopped.why;
    if (done && !broken) return;
    // What a process died of says more than that its output broke off.
    const end = await within(GRACE_MS, status);
    if (end && !end.success) {
      const how = end.signal ? `died of ${end.signal}` : `ended with exit code ${end.code}`;
      throw new ReferenceFailure(name, `its process ${how}${tellingLine(await messages)}`);
    }
    throw broken ?? new ReferenceFailure(name, "its output ended before it was done");
  } finally {
    signal?.removeEventListener("abort", onAbort);
    stop();
    over.abort();
    await Promise.allSettled([frames.return(undefined), status, fed, messages]);
  }
}

function spawn(name: string, { command, args, env }: FrameProcess): Deno.ChildProcess {
  try {
    return new Deno.Command(command, {
      args: [...args],
      env: { ...env, NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    throw new ReferenceFailure(name, `cannot start ${command}: ${reason}`);
  }
}

/** The end of what a stream says. */
async function lastText(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text = (text + decoder.decode(chunk, { stream: true })).slice(-MESSAGE_BYTES);
  }
  return text;
}

/** The line of a process's messages that most likely says what happened. */
function tellingLine(messages: string): string {
  const lines = messages.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const line = lines.find((line) => /GGML_ASSERT|\b(error|panicked|abort)/i.test(line)) ??
    lines.at(-1);
  return line ? `: ${line.slice(0, 300)}` : "";
}

async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), milliseconds);
  return await Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}

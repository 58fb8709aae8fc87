/** A notebook's kernel, as Jupyter runs it: cells, outputs, Stop, restart. */
import { jupyter, NOTEBOOKS } from "../../notebooks/commands/jupyter.ts";

/** What a cell showed. */
export interface Output {
  readonly kind:
    | "stream"
    | "display_data"
    | "update_display_data"
    | "execute_result"
    | "error"
    | "timeout";
  /** When it came, in ms from the cell's start. */
  readonly at: number;
  readonly text?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly transient?: { readonly display_id?: string };
  readonly ename?: string;
  readonly evalue?: string;
  readonly traceback?: readonly string[];
}

/** A cell that has ended. */
export interface Ran {
  /** What came before the kernel said that it has ended; what comes later a notebook drops. */
  readonly outputs: readonly Output[];
  readonly seconds: number;
  readonly alive: boolean;
}

/** A kernel; `close` it. */
export class Kernel implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #requests: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#requests = process.stdin.getWriter();
    this.#answers = lines(process.stdout);
  }

  /** Starts Deno's kernel in `notebooks/`. */
  static async start(): Promise<Kernel> {
    const script = new URL("processes/jupyter_kernel.py", import.meta.url).pathname;
    const { python, env } = await jupyter();
    const { command, args } = python.start([script]);
    const kernel = new Kernel(
      new Deno.Command(command, {
        args: [...args],
        stdin: "piped",
        stdout: "piped",
        stderr: "null",
        // With a garbage collector that can be called, memory can be measured.
        env: { ...env, NO_COLOR: "1", DENO_V8_FLAGS: "--expose-gc" },
      }).spawn(),
    );
    const argv = [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"];
    await kernel.#ask({ start: [argv, NOTEBOOKS] });
    return kernel;
  }

  /** Runs a cell. */
  async run(
    code: string,
    options: { readonly interrupt?: number; readonly timeout?: number } = {},
  ): Promise<Ran> {
    return await this.#ask({ run: code, ...options }) as Ran;
  }

  /** The value of a cell's last line, which is to be JSON. */
  async value<T>(code: string): Promise<T> {
    const { outputs } = await this.run(code.replace(/[^\n]*$/, "console.log(JSON.stringify($&))"));
    const text = outputs.find(({ kind }) => kind === "stream")?.text;
    if (text === undefined) throw new Error(`${code} gave ${JSON.stringify(outputs)}`);
    return JSON.parse(text) as T;
  }

  /** Presses Stop while nothing runs. */
  async interrupt(): Promise<void> {
    await this.#ask({ interrupt: true });
  }

  /** Starts it anew. */
  async restart(): Promise<void> {
    await this.#ask({ restart: true });
  }

  /** Its memory in MiB, garbage not counted. */
  async memory(): Promise<number> {
    await this.run(`gc();\nawait new Promise((resolve) => setTimeout(resolve, 50));\ngc();`);
    return (await this.#ask({ rss: true }) as { rss: number }).rss / 2 ** 20;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#requests.close();
    await this.#answers.return?.();
    await this.#process.status;
  }

  async #ask(request: unknown): Promise<unknown> {
    await this.#requests.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("the kernel's script has ended");
    return JSON.parse(value);
  }
}

async function* lines(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

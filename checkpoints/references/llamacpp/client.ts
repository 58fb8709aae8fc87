/** How llama.cpp's process is asked. */
import type { Config } from "../../../engine/model/config.ts";
import {
  type Candidates,
  type Follower,
  ReferenceFailure,
  type ReferencePass,
  type ReferenceRun,
  type SampledWith,
} from "../reference.ts";
import { addToPass, type Frame, writeFrame } from "../processes/frames.ts";
import type { LlamaCpp } from "./ffi.ts";
import { graphModel } from "./graph_model.ts";
import { LLAMA_CPP, type LlamaCppLibrary } from "./library.ts";
import type {
  FollowTask,
  LlamaCppRequest,
  LlamaCppTask,
  RunTask,
  Settled,
  TimedWork,
  TimeTask,
} from "./process.ts";
import { RequestProcess } from "../processes/requests.ts";
import { type FrameProcess, runFrames } from "../processes/process.ts";

/** How the process is started. */
export interface ClientOptions {
  readonly asIs?: boolean;
  readonly vulkan?: boolean | number;
  readonly timeout?: number;
}

/** Starts llama.cpp's process for each thing that it is asked. */
export class LlamaCppClient {
  readonly #library: LlamaCppLibrary;
  readonly #timeout?: number;
  readonly #env: Record<string, string>;

  constructor(library: LlamaCppLibrary, { timeout, vulkan, asIs }: ClientOptions) {
    this.#library = library;
    this.#timeout = timeout;
    this.#env = {
      // Else an abort would start a debugger.
      GGML_NO_BACKTRACE: "1",
      ...(typeof vulkan === "number" ? { GGML_VK_VISIBLE_DEVICES: String(vulkan) } : {}),
      // 32-bit weights shall be multiplied in 32 bits.
      ...(asIs ? {} : Object.fromEntries(
        ["F16", "COOPMAT", "COOPMAT2", "INTEGER_DOT_PRODUCT", "BFLOAT16"]
          .map((feature) => [`GGML_VK_DISABLE_${feature}`, "1"]),
      )),
    };
  }

  /** Opens the library, which checks it. */
  async describe(signal?: AbortSignal): Promise<Pick<LlamaCpp, "release" | "devices">> {
    const { header } = await this.#first("library", { task: "describe" }, signal);
    return header as unknown as Pick<LlamaCpp, "release" | "devices">;
  }

  /** Ids of some texts, with the vocabulary of a GGUF file. */
  async tokenize(
    model: string,
    texts: readonly string[],
  ): Promise<readonly (readonly number[])[]> {
    const { header } = await this.#first("ids", { task: "tokenize", model, texts });
    return header.ids as number[][];
  }

  /** What its samplers leave of logits [V]. */
  async sample(
    logits: readonly Float32Array[],
    options: SampledWith,
  ): Promise<readonly Candidates[]> {
    const inputs = logits.map((data, step): ReferencePass => ({
      ...{ step, start: step, ids: [0] },
      tensors: new Map([["logits", { shape: [data.length], data }]]),
    }));
    const found: Candidates[] = [];
    for await (const { header } of this.ask({ task: "sample", options }, inputs)) {
      if (header.kind === "candidates") found.push(header as unknown as Candidates);
    }
    return found;
  }

  /**
   * Writes a quantized copy of a GGUF file.
   *
   * @param fileType `enum llama_ftype`
   */
  async quantize(
    paths: { readonly from: string; readonly to: string },
    fileType: number,
    options: {
      readonly signal?: AbortSignal;
      readonly onProgress?: (done: number, total: number) => void;
    } = {},
  ): Promise<void> {
    const task = { ...paths, task: "quantize", fileType, threads: usualThreads() } as const;
    for await (const { header } of this.ask(task, [], options.signal)) {
      const { kind, done, total } = header;
      if (kind === "progress") options.onProgress?.(Number(done), Number(total));
    }
  }

  /** Begins a sequence whose passes are handed over one by one. */
  follow(task: FollowTask, signal?: AbortSignal): Follower {
    const process = this.#converse(task);
    return {
      pass: async (ids) => {
        const passes = new Map<number, ReferencePass>();
        await process.ask({ kind: "next", ids }, (frame) => {
          addToPass(passes, frame);
          return frame.header.kind === "passed" || undefined;
        }, signal);
        const [{ tensors }] = passes.values();
        return { logits: tensors.get("logits")!.data as Float32Array, tensors };
      },
      [Symbol.asyncDispose]: () => process.close(),
    };
  }

  /** Loads a model to time it. */
  time(task: TimeTask, signal?: AbortSignal): LlamaCppTimer {
    const process = this.#converse(task);
    const timed = ({ header }: Frame) => header.kind === "timed" ? header : undefined;
    return {
      measure: async (work) =>
        await process.ask({ kind: "work", ...work }, timed, signal) as unknown as Timed,
      [Symbol.asyncDispose]: () => process.close(),
    };
  }

  /** Starts a process that is asked one thing after the other. */
  #converse(task: FollowTask | TimeTask): RequestProcess {
    const process = new RequestProcess(LLAMA_CPP, this.#process(), writeFrame);
    process.give({ kind: "request", ...task, library: this.#library });
    return process;
  }

  /** Yields what the process answers, `inputs` being rows that it runs. */
  async *ask(
    task: LlamaCppTask | RunTask,
    inputs: readonly ReferencePass[],
    signal?: AbortSignal,
  ): AsyncGenerator<Frame> {
    const request: LlamaCppRequest = { ...task, library: this.#library };
    yield* runFrames(LLAMA_CPP, {
      ...this.#process(),
      input: framesOf(request, inputs),
      signal,
    });
  }

  #process(): FrameProcess {
    const script = new URL("process.ts", import.meta.url).href;
    return {
      command: Deno.execPath(),
      args: ["run", "--quiet", "--no-config", "--no-prompt", "--allow-ffi", script],
      env: this.#env,
      timeout: this.#timeout,
    };
  }

  async #first(kind: string, task: LlamaCppTask, signal?: AbortSignal): Promise<Frame> {
    let found: Frame | undefined;
    for await (const frame of this.ask(task, [], signal)) {
      if (frame.header.kind === kind) found = frame;
    }
    if (found === undefined) throw new ReferenceFailure(LLAMA_CPP, "it gave no answer");
    return found;
  }
}

/** Milliseconds of the prompt, and of the tokens after it. */
export interface Timed {
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** A loaded model that is timed. */
export interface LlamaCppTimer extends AsyncDisposable {
  measure(work: TimedWork): Promise<Timed>;
}

/** What of a task the model and the machine settle. */
export type Runner = (
  task: Omit<RunTask, "task" | keyof Settled>,
  options: { readonly inputs?: readonly ReferencePass[]; readonly signal?: AbortSignal },
) => AsyncGenerator<Frame>;

/**
 * One for two processors: ggml's threads wait for each other spinning, and where the machine has other things to do one too many
 * makes everything thirty times slower.
 */
function usualThreads(): number {
  return Math.max(1, navigator.hardwareConcurrency >> 1);
}

/** What settles tasks on a model of this config. */
export function settledBy(config: Config, gpu: boolean, threads = usualThreads()): Settled {
  return { gpu, threads, graph: graphModel(config) };
}

/** Runs tasks on a model. */
export function runner(llama: LlamaCppClient, settled: Settled): Runner {
  return (task, { inputs = [], signal }) =>
    llama.ask({ ...task, ...settled, task: "run" }, inputs, signal);
}

/** Greedy choices and how far each led. */
export type Choices = Pick<ReferenceRun, "ids" | "margins">;

/** What a frame of choices says: JSON has null for NaN. */
export function choicesOf({ header }: Frame): Choices {
  const { ids, margins } = header as unknown as { ids: number[]; margins: (number | null)[] };
  return { ids, margins: margins.map((margin) => margin ?? NaN) };
}

function framesOf(request: LlamaCppRequest, inputs: readonly ReferencePass[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  const collect = (bytes: Uint8Array) => chunks.push(bytes) && bytes.length;
  writeFrame(collect, { kind: "request", ...request });
  for (const { step, start, ids, tensors } of inputs) {
    for (const [point, { shape, data }] of tensors) {
      const header = { kind: "tensor", step, start, ids, point, shape };
      writeFrame(collect, header, Float32Array.from(data));
    }
  }
  return chunks;
}

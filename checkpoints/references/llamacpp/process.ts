/**
 * llama.cpp in a process of its own: takes one request as frames on standard input, answers with frames on standard output. Started
 * by client.ts.
 */
import { inLayer, layerOf } from "../../../base/layer_names.ts";
import {
  type FollowRequest,
  greedyChoice,
  type ReferencePass,
  type ReferenceRequest,
  type SampledWith,
} from "../reference.ts";
import { addToPass, type Frame, readFrames, writeFrame } from "../processes/frames.ts";
import {
  graphValue,
  type LlamaContext,
  type LlamaCpp,
  type Observer,
  openLlamaCpp,
} from "./ffi.ts";
import { LlamaCppError } from "./layout.ts";
import type { LlamaCppLibrary } from "./library.ts";
import { type GraphModel, PointReader } from "./points.ts";

/** What the process is asked for. */
export type LlamaCppRequest =
  & { readonly library: LlamaCppLibrary }
  & (LlamaCppTask | RunTask | FollowTask | TimeTask);

/** What is done without a context. */
export type LlamaCppTask =
  /** Answered by `{ kind: "library", release, devices }`. */
  | { readonly task: "describe" }
  /** Answered by `{ kind: "ids", ids }`, a list for each text. */
  | { readonly task: "tokenize"; readonly model: string; readonly texts: readonly string[] }
  /** Logits come as `logits` of step 0, 1, …; each is answered by `{ kind: "candidates", ids, probabilities }`. */
  | { readonly task: "sample"; readonly options: SampledWith }
  /** Answered by `{ kind: "progress", done, total }` before each tensor. */
  | {
    readonly task: "quantize";
    readonly from: string;
    readonly to: string;
    /** `enum llama_ftype` */
    readonly fileType: number;
    readonly threads: number;
  };

/** What runs a model. */
interface ModelTask {
  /** Path of a GGUF file. */
  readonly model: string;
  readonly gpu: boolean;
}

/** What the model and the machine settle of a task. */
export interface Settled {
  readonly gpu: boolean;
  readonly threads: number;
  readonly graph: GraphModel;
}

/** Answered by `{ kind: "pass", step, start, ids }` for each wanted step, its tensors, and `{ kind: "choices", ids, margins }`. */
export interface RunTask extends Omit<ReferenceRequest, "signal">, ModelTask, Settled {
  readonly task: "run";
  /** Number of the file's first layer in the whole model. */
  readonly firstLayer: number;
  /** Point whose rows come as frames, one for each step, and are run in place of ids. */
  readonly inputPoint?: string;
  /** Point that is sent in every step. */
  readonly outputPoint?: string;
}

/**
 * Passes come as frames `{ kind: "next", ids }` as long as the input is open; each is answered by its tensors, the last position's logits
 * among them as `logits`, and `{ kind: "passed" }`.
 */
export interface FollowTask extends Omit<FollowRequest, "signal">, ModelTask, Settled {
  readonly task: "follow";
}

/**
 * Work to be timed comes as frames `{ kind: "work", … }` ({@linkcode TimedWork}) as long as the input is open; each is answered by
 * `{ kind: "timed", prefillMs, decodeMs }`. The model is run as people run it.
 */
export interface TimeTask extends ModelTask {
  readonly task: "time";
}

/** A prompt, and tokens one by one. Which ids does not matter for the time that they take. */
export interface TimedWork {
  readonly prompt: number;
  readonly decode: number;
  readonly threads: number;
  /** Whether every tensor is read back as it is computed. */
  readonly observed: boolean;
}

/** The input's rows of a step. */
type Inputs = ReadonlyMap<number, ReferencePass>;

function send(header: Readonly<Record<string, unknown>>, body?: Float32Array): void {
  writeFrame((bytes) => Deno.stdout.writeSync(bytes), header, body);
}

async function receive(frames: AsyncGenerator<Frame>): Promise<LlamaCppRequest> {
  const { value } = await frames.next();
  if (value === undefined) throw new LlamaCppError("it was asked for nothing");
  return value.header as unknown as LlamaCppRequest;
}

async function receiveInputs(frames: AsyncGenerator<Frame>): Promise<Inputs> {
  const inputs = new Map<number, ReferencePass>();
  for await (const frame of frames) addToPass(inputs, frame);
  return inputs;
}

async function answer(request: LlamaCppRequest, frames: AsyncGenerator<Frame>): Promise<void> {
  if (request.task === "follow") {
    return await follow(openLlamaCpp(request.library), request, frames);
  }
  if (request.task === "time") return await time(openLlamaCpp(request.library), request, frames);
  const inputs = await receiveInputs(frames);
  const llama = openLlamaCpp(request.library);
  switch (request.task) {
    case "describe":
      return send({ kind: "library", release: llama.release, devices: llama.devices });
    case "tokenize": {
      const model = llama.load(request.model, { gpu: false, vocabularyOnly: true });
      return send({
        kind: "ids",
        ids: request.texts.map((text) => model.vocabulary.tokenize(text)),
      });
    }
    case "sample": {
      for (const { tensors } of inputs.values()) {
        const logits = tensors.get("logits")!.data as Float32Array;
        send({ kind: "candidates", ...llama.sample(logits, request.options) });
      }
      return;
    }
    case "quantize": {
      const onProgress = (done: number, total: number) => send({ kind: "progress", done, total });
      return llama.quantize(request.from, request.to, { ...request, onProgress });
    }
    case "run":
      return run(llama, request, inputs);
  }
}

function progress(): void {
  send({ kind: "progress" });
}

interface CurrentPass {
  step: number;
  start: number;
  ids: readonly number[];
  wanted: ReadonlySet<string>;
}

/** Sends the wanted tensors of the current pass. */
function sender(current: CurrentPass, graph: GraphModel, firstLayer: number): Observer {
  const inModel = (point: string) => inLayer(point, (layerOf(point) ?? 0) + firstLayer);
  const isWanted = (point: string) => current.wanted.has(inModel(point));
  const reader = new PointReader(graph);
  return {
    // The end of a layer is a sign of life.
    wants: (tensor) => reader.wants(tensor, (point) => isWanted(point) || point.endsWith(".out")),
    take(tensor) {
      const value = graphValue(tensor);
      if (value === undefined) return;
      const { step, start, ids } = current;
      const found = reader.take(value, start + ids.length);
      for (const [point, { shape, data }] of found) {
        const name = inModel(point);
        if (!isWanted(point)) progress();
        else send({ kind: "tensor", step, start, ids, point: name, shape }, data);
      }
    },
  };
}

function run(llama: LlamaCpp, request: RunTask, inputs: Inputs): void {
  const { ids, generate, forced = [], steps, points, graph, firstLayer, inputPoint } = request;
  const { threads, gpu, outputPoint } = request;
  const model = llama.load(request.model, { gpu, onProgress: progress });
  const current: CurrentPass = { step: 0, start: 0, ids, wanted: new Set() };
  const observer = sender(current, graph, firstLayer);
  const positions = ids.length + generate;
  const context = model.context({ threads, longestPass: ids.length, positions, observer });
  const choices = { ids: [] as number[], margins: [] as number[] };
  for (; current.step <= generate; current.step++) {
    const { step, start, ids: next } = current;
    const isWanted = steps.includes(step);
    if (isWanted) send({ kind: "pass", step, start, ids: next });
    current.wanted = new Set([
      ...isWanted ? points : [],
      ...outputPoint === undefined ? [] : [outputPoint],
    ]);
    const input = inputPoint === undefined ? next : rowsOf(inputs, step, inputPoint);
    const { id, margin } = greedyChoice(context.pass(input, next.length));
    choices.ids.push(id);
    choices.margins.push(margin);
    current.start += next.length;
    current.ids = [forced[step] ?? id];
  }
  send({ kind: "choices", ...choices });
}

async function follow(
  llama: LlamaCpp,
  request: FollowTask,
  frames: AsyncGenerator<Frame>,
): Promise<void> {
  const { points, graph, gpu } = request;
  const model = llama.load(request.model, { gpu, onProgress: progress });
  const wanted = new Set(points.filter((point) => point !== "logits"));
  const current: CurrentPass = { step: 0, start: 0, ids: [], wanted };
  const context = model.context({ ...request, observer: sender(current, graph, 0) });
  for await (const { header } of frames) {
    current.ids = header.ids as number[];
    const { step, start, ids } = current;
    const logits = context.pass(ids, ids.length);
    send({ kind: "tensor", step, start, ids, point: "logits", shape: [1, logits.length] }, logits);
    send({ kind: "passed" });
    current.step++;
    current.start += ids.length;
  }
}

/** Positions of the longest pass: llama.cpp's own default. */
const BATCH = 512;
/** Positions that are timed at most. */
const MOST_POSITIONS = 2048;

async function time(
  llama: LlamaCpp,
  { model: path, gpu }: TimeTask,
  frames: AsyncGenerator<Frame>,
): Promise<void> {
  const model = llama.load(path, { gpu, onProgress: progress });
  const contextOf = (observed: boolean) =>
    model.context({
      threads: 1,
      longestPass: BATCH,
      positions: MOST_POSITIONS,
      asUsual: true,
      observer: observed ? { wants: () => true, take: (tensor) => void tensor.read() } : undefined,
    });
  const contexts = new Map<boolean, LlamaContext>();
  for await (const { header } of frames) {
    const { prompt, decode, threads, observed } = header as unknown as TimedWork;
    const context = contexts.get(observed) ?? contextOf(observed);
    contexts.set(observed, context);
    context.setThreads(threads);
    context.clear();
    const id = (i: number) => (i * 7919 + 101) % context.vocabSize;
    const start = performance.now();
    for (let first = 0; first < prompt; first += BATCH) {
      const count = Math.min(BATCH, prompt - first);
      context.pass(Array.from({ length: count }, (_, i) => id(first + i)), count);
    }
    const between = performance.now();
    for (let i = 0; i < decode; i++) context.pass([id(prompt + i)], 1);
    const [prefillMs, decodeMs] = [between - start, performance.now() - between];
    send({ kind: "timed", prefillMs, decodeMs });
  }
}

function rowsOf(inputs: Inputs, step: number, point: string): Float32Array<ArrayBuffer> {
  const rows = inputs.get(step)?.tensors.get(point)?.data;
  if (rows === undefined) throw new LlamaCppError(`it got no ${point} of step ${step}`);
  return rows as Float32Array<ArrayBuffer>;
}

if (import.meta.main) {
  try {
    const frames = readFrames("llama.cpp's caller", Deno.stdin.readable);
    await answer(await receive(frames), frames);
    send({ kind: "done" });
  } catch (error) {
    if (!(error instanceof LlamaCppError)) throw error;
    send({ kind: "failure", problem: error.message });
  }
  // llama.cpp's callbacks would keep the process.
  Deno.exit(0);
}

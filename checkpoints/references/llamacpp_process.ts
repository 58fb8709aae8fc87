/**
 * llama.cpp in a process of its own: takes one request as frames on standard input, answers with frames on standard output. Started
 * by llamacpp.ts.
 */
import { greedy } from "../greedy.ts";
import type { ReferencePass, ReferenceRequest } from "../reference.ts";
import { addTensor, readFrames, writeFrame } from "./frames.ts";
import { type LlamaCpp, LlamaCppError, type Observer, openLlamaCpp } from "./llamacpp_ffi.ts";
import type { LlamaCppLibrary } from "./llamacpp_library.ts";
import { asPoint, type GraphModel, pointOf } from "./llamacpp_points.ts";

/** What the process is asked for. */
export type LlamaCppRequest = { readonly library: LlamaCppLibrary } & (LlamaCppTask | RunTask);

/** What is done without a context. */
export type LlamaCppTask =
  /** Answered by `{ kind: "library", release, devices }`. */
  | { readonly task: "describe" }
  /** Answered by `{ kind: "ids", ids }`. */
  | { readonly task: "tokenize"; readonly model: string; readonly text: string }
  /** Answered by `{ kind: "progress", done, total }` before each tensor. */
  | {
    readonly task: "quantize";
    readonly from: string;
    readonly to: string;
    /** `enum llama_ftype` */
    readonly fileType: number;
    readonly threads: number;
  };

/** Answered by `{ kind: "pass", step, start, ids }` for each wanted step, its tensors, and `{ kind: "choices", ids, margins }`. */
export interface RunTask extends Omit<ReferenceRequest, "signal"> {
  readonly task: "run";
  /** Path of a GGUF file. */
  readonly model: string;
  readonly gpu: boolean;
  readonly threads: number;
  readonly graph: GraphModel;
  /** Number of the file's first layer in the whole model. */
  readonly firstLayer: number;
  /** Point whose rows come as frames, one for each step, and are run in place of ids. */
  readonly inputPoint?: string;
  /** Point that is sent in every step. */
  readonly outputPoint?: string;
}

/** The input's rows of a step. */
type Inputs = ReadonlyMap<number, ReferencePass>;

function send(header: Readonly<Record<string, unknown>>, body?: Float32Array): void {
  writeFrame((bytes) => Deno.stdout.writeSync(bytes), header, body);
}

async function receive(): Promise<[LlamaCppRequest, Inputs]> {
  const inputs = new Map<number, ReferencePass>();
  let request: LlamaCppRequest | undefined;
  for await (const frame of readFrames("llama.cpp's caller", Deno.stdin.readable)) {
    if (frame.header.kind === "tensor") addTensor(inputs, frame);
    else request = frame.header as unknown as LlamaCppRequest;
  }
  if (request === undefined) throw new LlamaCppError("it was asked for nothing");
  return [request, inputs];
}

function answer(request: LlamaCppRequest, inputs: Inputs): void {
  const llama = openLlamaCpp(request.library);
  switch (request.task) {
    case "describe":
      return send({ kind: "library", release: llama.release, devices: llama.devices });
    case "tokenize": {
      const model = llama.load(request.model, { gpu: false, vocabularyOnly: true });
      return send({ kind: "ids", ids: model.tokenize(request.text) });
    }
    case "quantize": {
      const onProgress = (done: number, total: number) => send({ kind: "progress", done, total });
      return llama.quantize(request.from, request.to, { ...request, onProgress });
    }
    case "run":
      return run(llama, request, inputs);
  }
}

function run(llama: LlamaCpp, request: RunTask, inputs: Inputs): void {
  const { ids, generate, forced = [], steps, points, graph, firstLayer, inputPoint } = request;
  const { threads, gpu, outputPoint } = request;
  const progress = () => send({ kind: "progress" });
  const model = llama.load(request.model, { gpu, onProgress: progress });

  let step = 0;
  let [start, next] = [0, ids];
  let wanted: Set<string>;
  const observer: Observer = {
    wants(tensor) {
      const point = pointOf(tensor, graph);
      // The end of a layer is a sign of life.
      return point !== undefined && (wanted.has(inModel(point)) || point.endsWith(".out"));
    },
    take(tensor) {
      const point = pointOf(tensor, graph)!;
      const name = inModel(point);
      if (!wanted.has(name)) return progress();
      const data = tensor.read();
      if (data === undefined) return;
      const { sizes } = tensor;
      const strides = tensor.strides.map((bytes) => bytes / 4);
      const found = asPoint(point, { sizes, strides, data }, start + next.length, graph);
      send({ kind: "tensor", step, start, ids: next, point: name, shape: found.shape }, found.data);
    },
  };
  function inModel(point: string): string {
    return point.replace(/^blk\.(\d+)/, (_, layer) => `blk.${Number(layer) + firstLayer}`);
  }

  const positions = ids.length + generate;
  const context = model.context({ threads, longestPass: ids.length, positions, observer });
  const choices = { ids: [] as number[], margins: [] as number[] };
  for (; step <= generate; step++) {
    const isWanted = steps.includes(step);
    if (isWanted) send({ kind: "pass", step, start, ids: next });
    wanted = new Set(isWanted ? points : []);
    if (outputPoint !== undefined) wanted.add(outputPoint);
    const input = inputPoint === undefined ? next : rowsOf(inputs, step, inputPoint);
    const { id, margin } = greedy(context.pass(input, next.length));
    choices.ids.push(id);
    choices.margins.push(margin);
    start += next.length;
    next = [forced[step] ?? id];
  }
  send({ kind: "choices", ...choices });
}

function rowsOf(inputs: Inputs, step: number, point: string): Float32Array<ArrayBuffer> {
  const rows = inputs.get(step)?.tensors.get(point)?.data;
  if (rows === undefined) throw new LlamaCppError(`it got no ${point} of step ${step}`);
  return rows as Float32Array<ArrayBuffer>;
}

if (import.meta.main) {
  try {
    answer(...await receive());
    send({ kind: "done" });
  } catch (error) {
    if (!(error instanceof LlamaCppError)) throw error;
    send({ kind: "failure", problem: error.message });
  }
  // llama.cpp's callbacks would keep the process.
  Deno.exit(0);
}

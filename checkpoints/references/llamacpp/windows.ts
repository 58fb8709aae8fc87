/**
 * Models too large for a 32-bit copy, some layers at a time: a window is a small file of a few blocks, fed with the rows that came out
 * of the window before, in the prompt and in every decoding step. The numbers are those of the whole model.
 */
import { inLayer, layerOf } from "../../../base/layer_names.ts";
import { sizeOf } from "../../../base/shape.ts";
import { join } from "node:path";
import type { Config } from "../../../engine/model/config.ts";
import type {
  GgufFile,
  MetadataType,
  MetadataValue,
  TensorInfo,
} from "../../../engine/gguf/reader.ts";
import type { NewGguf, NewTensor } from "../../../engine/gguf/writer.ts";
import { type F32CopyOptions, f32Rows, f32Tensor, writeChecked } from "../../files/f32_copy.ts";
import {
  ReferenceFailure,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
} from "../reference.ts";
import { addToPass } from "../processes/frames.ts";
import { type Choices, choicesOf, type Runner } from "./client.ts";
import { LLAMA_CPP } from "./library.ts";

/** Bytes of tensors as F32. */
export function f32Bytes(tensors: Iterable<TensorInfo>): number {
  let bytes = 0;
  for (const { shape } of tensors) bytes += 4 * sizeOf(shape);
  return bytes;
}

/** The most layers of which a window fits into a budget of bytes, the output matrix being in it too; at least one. */
export function windowLayers(file: GgufFile, config: Config, budget: number): number {
  const inBlocks = [...file.tensors.values()].filter(({ name }) => layerOf(name) !== undefined);
  const layerBytes = f32Bytes(inBlocks) / config.layers;
  const headBytes = 4 * config.width * config.vocabSize;
  return Math.max(1, Math.min(config.layers, Math.floor((budget - headBytes) / layerBytes)));
}

/**
 * Whether some layers of a model are a model of the same architecture: none of them is known by its number, and what enters the first
 * one is the embedding's rows.
 */
export function hasWindows({ blocks, embedding }: Config): boolean {
  const [first] = blocks;
  const alike = blocks.every((block) => JSON.stringify(block) === JSON.stringify(first));
  return alike && embedding.scale === 1 && !embedding.positions && !embedding.norm;
}

/** What windows are made with. */
export interface WindowOptions extends F32CopyOptions {
  /** Of the model, for errors. */
  readonly name: string;
  readonly layers: number;
  /** Where their files are written; one at a time is there. */
  readonly folder: string;
}

/** A model's layers first to last. */
interface LayerWindow {
  readonly first: number;
  readonly last: number;
}

/** Runs a model window by window. */
export class LayerWindows {
  readonly #file: GgufFile;
  readonly #config: Config;
  readonly #options: WindowOptions;
  readonly #windows: readonly LayerWindow[];
  /** What the window's file holds. */
  #written = "";
  #saidSpace = false;
  /** What was run last: its ids, and the rows before each window that was reached. */
  #ran = "";
  #rowsBefore: (readonly ReferencePass[] | undefined)[] = [];

  constructor(file: GgufFile, config: Config, options: WindowOptions) {
    this.#file = file;
    this.#config = config;
    this.#options = options;
    const count = Math.ceil(config.layers / options.layers);
    this.#windows = Array.from({ length: count }, (_, i) => ({
      first: i * options.layers,
      last: Math.min(config.layers, (i + 1) * options.layers) - 1,
    }));
  }

  /**
   * Runs the windows up to the last one that has a wanted point; what an earlier request for the same ids found before a window is
   * used again. Only the model's last window makes choices: a request that ends before it has none.
   */
  async run(request: ReferenceRequest, run: Runner): Promise<ReferenceRun> {
    const { ids, generate, forced = [] } = request;
    if (forced.length < generate) {
      throw new ReferenceFailure(
        LLAMA_CPP,
        `layers in windows need the ids of all ${generate} decoding steps, and ${forced.length} are given`,
      );
    }
    const passIds = [ids, ...forced.slice(0, generate).map((id) => [id])];
    const key = JSON.stringify(passIds);
    if (key !== this.#ran) [this.#ran, this.#rowsBefore] = [key, []];

    const places = request.points.map((point) => this.#windowOf(point));
    const last = this.#windows.length - 1;
    const end = places.length === 0 ? last : Math.min(last, Math.max(...places));
    let at = Math.min(end, ...places);
    while (at > 0 && this.#rowsBefore[at] === undefined) at--;

    const passes = new Map<number, ReferencePass>();
    let choices: Choices = { ids: [], margins: [] };
    for (; at <= end; at++) {
      const points = request.points.filter((_, i) => places[i] === at);
      const found = await this.#runWindow(at, passIds, { ...request, points }, run, passes);
      if (at === last) choices = found;
    }
    return { passes: [...passes.values()].sort((a, b) => a.step - b.step), ...choices };
  }

  async #runWindow(
    index: number,
    passIds: readonly (readonly number[])[],
    request: ReferenceRequest,
    run: Runner,
    passes: Map<number, ReferencePass>,
  ): Promise<Choices> {
    const { steps, points, generate, signal } = request;
    const { first, last } = this.#windows[index];
    // The first window's vocabulary is the ids that are run.
    const vocabulary = index === 0 ? [...new Set(passIds.flat())] : [];
    const known = (ids: readonly number[]) =>
      index === 0 ? ids.map((id) => vocabulary.indexOf(id)) : ids.map(() => 0);
    const model = await this.#write(index, vocabulary, signal);
    const outputPoint = index < this.#windows.length - 1 ? `blk.${last}.out` : undefined;
    const after = new Map<number, ReferencePass>();
    let choices: Choices = { ids: [], margins: [] };
    const task = {
      ...{ model, firstLayer: first, generate, steps, points, outputPoint },
      ids: known(passIds[0]),
      forced: passIds.slice(1).flatMap(known),
      inputPoint: index > 0 ? `blk.${first - 1}.out` : undefined,
    };
    for await (const frame of run(task, { inputs: this.#rowsBefore[index], signal })) {
      const { kind, step, point } = frame.header;
      if (kind === "choices") choices = choicesOf(frame);
      if (kind !== "tensor" && kind !== "pass") continue;
      const own = { ...frame, header: { ...frame.header, ids: passIds[Number(step)] } };
      if (point === outputPoint && kind === "tensor") addToPass(after, own);
      const isWanted = kind === "pass" || points.includes(String(point));
      if (isWanted && steps.includes(Number(step))) addToPass(passes, own);
    }
    if (outputPoint !== undefined) this.#rowsBefore[index + 1] = [...after.values()];
    return choices;
  }

  #windowOf(point: string): number {
    const layer = layerOf(point);
    if (layer !== undefined) return Math.floor(layer / this.#options.layers);
    return point === "token_embd" ? 0 : this.#windows.length - 1;
  }

  /** Writes a window's file in place of the one before, unless it is there. */
  async #write(
    index: number,
    vocabulary: readonly number[],
    signal?: AbortSignal,
  ): Promise<string> {
    const { folder, name, onSpace } = this.#options;
    const path = join(folder, "window.gguf");
    const key = JSON.stringify([index, vocabulary]);
    if (this.#written === key) return path;
    if (this.#written !== "") await Deno.remove(path);
    this.#written = "";
    await writeChecked(name, path, this.#content(index, vocabulary), {
      ...this.#options,
      onSpace: this.#saidSpace ? undefined : onSpace,
      durable: false,
      signal,
    });
    [this.#written, this.#saidSpace] = [key, true];
    return path;
  }

  #content(index: number, vocabulary: readonly number[]): NewGguf {
    const file = this.#file;
    const { architecture, tiedOutput } = this.#config;
    const { first, last } = this.#windows[index];
    const embedding = file.tensors.get("token_embd.weight")!;
    const tensors: NewTensor[] = [];
    if (index < this.#windows.length - 1) {
      // Rows that are run; after the first window, which takes ids, one that is there for llama.cpp's sake.
      tensors.push(f32Rows(file, embedding, index === 0 ? vocabulary : [0]));
    } else {
      // Without `output.weight` the embedding is the output matrix, and nothing else here.
      const head = tiedOutput ? embedding : file.tensors.get("output.weight")!;
      tensors.push(f32Tensor(file, head, "token_embd.weight"));
    }
    for (const tensor of file.tensors.values()) {
      const layer = layerOf(tensor.name);
      if (layer !== undefined && layer >= first && layer <= last) {
        const name = inLayer(tensor.name, layer - first);
        tensors.push(f32Tensor(file, tensor, name));
      }
      if (/^(output_norm|rope_freqs)\./.test(tensor.name)) tensors.push(f32Tensor(file, tensor));
    }
    const own: [string, MetadataType, MetadataValue][] = [
      [`${architecture}.block_count`, "u32", last - first + 1],
      [`${architecture}.vocab_size`, "u32", tensors[0].shape[1]],
      ["general.file_type", "u32", 0], // LLAMA_FTYPE_ALL_F32
      ["tokenizer.ggml.model", "string", "no_vocab"],
    ];
    const kept = [...file.metadata].filter(([key]) => !/^(split|tokenizer)\./.test(key));
    return {
      metadata: new Map([
        ...kept.map((
          [key, value],
        ): [string, MetadataValue] => [key, this.#ofLayers(key, value, first, last)]),
        ...own.map(([key, , value]): [string, MetadataValue] => [key, value]),
      ]),
      metadataTypes: new Map([
        ...file.metadataTypes,
        ...own.map(([key, type]): [string, MetadataType] => [key, type]),
      ]),
      tensors,
    };
  }

  /** Some hyperparameters are lists with a number for each layer. */
  #ofLayers(key: string, value: MetadataValue, first: number, last: number): MetadataValue {
    const { architecture, layers } = this.#config;
    const isList = Array.isArray(value) || ArrayBuffer.isView(value);
    if (!isList || !key.startsWith(`${architecture}.`) || value.length !== layers) return value;
    return value.slice(first, last + 1);
  }
}

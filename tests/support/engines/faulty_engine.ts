/**
 * Somebody else's engine, written apart from ours (no plan, no kernels, no oracle): straight loops that run a Llama in GGUF and dump
 * every tensor as a folder. It is right, or wrong in one operation on purpose.
 */
import { join } from "node:path";
import { writeNpy } from "../../../checkpoints/files/npy.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { Making, Mistakes, Place, Rope, Shape, Weight } from "./engine_mistakes.ts";
import { type GgufFile, openGgufFile } from "../../../engine/gguf/reader.ts";
import type { ActivationType } from "../../../checkpoints/references/reference.ts";

/** How a run goes, where it is not right in 32 bits. */
export interface RunOptions {
  readonly mistakes?: Mistakes;
  /** Where the mistakes are made: in one block, in each, or outside of blocks. */
  readonly where?: number | "blocks" | "outside";
  /** Rounds every number that an operation makes. */
  readonly round?: (number: number) => number;
  /** Rounds what a product with a matrix of a block reads. */
  readonly roundInput?: (x: Float32Array) => Float32Array;
  /** The blocks that are run, where those are not all in their order. */
  readonly blocks?: readonly number[];
}

/** A tensor that the engine made. */
export interface EngineTensor {
  readonly shape: readonly number[];
  readonly axes: readonly string[];
  readonly data: Float32Array;
}

/** One pass and all that it made. */
export interface EnginePass {
  readonly step: number;
  readonly start: number;
  readonly ids: readonly number[];
  readonly tensors: ReadonlyMap<string, EngineTensor>;
}

/** A prompt and what was generated greedily after it. */
export interface EngineRun {
  readonly model: string;
  readonly shape: Shape;
  readonly promptIds: readonly number[];
  readonly passes: readonly EnginePass[];
  /** One more than was run. */
  readonly ids: readonly number[];
}

/** An engine with a model in memory. */
export class ForeignEngine {
  private constructor(
    readonly name: string,
    readonly shape: Shape,
    readonly weights: ReadonlyMap<string, Weight>,
  ) {}

  static async open(path: string): Promise<ForeignEngine> {
    const file = await openGgufFile(path);
    try {
      const weights = new Map<string, Weight>();
      for (const tensor of file.tensors.values()) {
        const stored = { type: tensor.type, bytes: await file.readTensor(tensor) };
        const data = dequantize(stored.type, stored.bytes);
        const columns = tensor.shape[0];
        weights.set(tensor.name, { rows: data.length / columns, columns, data, stored });
      }
      return new ForeignEngine(file.name, shapeOf(file, weights), weights);
    } finally {
      file.close();
    }
  }

  /** Runs a prompt, and as many tokens after it. */
  run(promptIds: readonly number[], generate: number, options: RunOptions = {}): EngineRun {
    const cache = new Map<string, Float32Array>();
    const passes: EnginePass[] = [];
    const ids: number[] = [];
    let [next, start] = [promptIds, 0];
    for (let step = 0; step <= generate; step++) {
      const tensors = this.#pass(next, start, cache, options);
      passes.push({ step, start, ids: next, tensors });
      start += next.length;
      const { data } = tensors.get("logits")!;
      const last = data.subarray(data.length - this.shape.vocabulary);
      // Where there is no largest number the first one serves.
      next = [Math.max(0, last.indexOf(last.reduce((a, b) => Math.max(a, b), -Infinity)))];
      ids.push(next[0]);
    }
    return { model: this.name, shape: this.shape, promptIds, passes, ids };
  }

  #pass(
    ids: readonly number[],
    start: number,
    cache: Map<string, Float32Array>,
    options: RunOptions,
  ): Map<string, EngineTensor> {
    const { mistakes = RIGHT, where, round, roundInput = (x) => x } = options;
    const { layers, width: D, heads: H, kvHeads: Hkv, headWidth: d, ffnWidth: F } = this.shape;
    const T = ids.length;
    const tensors = new Map<string, EngineTensor>();
    const operations = (layer?: number) => {
      const isWrong = layer === undefined
        ? where === "outside"
        : where === layer || where === "blocks";
      const wrong = isWrong ? mistakes : RIGHT;
      const prefix = layer === undefined ? "" : `blk.${layer}.`;
      const weight = (name: string): Weight | undefined => {
        const right = this.weights.get(prefix + name);
        if (!right || !wrong.weight) return right;
        const read = wrong.weight(name, right, layer);
        return typeof read === "string" ? this.weights.get(prefix + read) : read;
      };
      const at = (name: string) => tensors.get(name)!.data;
      const pass: Making = { start, count: T, layer, of: (point) => at(prefix + point), at };
      const show = (
        point: string,
        axes: readonly string[],
        shape: readonly number[],
        made: Float32Array,
      ): Float32Array => {
        const changed = wrong.made ? wrong.made(point, made, pass) : made;
        const data = round ? changed.map(round) : changed;
        tensors.set(prefix + point, { axes, shape, data });
        return data;
      };
      const norm = (name: string, x: Float32Array) => {
        const scale = weight(`${name}.weight`)!.data;
        return show(name, ROWS, [T, D], normalized(x, scale, this.shape.epsilon, wrong));
      };
      const linear = (name: string, x: Float32Array) => {
        const read = roundInput(wrong.input?.(name, x, T) ?? x);
        return product(read, weight(`${name}.weight`)!, weight(`${name}.bias`)?.data);
      };
      return { wrong, weight, show, norm, linear };
    };

    const ends = operations();
    const embedding = this.weights.get("token_embd.weight")!.data;
    const rows = new Float32Array(T * D);
    ids.forEach((id, t) => rows.set(embedding.subarray(id * D, (id + 1) * D), t * D));
    let x = ends.show("token_embd", ROWS, [T, D], rows); // [T, D]
    for (const [place, layer] of (options.blocks ?? [...Array(layers).keys()]).entries()) {
      const { wrong, show, norm, linear } = operations(layer);
      const turn = (numbers: Float32Array, point: "q_rope" | "k_rope" = "k_rope") =>
        turned(numbers, d, T, start, { ...this.shape.rope, ...wrong.rope?.(start, point) });
      const store = (point: string, numbers: Float32Array) => {
        const before = cache.get(`${place}.${point}`) ?? new Float32Array(0);
        const all = new Float32Array(before.length + numbers.length);
        all.set(before);
        all.set(numbers, before.length);
        const stored = show(point, ["slot", "kv_head", "feature"], [start + T, Hkv, d], all);
        cache.set(`${place}.${point}`, stored);
        return stored;
      };

      const a = norm("attn_norm", x); // [T, D]
      const q = show("q", HEADS, [T, H, d], linear("attn_q", a));
      const k = show("k", KV_HEADS, [T, Hkv, d], linear("attn_k", a));
      const values = linear("attn_v", a); // [T, Hkv, d]
      const shownValues = wrong.turnsValues === "shown" ? turn(values) : values;
      const v = show("v", KV_HEADS, [T, Hkv, d], shownValues);
      const qRope = show("q_rope", HEADS, [T, H, d], turn(q, "q_rope"));
      const kRope = show("k_rope", KV_HEADS, [T, Hkv, d], turn(k));
      const keys = store("cache_k", kRope); // [S, Hkv, d]
      const mixed = store("cache_v", wrong.turnsValues === "stored" ? turn(v) : v); // [S, Hkv, d]

      const S = start + T;
      const group = H / Hkv;
      const keyHead = wrong.keyHead ?? ((head: number) => Math.floor(head / group));
      const scale = (wrong.scale ?? 1) / Math.sqrt(d);
      const { future = 0 } = wrong;
      const sees = wrong.sees ?? (({ query, key }: Place) => key <= query + future);
      const scores = new Float32Array(H * T * S);
      for (let h = 0; h < H; h++) {
        for (let t = 0; t < T; t++) {
          for (let s = 0; s < S; s++) {
            const [at, key] = [(t * H + h) * d, (s * Hkv + keyHead(h)) * d];
            let sum = 0;
            for (let i = 0; i < d; i++) sum += qRope[at + i] * keys[key + i];
            const score = wrong.score ? wrong.score(sum * scale) : sum * scale;
            const place = { head: h, query: start + t, key: s, start };
            const isHidden = wrong.floor !== undefined && !sees(place);
            scores[(h * T + t) * S + s] = isHidden ? wrong.floor! : score;
          }
        }
      }
      const shownScores = show("attn_scores", ATTENTION, [H, T, S], scores);
      const softened = softmax(shownScores, T, S, start, sees, wrong.sink);
      const probs = show("attn_probs", ATTENTION, [H, T, S], softened);
      const mix = new Float32Array(T * H * d);
      for (let t = 0; t < T; t++) {
        for (let h = 0; h < H; h++) {
          for (let i = 0; i < d; i++) {
            let sum = 0;
            for (let s = 0; s < S; s++) {
              sum += probs[(h * T + t) * S + s] * mixed[(s * Hkv + keyHead(h)) * d + i];
            }
            mix[(t * H + h) * d + i] = sum;
          }
        }
      }
      const heads = show("head_out", HEADS, [T, H, d], mix);
      const attention = show("attn_out", ROWS, [T, D], linear("attn_output", heads));
      const { ffn_inp = 1, out = 1 } = wrong.residual ?? {};
      const middle = show("ffn_inp", ROWS, [T, D], attention.map((b, i) => ffn_inp * x[i] + b));

      const f = norm("ffn_norm", middle); // [T, D]
      const gate = show("ffn_gate", ROWS, [T, F], linear("ffn_gate", f));
      const up = show("ffn_up", ROWS, [T, F], linear("ffn_up", f));
      const activation = wrong.activation ?? swiglu;
      const act = show("ffn_act", ROWS, [T, F], gate.map((g, i) => activation(g, up[i])));
      const ffn = show("ffn_out", ROWS, [T, D], linear("ffn_down", act));
      x = show("out", ROWS, [T, D], ffn.map((b, i) => out * middle[i] + b));
    }
    const n = ends.norm("output_norm", x); // [T, D]
    const head = ends.weight("output.weight") ?? this.weights.get("token_embd.weight")!;
    ends.show(
      "logits",
      ROWS,
      [T, this.shape.vocabulary],
      product(ends.wrong.input?.("output", n, T) ?? n, head),
    );
    return tensors;
  }
}

const RIGHT: Mistakes = {};
const ROWS = ["position", "feature"];
const HEADS = ["position", "head", "feature"];
const KV_HEADS = ["position", "kv_head", "feature"];
const ATTENTION = ["head", "query", "key"];

function shapeOf({ metadata }: GgufFile, weights: ReadonlyMap<string, Weight>): Shape {
  const number = (key: string, otherwise?: number) => {
    const value = metadata.get(`llama.${key}`) ?? otherwise;
    if (typeof value !== "number") throw new TypeError(`Cannot run a file without llama.${key}`);
    return value;
  };
  const width = number("embedding_length");
  const heads = number("attention.head_count");
  const headWidth = number("attention.key_length", width / heads);
  return {
    layers: number("block_count"),
    width,
    heads,
    kvHeads: number("attention.head_count_kv", heads),
    headWidth,
    ffnWidth: number("feed_forward_length"),
    vocabulary: weights.get("token_embd.weight")!.rows,
    epsilon: number("attention.layer_norm_rms_epsilon"),
    rope: {
      base: number("rope.freq_base", 10000),
      width: number("rope.dimension_count", headWidth),
      factor: number("rope.scaling.factor", 1),
      offset: 0,
      pairs: "adjacent",
      divisors: weights.get("rope_freqs.weight")?.data,
    },
  };
}

/** x [T, columns] → W x + b [T, rows] */
function product(x: Float32Array, { rows, columns, data }: Weight, bias?: Float32Array) {
  const T = x.length / columns;
  const out = new Float32Array(T * rows);
  for (let t = 0; t < T; t++) {
    for (let r = 0; r < rows; r++) {
      let sum = bias?.[r] ?? 0;
      for (let c = 0; c < columns; c++) sum += data[r * columns + c] * x[t * columns + c];
      out[t * rows + r] = sum;
    }
  }
  return out;
}

function normalized(x: Float32Array, weight: Float32Array, right: number, wrong: Mistakes) {
  const { epsilon = right, centred = false, squares = (sum) => sum } = wrong;
  const D = weight.length;
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += D) {
    if (wrong.norm) {
      out.set(wrong.norm(x.subarray(row, row + D), weight, epsilon), row);
      continue;
    }
    let [mean, square] = [0, 0];
    if (centred) { for (let i = 0; i < D; i++) mean += x[row + i] / D; }
    for (let i = 0; i < D; i++) square += (x[row + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares(square) / D + epsilon);
    for (let i = 0; i < D; i++) out[row + i] = (x[row + i] - mean) * scale * weight[i];
  }
  return out;
}

/** x [T, heads, d], each head turned by its position. */
function turned(x: Float32Array, d: number, T: number, start: number, rope: Rope): Float32Array {
  const out = x.slice();
  const heads = x.length / (T * d);
  const pairs = rope.width / 2;
  for (let t = 0; t < T; t++) {
    for (let i = 0; i < pairs; i++) {
      const position = (start + t + rope.offset) / rope.factor;
      const angle = rope.angle?.(start + t, i) ??
        position * rope.base ** (-2 * i / rope.width) / (rope.divisors?.[i] ?? 1);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)].map(rope.table ?? ((value) => value));
      for (let h = 0; h < heads; h++) {
        const head = (t * heads + h) * d + (rope.skipped ?? 0);
        const [a, b] = rope.pairs === "half"
          ? [head + i, head + i + pairs]
          : [head + 2 * i, head + 2 * i + 1];
        out[a] = x[a] * cos - x[b] * sin;
        out[b] = x[a] * sin + x[b] * cos;
      }
    }
  }
  return out;
}

/** scores [H, T, S] → probabilities over the keys that each query sees; 0 elsewhere. */
function softmax(
  scores: Float32Array,
  T: number,
  S: number,
  start: number,
  sees: (place: Place) => boolean,
  sink = 0,
) {
  const out = new Float32Array(scores.length);
  for (let row = 0; row < scores.length / S; row++) {
    const place = { head: Math.floor(row / T), query: start + row % T, start };
    const seen = Array.from({ length: S }, (_, key) => key)
      .filter((key) => sees({ ...place, key }));
    const largest = seen.reduce((max, key) => Math.max(max, scores[row * S + key]), -Infinity);
    let sum = sink * Math.exp(-largest);
    for (const key of seen) sum += Math.exp(scores[row * S + key] - largest);
    for (const key of seen) out[row * S + key] = Math.exp(scores[row * S + key] - largest) / sum;
  }
  return out;
}

function swiglu(gate: number, up: number): number {
  return gate / (1 + Math.exp(-gate)) * up;
}

/** How a run is written. */
export interface DumpOptions {
  /** Points to leave out, by their full names. */
  readonly without?: (point: string) => boolean;
  /** The row order that heads are written in, and the one that the manifest says. */
  readonly rope?: "adjacent" | "half";
  readonly saidRope?: "adjacent" | "half";
  readonly activations?: ActivationType;
}

/** Writes a run as a folder that `task parity --engine` reads; the files' names tell nothing. */
export async function dump(run: EngineRun, dir: string, options: DumpOptions = {}): Promise<void> {
  const { without = () => false, rope = "adjacent", saidRope = rope, activations = "f32" } =
    options;
  await Deno.mkdir(dir, { recursive: true });
  let count = 0;
  const passes = [];
  for (const { step, start, ids, tensors } of run.passes) {
    const listed: Record<string, unknown> = {};
    for (const [point, { shape, axes, data }] of tensors) {
      if (without(point)) continue;
      const file = `t${count++}.npy`;
      const isTurned = rope === "half" && /\.(q|k|q_rope|k_rope|cache_k)$/.test(point);
      await writeNpy(join(dir, file), shape, isTurned ? inHalves(data, run.shape) : data);
      listed[point] = { file, shape, axes };
    }
    passes.push({ step, start, ids, tensors: listed });
  }
  const manifest = {
    format: "lamina-engine-tensors",
    version: 1,
    model: run.model,
    engine: "foreign",
    rope: saidRope,
    dtype: "f32",
    activations,
    prompt_ids: run.promptIds,
    passes,
    ids: run.ids,
  };
  await Deno.writeTextFile(join(dir, "manifest.json"), JSON.stringify(manifest));
}

/** Heads whose adjacent pairs are put half a turning width apart. */
function inHalves(x: Float32Array, { headWidth, rope: { width } }: Shape): Float32Array {
  return x.map((value, i) => {
    const at = i % headWidth;
    return at >= width ? value : x[i - at + (at < width / 2 ? 2 * at : 2 * at - width + 1)];
  });
}

/**
 * The arbiter: the whole forward pass once more, as one plain function in 64-bit floats. It shares
 * with the rest only the reading of files; it imports neither plan nor kernels, so that no mistake
 * can be in both. Slow on purpose: whoever is farther from it is wrong.
 */
import { type Config, readConfig } from "../model/config.ts";
import { dequantize } from "../gguf/dequantize.ts";
import type { GgufFile } from "../gguf/reader.ts";
import {
  add,
  addBias,
  argmax,
  attentionScores,
  concat,
  divideRows,
  mixValues,
  multiplyRows,
  rootMeanSquare,
  scaleColumns,
  softmaxRows,
  swiglu,
} from "./math.ts";
import { type RopeKind, ropeTable, rotate } from "./rope.ts";

/** The most bytes of a matrix that are read and dequantized at a time. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** A named tensor of the pass, row-major. */
export interface OraclePoint {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What {@linkcode oracle} is asked for. */
export interface OracleOptions {
  /** RoPE's angles in 64 bits, or with ggml's or PyTorch's rounding for comparisons with them; "exact". */
  readonly ropeTable?: RopeKind;
  /** Which points to keep, by name (`blk.0.attn_probs`); none. */
  readonly points?: (name: string) => boolean;
  /** Logits of every position or of the last one; "last". */
  readonly rows?: "all" | "last";
}

/** Logits and points of one pass. */
export interface OracleResult {
  /** One array of V logits per row asked for. */
  readonly logits: Float64Array[];
  /** The points that were kept. Keys that a query cannot see have score −∞ and probability 0. */
  readonly points: Map<string, OraclePoint>;
}

/**
 * Runs a model over token ids, from position 0 on, without a cache.
 *
 * @throws {RangeError} for no ids, or one outside the vocabulary
 * @throws {GgufError} when the file is no supported model
 */
export async function oracle(
  file: GgufFile,
  ids: readonly number[],
  options: OracleOptions = {},
): Promise<OracleResult> {
  const points = new Map<string, OraclePoint>();
  const wanted = options.points ?? (() => false);
  const logits = await pass({
    file,
    config: readConfig(file),
    ids,
    past: { length: 0, keys: [], values: [] },
    rope: options.ropeTable ?? "exact",
    rows: options.rows ?? "last",
    keep(name, shape, data) {
      if (wanted(name)) points.set(name, { shape, data });
    },
  });
  return { logits, points };
}

/** Ids chosen greedily, with how sure each choice was. */
export interface OracleGreedy {
  readonly ids: number[];
  /** Best minus second-best logit at each step. */
  readonly margins: number[];
}

/**
 * Generates `count` ids, each the one with the largest logit (of equal ones the lowest id), keeping
 * the keys and values of past positions.
 *
 * @throws as {@linkcode oracle}
 */
export async function oracleGreedy(
  file: GgufFile,
  ids: readonly number[],
  count: number,
  options: Pick<OracleOptions, "ropeTable"> = {},
): Promise<OracleGreedy> {
  const config = readConfig(file);
  const past: Past = { length: 0, keys: [], values: [] };
  const rope = options.ropeTable ?? "exact";
  const result: OracleGreedy = { ids: [], margins: [] };
  let next = ids;
  while (result.ids.length < count) {
    const [logits] = await pass({ file, config, ids: next, past, rope, rows: "last", keep() {} });
    const best = argmax(logits);
    const others = logits.with(best, -Infinity);
    result.ids.push(best);
    result.margins.push(logits[best] - others[argmax(others)]);
    next = [best];
  }
  return result;
}

/** Rotated keys and values of the positions so far, per layer [S, Hkv, d]. */
interface Past {
  length: number;
  readonly keys: Float64Array[];
  readonly values: Float64Array[];
}

interface Pass {
  readonly file: GgufFile;
  readonly config: Config;
  readonly ids: readonly number[];
  readonly past: Past;
  readonly rope: RopeKind;
  readonly rows: "all" | "last";
  keep(name: string, shape: readonly number[], data: Float64Array): void;
}

/** The forward pass of Llama (arXiv 2302.13971) over the ids that follow `past`; extends `past`. */
async function pass({ file, config, ids, past, rope, rows, keep }: Pass): Promise<Float64Array[]> {
  const { layers, width: D, heads: H, kvHeads: Hkv, headWidth: d, ffnWidth: F } = config;
  const T = ids.length;
  const S = past.length + T;
  const factors = config.ropeFactors ? await vector(file, "rope_freqs.weight") : undefined;
  const turns = ropeTable(config, factors, rope, past.length, T); // 2 × [T, ropeWidth / 2]

  function point(name: string, shape: readonly number[], data: Float64Array): Float64Array {
    keep(name, shape, data);
    return data;
  }
  async function norm(name: string, weight: string, x: Float64Array): Promise<Float64Array> {
    const n = x.length / D;
    const rms = point(`${name}_rms`, [n, 1], rootMeanSquare(x, D, config.normEpsilon));
    const pre = point(`${name}_pre`, [n, D], divideRows(x, rms));
    return point(name, [n, D], scaleColumns(pre, await vector(file, weight)));
  }

  let x = point("token_embd", [T, D], await embed(file, config, ids)); // [T, D]
  for (let layer = 0; layer < layers; layer++) {
    const blk = `blk.${layer}`;
    const attnNorm = await norm(`${blk}.attn_norm`, `${blk}.attn_norm.weight`, x); // [T, D]
    const q = point(`${blk}.q`, [T, H, d], await linear(file, `${blk}.attn_q`, attnNorm));
    const k = point(`${blk}.k`, [T, Hkv, d], await linear(file, `${blk}.attn_k`, attnNorm));
    const v = point(`${blk}.v`, [T, Hkv, d], await linear(file, `${blk}.attn_v`, attnNorm));
    const qRope = point(`${blk}.q_rope`, [T, H, d], rotate(q, H, config, turns));
    const kRope = point(`${blk}.k_rope`, [T, Hkv, d], rotate(k, Hkv, config, turns));
    const keys = concat(past.keys[layer] ?? new Float64Array(0), kRope); // [S, Hkv, d]
    const values = concat(past.values[layer] ?? new Float64Array(0), v); // [S, Hkv, d]
    past.keys[layer] = point(`${blk}.cache_k`, [S, Hkv, d], keys);
    past.values[layer] = point(`${blk}.cache_v`, [S, Hkv, d], values);
    const scores = point(`${blk}.attn_scores`, [H, T, S], attentionScores(qRope, keys, config));
    const probs = point(`${blk}.attn_probs`, [H, T, S], softmaxRows(scores, S));
    const headOut = point(`${blk}.head_out`, [T, H, d], mixValues(probs, values, config));
    const attnOut = await linear(file, `${blk}.attn_output`, headOut); // [T, D]
    point(`${blk}.attn_out`, [T, D], attnOut);
    const ffnInp = point(`${blk}.ffn_inp`, [T, D], add(x, attnOut));

    const ffnNorm = await norm(`${blk}.ffn_norm`, `${blk}.ffn_norm.weight`, ffnInp); // [T, D]
    const gate = point(`${blk}.ffn_gate`, [T, F], await linear(file, `${blk}.ffn_gate`, ffnNorm));
    const up = point(`${blk}.ffn_up`, [T, F], await linear(file, `${blk}.ffn_up`, ffnNorm));
    const act = point(`${blk}.ffn_act`, [T, F], swiglu(gate, up));
    const ffnOut = point(`${blk}.ffn_out`, [T, D], await linear(file, `${blk}.ffn_down`, act));
    x = point(`${blk}.out`, [T, D], add(ffnInp, ffnOut));
  }
  past.length = S;

  const last = rows === "all" ? x : x.slice((T - 1) * D); // [R, D], R = T or 1
  const R = last.length / D;
  const outputNorm = await norm("output_norm", "output_norm.weight", last); // [R, D]
  const head = config.tiedOutput ? "token_embd" : "output";
  const V = config.vocabSize;
  const logits = point("logits", [R, V], await linear(file, head, outputNorm));
  point("probs", [R, V], softmaxRows(logits, V));
  return Array.from({ length: R }, (_, r) => logits.slice(r * V, (r + 1) * V));
}

/** The embedding rows of the ids: [T, D]. */
async function embed(
  file: GgufFile,
  config: Config,
  ids: readonly number[],
): Promise<Float64Array> {
  if (ids.length === 0) throw new RangeError("Cannot run the oracle: there are no ids");
  const tensor = file.tensors.get("token_embd.weight")!;
  const rowBytes = tensor.bytes / config.vocabSize;
  const x = new Float64Array(ids.length * config.width);
  for (const [t, id] of ids.entries()) {
    if (!(Number.isInteger(id) && id >= 0 && id < config.vocabSize)) {
      throw new RangeError(`Cannot embed id ${id}: the vocabulary has ${config.vocabSize}`);
    }
    const row = await file.readTensor(tensor, id * rowBytes, rowBytes);
    x.set(dequantize(tensor.type, row), t * config.width);
  }
  return x;
}

/** x · Wᵀ, plus the bias if the file has one: [T, columns] to [T, rows]. */
async function linear(file: GgufFile, name: string, x: Float64Array): Promise<Float64Array> {
  const tensor = file.tensors.get(`${name}.weight`)!;
  const [columns, rows = 1] = tensor.shape;
  const rowBytes = tensor.bytes / rows;
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
  const out = new Float64Array(x.length / columns * rows);
  for (let row = 0; row < rows; row += rowsPerChunk) {
    const length = Math.min(rowsPerChunk, rows - row) * rowBytes;
    const bytes = await file.readTensor(tensor, row * rowBytes, length);
    multiplyRows(x, dequantize(tensor.type, bytes), columns, out, row);
  }
  return file.tensors.has(`${name}.bias`) ? addBias(out, await vector(file, `${name}.bias`)) : out;
}

/** A whole tensor as numbers, for norms and biases. */
async function vector(file: GgufFile, name: string): Promise<Float32Array> {
  const tensor = file.tensors.get(name)!;
  return dequantize(tensor.type, await file.readTensor(tensor));
}

/** The forward pass of a decoder in 64-bit floats, as the config says. */
import type { QkNorm } from "../model/config.ts";
import { activate, glu } from "./activations.ts";
import { attentionScores, mixValues, scaleByPosition, sinkSoftmax } from "./attention.ts";
import {
  add,
  addBias,
  cap,
  centerRows,
  clamp,
  concat,
  divideRows,
  rootMeanSquare,
  scale,
  scaleColumns,
  softmaxRows,
} from "./math.ts";
import { divisorsName, type RopeTable, ropeTable, rotate } from "./rope.ts";
import { mixture } from "./mixture.ts";
import { linear, type Pass, type Past, point } from "./step.ts";
import { takeRows, vector } from "./tensors.ts";

/** No positions yet. */
export function noPast(): Past {
  return { length: 0, keys: [], values: [] };
}

/**
 * The forward pass over the ids that follow `past`: T of them; R is T or 1, as `rows` says.
 *
 * @returns R arrays of V logits
 * @throws {RangeError} for no ids, one outside the vocabulary, or more positions than the model has learned rows for
 * @throws {GgufError} for a tensor that the file does not have
 */
export async function forwardPass(pass: Pass): Promise<Float64Array[]> {
  const { config, ids, past, rows } = pass;
  const { width: D, vocabSize: V } = config;
  const T = ids.length;
  const turns = await turnsOf(pass);
  let x = await embedding(pass); // [T, D]
  for (let layer = 0; layer < config.layers; layer++) x = await block(pass, layer, turns, x);
  past.length += T;
  const last = rows === "all" ? x : x.slice((T - 1) * D); // [R, D]
  const R = last.length / D;
  const logits = await unembedding(pass, await norm(pass, "output_norm", config.outputNorm, last)); // [R, V]
  point(pass, "probs", [R, V], softmaxRows(logits, V));
  return Array.from({ length: R }, (_, r) => logits.slice(r * V, (r + 1) * V));
}

/** The tables of RoPE for the positions of the pass, by name. */
async function turnsOf({ file, config, ids, past, rope, capacity }: Pass) {
  const tables = new Map<string, RopeTable>();
  for (const each of config.ropes) {
    const name = divisorsName(each, capacity);
    const divisors = name === undefined ? undefined : await vector(file, name);
    tables.set(each.table, ropeTable(each, divisors, rope, past.length, ids.length));
  }
  return tables;
}

/** The residual stream before the first block: [T, D]. */
async function embedding(pass: Pass): Promise<Float64Array> {
  const { file, config: { embedding, width: D, vocabSize }, ids, past } = pass;
  if (ids.length === 0) throw new RangeError("Cannot run the oracle: there are no ids");
  for (const id of ids) {
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new RangeError(`Cannot embed id ${id}: the vocabulary has ${vocabSize}`);
  }
  const shape = [ids.length, D];
  let x = point(pass, "token_embd", shape, await takeRows(file, "token_embd.weight", ids));
  if (embedding.scale !== 1) x = point(pass, "embd_scaled", shape, scale(x, embedding.scale));
  if (embedding.positions) {
    const positions = ids.map((_, t) => past.length + t);
    const learned = await takeRows(file, "position_embd.weight", positions);
    point(pass, "position_embd", shape, learned);
    x = point(pass, "embd_sum", shape, add(x, learned));
  }
  return embedding.norm ? await norm(pass, "embd_norm", "token_embd_norm", x) : x;
}

/** One block: attention and FFN, each added to the stream x [T, D]. */
async function block(
  pass: Pass,
  layer: number,
  turns: ReadonlyMap<string, RopeTable>,
  x: Float64Array,
): Promise<Float64Array> {
  const { config: { norms, parallel, width: D }, ids } = pass;
  const shape = [ids.length, D];
  const blk = `blk.${layer}`;
  const a = norms.attention === undefined
    ? x
    : await norm(pass, `${blk}.attn_norm`, `${blk}.${norms.attention}`, x); // [T, D]
  const attnOut = await attention(pass, layer, turns, a); // [T, D]
  const attn = await added(pass, `${blk}.attn`, norms.attentionAfter, attnOut, layer);
  const middle = parallel ? x : point(pass, `${blk}.ffn_inp`, shape, add(x, attn)); // [T, D]
  // Where a parallel block has one norm, both halves read it.
  const unnormed = parallel ? a : middle;
  const f = norms.ffn === undefined
    ? unnormed
    : await norm(pass, `${blk}.ffn_norm`, `${blk}.${norms.ffn}`, middle); // [T, D]
  const ffnOut = await feedForward(pass, layer, f); // [T, D]
  const ffn = await added(pass, `${blk}.ffn`, norms.ffnAfter, ffnOut, layer);
  const rest = parallel ? point(pass, `${blk}.attn_resid`, shape, add(x, attn)) : middle;
  return point(pass, `${blk}.out`, shape, add(rest, ffn));
}

/** What a half of a block adds to the stream: what it made, y [T, D], or that normed, times the residual scale. */
async function added(
  pass: Pass,
  half: string,
  tensor: string | undefined,
  y: Float64Array,
  layer: number,
): Promise<Float64Array> {
  const { residualScale, width: D } = pass.config;
  const name = tensor === undefined ? `${half}_out` : `${half}_post_norm`;
  const normed = tensor === undefined ? y : await norm(pass, name, `blk.${layer}.${tensor}`, y);
  if (residualScale === 1) return normed;
  return point(pass, `${name}_scaled`, [y.length / D, D], scale(normed, residualScale));
}

/** Attention over normed rows a [T, D]: [T, D]. */
async function attention(
  pass: Pass,
  layer: number,
  turns: ReadonlyMap<string, RopeTable>,
  a: Float64Array,
): Promise<Float64Array> {
  const { file, config, ids, past } = pass;
  const { heads: H, kvHeads: Hkv, headWidth: d, width: D } = config;
  const [T, S] = [ids.length, past.length + ids.length];
  const blk = `blk.${layer}`;
  const freeQ = await projection(pass, layer, "q", H, a); // [T, H, d]
  const freeK = await projection(pass, layer, "k", Hkv, a); // [T, Hkv, d]
  const v = await projection(pass, layer, "v", Hkv, a); // [T, Hkv, d]
  const q = await placed(pass, layer, turns, "q", H, freeQ); // [T, H, d]
  const k = await placed(pass, layer, turns, "k", Hkv, freeK); // [T, Hkv, d]
  const turned = config.blocks[layer].rope !== undefined;
  const { queryScaling: growth } = config;
  const scaled = growth === undefined || growth.unturnedOnly && turned ? q : point(
    pass,
    `${blk}.q_scaled`,
    [T, H, d],
    scaleByPosition(q, past.length, H * d, growth),
  );
  const keys = concat(past.keys[layer] ?? new Float64Array(0), k); // [S, Hkv, d]
  const values = concat(past.values[layer] ?? new Float64Array(0), v); // [S, Hkv, d]
  past.keys[layer] = point(pass, `${blk}.cache_k`, [S, Hkv, d], keys);
  past.values[layer] = point(pass, `${blk}.cache_v`, [S, Hkv, d], values);
  const scores = attentionScores(scaled, keys, config, config.blocks[layer]);
  point(pass, `${blk}.attn_scores`, [H, T, S], scores);
  const sinks = config.sinks && await vector(file, `${blk}.attn_sinks.weight`); // [H]
  const softmax = sinks ? sinkSoftmax(scores, S, sinks) : softmaxRows(scores, S);
  const probs = point(pass, `${blk}.attn_probs`, [H, T, S], softmax);
  const mixed = point(pass, `${blk}.head_out`, [T, H, d], mixValues(probs, values, config));
  return await linear(pass, `${blk}.attn_out`, `${blk}.attn_output`, mixed, [T, D]);
}

/** Queries, keys or values of normed rows a [T, D], clamped where the config says so: [T, count, d]. */
async function projection(
  pass: Pass,
  layer: number,
  name: "q" | "k" | "v",
  count: number,
  a: Float64Array,
): Promise<Float64Array> {
  const { config: { headWidth, qkvLimit }, ids } = pass;
  const shape = [ids.length, count, headWidth];
  const at = `blk.${layer}.${name}`;
  const tensor = `blk.${layer}.attn_${name}`;
  if (qkvLimit === 0) return await linear(pass, at, tensor, a, shape);
  const free = await linear(pass, `${at}_unclamped`, tensor, a, shape);
  return point(pass, at, shape, clamp(free, qkvLimit));
}

/** Queries or keys x [T, count, d] turned by their positions, and normed before or after that: the same shape. */
async function placed(
  pass: Pass,
  layer: number,
  turns: ReadonlyMap<string, RopeTable>,
  name: "q" | "k",
  count: number,
  x: Float64Array,
): Promise<Float64Array> {
  const { config: { headWidth, qkNorm, blocks }, ids } = pass;
  const shape = [ids.length, count, headWidth];
  const at = `blk.${layer}.${name}`;
  const { rope } = blocks[layer];
  const normed = (y: Float64Array) =>
    norm(pass, `${at}_norm`, `blk.${layer}.attn_${name}_norm`, y, shape, qkNorm!.over);
  const isNormed = qkNorm !== undefined && (rope !== undefined || !qkNorm.turnedOnly);
  if (isNormed && !qkNorm.afterRope) x = await normed(x);
  if (rope) {
    const turned = rotate(x, count, headWidth, rope, turns.get(rope.table)!);
    x = point(pass, `${at}_rope`, shape, turned);
  }
  return isNormed && qkNorm.afterRope ? await normed(x) : x;
}

/** The FFN over normed rows f [T, D]: [T, D]. */
async function feedForward(pass: Pass, layer: number, f: Float64Array): Promise<Float64Array> {
  const { config: { width: D, ffnWidth: F, activation, xielu, gated }, ids: { length: T } } = pass;
  const { experts } = pass.config.blocks[layer];
  if (experts) return await mixture(pass, layer, experts, f);
  const at = `blk.${layer}`;
  const numbers = xielu && {
    alphaN: xielu.alphaN[layer],
    alphaP: xielu.alphaP[layer],
    beta: xielu.beta[layer],
    epsilon: xielu.epsilon[layer],
  };
  const gate = gated && await linear(pass, `${at}.ffn_gate`, `${at}.ffn_gate`, f, [T, F]);
  const up = await linear(pass, `${at}.ffn_up`, `${at}.ffn_up`, f, [T, F]);
  const act = gate ? glu(gate, up, activation, numbers) : activate(up, activation, numbers);
  point(pass, `${at}.ffn_act`, [T, F], act);
  return await linear(pass, `${at}.ffn_out`, `${at}.ffn_down`, act, [T, D]);
}

/** Logits of normed rows n [R, D]: [R, V]. */
async function unembedding(pass: Pass, n: Float64Array): Promise<Float64Array> {
  const { width: D, vocabSize: V, tiedOutput, logitScale, logitCap } = pass.config;
  const shape = [n.length / D, V];
  const uncapped = logitCap === 0 ? "logits" : "logits_uncapped";
  const unscaled = logitScale === 1 ? uncapped : "logits_unscaled";
  let logits = await linear(pass, unscaled, tiedOutput ? "token_embd" : "output", n, shape);
  if (logitScale !== 1) logits = point(pass, uncapped, shape, scale(logits, logitScale));
  return logitCap === 0 ? logits : point(pass, "logits", shape, cap(logits, logitCap));
}

/**
 * RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450), with the weight and the bias that the config says there are. `over` says what of a
 * position is a row: all, or each head, whose weights are shared or its own.
 *
 * @param x `shape`, which is [n, D] unless it is given
 * @returns the same shape
 */
async function norm(
  pass: Pass,
  name: string,
  tensor: string,
  x: Float64Array,
  shape: readonly number[] = [x.length / pass.config.width, pass.config.width],
  over: QkNorm["over"] = "row",
): Promise<Float64Array> {
  const { file, config: { normKind, normEpsilon, optional } } = pass;
  const kind = tensor.replace(/^blk\.\d+\./, "");
  const own = (part: string) =>
    optional.has(`${kind}.${part}`) ? vector(file, `${tensor}.${part}`) : undefined;
  const [weight, bias] = [await own("weight"), await own("bias")];
  const rows = over === "row" ? 1 : shape[1]; // of a position
  const width = x.length / shape[0] / rows;
  const centered = normKind === "rms"
    ? x
    : point(pass, `${name}_centered`, shape, centerRows(x, width));
  const rms = rootMeanSquare(centered, width, normEpsilon);
  point(pass, `${name}_rms`, rows === 1 ? [shape[0], 1] : [shape[0], rows, 1], rms);
  const pre = divideRows(centered, rms);
  if (!weight && !bias) return point(pass, name, shape, pre);
  point(pass, `${name}_pre`, shape, pre);
  if (!weight) return point(pass, name, shape, addBias(pre, bias!));
  const scaled = scaleColumns(pre, weight);
  if (!bias) return point(pass, name, shape, scaled);
  point(pass, `${name}_scaled`, shape, scaled);
  return point(pass, name, shape, addBias(scaled, bias));
}

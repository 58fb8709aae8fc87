/** All points of a pass as llama.cpp computed them, in our names, shapes and order. */
import type { HostTensor } from "../../engine/backend.ts";
import type { Config } from "../../engine/model/config.ts";
import { MASKED } from "../../kernels/attention/attention.ts";
import type { Graph, GraphTensor } from "./llamacpp.ts";

/** A pass over T positions from `start` on. */
export interface PassPlace {
  readonly start: number;
  readonly tokens: number;
}

/** Tensors of llama.cpp's graph that {@linkcode referencePoints} reads. */
export function isReferenceTensor(name: string): boolean {
  return SHOWN.test(name);
}

const SHOWN = new RegExp(
  "^(embd|norm|result_norm|result_output|cache_[kv]_l\\d+ \\(view\\)|" +
    "(norm|attn_norm|[QKV]cur|kq|kq_soft_max|kqv_out|attn_out|ffn_inp|ffn_norm|ffn_gate|ffn_up|ffn_swiglu|ffn_out|l_out)-\\d+)$",
);

/**
 * The points of a pass, by name. What llama.cpp does not show (root mean squares, heads' own results, probabilities, the
 * greedy choice) is computed in 64 bits from what it shows. Keys that a query does not see have score −1e30 and probability 0.
 *
 * @param graph of a pass in which every {@linkcode isReferenceTensor} was wanted, logits for every row
 * @param weight a weight of the model that llama.cpp ran
 */
export async function referencePoints(
  config: Config,
  graph: Graph,
  { start, tokens: T }: PassPlace,
  weight: (name: string) => Promise<Float32Array>,
): Promise<Map<string, HostTensor>> {
  const { layers, width: D, ffnWidth: F, heads: H, kvHeads: Hkv, headWidth: d } = config;
  const { vocabSize: V, normEpsilon, attentionScale } = config;
  const S = start + T;
  const points = new Map<string, HostTensor>();

  /** Of several tensors of one name: which one, negative from the end. */
  function shown(name: string, which = -1): GraphTensor {
    const tensor = graph.get(name)?.at(which);
    if (!tensor) throw new Error(`llama.cpp shows no ${name}`);
    return tensor;
  }
  function keep(name: string, shape: number[], data: Float32Array<ArrayBuffer>): void {
    const size = shape.reduce((product, dim) => product * dim, 1);
    if (data.length !== size) throw new Error(`${name}: ${data.length} numbers, not ${shape}`);
    points.set(name, { shape, data });
  }
  function norm(name: string, x: GraphTensor, pre: GraphTensor, out: GraphTensor): void {
    keep(`${name}_rms`, [T, 1], rootMeanSquares(x.data, D, normEpsilon));
    keep(`${name}_pre`, [T, D], pre.data);
    keep(name, [T, D], out.data);
  }

  let x = shown("embd");
  keep("token_embd", [T, D], x.data);
  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}`;
    const of = (name: string, which?: number) => shown(`${name}-${layer}`, which);
    norm(`${at}.attn_norm`, x, of("norm", 0), of("attn_norm"));
    keep(`${at}.q`, [T, H, d], of("Qcur", -2).data);
    keep(`${at}.k`, [T, Hkv, d], of("Kcur", -2).data);
    keep(`${at}.v`, [T, Hkv, d], of("Vcur").data);
    keep(`${at}.q_rope`, [T, H, d], of("Qcur").data);
    keep(`${at}.k_rope`, [T, Hkv, d], of("Kcur").data);
    const [keys, values] = ["k", "v"].map((name) => shown(`cache_${name}_l${layer} (view)`));
    keep(`${at}.cache_k`, [S, Hkv, d], keys.data.slice(0, S * Hkv * d));
    keep(`${at}.cache_v`, [S, Hkv, d], slotsFirst(values, S));
    const visible = { start, tokens: T };
    keep(
      `${at}.attn_scores`,
      [H, T, S],
      visibleKeys(of("kq"), visible, MASKED, (value) => value * attentionScale),
    );
    keep(`${at}.attn_probs`, [H, T, S], visibleKeys(of("kq_soft_max"), visible, 0));
    const heads = of("kqv_out").data;
    keep(`${at}.head_out`, [T, H, d], heads);
    const output = await weight(`${at}.attn_output.weight`);
    keep(`${at}.head_result`, [T, H, D], headResults(heads, output, H, d));
    keep(`${at}.attn_out`, [T, D], of("attn_out").data);
    keep(`${at}.ffn_inp`, [T, D], of("ffn_inp").data);
    norm(`${at}.ffn_norm`, of("ffn_inp"), of("norm", 1), of("ffn_norm"));
    keep(`${at}.ffn_gate`, [T, F], of("ffn_gate").data);
    keep(`${at}.ffn_up`, [T, F], of("ffn_up").data);
    keep(`${at}.ffn_act`, [T, F], of("ffn_swiglu").data);
    keep(`${at}.ffn_out`, [T, D], of("ffn_out").data);
    keep(`${at}.out`, [T, D], (x = of("l_out")).data);
  }
  keep("last_rows", [T, D], x.data);
  norm("output_norm", x, shown("norm"), shown("result_norm"));
  const logits = shown("result_output").data;
  keep("logits", [T, V], logits);
  keep("probs", [T, V], softmaxRows(logits, V));
  keep("argmax", [T], argmaxRows(logits, V));
  return points;
}

/** √(mean of x² + ε) of each row, in 64 bits. */
function rootMeanSquares(x: Float32Array, width: number, epsilon: number) {
  return Float32Array.from({ length: x.length / width }, (_, row) => {
    let sum = 0;
    for (let i = row * width; i < (row + 1) * width; i++) sum += x[i] * x[i];
    return Math.sqrt(sum / width + epsilon);
  });
}

/** Softmax of each row, in 64 bits. */
export function softmaxRows(x: Float32Array, width: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    const values = Float64Array.from(x.subarray(row, row + width));
    const largest = values.reduce((most, value) => Math.max(most, value), -Infinity);
    const terms = values.map((value) => Math.exp(value - largest));
    const sum = terms.reduce((total, term) => total + term, 0);
    out.set(terms.map((term) => term / sum), row);
  }
  return out;
}

/** Where each row's largest number stands; of equal ones the first. */
function argmaxRows(x: Float32Array, width: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: x.length / width }, (_, row) => {
    let best = 0;
    for (let i = 1; i < width; i++) {
      if (x[row * width + i] > x[row * width + best]) best = i;
    }
    return best;
  });
}

/** Each head's part of the attention output: [T, H, d] and [D, H · d] to [T, H, D], in 64 bits. */
function headResults(heads: Float32Array, output: Float32Array, H: number, d: number) {
  const D = output.length / (H * d);
  const result = new Float32Array(heads.length / d * D);
  let to = 0;
  for (let row = 0; row < heads.length / d; row++) { // position and head
    const column = row % H * d;
    for (let i = 0; i < D; i++) {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += heads[row * d + j] * output[i * H * d + column + j];
      result[to++] = sum;
    }
  }
  return result;
}

/** The transposed value cache [d, Hkv, slots] as [S, Hkv, d]. */
function slotsFirst({ shape, data }: GraphTensor, S: number): Float32Array<ArrayBuffer> {
  const [slots, Hkv, d] = [shape.at(-1)!, shape.at(-2)!, shape.at(-3) ?? 1];
  return Float32Array.from(
    { length: S * Hkv * d },
    (_, i) => data[(i % d * Hkv + Math.floor(i / d) % Hkv) * slots + Math.floor(i / (d * Hkv))],
  );
}

/** [H, T, slots] without the slots that are not used; what a query does not see is `hidden`. */
function visibleKeys(
  { shape, data }: GraphTensor,
  { start, tokens: T }: PassPlace,
  hidden: number,
  convert: (value: number) => number = (value) => value,
): Float32Array<ArrayBuffer> {
  const slots = shape.at(-1)!;
  const S = start + T;
  return Float32Array.from({ length: data.length / slots * S }, (_, i) => {
    const [row, key] = [Math.floor(i / S), i % S];
    return isVisible(row % T, key, start) ? convert(data[row * slots + key]) : hidden;
  });
}

/** Whether the query in row `row` of a pass from `start` on sees a key. */
export function isVisible(row: number, key: number, start: number): boolean {
  return key <= start + row;
}

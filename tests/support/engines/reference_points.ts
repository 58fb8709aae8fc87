/** All points of a pass as llama.cpp computed them, in our names, shapes and order. */
import { graphModel } from "../../../checkpoints/references/llamacpp/graph_model.ts";
import { type GraphNode, PointReader } from "../../../checkpoints/references/llamacpp/points.ts";
import type { HostTensor } from "../../../engine/host_tensor.ts";
import type { Config } from "../../../engine/model/config.ts";
import { MASKED } from "../../../kernels/attention/scoring/score.ts";
import type { Graph } from "./llamacpp_library.ts";

/** A pass over T positions from `start` on. */
export interface PassPlace {
  readonly start: number;
  readonly tokens: number;
}

/** Whether a node of llama.cpp's graph is a point. */
export function isPoint(config: Config): (node: GraphNode) => boolean {
  const reader = new PointReader(graphModel(config));
  return (node) => reader.wants(node, () => true);
}

/** The points that llama.cpp shows, `cached` being the positions so far. */
export function shownPoints(config: Config, graph: Graph, cached: number): Map<string, HostTensor> {
  const reader = new PointReader(graphModel(config));
  // Of several nodes that are one point the last has the whole of it.
  return new Map(
    graph.nodes.flatMap((node) => reader.take(node, cached)) as [string, HostTensor][],
  );
}

/**
 * The points of a pass, by name. What llama.cpp does not show (root mean squares, heads' own results, probabilities, the
 * greedy choice) is computed in 64 bits from what it shows. Keys that a query does not see have score −1e30 and probability 0.
 *
 * @param graph of a pass in which every {@linkcode isPoint} was wanted, logits for every row
 * @param weight a weight of the model that llama.cpp ran
 */
export async function referencePoints(
  config: Config,
  graph: Graph,
  { start, tokens: T }: PassPlace,
  weight: (name: string) => Promise<Float32Array>,
): Promise<Map<string, HostTensor>> {
  const { layers, width: D, heads: H, headWidth: d, vocabSize: V, normEpsilon } = config;
  const points = shownPoints(config, graph, start + T);
  const shown = (name: string) => {
    const tensor = points.get(name);
    if (!tensor) throw new Error(`llama.cpp shows no ${name}`);
    return tensor;
  };
  const squares = (norm: string, of: string) =>
    points.set(`${norm}_rms`, {
      shape: [T, 1],
      data: rootMeanSquares(shown(of).data, D, normEpsilon),
    });

  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}`;
    squares(`${at}.attn_norm`, layer === 0 ? "token_embd" : `blk.${layer - 1}.out`);
    squares(`${at}.ffn_norm`, `${at}.ffn_inp`);
    for (const [kind, hidden] of [["attn_scores", MASKED], ["attn_probs", 0]] as const) {
      points.set(`${at}.${kind}`, withHidden(shown(`${at}.${kind}`), start, hidden));
    }
    const output = await weight(`${at}.attn_output.weight`);
    const results = headResults(shown(`${at}.head_out`).data, output, H, d);
    points.set(`${at}.head_result`, { shape: [T, H, D], data: results });
  }
  points.set("last_rows", shown(`blk.${layers - 1}.out`));
  squares("output_norm", `blk.${layers - 1}.out`);
  const logits = shown("logits").data;
  points.set("probs", { shape: [T, V], data: softmaxRows(logits, V) });
  points.set("argmax", { shape: [T], data: argmaxRows(logits, V) });
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

/** Attention's numbers, in which what a query does not see is `hidden`. */
function withHidden({ shape, data }: HostTensor, start: number, hidden: number): HostTensor {
  const [, T, S] = shape;
  return {
    shape,
    data: data.map((value, i) => isVisible(Math.floor(i / S) % T, i % S, start) ? value : hidden),
  };
}

/** Whether the query in row `row` of a pass from `start` on sees a key. */
export function isVisible(row: number, key: number, start: number): boolean {
  return key <= start + row;
}

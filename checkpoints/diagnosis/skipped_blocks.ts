/** An engine that hands an earlier block's outcome on: the blocks between were not run, or not loaded. */
import { layerOf } from "../../base/layer_names.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Config } from "../../engine/model/config.ts";
import { compareTensors, localAllowance } from "../parity/compare.ts";
import type { ActivationType, ReferencePass } from "../references/reference.ts";
import { CAUSES, type Explanation } from "./causes.ts";

/** The norm that reads a block's outcome first, where a point is one of its steps: the next block's, or the one at the end. */
export function normOfOutcome(point: string): string | undefined {
  return /^(blk\.\d+\.attn_norm|output_norm)(_rms|_pre)?$/.exec(point)?.[1];
}

/**
 * That a norm is that of an earlier block's outcome than it should be, by value; undefined where it is not, or where anything of the
 * blocks between is shown.
 *
 * @param norm as `normOfOutcome` has it
 * @param pass of the engine, with what it shows of the stream after blocks and the norm
 * @param shown all points that the engine shows
 * @param before root mean square of the difference as it is
 */
export async function skippedBlocks(
  norm: string,
  file: GgufFile,
  { layers, width, normEpsilon, normKind }: Config,
  { tensors, start }: ReferencePass,
  shown: Iterable<string>,
  activations: ActivationType,
  before: number,
): Promise<Explanation | undefined> {
  const end = tensors.get(norm);
  const next = layerOf(norm) ?? layers;
  const known = [...shown].map((point) => layerOf(point) ?? -1).filter((layer) => layer < next);
  const layer = Math.max(-1, ...known);
  const from = layer < 0 ? "token_embd" : `blk.${layer}.out`;
  const outcome = tensors.get(from);
  const weight = file.tensors.get(`${norm}.weight`);
  if (!end || !weight || !outcome || layer === next - 1) return undefined;
  if (`${outcome.shape}` !== `${end.shape}`) return undefined;
  const factors = dequantize(weight.type, await file.readTensor(weight));
  const bias = file.tensors.get(`${norm}.bias`);
  const added = bias && dequantize(bias.type, await file.readTensor(bias));
  const centred = normKind === "layer" ? withoutMean(outcome.data, width) : outcome.data;
  const data = rmsNorm(centred, width, normEpsilon, factors)
    .map((value, i) => value + (added?.[i % width] ?? 0));
  const normed = { shape: end.shape, data };
  const { passed, rms } = compareTensors(
    norm,
    normed,
    end,
    localAllowance(norm, activations),
    start,
  );
  if (!passed) return undefined;
  const lost = layer === next - 2 ? `blk.${layer + 1}` : `blk.${layer + 1} to ${next - 1}`;
  return {
    cause: "absent",
    explained: 1 - rms / before,
    before,
    after: rms,
    detail: `${norm} is that of ${from}: ${lost} left out, of ${layers} blocks`,
    look: CAUSES.absent.look,
  };
}

/** x / sqrt(mean(x²) + ε), times the weight, row by row: [T, D]. */
function rmsNorm(
  data: ArrayLike<number>,
  width: number,
  epsilon: number,
  factors: Float32Array,
): Float32Array {
  const normed = new Float32Array(data.length);
  for (let row = 0; row < data.length; row += width) {
    let squares = 0;
    for (let i = row; i < row + width; i++) squares += data[i] ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) normed[row + i] = data[row + i] * scale * factors[i];
  }
  return normed;
}

/** Each row less its mean. */
function withoutMean(data: ArrayLike<number>, width: number): Float32Array {
  const out = Float32Array.from(data);
  for (let row = 0; row < out.length; row += width) {
    const mean = out.subarray(row, row + width).reduce((a, b) => a + b, 0) / width;
    for (let i = row; i < row + width; i++) out[i] -= mean;
  }
  return out;
}

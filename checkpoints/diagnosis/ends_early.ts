/** An engine whose end is made of an earlier block: the blocks between were not run, or not loaded. */
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Config } from "../../engine/model/config.ts";
import { layerOf } from "../../base/layer_names.ts";
import { compareTensors, localAllowance } from "../parity/compare.ts";
import type { ActivationType, ReferencePass } from "../references/reference.ts";
import { CAUSES, type Explanation } from "./causes.ts";

const END = "output_norm";
const NORM = "output_norm.weight";

/**
 * That the last norm is that of an earlier block's outcome than it should be, by value; undefined where it is not, or where the last
 * block is shown.
 *
 * @param pass of the engine, with what it shows of `blk.*.out` and the last norm
 * @param before root mean square of the difference as it is
 */
export async function endsEarly(
  file: GgufFile,
  { layers, width, normEpsilon }: Config,
  { tensors, start }: ReferencePass,
  activations: ActivationType,
  before: number,
): Promise<Explanation | undefined> {
  const end = tensors.get(END);
  const shown = [...tensors.keys()].filter((point) => /^blk\.\d+\.out$/.test(point))
    .map((point) => layerOf(point)!).sort((a, b) => b - a);
  const weight = file.tensors.get(NORM);
  if (!end || !weight || shown.length === 0 || shown[0] === layers - 1) return undefined;
  const factors = dequantize(weight.type, await file.readTensor(weight));
  for (const layer of shown) {
    const { data, shape } = tensors.get(`blk.${layer}.out`)!;
    if (`${shape}` !== `${end.shape}`) continue;
    const normed = { shape, data: rmsNorm(data, width, normEpsilon, factors) };
    const allowance = localAllowance(END, activations);
    const { passed, rms } = compareTensors(END, normed, end, allowance, start);
    if (!passed) continue;
    const lost = layer + 1 === layers - 1
      ? `blk.${layer + 1}`
      : `blk.${layer + 1} to ${layers - 1}`;
    return {
      cause: "absent",
      explained: 1 - rms / before,
      before,
      after: rms,
      detail: `${END} is that of blk.${layer}.out: ${lost} left out, of ${layers} blocks`,
      look: CAUSES.absent.look,
    };
  }
  return undefined;
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

/** How the engine of a folder that does not say so builds RoPE's angles: what its own numbers tell. */
import type { Config, Rope } from "../../../engine/model/config.ts";
import { factorsOf, type RopeBuilder, type RopeFactors } from "../../../engine/model/rope_table.ts";
import { ropeTable, rotate } from "../../../engine/oracle/rope.ts";
import { ReferenceFailure, type ReferencePass, type ReferenceTensor } from "../reference.ts";
import type { FolderReference } from "./engine_folder.ts";

/** Others than `exact` are believed when they leave so much less of what is off. */
const CLEARLY = 0.5;

/**
 * The builder whose angles turn what a folder shows before RoPE into what it shows after it. All are right; from a few hundred positions on
 * they are farther from each other than an operation may be off. `exact` where the numbers do not tell, and where they cannot be read,
 * which the comparison will say.
 *
 * @param ids of the prompt that its tensors are of
 * @param factors the file's divisors of angles
 */
export async function anglesOf(
  folder: FolderReference,
  ids: readonly number[],
  config: Config,
  factors: RopeFactors,
): Promise<RopeBuilder> {
  const kinds = [["q", config.heads], ["k", config.kvHeads]] as const;
  const found = Array.from({ length: config.layers }, (_, layer) =>
    kinds.map(([kind, heads]) => ({
      heads,
      rope: config.blocks[layer].rope,
      points: [`blk.${layer}.${kind}`, `blk.${layer}.${kind}_rope`],
    }))).flat().find(({ rope, points }) =>
      rope && points.every((point) => folder.shown.has(point))
    );
  if (!found) return "exact";
  const { points, heads } = found;
  const rope = found.rope!;
  const pass = await passOf(folder, ids, points);
  const [before, after] = points.map((point) => pass?.tensors.get(point));
  if (!before || !after || `${before.positions}` !== `${after.positions}`) return "exact";
  const off = (builder: RopeBuilder) =>
    squaresOff(before, after, pass!.start, heads, config, rope, factors, builder);
  const [best, least] = (["ggml", "f32"] as const)
    .map((builder) => [builder, off(builder)] as const)
    .reduce((a, b) => b[1] < a[1] ? b : a);
  return least < CLEARLY * off("exact") ? best : "exact";
}

async function passOf(
  folder: FolderReference,
  ids: readonly number[],
  points: readonly string[],
): Promise<ReferencePass | undefined> {
  try {
    return (await folder.run({ ids, generate: 0, steps: [0], points })).passes[0];
  } catch (error) {
    if (error instanceof ReferenceFailure) return undefined;
    throw error;
  }
}

/** The sum of squares that is left between numbers that are turned by a builder's angles and those that are shown. */
function squaresOff(
  before: ReferenceTensor,
  after: ReferenceTensor,
  start: number,
  heads: number,
  config: Config,
  rope: Rope,
  factors: RopeFactors,
  builder: RopeBuilder,
): number {
  const width = heads * config.headWidth;
  let sum = 0;
  for (let row = 0; row < before.shape[0]; row++) {
    const position = before.positions?.[row] ?? start + row;
    const divisors = factorsOf(rope, config.contextLength, factors);
    const table = ropeTable(rope, divisors, builder, position, 1);
    const numbers = Float64Array.from(before.data.subarray(row * width, (row + 1) * width));
    rotate(numbers, heads, config.headWidth, rope, table).forEach((value, i) => {
      sum += (value - after.data[row * width + i]) ** 2;
    });
  }
  return sum;
}

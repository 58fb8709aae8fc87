/** Suspected faults of products with weight matrices. */
import { toAdjacent, toHalf } from "../../inspect/points.ts";
import { kindOf } from "../contract.ts";
import { type Operation, rerun, type Weight } from "./chain.ts";
import { bestHeads, headOrder } from "./heads.ts";
import { rotatedVariants } from "./rope.ts";
import { damagedColumns, damagedRun } from "./sparse.ts";
import type { Variant } from "./variants.ts";

/** x [T, columns] → [T, rows] */
export async function linearVariants(operation: Operation): Promise<Variant[]> {
  const { config, output, weights: [weight], target } = operation;
  const kind = kindOf(operation.name).replace("_product", "");
  const variants: Variant[] = [];
  if (kind === "q" || kind === "k") variants.push(...permutedVariants(output, operation));
  if (kind === "v") variants.push(...rotatedVariants(output, config.kvHeads, operation));
  if (/^[qkv]$/.test(kind)) {
    const heads = kind === "q" ? config.heads : config.kvHeads;
    variants.push(...headVariants(output, heads, operation));
  }
  if (kind === "attn_out") variants.push(...inputHeadVariants(operation));
  variants.push(...await otherWeightVariants(kind, operation));
  if (weight.rows > 1) {
    variants.push({
      cause: "transposed",
      detail: `${weight.name}, read as ${weight.columns} x ${weight.rows}`,
      output: rerun(operation, { weights: [transposed(weight)] }),
    });
  }
  if (target) variants.push(...differenceVariants(operation, target));
  return variants;
}

/** product [T, rows], bias [rows] → [T, rows] */
export function biasVariants({ inputs: [product], weights: [bias] }: Operation): Variant[] {
  return [{ cause: "bias-missing", detail: `${bias.name} is not added`, output: product.slice() }];
}

/** Heads in the other RoPE order, either way. */
function permutedVariants(
  output: Float32Array,
  { config: { headWidth, ropeWidth }, weights: [weight] }: Operation,
): Variant[] {
  const of = (detail: string, permuted: Float32Array): Variant => ({
    cause: "qk-permuted",
    detail: `${weight.name}: ${detail}`,
    output: permuted,
  });
  return [
    of("halves where pairs are adjacent here", toHalf(output, headWidth, ropeWidth)),
    of("adjacent pairs where halves are here", toAdjacent(output, headWidth, ropeWidth)),
  ];
}

/** Heads in another order. */
function headVariants(output: Float32Array, heads: number, operation: Operation): Variant[] {
  const { target, weights: [weight], config: { headWidth } } = operation;
  if (!target || heads < 2) return [];
  const order = bestHeads(output, target, heads, headWidth);
  if (!order) return [];
  return [{
    cause: "head-grouping",
    detail: `${weight.name}: heads ${order.join(", ")} where 0 to ${heads - 1} belong`,
    output: headOrder(output, order, headWidth),
  }];
}

/** Heads that were joined in the other grouping before the projection. */
function inputHeadVariants(operation: Operation): Variant[] {
  const { inputs: [x], config: { heads, kvHeads, headWidth } } = operation;
  const group = heads / kvHeads;
  const orders = new Map([
    [
      "by position in the group",
      Array.from({ length: heads }, (_, h) => (h % kvHeads) * group + Math.floor(h / kvHeads)),
    ],
    [
      "by key/value head",
      Array.from({ length: heads }, (_, h) => (h % group) * kvHeads + Math.floor(h / group)),
    ],
    ["backwards", Array.from({ length: heads }, (_, h) => heads - 1 - h)],
  ]);
  return [...orders].filter(([, order]) => order.some((h, i) => h !== i)).map(([name, order]) => ({
    cause: "head-grouping",
    detail: `heads are joined ${name}`,
    output: rerun(operation, { inputs: [headOrder(x, order, headWidth)] }),
  }));
}

/** The product with a weight that could be meant instead. */
async function otherWeightVariants(kind: string, operation: Operation): Promise<Variant[]> {
  const { weights: [weight], reader } = operation;
  const other = kind === "ffn_gate"
    ? weight.name.replace("ffn_gate", "ffn_up")
    : kind === "ffn_up"
    ? weight.name.replace("ffn_up", "ffn_gate")
    : kind === "logits"
    ? weight.name === "output.weight" ? "token_embd.weight" : "output.weight"
    : undefined;
  const found = other === undefined ? undefined : await reader.read(other);
  if (!found || found.rows !== weight.rows || found.columns !== weight.columns) return [];
  return [{
    cause: kind === "logits" ? "output-tied" : "gate-up-swapped",
    detail: `${found.name} instead of ${weight.name}`,
    output: rerun(operation, { weights: [found] }),
  }];
}

/** The matrix whose numbers were written column by column. */
function transposed({ name, rows, columns, data }: Weight): Weight {
  const other = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) other[r * columns + c] = data[c * rows + r];
  }
  return { name, rows, columns, data: other };
}

/** What can be read off the difference itself: a constant vector, or few rows of the weight. */
function differenceVariants(operation: Operation, target: Float32Array): Variant[] {
  const { output, inputs: [x], weights: [weight] } = operation;
  const { rows, columns, name } = weight;
  const T = output.length / rows;
  const variants: Variant[] = [];
  if (T >= 3) {
    const mean = new Float64Array(rows);
    output.forEach((value, i) => mean[i % rows] += (target[i] - value) / T);
    variants.push({
      cause: "bias-missing",
      detail: "the difference is the same vector at every position",
      output: output.map((value, i) => value + mean[i % rows]),
    });
  }
  const damaged = damagedColumns(output, target, rows);
  if (damaged && damaged.columns.length <= Math.max(1, rows * 0.03)) {
    const [row] = damaged.columns;
    const difference = Float64Array.from(
      { length: T },
      (_, t) => target[t * rows + row] - output[t * rows + row],
    );
    const run = damagedRun(difference, x, columns);
    const where = run && run.explained > 0.9 ? `, columns ${run.first} to ${run.last}` : "";
    const more = damaged.columns.length > 1 ? ` and ${damaged.columns.length - 1} more` : "";
    variants.push({
      cause: "dequant-block",
      detail: `${name}, row ${row}${more}${where}`,
      output: damaged.mended,
    });
  }
  return variants;
}

/** Suspected faults of products with weight matrices, and of the biases behind them. */
import { layerOf } from "../../../../base/layer_names.ts";
import { kindOf } from "../../../../base/layer_names.ts";
import { CAUSES } from "../../causes.ts";
import { softCapVariants } from "../any_operation.ts";
import { misreadProducts } from "./blocks.ts";
import { columnVariants } from "./columns.ts";
import { exchangedHeads, headVariants, inOrder } from "../attention/heads.ts";
import { otherInputs } from "../instead.ts";
import type { Weight } from "../../../parity/steps_behind.ts";
import { type Operation, rerun, type Variant, withWeight } from "../operation.ts";
import { otherTensorVariants } from "./other_tensor.ts";
import { rotatedVariants } from "../attention/rope.ts";
import { roundedProducts } from "../rounded.ts";
import { squaredDistance } from "../root_mean.ts";
import { rowVariants } from "./rows.ts";
import { damage, rowChange, type Run, wrongColumns } from "./sparse.ts";
import { biasVectorVariants } from "./vectors.ts";

/** Rows of a weight that may be damaged: at most this share, and one in any case. */
const FEW = 0.03;

/** x [T, columns] → [T, rows] */
export async function linearVariants(operation: Operation): Promise<Variant[]> {
  const { target } = operation;
  const name = kindOf(operation.name);
  const kind = name.replace("_product", "");
  const projection = projectionVariants(kind, operation);
  return [
    // Where a bias follows, the same may have happened after it.
    ...name === kind
      ? projection
      : projection.map((each) => ({ ...each, what: `${each.what}, before the bias` })),
    ...kind === "attn_out" ? joinedVariants(operation) : [],
    ...await otherWeightVariants(kind, operation),
    ...transposedVariants(operation),
    // With a block per row, a sign that is read wrongly is also a factor of rows: what makes it says more.
    ...await misreadProducts(operation),
    ...target ? rowVariants(operation, target) : [],
    ...await damagedRows(operation),
    ...target
      ? [
        ...damagedOutputs(operation, target),
        ...constantVariants(operation, target),
        ...columnVariants(operation, target),
      ]
      : [],
    ...kind === "logits" ? softCapVariants(operation) : [],
    ...roundedProducts(operation),
    ...otherInputs(operation),
    ...await otherTensorVariants(operation),
  ];
}

/** product [T, rows], bias [rows] → [T, rows] */
export async function biasVariants(operation: Operation): Promise<Variant[]> {
  const { inputs: [product], weights: [bias], target } = operation;
  return [
    ...projectionVariants(kindOf(operation.name), operation),
    ...target ? rowVariants(operation, target, { rows: bias.columns }) : [],
    {
      cause: "bias-missing",
      what: "it is not added",
      where: bias.name,
      make: () => product.slice(),
    },
    ...await biasVectorVariants(operation),
  ];
}

/** What can be wrong with q, k and v as heads. */
function projectionVariants(kind: string, operation: Operation): Variant[] {
  if (!/^[qkv]$/.test(kind)) return [];
  const { config, output } = operation;
  const heads = kind === "q" ? config.heads : config.kvHeads;
  const variants = headVariants(heads, operation);
  if (kind === "v") return [...variants, ...rotatedVariants(output, heads, operation)];
  const { rope } = config.blocks[layerOf(operation.name)!];
  if (!rope) return variants;
  const { adjacent, half } = CAUSES["qk-permuted"].undo;
  const widths = { headWidth: config.headWidth, ropeWidth: rope.width };
  const permuted = (what: string, order: typeof half): Variant => ({
    cause: "qk-permuted",
    what,
    where: operation.weights[0].name,
    make: () => inOrder(output, order(heads, widths), 1),
  });
  return [
    permuted("halves where pairs are adjacent here", half),
    permuted("adjacent pairs where halves are here", adjacent),
    ...variants,
  ];
}

/** Heads that were joined in another order before the projection. */
function joinedVariants(operation: Operation): Variant[] {
  const { inputs: [x], config } = operation;
  const orders = Object.entries(CAUSES["head-grouping"].undo(config));
  const joined = (what: string, order: ArrayLike<number>, width: number): Variant => ({
    cause: "head-grouping",
    what,
    make: () => rerun(operation, { inputs: [inOrder(x, order, width)] }),
  });
  return [
    ...orders.filter(([, order]) => order.some((h, i) => h !== i))
      .map(([name, order]) => joined(`heads are joined ${name}`, order, config.headWidth)),
    ...exchangedHeads(config.heads, config.headWidth)
      .map(([what, order]) => joined(`heads are joined so that ${what}`, order, 1)),
  ];
}

/** The product with a weight that could be meant instead. */
async function otherWeightVariants(kind: string, operation: Operation): Promise<Variant[]> {
  const { weights: [weight], reader, others } = operation;
  const product = (cause: Variant["cause"], what: string, found: Weight | undefined): Variant[] =>
    found && found.rows === weight.rows && found.columns === weight.columns
      ? [{ cause, what, where: weight.name, make: () => rerun(operation, { weights: [found] }) }]
      : [];
  const exchanged = CAUSES["gate-up-swapped"].undo(weight.name);
  if (exchanged !== weight.name) {
    const other = await reader.read(exchanged);
    if (!other) return [];
    const whole = isAlone(operation, other)
      ? product("other-tensor", `it holds the numbers of ${exchanged}`, other)
      : product("gate-up-swapped", "it stands where the other belongs", other);
    return [...whole, {
      cause: "reordered",
      what: "a joint gate and up is split there row by row, instead of in halves",
      where: weight.name,
      make: () => withWeight(operation, interleaved(weight, other)),
    }];
  }
  if (kind !== "logits") return [];
  const embedding = await reader.read("token_embd.weight");
  const output = await reader.read("output.weight");
  const isTied = !output || output.data.every((value, i) => value === embedding!.data[i]);
  return isTied
    ? product(
      "output-tied",
      "the other side has a matrix of its own, here it is the embedding",
      await others?.read("output.weight"),
    )
    : product("output-tied", "there it is the embedding, here a matrix of its own", embedding);
}

/** Of gate and up one below the other, every second row: the first, third, … for the gate. */
function interleaved(weight: Weight, other: Weight): Float32Array {
  const { name, rows, columns } = weight;
  const isGate = name.includes("ffn_gate");
  const [gate, up] = isGate ? [weight, other] : [other, weight];
  const data = new Float32Array(weight.data.length);
  for (let row = 0; row < rows; row++) {
    const from = 2 * row + (isGate ? 0 : 1);
    const [half, at] = from < rows ? [gate, from] : [up, from - rows];
    data.set(half.data.subarray(at * columns, (at + 1) * columns), row * columns);
  }
  return data;
}

/** Whether the other one of gate and up is right there, so that they are not exchanged: as far as it is shown. */
function isAlone(operation: Operation, other: Weight): boolean {
  const { name, output, shown } = operation;
  const counterpart = name.replace(
    /ffn_(gate|up)$/,
    (_, own) => own === "gate" ? "ffn_up" : "ffn_gate",
  );
  const there = shown.get(counterpart)?.data;
  if (there?.length !== output.length) return false;
  const right = rerun(operation, { weights: [other] });
  return squaredDistance(right, there) < squaredDistance(output, there);
}

/** The matrix as the other of rows and columns has it: its numbers are column by column here, or there. */
function transposedVariants(operation: Operation): Variant[] {
  const { weights: [{ name: where, rows, columns, data }] } = operation;
  const variant = (what: string, from: (place: number) => number): Variant => ({
    cause: "transposed",
    what,
    where,
    make: () => withWeight(operation, data.map((_, place) => data[from(place)])),
  });
  const place = CAUSES.transposed.undo;
  if (rows === columns) return [variant("rows and columns exchanged", place(rows, columns))];
  return [
    variant("column by column here", place(rows, columns)),
    variant("column by column there", place(columns, rows)),
  ];
}

/** Rows that differ from the other file's weight, where that is in few of them. */
async function damagedRows(operation: Operation): Promise<Variant[]> {
  const { weights: [{ name, rows, columns, data }], others } = operation;
  const other = await others?.read(name);
  if (!other || other.rows !== rows || other.columns !== columns) return [];
  // Rows that are stored in another type differ a little, each alike.
  const errors = Array.from({ length: rows }, (_, row) => {
    let [error, size] = [0, 0];
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      error += (data[i] - other.data[i]) ** 2;
      size += other.data[i] ** 2;
    }
    return error / size;
  });
  const usual = errors.toSorted((a, b) => a - b)[rows >> 1];
  const wrong = errors.flatMap((error, row) => error > 10 * usual ? [row] : []);
  if (wrong.length === 0 || wrong.length > Math.max(1, FEW * rows)) return [];
  const mended = data.slice();
  const damages = wrong.map((row): Run => {
    const at = row * columns;
    mended.set(other.data.subarray(at, at + columns), at);
    const off = [...Array(columns).keys()].filter((c) => data[at + c] !== other.data[at + c]);
    return { first: off[0], last: off.at(-1) };
  });
  return [{
    ...damage(wrong, damages, columns),
    where: name,
    make: () => withWeight(operation, mended),
  }];
}

/** A vector that is added there and not here: a difference that is the same in all rows. */
function constantVariants(
  { output, weights: [{ rows }] }: Operation,
  target: Float32Array,
): Variant[] {
  const T = output.length / rows;
  if (T < 3) return [];
  return [{
    cause: "bias-missing",
    what: "the difference is the same vector at every position",
    fitted: true,
    make() {
      const mean = new Float64Array(rows);
      output.forEach((value, i) => mean[i % rows] += (target[i] - value) / T);
      return output.map((value, i) => value + mean[i % rows]);
    },
  }];
}

/** A weight some rows of which are wrong, read off the outputs. */
function damagedOutputs(operation: Operation, target: Float32Array): Variant[] {
  const { output, inputs: [x], weights: [{ name, rows, columns }] } = operation;
  const wrong = wrongColumns(output, target, rows, Math.max(1, Math.floor(FEW * rows)));
  if (!wrong) return [];
  const mended = output.slice();
  const column = (of: Float32Array, row: number) =>
    Float64Array.from({ length: of.length / rows }, (_, t) => of[t * rows + row]);
  const changes = wrong.map((row) => {
    const right = column(output, row);
    const difference = column(target, row).map((value, t) => value - right[t]);
    const change = rowChange(difference, x);
    right.forEach((value, t) =>
      mended[t * rows + row] = value + (change?.difference ?? difference)[t]
    );
    return change ?? {};
  });
  return [{
    ...damage(wrong, changes, columns),
    where: name,
    fitted: true,
    make: () => mended,
  }];
}

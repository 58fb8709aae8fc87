/** Suspected faults of the embedding: rows of a table, which arrive bit for bit. */
import { factorText, namedFactor } from "../../../files/patterns/factors.ts";
import { runsText } from "../../../files/patterns/runs.ts";
import { orderText } from "../../../files/patterns/order_text.ts";
import { wholeOrders } from "../../../files/patterns/whole_orders.ts";
import { toBf16 } from "../../../parity/rounded_engines/rounding.ts";
import { roundedOutcomes } from "../rounded.ts";
import { damage } from "./sparse.ts";
import type { Weight } from "../../../parity/steps_behind.ts";
import type { Operation, Variant } from "../operation.ts";

/** How near a factor must be to one that has a name. */
const NAMED = 2e-3; // a bf16 rounds √D by as much

/** ids [T] → [T, D] */
export async function embedVariants(operation: Operation): Promise<Variant[]> {
  const { inputs: [ids], weights: [weight], target, reader } = operation;
  if (!target) return [];
  const theirs = rowsOfIds(ids, target, weight.columns);
  if (!theirs) return [];
  const wrong = [...theirs].filter(([id, row]) => !isRow(weight, id, row));
  if (wrong.length === 0) return [];
  const output = await reader.read("output.weight");
  return [
    ...otherRows(operation, theirs, wrong),
    ...output ? otherTable(operation, output, wrong) : [],
    ...scaledRows(operation, target),
    ...reorderedNumbers(operation, target),
    ...roundedOutcomes(operation),
    ...damagedRows(operation, theirs, wrong),
  ];
}

/** What each token has; undefined where one has different numbers at different places. */
function rowsOfIds(
  ids: Float32Array,
  target: Float32Array,
  columns: number,
): Map<number, Float32Array> | undefined {
  const rows = new Map<number, Float32Array>();
  for (const [t, id] of ids.entries()) {
    const own = target.subarray(t * columns, (t + 1) * columns);
    const known = rows.get(id);
    if (known?.some((value, i) => value !== own[i])) return undefined;
    rows.set(id, own);
  }
  return rows;
}

/** Whether a row of a table has exactly these numbers. */
function isRow({ data, columns, rows }: Weight, row: number, numbers: Float32Array): boolean {
  if (row < 0 || row >= rows) return false;
  for (let i = 0, at = row * columns; i < columns; i++, at++) {
    if (data[at] !== numbers[i]) return false;
  }
  return true;
}

/** Rows of other tokens: all of them a distance away, as where a token was added or lacks, or each its own. */
function otherRows(
  operation: Operation,
  theirs: ReadonlyMap<number, Float32Array>,
  wrong: readonly (readonly [id: number, row: Float32Array])[],
): Variant[] {
  const { weights: [weight], inputs: [ids] } = operation;
  const from = new Map([...theirs.keys()].map((id) => [id, id]));
  let distance = 0;
  for (const [id, row] of wrong) {
    let found = isRow(weight, id + distance, row) ? id + distance : -1;
    for (let other = 0; other < weight.rows && found < 0; other++) {
      if (isRow(weight, other, row)) found = other;
    }
    if (found < 0) return [];
    distance = found - id;
    from.set(id, found);
  }
  const isShift = wrong.every(([id]) => from.get(id)! - id === distance);
  const [first] = wrong.toSorted((a, b) => a[0] - b[0])[0];
  const all = wrong.length === theirs.size ? "" : ` from token ${first} on`;
  return [{
    cause: "reordered",
    what: isShift && wrong.length > 1
      ? `rows are shifted by ${distance}${all}: token ${first} has the row of ${first + distance}`
      : `rows are in another order: token ${first} has the row of ${from.get(first)}`,
    where: weight.name,
    make: () => lookedUp(operation, ids, (id) => [weight, from.get(id)!]),
  }];
}

/** The rows that are wrong, from the output matrix. */
function otherTable(
  operation: Operation,
  output: Weight,
  wrong: readonly (readonly [id: number, row: Float32Array])[],
): Variant[] {
  const { weights: [weight], inputs: [ids] } = operation;
  if (output.columns !== weight.columns || !wrong.every(([id, row]) => isRow(output, id, row))) {
    return [];
  }
  const isWrong = new Set(wrong.map(([id]) => id));
  return [{
    cause: "other-tensor",
    what: `it holds the numbers of ${output.name}`,
    where: weight.name,
    make: () => lookedUp(operation, ids, (id) => [isWrong.has(id) ? output : weight, id]),
  }];
}

function lookedUp(
  { output, weights: [{ columns }] }: Operation,
  ids: Float32Array,
  rowOf: (id: number) => [table: Weight, row: number],
): Float32Array {
  const out = new Float32Array(output.length);
  ids.forEach((id, t) => {
    const [{ data }, row] = rowOf(id);
    out.set(data.subarray(row * columns, (row + 1) * columns), t * columns);
  });
  return out;
}

/** The numbers of every row in another order. */
function reorderedNumbers(
  { output, weights: [{ columns, name }], config: { headWidth } }: Operation,
  target: Float32Array,
): Variant[] {
  for (const order of wholeOrders(columns, headWidth)) {
    const isOrder = target.every((value, i) =>
      value === output[i - i % columns + order[i % columns]]
    );
    if (!isOrder) continue;
    return [{
      cause: "reordered",
      what: orderText(order, "columns", [headWidth])!,
      where: name,
      make: () => target.slice(),
    }];
  }
  return [];
}

/** All numbers times one factor, rounded as f32 and bf16 have it. */
function scaledRows({ output, config }: Operation, target: Float32Array): Variant[] {
  const at = output.reduce(
    (best, value, i) => Math.abs(value) > Math.abs(output[best]) ? i : best,
    0,
  );
  const factor = target[at] / output[at];
  const named = namedFactor(factor, config, NAMED);
  const of = (value: number): Variant => ({
    cause: "scaled",
    what: `there it is ${factorText(value, config, NAMED)} times what it is here`,
    make: () => output.map((each) => each * value),
  });
  if (!Number.isFinite(factor)) return [];
  if (!named) return factor === 0 ? [] : [of(factor), of(Math.fround(factor))];
  return [...new Set([named.value, Math.fround(named.value), toBf16(named.value)])].map(of);
}

/** Rows of tokens that may be damaged, as a share. */
const FEW = 0.5;

/** Few tokens have other numbers: zeros, a damaged block, or others throughout. */
function damagedRows(
  { inputs: [ids], weights: [{ name, columns }], output }: Operation,
  theirs: ReadonlyMap<number, Float32Array>,
  wrong: readonly (readonly [id: number, row: Float32Array])[],
): Variant[] {
  const damaged = (is: Pick<Variant, "cause" | "what">): Variant => ({
    ...is,
    where: name,
    fitted: true,
    make() {
      const out = output.slice();
      ids.forEach((id, t) => out.set(theirs.get(id)!, t * columns));
      return out;
    },
  });
  const sorted = wrong.toSorted(([a], [b]) => a - b);
  const rows = sorted.map(([id]) => id);
  if (wrong.every(([, row]) => row.every((value) => value === 0))) {
    const zero = `${runsText(rows, "rows")} ${rows.length === 1 ? "is" : "are"} zero`;
    const what = rows.length === theirs.size ? "all of it is zero" : zero;
    return [damaged({ cause: "zeros", what })];
  }
  if (wrong.length > FEW * theirs.size) return [];
  const runs = sorted.map(([id, row]) => {
    const at = ids.indexOf(id) * columns;
    const off = [...row.keys()].filter((i) => row[i] !== output[at + i]);
    return { first: off[0], last: off.at(-1) };
  });
  return [damaged(damage(rows, runs, columns))];
}

/** Farthest that rows of positions are off: OPT's begin with the third. */
const MOST_OFFSET = 4;

/** Rows of learned positions [T, D] that are those of other positions. */
export function positionRowVariants(operation: Operation): Variant[] {
  const { pass, weights: [weight] } = operation;
  const offsets = Array.from({ length: MOST_OFFSET }, (_, i) => [i + 1, -i - 1]).flat();
  return [...new Set([...offsets, -pass.start])]
    .filter((offset) => offset !== 0 && pass.start + offset + pass.tokens <= weight.rows)
    .map((offset): Variant => ({
      cause: "position-offset",
      what: `positions are off by ${offset}`,
      where: weight.name,
      make() {
        const out = new Float32Array(operation.output.length);
        for (let t = 0; t < pass.tokens; t++) {
          const row = Math.max(0, pass.start + t + offset) * weight.columns;
          out.set(weight.data.subarray(row, row + weight.columns), t * weight.columns);
        }
        return out;
      },
    }));
}

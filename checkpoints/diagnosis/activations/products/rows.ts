/** Suspected faults of rows of a weight: they are columns of what it makes, and are measured there. */
import { columnsOf, matchRows, type Rows } from "../../../files/patterns/order.ts";
import { orderText } from "../../../files/patterns/order_text.ts";
import { factorBetween, factorText, namedFactor } from "../../../files/patterns/factors.ts";
import { runsText } from "../../../files/patterns/runs.ts";
import type { Operation, Variant } from "../operation.ts";

/**
 * How near columns are that are the same, Σ(a − b)² / Σb²: on an engine that computes as exactly as we do, and on one that rounds. The
 * fewer positions there are, the more columns are alike by chance.
 */
const NEAR = [{ near: 1e-8, positions: 4 }, { near: 0.01, positions: 16 }] as const;
/** Rows that may have numbers of their own among others that moved, as a share. */
const FEW = 0.1;
/** What a factor may leave. */
const FACTOR_LEAVES = 0.01;
/** How near factors are that are the same. */
const SAME = 1e-4;
/** Rows with a factor that are told one by one. */
const MOST_FACTORS = 3;

/**
 * y [T, rows] of a product with W [rows, columns]
 *
 * @param things what the columns of y are: the weight's rows; of a sum with a bias no weight's alone
 */
export function rowVariants(
  operation: Operation,
  target: Float32Array,
  things: { readonly rows: number; readonly name?: string } = operation.weights[0],
): Variant[] {
  const { output, config } = operation;
  const { rows, name } = things;
  const ours = columnsOf(output, rows);
  const theirs = columnsOf(target, rows);
  const zero = zeroRows(ours, theirs);
  const isZero = new Uint8Array(rows);
  for (const row of zero) isZero[row] = 1;
  const factors = factorRows(ours, theirs);
  /** Some columns of the outcome as the other side has them. */
  const withColumns = (column: (row: number, t: number) => number) =>
    output.map((_, i) => column(i % rows, Math.floor(i / rows)));
  const own = (row: number, t: number) => ours.data[row * ours.length + t];
  return [
    ...orderVariants(ours, theirs).map(({ order, what }): Variant => ({
      cause: "reordered",
      what,
      where: name,
      make: () =>
        withColumns((row, t) => order[row] < 0 ? target[t * rows + row] : own(order[row], t)),
    })),
    ...zero.length > 0
      ? [
        {
          cause: "zeros",
          what: zero.length === rows
            ? "all of it is zero"
            : `${runsText(zero, "rows")} ${zero.length === 1 ? "is" : "are"} zero`,
          where: name,
          make: () => withColumns((row, t) => isZero[row] ? 0 : own(row, t)),
        } satisfies Variant,
      ]
      : [],
    ...factors
      ? [
        {
          ...factorsText(factors, rows, operation),
          where: name,
          fitted: true,
          make: () =>
            withColumns((row, t) =>
              own(row, t) * (nameOf(factors[row], config)?.value ?? factors[row])
            ),
        } satisfies Variant,
      ]
      : [],
  ];

  function orderVariants(ours: Rows, theirs: Rows): { order: Int32Array; what: string }[] {
    for (const { near, positions } of NEAR) {
      if (ours.length < positions) continue;
      const order = matchRows(ours, theirs, near);
      const what = order && orderText(order, "rows", [config.headWidth]);
      if (!order || !what) continue;
      if (order.filter((from) => from < 0).length <= FEW * rows) return [{ order, what }];
    }
    return [];
  }
}

/** Rows that are zero there, and not here. */
function zeroRows(ours: Rows, theirs: Rows): number[] {
  const isZero = ({ data, length }: Rows, row: number) => {
    for (let i = row * length; i < (row + 1) * length; i++) if (data[i] !== 0) return false;
    return true;
  };
  return Array.from({ length: ours.count }, (_, row) => row)
    .filter((row) => isZero(theirs, row) && !isZero(ours, row));
}

/** The factor of each row, where every row has one, and not all the same. */
function factorRows(ours: Rows, theirs: Rows): Float64Array | undefined {
  const { length } = ours;
  if (length < NEAR[0].positions) return undefined;
  const factors = new Float64Array(ours.count);
  for (let row = 0; row < ours.count; row++) {
    const [a, b] = [ours, theirs].map(({ data }) =>
      (data as Float32Array).subarray(row * length, (row + 1) * length)
    );
    const { factor, left } = factorBetween(a, b);
    if (left > FACTOR_LEAVES) return undefined;
    // What is nearly 1 is rounding.
    factors[row] = Math.abs(factor - 1) < SAME ? 1 : factor;
  }
  const isOne = factors.every((factor) =>
    Math.abs(factor - factors[0]) <= SAME * Math.abs(factors[0])
  );
  return isOne ? undefined : factors;
}

function nameOf(factor: number, config: Operation["config"]) {
  return namedFactor(factor, config, SAME);
}

/** Which rows have which factor; where nearly each has its own, that could be much. */
function factorsText(
  factors: Float64Array,
  rows: number,
  { config }: Operation,
): Pick<Variant, "cause" | "what" | "late"> {
  const groups = new Map<string, number[]>();
  factors.forEach((factor, row) => {
    if (factor === 1) return;
    const text = factorText(factor, config);
    groups.set(text, [...groups.get(text) ?? [], row]);
  });
  const words = [...groups].map(([text, list]) => `${runsText(list, "rows")} times ${text}`);
  if (groups.size <= MOST_FACTORS) return { cause: "scaled", what: words.join(", ") };
  const scaled = [...groups.values()].reduce((sum, list) => sum + list.length, 0);
  const [least, most] = [Math.min, Math.max].map((of) => factors.reduce((a, b) => of(a, b)));
  return {
    cause: "unknown",
    what: `${scaled === rows ? "every row has" : `${scaled} rows have`} a factor of its own, from ${
      factorText(least, config)
    } to ${factorText(most, config)}`,
    late: true,
  };
}

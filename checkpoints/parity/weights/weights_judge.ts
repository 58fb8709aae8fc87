/**
 * Judges what operations make whose weights the other side has in another type. What rounding may cost is computed from the weights
 * and from what they are multiplied by: Var[(ΔW x)_r] = Σ_c x_c² σ²_rc. Nothing is excused that no rounding does: the errors of the
 * weights themselves, of single blocks and of rows, are held against what they should be; their sums against the spread that
 * independent errors have; and the outcome against the 64-bit product of the very errors that are in the files.
 */
import { type Allowance, type Difference, placesOf, type Rounding, shareOf } from "../compare.ts";
import { hasMinimum, isCoarser, typesText } from "./expected_rounding.ts";
import type { LocalValue } from "../local.ts";
import type { OtherWeights } from "./other_weights.ts";
import { type Element, type RoundedProduct, roundedProducts } from "./rounded_products.ts";
import type { ReferencePass } from "../../references/reference.ts";
import { type Excess, GIVEN_UP, ROW_LIMIT, RUN_LIMIT } from "./weight_rounding.ts";

/** Of one product, how likely a right one is beyond the limit of its largest z. */
const CHANCE = 1e-6;
/** Of a limit, for what is not independent in the errors of a row: clipped numbers, scales that a whole block shares. */
const Z_MARGIN = 1.3;
/** What the RMS of z may be with infinitely many outputs, and by how many standard deviations more with few. */
const RMS_LIMIT = 1.5;
const DEVIATIONS = 6;
/** How far rounding may scale a product, as a part of the variance that it adds to it: it shortens weights, clipped ones more. */
const SHRINKING = 0.5;
/** Positions whose outputs are all looked at. */
const MOST_POSITIONS = 16;
/** Of these, those whose outputs are largest for the spread that is roughly to be expected, and those of the largest spread. */
const FARTHEST = 4;
/** Rows of a product that are computed in 64 bits. */
const EXACT_ROWS = 4;

/** What is found, and where in the outcome. */
type Found =
  & Rounding
  & Partial<Pick<Difference, "place" | "ours" | "reference" | "error" | "allowed">>;

/**
 * The difference of an outcome judged by what the rounding of its weights may cost. Unchanged where no weight is rounded.
 *
 * @param difference without regard to the weights
 * @param allowance what the sums of 32-bit floats may be off by
 */
export async function judgedByRounding(
  value: LocalValue,
  pass: ReferencePass,
  weights: OtherWeights,
  difference: Difference,
  allowance: Allowance,
): Promise<Difference> {
  const products = await roundedProducts(value, pass, weights);
  if (products === undefined) {
    const unknown: Rounding = { measure: "unknown", value: 0, limit: 1, types: "" };
    return { ...difference, share: 0, passed: true, rounding: unknown };
  }
  if (products.length === 0) return await withOtherBytes(value, weights, difference);
  if (difference.maxError === Infinity) return difference;
  const outputs = new Outputs(value, products, allowance);
  const found = outputs.found();
  if (!value.supposed) {
    found.push(await outputs.againstExact());
    // Later passes have the same weights, and not all of what they are multiplied by: the first position's are far larger.
    if (pass.start === 0) { for (const product of products) found.push(...weightErrors(product)); }
  }
  const shares = found.map(({ value, limit }) => shareOf(value, limit));
  const share = Math.max(...shares);
  const { measure, value: worst, limit, types, where, ...place } = found[shares.indexOf(share)];
  const rounding: Rounding = { measure, value: worst, limit, types, where };
  return { ...difference, ...outputs.worst, ...place, share, passed: share <= 1, rounding };
}

/** Says of weights that are not the same what is too small to be seen. */
async function withOtherBytes(
  { step }: LocalValue,
  weights: OtherWeights,
  difference: Difference,
): Promise<Difference> {
  for (const tensor of step.weights) {
    const pair = await weights.of(tensor);
    if (pair.kind === "other bytes") {
      return { ...difference, otherBytes: { tensor, largest: pair.largest } };
    }
  }
  return difference;
}

/** Blocks and rows that are farther off than rounding brings them. */
function weightErrors({ rounding, columnSquares }: RoundedProduct): Found[] {
  const { name, disordered, runs, wrongRows, usual, columns, width } = rounding;
  const types = typesText(rounding.types);
  const found = (measure: "block" | "row", candidates: readonly Place[]): Found => {
    const worst = candidates.reduce((a, b) => b.ratio / b.limit > a.ratio / a.limit ? b : a);
    const { ratio, limit, row, column, count } = worst;
    const last = Math.min(column + count, columns) - 1;
    const where = measure === "row" ? "" : `, columns ${column} to ${last}`;
    return { measure, value: ratio, limit, types, where: `${name}, row ${row}${where}` };
  };
  const place = (excess: Excess, limit: number, givenUp: number): Place => {
    const { row, column, squares, factor, ratio } = excess;
    const count = squares.length;
    // No quantizer makes numbers so much larger or smaller by their scale, whatever matters to it.
    const [least, most] = GIVEN_UP.factors;
    const isOff = !(factor > least && factor < most) && !rounding.types.some(hasMinimum);
    if (isOff) return { row, column, count, ratio, limit };
    const weighted = weightedRatio(excess, columnSquares);
    return { row, column, count, ratio: Math.min(ratio, weighted), limit: givenUp };
  };
  return [
    found("block", [
      { ...usual.run, count: width, limit: RUN_LIMIT },
      ...disordered ? [{ ...disordered, count: disordered.squares.length, limit: RUN_LIMIT }] : [],
      ...runs.map((each) => place(each, RUN_LIMIT, GIVEN_UP.run)),
    ]),
    found("row", [
      { ...usual.row, count: columns, limit: ROW_LIMIT },
      ...wrongRows.map((each) => place(each, ROW_LIMIT, GIVEN_UP.row)),
    ]),
  ];
}

/** Errors in units of what is expected, by what they are multiplied by: whoever knew which columns matter kept those. */
function weightedRatio(
  { column, squares, expected }: Excess,
  columnSquares: Float64Array | undefined,
): number {
  let [above, below] = [0, 0];
  for (let i = 0; i < squares.length; i++) {
    const weight = columnSquares?.[column + i] ?? 1;
    above += weight * squares[i];
    below += weight * expected[i];
  }
  // No column matters where all are multiplied by 0.
  return Number.isNaN(above) ? Infinity : above === 0 ? 0 : above / below;
}

/** A mean squared error, in units of what is expected, what it may be, and where it is. */
interface Place {
  readonly ratio: number;
  readonly limit: number;
  readonly row: number;
  readonly column: number;
  readonly count: number;
}

/** How far a scale is from what it may be: anything between none and that of plain rounding. */
function beyond(scale: number, plain: readonly number[]): number {
  return Math.max(0, scale - Math.max(0, ...plain), Math.min(0, ...plain) - scale);
}

/** The outputs of some positions against their expected spread. */
class Outputs {
  readonly #value: LocalValue;
  readonly #products: readonly RoundedProduct[];
  readonly #allowance: Allowance;
  /** Outputs of a position. */
  readonly #width: number;
  readonly #count: number;
  readonly #types: string;
  /** Largest |z| of each output, and of which position. */
  readonly #largest: { z: number; position: number }[];
  #worst = { z: -1, position: 0, index: 0, spread: 0 };
  #positions: number[] = [];
  #squares = 0;
  #product = 0;
  #norm = 0;
  #outputs = 0;

  constructor(value: LocalValue, products: readonly RoundedProduct[], allowance: Allowance) {
    this.#value = value;
    this.#products = products;
    this.#allowance = allowance;
    this.#count = value.ours.shape[0];
    this.#width = value.ours.data.length / this.#count;
    this.#types = [...new Set(products.map(({ rounding: { types } }) => typesText(types)))].join(
      ", ",
    );
    this.#largest = Array.from({ length: this.#width }, () => ({ z: -1, position: 0 }));
    this.#positions = this.#chosen();
    for (const position of this.#positions) this.#add(position);
  }

  /** The output that is farthest off for its spread. */
  get worst(): Pick<Difference, "place" | "ours" | "reference" | "error" | "allowed"> {
    const { position, index, spread } = this.#worst;
    return { ...this.#at([position, index]), allowed: this.#limit * spread };
  }

  found(): Found[] {
    const types = this.#types;
    const outputs = this.#outputs;
    // Of positions that are all alike, the outputs of one say as much as those of all.
    const independent = this.#norm / this.#positions.length;
    const plain = this.#products.map(({ rounding }) => rounding.scale.plain);
    // What single columns dominate is scaled by their errors, which may have twice the order of all.
    const scaleLimit = DEVIATIONS / Math.sqrt(independent) + SHRINKING * outputs / this.#norm +
      plain.reduce((sum, each) => sum + Math.abs(each), 0);
    const scale = this.#norm > 0 ? beyond(this.#product / this.#norm, plain) : 0;
    const scales = this.#norm > 0 ? [{ value: scale, limit: scaleLimit }] : [];
    // The weights tell of far smaller scales; what they are multiplied by tells whether such a one matters.
    if (!this.#value.supposed) {
      for (const { rounding: { scale: { slope, limit, plain } } } of this.#products) {
        scales.push({ value: Math.min(beyond(slope, [plain]), scale), limit });
      }
    }
    return [
      { measure: "output", value: this.#worst.z, limit: this.#limit, types },
      {
        measure: "outputs",
        value: Math.sqrt(this.#squares / Math.max(1, outputs)),
        limit: RMS_LIMIT * (1 + DEVIATIONS / Math.sqrt(2 * this.#width)),
        types,
      },
      ...scales.map((scale): Found => ({ measure: "scale", ...scale, types })),
    ];
  }

  /** What differs against the 64-bit product of what differs in the files, where it is largest. */
  async againstExact(): Promise<Found> {
    const rows = this.#largest.map(({ z }, index) => ({ z, index })).sort((a, b) => b.z - a.z)
      .slice(0, EXACT_ROWS - 1).map(({ index }) => index);
    const elements = [...new Set([...rows, this.#width >> 1])].flatMap((index) =>
      this.#positions.map((position): Element => [position, index])
    );
    const sums = new Float64Array(elements.length);
    for (const product of this.#products) {
      (await product.exactly(elements)).forEach((value, i) => sums[i] += value);
    }
    let worst: Found = { measure: "product", value: -1, limit: 1, types: this.#types };
    for (const [i, element] of elements.entries()) {
      const found = this.#at(element);
      const error = Math.abs(found.ours - found.reference - sums[i]);
      const allowed = this.#allowed(element[0]);
      if (shareOf(error, allowed) > worst.value) {
        worst = { ...worst, value: shareOf(error, allowed), ...found, error, allowed };
      }
    }
    return worst;
  }

  get #limit(): number {
    const outputs = this.#width * this.#count;
    return Z_MARGIN * Math.sqrt(2 * Math.log(2 * outputs / CHANCE));
  }

  /** What sums of 32-bit floats may be off by in a position's row. */
  #allowed(position: number): number {
    const { tolerance, relative } = this.#allowance;
    const { data } = this.#value.reference;
    let largest = 0;
    for (let i = position * this.#width; i < (position + 1) * this.#width; i++) {
      largest = Math.max(largest, Math.abs(data[i]));
    }
    return tolerance + relative * largest;
  }

  #at([position, index]: Element) {
    const { point, ours, reference, start } = this.#value;
    const element = position * this.#width + index;
    const [a, b] = [ours.data[element], reference.data[element]];
    const place = placesOf(point, reference, start)(element);
    return { place, ours: a, reference: b, error: Math.abs(a - b) };
  }

  /** Positions that are looked at: the first ones and the last, some between, those that are farthest off or have the largest spread. */
  #chosen(): number[] {
    const count = this.#count;
    const all = Array.from({ length: count }, (_, position) => position);
    if (count <= MOST_POSITIONS) return all;
    const { ours, reference } = this.#value;
    const spreads = all.map((position) =>
      this.#products.reduce((sum, product) => sum + product.roughVariance(position), 0)
    );
    const shares = all.map((position) => {
      let largest = 0;
      for (let i = position * this.#width; i < (position + 1) * this.#width; i++) {
        largest = Math.max(largest, Math.abs(ours.data[i] - reference.data[i]));
      }
      return largest * largest /
        (spreads[position] + this.#allowed(position) ** 2 + Number.MIN_VALUE);
    });
    const first = (of: readonly number[]) =>
      all.toSorted((a, b) => of[b] - of[a]).slice(0, FARTHEST);
    const between = MOST_POSITIONS - 2 * FARTHEST;
    const spread = Array.from(
      { length: between },
      (_, i) => Math.round(i * (count - 1) / (between - 1)),
    );
    return [...new Set([...first(shares), ...first(spreads), ...spread])];
  }

  #add(position: number): void {
    const { ours, reference } = this.#value;
    const variances = new Float64Array(this.#width);
    for (const product of this.#products) product.addVariances(position, variances);
    const allowed = this.#allowed(position);
    // What is rounded a second time may be scaled by it.
    const plain = this.#products.reduce((sum, { rounding }) => sum + rounding.scale.plain, 0);
    const [a, b] = this.#products[0].rounding.types;
    const [coarse, sign] = isCoarser(b, a) ? [reference.data, -1] : [ours.data, 1];
    for (let index = 0, i = position * this.#width; index < this.#width; index++, i++) {
      const scaled = plain * coarse[i];
      const variance = variances[index] + allowed * allowed + scaled * scaled;
      const error = ours.data[i] - reference.data[i];
      // Of a block that is damaged beyond all numbers its own test tells.
      if (!(variance < Infinity) || (variance === 0 && error === 0)) continue;
      const spread = Math.sqrt(variance);
      const z = Math.abs(error) / spread;
      if (z > this.#largest[index].z) this.#largest[index] = { z, position };
      if (z > this.#worst.z) this.#worst = { z, position, index, spread };
      this.#squares += z * z;
      this.#product += sign * error * coarse[i] / variance;
      this.#norm += coarse[i] * coarse[i] / variance;
      this.#outputs++;
    }
  }
}

/** Rows and columns of a tensor that are not where they should be, are zero, or have factors of their own. */
import { type FactorSizes, factorText } from "../patterns/factors.ts";
import { matchRows } from "../patterns/order.ts";
import { orderText } from "../patterns/order_text.ts";
import { runsText } from "../patterns/runs.ts";
import { SMALLEST_BLOCK } from "./similarity.ts";
import { type Lines, type Survey, surveyOf } from "../patterns/survey.ts";
import { wholeOrders } from "../patterns/whole_orders.ts";
import type { Finding, Suspect } from "./suspect.ts";
import type { Band } from "./bands.ts";
import { type Numbers, PIECE } from "./numbers.ts";

/** How much farther than the whole tensor a line may be off. */
const LINE = 4;
/** Farther than this nothing is the same: lines that have nothing in common are 2 apart. */
const FARTHEST = 0.5;
/** Lines of other numbers among those that moved, as a share. */
const FEW = 0.1;
/** Lines with a factor that are told one by one. */
const MOST_FACTORS = 3;

/** What is wrong with rows or columns; undefined where it is nothing of that kind. */
export async function layoutFinding(
  suspect: Suspect,
  sizes: FactorSizes | undefined,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const { a, b } = suspect;
  if (a.rows === 1) return await vectorFinding(suspect, sizes);
  const survey = await surveyOf(a, b, signal);
  return zeros(survey, suspect) ?? await order(survey, suspect, sizes, signal) ??
    factors(survey, suspect, sizes) ?? await otherRows(survey, suspect);
}

type Things = "rows" | "columns";

function linesOf({ rows, columns }: Survey): [Things, Lines][] {
  return [["rows", rows], ["columns", columns]];
}

/** Largest Σ(b − a)² / Σa² of a line that is right. */
function nearOf({ band }: Suspect): number {
  return Math.min(FARTHEST, Math.max(1e-9, LINE * band.tensor));
}

function zeros(survey: Survey, { band }: Suspect): Finding | undefined {
  for (const [things, { count, aa, bb, dd }] of linesOf(survey)) {
    const zero = [...Array(count).keys()].filter((line) => bb[line] === 0 && aa[line] > 0);
    if (zero.length === 0) continue;
    const isZero = new Set(zero);
    const rest = [...Array(count).keys()].filter((line) => !isZero.has(line));
    const [off, size] = [dd, aa].map((sums) => rest.reduce((sum, line) => sum + sums[line], 0));
    const undone = off === 0 ? 0 : off / size;
    if (undone > band.tensor) continue;
    const detail = zero.length === count
      ? "all zeros"
      : `${runsText(zero, things)} ${zero.length === 1 ? "is" : "are"} zero`;
    return { cause: "zeros", detail, undone };
  }
}

async function order(
  survey: Survey,
  suspect: Suspect,
  sizes: FactorSizes | undefined,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  for (const [things, lines] of linesOf(survey)) {
    const order = matchRows(lines.a, lines.b, nearOf(suspect));
    const finding = order && orderFinding(order, things, suspect, sizes);
    if (!order || !finding) continue;
    if (order.filter((from) => from < 0).length > FEW * order.length) continue;
    const undone = await (things === "rows" ? rowsUndone : columnsUndone)(suspect, order, signal);
    if (undone <= suspect.band.tensor) return { ...finding, undone };
  }
}

/** An order of rows or columns in words; of whole heads where these moved. */
function orderFinding(
  order: Int32Array,
  things: Things,
  { name, blockSize }: Suspect,
  sizes: FactorSizes | undefined,
): Finding | undefined {
  const detail = orderText(order, things, sizes ? [sizes.headWidth] : []);
  if (!detail) return undefined;
  const d = sizes?.headWidth ?? 0;
  const isOfHeads = things === "rows" ? /\battn_[qkv]\./ : /\battn_output\.|\battn_[qkv]\.bias/;
  const keepsPlaces = (width: number) => order.every((from, to) => from % width === to % width);
  if (isOfHeads.test(name) && d > 1 && d < order.length && keepsPlaces(d)) {
    const places = Array.from({ length: order.length / d }, (_, head) => order[head * d] / d);
    const last = places.length - 1;
    const words = `heads ${places.join(", ")} stand where 0 to ${last} belong`;
    return { cause: "head-grouping", detail: words };
  }
  const staysInBlock = (from: number, to: number) =>
    Math.floor(from / blockSize) === Math.floor(to / blockSize);
  if (things === "columns" && blockSize > 1 && order.every(staysInBlock)) {
    const words =
      `${detail}, within blocks of ${blockSize}: another layout of blocks, or of columns`;
    return { cause: "unknown", detail: words };
  }
  return { cause: "reordered", detail };
}

/** The NMSE of b's rows with those of a that they hold; rows of neither are left out. */
async function rowsUndone(
  { a, b }: Suspect,
  order: Int32Array,
  signal?: AbortSignal,
): Promise<number> {
  const { columns } = a;
  const sums = new Undone();
  for (const [row, from] of order.entries()) {
    signal?.throwIfAborted();
    if (from < 0) continue;
    const [x, y] = [await a.read(from * columns, columns), await b.read(row * columns, columns)];
    for (let i = 0; i < columns; i++) sums.add(x[i], y[i]);
  }
  return sums.nmse;
}

/** The same of columns. */
async function columnsUndone(
  { a, b }: Suspect,
  order: Int32Array,
  signal?: AbortSignal,
): Promise<number> {
  const { rows, columns } = a;
  const sums = new Undone();
  const step = Math.max(1, Math.floor(PIECE / columns));
  for (let row = 0; row < rows; row += step) {
    signal?.throwIfAborted();
    const count = Math.min(step, rows - row) * columns;
    const [x, y] = [await a.read(row * columns, count), await b.read(row * columns, count)];
    for (let at = 0; at < count; at += columns) {
      order.forEach((from, to) => {
        if (from >= 0) sums.add(x[at + from], y[at + to]);
      });
    }
  }
  return sums.nmse;
}

class Undone {
  #dd = 0;
  #aa = 0;

  add(x: number, y: number): void {
    this.#dd += (y - x) ** 2;
    this.#aa += x * x;
  }

  get nmse(): number {
    return this.#dd === 0 ? 0 : this.#dd / this.#aa;
  }
}

/** Lines with a factor, each its own. */
function factors(
  survey: Survey,
  suspect: Suspect,
  sizes: FactorSizes | undefined,
): Finding | undefined {
  const near = nearOf(suspect);
  const tolerance = toleranceOf(suspect.band);
  for (const [things, { count, aa, ab, bb, dd }] of linesOf(survey)) {
    let [left, size] = [0, 0];
    const found: { factor: number; lines: number[] }[] = [];
    for (let line = 0; line < count && left < Infinity; line++) {
      size += aa[line];
      if (dd[line] <= near * aa[line]) {
        left += dd[line];
        continue;
      }
      const factor = ab[line] / aa[line];
      const rest = Math.max(0, bb[line] - factor * ab[line]) / factor ** 2;
      left += rest <= Math.min(near * aa[line], dd[line] / LINE) ? rest : Infinity;
      const same = found.find((each) => Math.abs(each.factor / factor - 1) <= tolerance);
      if (same) same.lines.push(line);
      else found.push({ factor, lines: [line] });
    }
    const undone = left === 0 ? 0 : left / size;
    if (found.length === 0 || !(undone <= suspect.band.tensor)) continue;
    const words = (factor: number) => scaleText(factor, suspect.band, sizes);
    const total = found.reduce((sum, { lines }) => sum + lines.length, 0);
    const detail = found.length <= MOST_FACTORS
      ? found.map(({ factor, lines }) => `${runsText(lines, things)} times ${words(factor)}`)
        .join(", ")
      : `${total} ${things} have a factor of their own: ${runsText([found[0].lines[0]], things)} ${
        words(found[0].factor)
      }`;
    return { cause: "scaled", detail, undone };
  }
}

/** How well a factor is known: rounding to blocks shortens numbers a little. */
function toleranceOf({ scale }: Band): number {
  return Number.isFinite(scale) ? Math.min(0.02, scale) : 1e-3;
}

/** A factor in words. */
export function scaleText(factor: number, band: Band, sizes: FactorSizes | undefined): string {
  return sizes ? factorText(factor, sizes, toleranceOf(band)) : `${Number(factor.toPrecision(4))}`;
}

/** Few rows that have other numbers from their first column to the last: no damaged blocks. */
async function otherRows(
  { rows: { count, aa, dd } }: Survey,
  suspect: Suspect,
): Promise<Finding | undefined> {
  const near = nearOf(suspect);
  const wrong: number[] = [];
  let [off, size] = [0, 0];
  for (let row = 0; row < count; row++) {
    if (dd[row] > near * aa[row]) wrong.push(row);
    else [off, size] = [off + dd[row], size + aa[row]];
  }
  const undone = off === 0 ? 0 : off / size;
  if (wrong.length === 0 || wrong.length > count / 2 || undone > suspect.band.tensor) {
    return undefined;
  }
  for (const row of wrong) if (!await isWhollyWrong(suspect, row)) return undefined;
  const have = wrong.length === 1 ? "has" : "have";
  return { cause: "unknown", detail: `${runsText(wrong, "rows")} ${have} other numbers`, undone };
}

/** Whether more than half of a row's blocks are wrong. */
async function isWhollyWrong({ a, b, band, blockSize }: Suspect, row: number): Promise<boolean> {
  const { columns } = a;
  const [x, y] = await Promise.all([a, b].map((of) => of.read(row * columns, columns)));
  const width = Math.max(SMALLEST_BLOCK, blockSize);
  let [blocks, bad] = [0, 0];
  for (let first = 0; first < columns; first += width) {
    const sums = new Undone();
    for (let i = first; i < Math.min(columns, first + width); i++) sums.add(x[i], y[i]);
    blocks++;
    if (sums.nmse > Math.min(FARTHEST, band.block)) bad++;
  }
  return bad > blocks / 2;
}

/** Norms and biases: zeros, and orders of all numbers. */
async function vectorFinding(
  suspect: Suspect,
  sizes: FactorSizes | undefined,
): Promise<Finding | undefined> {
  const { a, b, band } = suspect;
  const [x, y] = await Promise.all([a, b].map((of: Numbers) => of.read(0, of.columns)));
  const nmse = (at: (i: number) => number) => {
    const sums = new Undone();
    y.forEach((value, i) => sums.add(at(i), value));
    return sums.nmse;
  };
  const zero = [...y.keys()].filter((i) => y[i] === 0 && x[i] !== 0);
  if (zero.length > 0) {
    const undone = nmse((i) => y[i] === 0 ? 0 : x[i]);
    const isWhole = zero.length === y.length;
    const detail = isWhole
      ? "all zeros"
      : `${runsText(zero, "numbers")} ${zero.length === 1 ? "is" : "are"} zero`;
    // A bias of zeros is one that is not added.
    const cause = isWhole && suspect.name.endsWith(".bias") ? "bias-missing" : "zeros";
    if (undone <= band.tensor) return { cause, detail, undone };
  }
  for (const order of wholeOrders(x.length, sizes?.headWidth ?? x.length)) {
    // Most orders are wrong in the first numbers already.
    const begins = y.subarray(0, 4).every((value, i) =>
      (value - x[order[i]]) ** 2 <= LINE * Math.sqrt(band.tensor) * value * value
    );
    if (!begins) continue;
    const undone = nmse((i) => x[order[i]]);
    const finding = undone <= band.tensor && orderFinding(order, "columns", suspect, sizes);
    if (finding) return { ...finding, undone };
  }
}

/** The operation that went wrong first, computed once more in 64-bit floats from what a bundle holds of it: whose number is right. */
import { MASKED } from "../../../kernels/attention/scoring/score.ts";
import { compareTensors, type ElementPlace, localAllowance, placeText } from "../compare.ts";
import {
  blocksOf,
  elementAt,
  type OperationEvidence,
  type OperationRecord,
  rowOf,
  weightRowAt,
} from "./evidence.ts";
import { type Formula, formulaAt } from "./formula.ts";
import { impliedBy } from "./implied.ts";

/** Whose number is what 64-bit floats make of the same inputs; `each` where each side is right with the file that it runs. */
export type Right = "ours" | "reference" | "both" | "neither" | "each" | "unknown";

/** One place of the operation. */
export interface Recomputed {
  /** What the operation makes. */
  readonly point: string;
  /** Where in it. */
  readonly place: ElementPlace;
  /** What is computed, with all that goes into it. */
  readonly formula: Formula;
  /** The same with the other file's weights and constants, where the other side runs a file of its own. */
  readonly other?: Formula;
  /** What our kernels make of the reference's inputs. */
  readonly ours: number;
  /** What the reference has. */
  readonly reference: number;
  /** How far a right number may be off. */
  readonly allowed: number;
  /** Whose number is right. */
  readonly right: Right;
  /** The verdict in one line. */
  readonly says: string;
  /** Operations before it whose outcome the reference does not show, as far as they make this very number. */
  readonly before: readonly { readonly point: string; readonly formula: Formula }[];
  /** What the reference's number says of how it was made, one line each; nothing where it is what our file gives. */
  readonly implied: readonly string[];
  /** How the two files differ in what this number is made of, one line each. */
  readonly files: readonly string[];
}

/**
 * Computes a place once more; the worst one where none is given.
 *
 * @throws {RangeError} for a place that the evidence does not have
 */
export function recompute(
  evidence: OperationEvidence,
  place: ElementPlace = evidence.place,
): Recomputed {
  const { operations, pass, ours, reference, point } = evidence;
  const last = operations.at(-1)!;
  const formula = formulaAt(last, last, pass, place);
  if (!formula) {
    const { start, tokens } = pass;
    throw new RangeError(
      `Cannot recompute ${placeText(place)} of ${point} [${last.output.shape.join(", ")}]: ` +
        `it has positions ${start} to ${start + tokens - 1}`,
    );
  }
  const other = last.other && formulaAt(last, last.other, pass, place);
  const at = elementAt(ours, pass.start, place)!;
  const numbers = { ours: ours.data[at], reference: reference.data[at] };
  const allowed = allowedAt(evidence, place);
  const found = judged(formula, other, numbers, allowed);
  // Of the other file it must be known what it makes, before its side is called wrong.
  const right = evidence.hasOtherFile && found === "ours" && other?.value === undefined
    ? "unknown"
    : found;
  const before = hiddenBefore(operations, pass, place);
  const isOther = !/^(both|reference)$/.test(found);
  return {
    point,
    place,
    formula,
    other,
    ...numbers,
    allowed,
    right,
    says: VERDICTS[right](whose(evidence), operations.map((each) => each.point)),
    before: before.map(({ operation, formula }) => ({ point: operation.point, formula })),
    implied: isOther ? impliedBy(evidence, place) : [],
    files: fileDifferences(evidence, [...before.map(({ operation }) => operation), last], place),
  };
}

/** Whose the reference's numbers are: Lamina stands there too where two files are compared. */
export function whose({ referenceName }: Pick<OperationEvidence, "referenceName">): string {
  return referenceName === "Lamina" ? "the other file's" : `${referenceName}'s`;
}

const VERDICTS: Readonly<Record<Right, (whose: string, points: readonly string[]) => string>> = {
  ours: (whose, points) =>
    `ours is right, ${whose} is not what ` +
    (points.length === 1
      ? "this operation makes of its own inputs with this file"
      : `${points.length} operations, ${points[0]} to ${
        points.at(-1)
      }, make of what is shown there, with this file`),
  reference: (whose) =>
    `${whose} is right, ours is not: this device computes wrongly (./denow task doctor)`,
  both: () => "both are right at this place",
  neither: () => "neither is what the formula gives",
  each: () => "each side is right with its own file: the files differ",
  unknown: () =>
    "it cannot be told: something that it is made of is not there, or the other file has other operations",
};

/** Share of what is summed up that 32-bit sums may be off by: some units in the last place. */
const SUM_ROUNDING = 2 ** -20;

/** Who is right, by the 64-bit value of our file and of the other one. */
function judged(
  exact: Formula,
  other: Formula | undefined,
  { ours, reference }: { readonly ours: number; readonly reference: number },
  allowed: number,
): Right {
  if (exact.value === undefined) return "unknown";
  const isNear = (value: number, expected = NaN, within = allowed) =>
    // Masks are written as −∞ or as other numbers that are as low.
    value <= MASKED && expected <= MASKED || Object.is(value, Math.fround(expected)) ||
    Math.abs(value - expected) <= within;
  // Of large terms, which the other side need not have, 32 bits leave more over.
  const isOwn = (value: number, { value: expected, size }: Formula) =>
    isNear(value, expected, Math.max(allowed, SUM_ROUNDING * size));
  const [a, b] = [isOwn(ours, exact), isNear(reference, exact.value)];
  if (a && b) return "both";
  if (a && other && isOwn(reference, other)) return "each";
  return a ? "ours" : b ? "reference" : "neither";
}

/** How far off a number may be there: at the worst place what was judged, elsewhere what the checkpoint allows. */
function allowedAt(evidence: OperationEvidence, place: ElementPlace): number {
  const { place: worst, allowed, reference, activations, point, pass } = evidence;
  if (allowed !== undefined && placeText(place) === placeText(worst)) return allowed;
  const { tolerance, relative } = localAllowance(point, activations);
  const width = reference.shape.at(-1)!;
  const first = elementAt(reference, pass.start, { ...place, index: 0 })!;
  const row = { shape: [1, width], data: reference.data.subarray(first, first + width) };
  return compareTensors("out", row, row, { tolerance, relative }, 0).allowed;
}

/** Operations that touch each number once: what they make at a place goes on to the same place. */
const ELEMENTWISE = new RegExp(
  "^(center|rms|normalize|scale_columns|add_bias|add|glu|activate|xielu|scale|cap|clamp|" +
    "scale_by_position|take_rows|add_expert_bias|weigh)$",
);

/** Back from the last operation through what is not shown, as long as one number comes of one. */
function hiddenBefore(
  operations: OperationEvidence["operations"],
  pass: OperationEvidence["pass"],
  place: ElementPlace,
): { readonly operation: OperationRecord; readonly formula: Formula }[] {
  const makes = new Map(operations.map((each) => [each.point, each]));
  const wanted = new Set<OperationRecord>();
  const visit = (operation: OperationRecord) => {
    if (!ELEMENTWISE.test(operation.operation)) return;
    for (const { name, source } of operation.inputs) {
      const before = source === "computed" ? makes.get(name) : undefined;
      if (!before || wanted.has(before)) continue;
      wanted.add(before);
      visit(before);
    }
  };
  visit(operations.at(-1)!);
  return operations.filter((each) => wanted.has(each)).flatMap((operation) => {
    const own = operation.operation === "rms" ? { ...place, index: 0 } : place;
    const formula = formulaAt(operation, operation, pass, own);
    return formula ? [{ operation, formula }] : [];
  });
}

/** How the files differ: by rows in what a place is made of one to one, as a whole in what comes before it. */
function fileDifferences(
  { operations, pass, hasOtherFile }: OperationEvidence,
  direct: readonly OperationRecord[],
  place: ElementPlace,
): string[] {
  if (!hasOtherFile) return [];
  const same: string[] = [];
  const lines = operations.flatMap((operation) => {
    if (!operation.other) return [`${operation.point} is made by other operations there, or not`];
    if (direct.includes(operation)) {
      const found = differencesOf(operation, pass, place);
      same.push(...found.filter((line) => line.endsWith(SAME_NUMBERS)));
      return found.filter((line) => !line.endsWith(SAME_NUMBERS));
    }
    return operation.weights.flatMap((weight, i) => {
      const theirs = operation.other!.weights[i];
      const isSame = theirs?.data.length === weight.data.length &&
        weight.data.every((value, at) => Object.is(value, theirs.data[at]));
      return isSame ? [] : [`${weight.name}: other numbers there`];
    });
  });
  return lines.length > 0 ? lines : same;
}

const SAME_NUMBERS = ": the same numbers";

/** What differs between the files in what a place is made of. */
function differencesOf(
  operation: OperationRecord,
  { start }: OperationEvidence["pass"],
  place: ElementPlace,
): string[] {
  const { constants, weights, other, rope } = operation;
  const lines: string[] = [];
  for (const [name, value] of Object.entries(constants)) {
    const there = other!.constants[name] as number | undefined;
    if (there !== value) lines.push(`${name}: ${short(value)} here, ${short(there)} there`);
  }
  if (rope && JSON.stringify(rope) !== JSON.stringify(other!.rope)) {
    const said = ({ base, width, scaling, factors, magnitude = 1 }: typeof rope) =>
      `base ${base}, width ${width}, scaling ${scalingText(scaling)}, ` +
      `${factors ? "with" : "without"} frequency factors` +
      (magnitude === 1 ? "" : `, times ${short(magnitude)}`);
    lines.push(`RoPE: ${said(rope)} here; ${other!.rope ? said(other!.rope) : "none"} there`);
  }
  for (const [i, weight] of weights.entries()) {
    const theirs = other!.weights.at(i);
    if (!theirs) {
      lines.push(`${weight.name} is in our file alone`);
      continue;
    }
    const row = weight.rows === 1 ? 0 : weightRowOf(operation, place, start);
    lines.push(...rowDifferences(weight, theirs, row));
  }
  return lines;
}

/** Which row of an operation's weight makes a place. */
function weightRowOf(operation: OperationRecord, place: ElementPlace, start: number): number {
  const token = place.position - start;
  switch (operation.operation) {
    case "embed":
      return operation.inputs[0].data[token];
    case "embed_positions":
      return place.position;
    case "linear_experts": {
      const { used, rows } = operation.constants;
      return operation.inputs[1].data[token * used + (place.head ?? 0)] * rows + place.index;
    }
    default:
      return weightRowAt(operation.output, place);
  }
}

function scalingText(scaling: NonNullable<OperationRecord["rope"]>["scaling"]): string {
  switch (scaling.type) {
    case "linear":
      return `${scaling.factor}`;
    case "yarn":
      return `YaRN ${scaling.factor}`;
    default:
      return scaling.type;
  }
}

/** 32-bit constants as they were meant. */
function short(value: number | undefined): string {
  return value === undefined ? "none" : `${Number(value.toPrecision(7))}`;
}

/** Bytes of a block that are shown. */
const MOST_BYTES = 24;

/** Two files' rows of a weight, side by side where they differ. */
function rowDifferences(
  ours: OperationRecord["weights"][number],
  theirs: OperationRecord["weights"][number],
  row: number,
): string[] {
  const where = ours.rows === 1 ? ours.name : `${ours.name}, row ${row}`;
  const lines = [];
  if (ours.name !== theirs.name) lines.push(`${theirs.name} there instead of ${ours.name}`);
  if (ours.type !== theirs.type) lines.push(`${where}: ${ours.type} here, ${theirs.type} there`);
  const [a, b] = [rowOf(ours, row), rowOf(theirs, row)];
  if (!a || !b || a.length !== b.length) {
    lines.push(`${where}: ${a && b ? `${a.length} columns here, ${b.length} there` : "left out"}`);
    return lines;
  }
  const different = Array.from(a.keys()).filter((i) => !Object.is(a[i], b[i]));
  if (different.length === 0) return [...lines, `${where}${SAME_NUMBERS}`];
  const [first, last] = [different[0], different.at(-1)!];
  lines.push(
    `${where}: ${different.length} of ${a.length} numbers differ (columns ${first} to ${last})`,
  );
  const from = Math.max(0, Math.min(first, a.length - 4));
  const some = (numbers: Float32Array) =>
    [...numbers.subarray(from, from + 4)].map((value) => value.toPrecision(5)).join(" ");
  lines.push(`  from column ${from}: ${some(a)} here`, `  ${"there".padStart(12)}: ${some(b)}`);
  const [x, y] = [blocksOf(ours, row), blocksOf(theirs, row)];
  if (x && y && x.length === y.length && ours.type === theirs.type) {
    const at = Math.max(0, x.findIndex((byte, i) => byte !== y[i]));
    const hex = (bytes: Uint8Array) =>
      [...bytes.subarray(at, at + MOST_BYTES)].map((byte) => byte.toString(16).padStart(2, "0"))
        .join(" ");
    lines.push(
      `  bytes from ${at} of the row (${ours.type}):`,
      `    here  ${hex(x)}`,
      `    there ${hex(y)}`,
    );
  }
  return lines;
}

/** What `--json` prints. */
export function recomputedJson(
  { checkpoint, referenceName, step, case: name, leftOut }: OperationEvidence,
  found: Recomputed,
) {
  return { checkpoint, case: name, step, referenceName, leftOut, ...found };
}

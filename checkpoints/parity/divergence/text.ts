/** What recomputing an operation found, as lines for people. */
import { formatTable } from "../../../inspect/format.ts";
import { printable } from "../../../inspect/escape.ts";
import { firstEntry } from "../beginning/entries.ts";
import { placeText } from "../compare.ts";
import type { IdsEvidence, OperationEvidence } from "./evidence.ts";
import type { Formula, Terms } from "./formula.ts";
import { type Recomputed, whose } from "./recompute.ts";

/** One place of an operation: its formula with its numbers, both sides', and whose is right. */
export function recomputedText(evidence: OperationEvidence, found: Recomputed): string {
  const { point, place, formula, other, ours, reference, allowed, says, before, files, implied } =
    found;
  const { step, tokens, pass, leftOut } = evidence;
  const when = step === 0 ? evidence.case : `${evidence.case}, generated token ${step}`;
  const token = tokens.at(place.position - pass.start);
  const lines = [
    `${point} at ${placeText(place)} (${when})${
      token && place.position >= pass.start
        ? `, token ${token.id} ${JSON.stringify(token.text)}`
        : ""
    }`,
    `  = ${formula.text}`,
    ...formulaLines(formula),
  ];
  for (const each of before) {
    lines.push("", `${each.point} is not shown there; here it is`, `  = ${each.formula.text}`);
    lines.push(...formulaLines(each.formula));
    if (each.formula.value !== undefined) lines.push(`  = ${digits(each.formula.value)}`);
  }
  const exact = formula.value;
  const off = (value: number, expected = exact) =>
    expected === undefined ? "" : `off by ${distance(value, expected)}`;
  const rows = [
    ["64-bit value", exact === undefined ? "not known" : digits(exact), ""],
    ...(other?.value === undefined
      ? []
      : [["64-bit value with the other file", digits(other.value), ""]]),
    ["ours", digits(ours), off(ours)],
    [whose(evidence), digits(reference), off(reference, other?.value)],
    ["allowed", "", allowed.toExponential(1)],
  ];
  lines.push("", formatTable(rows, "lrl"));
  if (implied.length > 0) lines.push("", `what ${whose(evidence)} number says:`);
  lines.push(...implied.map((line) => `  ${line}`));
  if (files.length > 0) lines.push("", ...files);
  if (leftOut.length > 0) lines.push("", ...leftOut.map((line) => `left out: ${line}`));
  lines.push("", says);
  // A table has lines of its own, each of which is printable already.
  return lines.flatMap((line) => line.split("\n")).map(printable).join("\n");
}

function distance(value: number, expected: number): string {
  const error = Object.is(value, expected) ? 0 : Math.abs(value - expected);
  return error === 0 ? "0" : error.toExponential(1);
}

function formulaLines({ facts, terms }: Formula): string[] {
  const lines = facts.map(([name, value]) => `  ${name} = ${digits(value)}`);
  if (terms) lines.push(...termLines(terms));
  return lines;
}

function termLines({ columns, rows, count, others }: Terms): string[] {
  const cells = [[...columns], ...rows.map(([i, ...rest]) => [`${i}`, ...rest.map(digits)])];
  const rest = count - rows.length;
  const table = formatTable(cells, "r".repeat(columns.length));
  return [
    ...table.split("\n").map((line) => `  ${line}`),
    ...(rest > 0 ? [`  and ${rest} smaller ones, ${digits(others)} in all`] : []),
  ];
}

/** As many digits as a 32-bit float has. */
function digits(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e9 ? `${value}` : value.toPrecision(9);
}

/** Ids around the first that differs. */
const AROUND = 6;

/** The lines for people: both lists of ids around the first that differs. */
export function idsText(
  { case: name, checkpoint, text, ours, reference, referenceName }: IdsEvidence,
): string {
  const longest = Math.max(ours.length, reference.length);
  const [a, b] = [ours, reference].map((tokens) => tokens.map(({ id }) => id));
  const first = firstEntry(a, b);
  const what = checkpoint === "0" ? "token ids" : "choices, one after each pass";
  const lines = [`${what} (${name})`];
  if (text !== undefined) lines.push(`  of ${JSON.stringify(text)}`);
  const from = Math.max(0, first - AROUND);
  const cell = (token?: IdsEvidence["ours"][number]) =>
    token ? `${token.id} ${JSON.stringify(token.text)}` : "";
  const rows = [["", "here", referenceName]];
  for (let i = from; i < Math.min(longest, Math.max(first, 0) + AROUND); i++) {
    rows.push([`${i}`, cell(ours[i]), cell(reference[i])]);
  }
  lines.push("", formatTable(rows, "rll"), "");
  lines.push(
    first < 0
      ? `${longest} ids, the same on both sides`
      : `the first that differs is id ${first}, of ${ours.length} here and ${reference.length} there`,
  );
  return lines.flatMap((line) => line.split("\n")).map(printable).join("\n");
}

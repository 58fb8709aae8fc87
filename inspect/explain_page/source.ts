/** The lines of `forward()` that compute a step, taken from its source text: the page cannot drift away from the code. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import source from "../../engine/plan/forward.ts" with { type: "text" };

/** One line of `engine/plan/forward.ts`. */
export interface SourceLine {
  /** Its number in the file, from 1. */
  readonly number: number;
  readonly text: string;
}

/** Where a step stands in the source. */
export interface StepSource {
  /** The number of its line in `forward()`. */
  readonly line: number;
  /** Of an operation that records several steps: the statement that records this one. */
  readonly inner?: readonly SourceLine[];
}

const LINES: readonly SourceLine[] = source.split("\n").map((text, i) => ({ number: i + 1, text }));

/** The passes' code without imports and helpers: `forward()` from its signature to its end. */
export const FORWARD: readonly SourceLine[] = (() => {
  const first = LINES.findIndex(({ text }) => text.startsWith("export function forward("));
  const last = LINES.findIndex(({ text }, i) => i > first && text === "}");
  return LINES.slice(first, last + 1);
})();

/** A step of a plan, as far as its source line goes. */
interface Named {
  readonly name: string;
  readonly operation: string;
}

/**
 * Finds the line of `forward()` that records a step: the call whose first argument is its name. The three steps of an RMSNorm share
 * a line, and each has its statement in the operation's definition.
 *
 * @throws {RangeError} for a step that no line records
 */
export function sourceOf({ name, operation }: Named): StepSource {
  // The ids are no step's result: the first line reads them.
  if (operation === "ids") {
    return { line: lineOf("token_embd")!.number, inner: statementOf("const ids: Value") };
  }
  const own = lineOf(name);
  if (operation === "scale_columns") {
    return { line: own!.number, inner: statementOf(`record("${operation}"`) };
  }
  if (own) return { line: own.number };
  const whole = lineOf(name.replace(/_(rms|pre)$/, ""));
  if (!whole) throw new RangeError(`No line of forward() records ${name}`);
  return { line: whole.number, inner: statementOf(`record("${operation}"`) };
}

function lineOf(name: string): SourceLine | undefined {
  const template = layerOf(name) === undefined ? name : `\${at}.${kindOf(name)}`;
  return FORWARD.find(({ text }) => /\w\(["`]/.test(text) && firstArgument(text) === template);
}

function firstArgument(text: string): string | undefined {
  return text.match(/\w\((["`])(.+?)\1/)?.[2];
}

/** The statement of the recorder in which a text stands. */
function statementOf(part: string): SourceLine[] {
  const first = LINES.findIndex(({ text }) => text.includes(part));
  const last = LINES.findIndex(({ text }, i) => i >= first && text.trimEnd().endsWith(";"));
  return LINES.slice(first, last + 1);
}

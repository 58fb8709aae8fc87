/** The lines of `forward()` that compute a step, taken from its source text: the page cannot drift away from the code. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import forwardText from "../../engine/plan/forward.ts" with { type: "text" };
import recorderText from "../../engine/plan/recorder.ts" with { type: "text" };

/** One line of `engine/plan/forward.ts`, or of `recorder.ts` beside it. */
export interface SourceLine {
  /** Its number in the file, from 1. */
  readonly number: number;
  readonly text: string;
}

/** Where a step stands in the source. */
export interface StepSource {
  /** The number of its line in `forward()`. */
  readonly line: number;
  /** Of an operation that records several steps: the statement of the recorder that records this one. */
  readonly inner?: readonly SourceLine[];
}

const linesOf = (text: string): readonly SourceLine[] =>
  text.trimEnd().split("\n").map((text, i) => ({ number: i + 1, text }));

const RECORDER = linesOf(recorderText);

/** The pass's code without imports: `forward()` and the functions that it is made of. */
export const FORWARD: readonly SourceLine[] = (() => {
  const lines = linesOf(forwardText);
  return lines.slice(lines.findIndex(({ text }) => text.startsWith("export function forward(")));
})();

/** A step of a plan, as far as its source line goes. */
interface Named {
  readonly name: string;
  readonly operation: string;
}

/** What an operation that records several steps puts behind the name in its line. */
const PARTS = /_(rms|pre|centered|scaled|product|unclamped|ids|weights)$/;

/**
 * Finds the line of `forward()` that records a step: the call whose first argument is its name. The steps of a norm share a line, and
 * each has its statement in the recorder.
 *
 * @throws {RangeError} for a step that no line records
 */
export function sourceOf({ name, operation }: Named): StepSource {
  // The ids are no step's result: the first line reads them.
  if (operation === "ids") {
    return { line: lineOf("token_embd")!.number, inner: statementOf("const ids: Value") };
  }
  const own = lineOf(name);
  if (own && operation !== "scale_columns") return { line: own.number };
  const whole = own ?? lineOf(name.replace(PARTS, ""));
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
  const first = RECORDER.findIndex(({ text }) => text.includes(part));
  const last = RECORDER.findIndex(({ text }, i) => i >= first && text.trimEnd().endsWith(";"));
  return RECORDER.slice(first, last + 1);
}

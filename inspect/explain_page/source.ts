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
    return { line: lineOf("token_embd", "embed")!.number, inner: statementOf("const ids: Value") };
  }
  const own = lineOf(name, operation);
  if (own && !OF_NORMS.has(operation)) return { line: own.number };
  const whole = own ?? lineOf(wholeOf(name, operation), operation);
  if (!whole) throw new RangeError(`No line of forward() records ${name}`);
  return { line: whole.number, inner: statementOf(`"${operation}",`) };
}

/** The steps that end a norm: they have its name, and its line is that of all of its steps. */
const OF_NORMS: ReadonlySet<string> = new Set(["normalize", "scale_columns"]);

/** The name in the line of a step that has another: its factor is that of the line which adds what a half of a block makes. */
function wholeOf(name: string, operation: string): string {
  const whole = name.replace(PARTS, "");
  return operation === "scale" ? whole.replace(/(attn|ffn)_out$/, "$1_post_norm") : whole;
}

/** The line with a name as first argument; where branches of the code have one each, that which calls the operation. */
function lineOf(name: string, operation: string): SourceLine | undefined {
  const template = layerOf(name) === undefined ? name : `\${at}.${kindOf(name)}`;
  const lines = FORWARD.filter(({ text }) =>
    /\w\(["`]/.test(text) && firstArgument(text) === template
  );
  return lines.find(({ text }) => text.includes(`record.${METHODS[operation] ?? operation}(`)) ??
    lines[0];
}

/** Where the recorder calls an operation by another name. */
const METHODS: Readonly<Record<string, string>> = { xielu: "activate" };

function firstArgument(text: string): string | undefined {
  return text.match(/\w\((["`])(.+?)\1/)?.[2];
}

/** The statement of the recorder in which a text stands. */
function statementOf(part: string): SourceLine[] {
  const found = RECORDER.findIndex(({ text }) => text.includes(part));
  const first = RECORDER[found - 1]?.text.endsWith("record(") ? found - 1 : found;
  const last = RECORDER.findIndex(({ text }, i) => i >= first && text.trimEnd().endsWith(";"));
  return RECORDER.slice(first, last + 1);
}

/** What {@linkcode GgufError} knows beside its message. */
export interface GgufErrorFacts {
  /** Name of the source (a path, or the label of imported bytes). */
  readonly file: string;
  /** Name of the tensor at fault, if one is. */
  readonly tensor?: string;
  /** Byte offset in the file at which the fault was seen. */
  readonly offset?: number;
}

/** A GGUF file that cannot be read: one line that says what is wrong, where, and what to do. */
export class GgufError extends Error {
  /** The class's name. */
  override readonly name = "GgufError";
  /** Name of the source (a path, or the label of imported bytes). */
  readonly file: string;
  /** Name of the tensor at fault, if one is. */
  readonly tensor?: string;
  /** Byte offset in the file at which the fault was seen. */
  readonly offset?: number;

  /**
   * Thrown where the fault is seen.
   *
   * @param problem what is wrong and what to do; the file goes before it, the offset behind
   */
  constructor(problem: string, facts: GgufErrorFacts) {
    const where = facts.offset === undefined ? "" : ` (byte ${facts.offset})`;
    super(`${oneLine(facts.file)}: ${problem}${where}`);
    this.file = facts.file;
    this.tensor = facts.tensor;
    this.offset = facts.offset;
  }
}

/** Quotes a string that came from a file so that it stays short and on one line. */
export function quoted(text: string): string {
  return `"${oneLine(text.length > 80 ? `${text.slice(0, 77)}...` : text)}"`;
}

function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "\ufffd");
}

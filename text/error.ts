/** What {@linkcode TokenizerError} knows beside its message. */
export interface TokenizerErrorFacts {
  /** The file at fault, where it is known. */
  readonly file?: string;
  /** The metadata key at fault, if one is. */
  readonly key?: string;
  /** The token id at fault, if one is. */
  readonly id?: number;
}

/** A vocabulary or a token id that cannot be used: one line that says what is wrong and where. */
export class TokenizerError extends Error {
  /** The class's name. */
  override readonly name = "TokenizerError";
  /** The file at fault, where it is known. */
  readonly file?: string;
  /** The metadata key at fault, if one is. */
  readonly key?: string;
  /** The token id at fault, if one is. */
  readonly id?: number;

  /**
   * Thrown where the fault is seen.
   *
   * @param message what is wrong; the file goes before it
   */
  constructor(message: string, facts: TokenizerErrorFacts = {}) {
    super(facts.file === undefined ? message : `${facts.file}: ${message}`);
    this.file = facts.file;
    this.key = facts.key;
    this.id = facts.id;
  }
}

/** Does `work` on what a file holds; an error that names no file gets its name. */
export function inFile<T>(file: string | undefined, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof TokenizerError) || error.file !== undefined) throw error;
    const { message, key, id } = error;
    throw new TokenizerError(message, { file, key, id });
  }
}

/** Quotes a string that came from a file so that it stays short and on one line. */
export function quoted(text: string): string {
  const short = text.length > 80 ? `${text.slice(0, 77)}...` : text;
  // deno-lint-ignore no-control-regex -- control characters are what must not reach a terminal
  return `"${short.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "\ufffd")}"`;
}

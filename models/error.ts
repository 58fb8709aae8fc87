/** A model that cannot be found, pulled or verified: one line that says what to do. */
export class ModelError extends Error {
  /** The class's name. */
  override readonly name: string = "ModelError";
  /** The name or path that was asked for. */
  readonly model: string;

  /**
   * Thrown where a model is looked for.
   *
   * @param problem what is wrong and what to do; the model goes before it
   */
  constructor(model: string, problem: string, options?: ErrorOptions) {
    super(`${model || '""'}: ${problem}`, options);
    this.model = model;
  }
}

/** A name that is neither a file nor a known model. */
export class UnknownModelError extends ModelError {
  /** The class's name. */
  override readonly name = "UnknownModelError";
  /** Known names that are spelt alike, the most alike first. */
  readonly nearest: readonly string[];
  /** All known names. */
  readonly known: readonly string[];

  /** Thrown where a model is looked for by name. */
  constructor(model: string, nearest: readonly string[], known: readonly string[]) {
    const hint = nearest.length > 0 ? `did you mean ${nearest.join(" or ")}? ` : "";
    super(
      model,
      `no such file or model; ${hint}known models: ${known.join(", ")};` +
        " or give the path of a GGUF file, or hf:OWNER/REPOSITORY/FILE.gguf",
    );
    this.nearest = nearest;
    this.known = known;
  }
}

/** Why a pull failed. */
export type PullFailure =
  | "checksum"
  | "damaged"
  | "disk-full"
  | "interrupted"
  | "network"
  | "not-found"
  | "tool"
  | "unauthorized"
  | "write";

/** A pull that failed. Nothing is left under the model's name. */
export class PullError extends ModelError {
  /** The class's name. */
  override readonly name = "PullError";
  /** What programs decide by; the message says it in words. */
  readonly reason: PullFailure;

  /**
   * Thrown where a model is pulled.
   *
   * @param problem what is wrong and what to do; the model goes before it
   */
  constructor(model: string, reason: PullFailure, problem: string, options?: ErrorOptions) {
    super(model, problem, options);
    this.reason = reason;
  }
}

/** What an error says at its root, on one line: `fetch` keeps the reason in the cause. */
export function reasonOf(error: unknown): string {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  const message = root instanceof Error ? root.message : String(root);
  return message.replace(/^error sending request for url \(.*?\): /, "")
    .replace(/\s*\n\s*/g, " ").trim();
}

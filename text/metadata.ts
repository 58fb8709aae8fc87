import { quoted, TokenizerError } from "./error.ts";

/** A GGUF file's metadata as its reader hands it over. */
export type Metadata = ReadonlyMap<string, unknown>;

/**
 * The text under a key, or undefined where the file lacks it.
 *
 * @throws {TokenizerError} when the value is not a string
 */
export function optionalString(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key);
  if (value === undefined || typeof value === "string") return value;
  throw wrongType(key, value, "a string");
}

/**
 * The truth value under a key, or undefined where the file lacks it.
 *
 * @throws {TokenizerError} when the value is not a boolean
 */
export function optionalBoolean(metadata: Metadata, key: string): boolean | undefined {
  const value = metadata.get(key);
  if (value === undefined || typeof value === "boolean") return value;
  throw wrongType(key, value, "true or false");
}

/**
 * The whole number under a key, or undefined where the file lacks it.
 *
 * @throws {TokenizerError} when the value is not an integer
 */
export function optionalInteger(metadata: Metadata, key: string): number | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number)) return number;
  throw wrongType(key, value, "an integer");
}

/**
 * An id that the file names under `tokenizer.ggml.<role>_token_id`. One outside the vocabulary
 * counts as not named, as in llama.cpp: files write −1 for "none".
 *
 * @throws {TokenizerError} when the value is not a number
 */
export function tokenId(metadata: Metadata, role: string, size: number): number | undefined {
  const id = optionalInteger(metadata, `tokenizer.ggml.${role}_token_id`);
  return id !== undefined && id >= 0 && id < size ? id : undefined;
}

/**
 * The list of strings under a key, or undefined where the file lacks it.
 *
 * @throws {TokenizerError} when the value is something else
 */
export function optionalStrings(metadata: Metadata, key: string): readonly string[] | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
  throw wrongType(key, value, "a list of strings");
}

/**
 * The list of numbers under a key, at least `length` of them, or undefined where the file lacks it.
 *
 * @throws {TokenizerError} when the value is something else or too short
 */
export function optionalNumbers(
  metadata: Metadata,
  key: string,
  length: number,
): ArrayLike<number> | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (!isNumbers(value)) throw wrongType(key, value, "a list of numbers");
  if (value.length >= length) return value;
  throw new TokenizerError(
    `${key} has ${value.length} entries for ${length} tokens; convert the model again`,
    { key },
  );
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  if (ArrayBuffer.isView(value)) {
    return !(value instanceof DataView || value instanceof BigInt64Array ||
      value instanceof BigUint64Array);
  }
  return Array.isArray(value) && value.every((each) => typeof each === "number");
}

function wrongType(key: string, value: unknown, wanted: string): TokenizerError {
  const found = typeof value === "string"
    ? quoted(value)
    : Array.isArray(value) || ArrayBuffer.isView(value)
    ? "a list"
    : String(value);
  return new TokenizerError(`${key} is ${found} where ${wanted} belongs; convert the model again`, {
    key,
  });
}

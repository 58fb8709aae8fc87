/** JSON that other programs wrote: with a byte order mark, in UTF-16, or with the numbers that Python writes and JSON does not have. */
import { ModelError } from "./error.ts";

/** Strings, which may say anything, and the words of Python's `json` that stand for numbers outside of them. */
const STRINGS_AND_NUMBERS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:Infinity|NaN)\b/gs;

/** No text of a file is this one. */
const NAN = `NaN ${crypto.randomUUID()}`;

/**
 * Understands JSON as Python's `json` writes and reads it: `NaN`, `Infinity` and `-Infinity` are numbers. A byte order mark in front
 * does not count.
 *
 * @throws {SyntaxError} for what is no JSON
 */
export function parseForeignJson(given: string | Uint8Array): unknown {
  const text = (typeof given === "string" ? given : decoded(given)).replace(/^\ufeff/, "");
  try {
    return JSON.parse(text);
  } catch (error) {
    const plain = text.replace(STRINGS_AND_NUMBERS, (part) => {
      if (part.endsWith("NaN")) return JSON.stringify(NAN);
      return part.startsWith('"') ? part : part.replace("Infinity", "1e999");
    });
    if (plain === text) throw error;
    return JSON.parse(plain, (_key, value) => value === NAN ? NaN : value);
  }
}

/**
 * Reads a file of such JSON, which has to be an object.
 *
 * @returns undefined where there is no such file
 * @throws {ModelError} one line that names the file: it cannot be read, is no JSON, or no object
 */
export async function readForeignJson(path: string): Promise<Record<string, unknown> | undefined> {
  let value: unknown;
  try {
    // A pipe would be waited for.
    if (!(await Deno.stat(path)).isFile) throw new ModelError(path, "this is no file");
    value = parseForeignJson(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof ModelError) throw error;
    if (error instanceof Deno.errors.NotFound) return undefined;
    const problem = (error as Error).message;
    const what = error instanceof SyntaxError ? `this is not JSON: ${problem}` : problem;
    throw new ModelError(path, what, { cause: error });
  }
  if (isObject(value)) return value;
  throw new ModelError(path, "this is no JSON object");
}

/** Whether a value of JSON is an object, no list and not null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** UTF-8, or UTF-16 where its mark is in front. */
function decoded(bytes: Uint8Array): string {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  return new TextDecoder().decode(bytes);
}

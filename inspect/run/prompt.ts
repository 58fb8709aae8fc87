/** Prompts as people give them, and what is wrong with some. */
import type { Config } from "../../engine/model/config.ts";

/** A text, or token ids. */
export type Prompt = string | readonly number[];

/** A prompt that does not fit, or is none. */
export class PromptError extends RangeError {
  /** The class's name. */
  override readonly name = "PromptError";
}

/**
 * What a run is given, as a list of its sequences' prompts. Notebook cells are not type-checked, so everything is looked at.
 *
 * @throws {PromptError} for nothing, and for anything but a text, texts, or a list of lists of ids
 */
export function promptList(given: string | readonly Prompt[]): readonly Prompt[] {
  if (typeof given === "string") return [given];
  if (!isList(given)) throw new PromptError(`Cannot run ${shown(given)}: ${FORMS}`);
  if (given.length === 0) throw new PromptError(`Cannot run an empty list of prompts: ${FORMS}`);
  const wrong = [...given].find((each) => typeof each !== "string" && !isList(each));
  if (typeof wrong === "number") {
    throw new PromptError(
      `Cannot run ${shown(given)}: each sequence's ids go in a list of their own: [${
        shown(given)
      }]`,
    );
  }
  if (wrong !== undefined) throw new PromptError(`Cannot run ${shown(wrong)}: ${FORMS}`);
  return given;
}

/**
 * The prompt of one sequence.
 *
 * @throws {PromptError} for anything but a text or a list of ids
 */
export function onePrompt(given: Prompt): Prompt {
  if (typeof given === "string") return given;
  if (isList(given) && [...given].every((id) => typeof id === "number")) return given;
  throw new PromptError(
    `Cannot take ${shown(given)} as a prompt: give one text or one list of ids`,
  );
}

/**
 * Checks a prompt's ids.
 *
 * @param room positions that must be left in the model's context
 * @throws {PromptError} for an empty prompt, ids outside the vocabulary, or too little room
 */
export function checkPrompt(config: Config, ids: readonly number[], room: number): void {
  const { contextLength, vocabSize } = config;
  if (ids.length === 0) throw new PromptError("The prompt is empty: give at least one token");
  if (ids.length + room > contextLength) {
    throw new PromptError(
      `The prompt has ${ids.length} tokens and the model's context holds ${contextLength}` +
        `${room > 0 ? ", with one to generate" : ""}; shorten the prompt`,
    );
  }
  const wrong = ids.find((id) => !isTokenId(id, vocabSize));
  if (wrong !== undefined) {
    throw new PromptError(`Cannot run token id ${wrong}: ids go from 0 to ${vocabSize - 1}`);
  }
}

/**
 * Checks that a vocabulary of that size has a token, and gives its id.
 *
 * @throws {RangeError}
 */
export function checkTokenId(id: number, vocabSize: number): number {
  if (isTokenId(id, vocabSize)) return id;
  throw new RangeError(`There is no token ${id}: ids go from 0 to ${vocabSize - 1}`);
}

function isTokenId(id: number, vocabSize: number): boolean {
  return Number.isInteger(id) && id >= 0 && id < vocabSize;
}

const FORMS = 'give a text, a list of texts, or a list of lists of token ids: "Once", [[1, 300]]';

/** Arrays, and typed ones as tables have them. */
function isList(value: unknown): boolean {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

/** At most a few words of whatever was given. */
export function shown(value: unknown): string {
  const list = ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value;
  const text = JSON.stringify(list) ?? `${value}`;
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

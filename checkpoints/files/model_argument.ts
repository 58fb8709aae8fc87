/** Models as functions for people take them: one that is loaded, or a name or path. */
import { load, type Loaded, type LoadModelOptions } from "../../inspect/run/loading.ts";
import type { Model } from "../../inspect/run/model.ts";
import { type Prompt, PromptError } from "../../inspect/run/prompt.ts";
import { hasVocabulary, tokenizerOf } from "../../inspect/run/vocabulary.ts";
import type { WorkOptions } from "../../inspect/work.ts";

/**
 * What a model is made of, for as long as it is needed: a loaded one stays its owner's, another is loaded and given back.
 *
 * @throws {UnknownModelError | PullError | GgufError | DeviceError | DisposedError}
 */
export async function openModel(
  model: Model | string,
  options: WorkOptions & Pick<LoadModelOptions, "backend" | "tune"> = {},
): Promise<Loaded & Disposable> {
  if (typeof model !== "string") {
    return { ...model.loaded, release() {}, [Symbol.dispose]() {} };
  }
  const { backend, tune, signal, onProgress } = options;
  const loaded = await load(model, {
    backend,
    tune,
    signal,
    onProgress: (_phase, done, total) => onProgress?.(done, total ?? done, `loading ${model}`),
  });
  return { ...loaded, [Symbol.dispose]: () => loaded.release() };
}

/** Where it runs, for people. */
export function deviceOf({ device }: Loaded): string {
  return device ? device.info.description || device.info.device : "CPU backend";
}

/** What makes ids of a text; undefined for a file without a vocabulary. */
export function tokenizeOf(
  { file }: Pick<Loaded, "file">,
): ((text: string) => readonly number[]) | undefined {
  if (!hasVocabulary(file)) return undefined;
  const tokenizer = tokenizerOf(file);
  return (text) => tokenizer.encode(text);
}

/**
 * A prompt's ids.
 *
 * @throws {PromptError} for a text where the file has no vocabulary
 */
export function promptIdsOf(
  { found, file }: Pick<Loaded, "found" | "file">,
  prompt: Prompt,
): readonly number[] {
  if (typeof prompt !== "string") return Array.from(prompt);
  const tokenize = tokenizeOf({ file });
  if (tokenize) return tokenize(prompt);
  throw new PromptError(`${found.name} has no vocabulary: give token ids`);
}

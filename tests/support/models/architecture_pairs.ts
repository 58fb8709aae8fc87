/** Pairs of a model and what somebody computed with it: `fixtures/architectures/NAME.gguf` and `NAME.json`. */
import { filesBelow } from "../files.ts";

/** What NAME.json holds. */
export interface ExpectedPass {
  /** Who computed it, and how. */
  readonly provenance: string;
  /** Where llama.cpp computes something else than the model was trained with: whether it is llama.cpp's. */
  readonly like?: "llama.cpp";
  /** The prompt. */
  readonly ids: readonly number[];
  /** The greedy ids that follow. */
  readonly greedy: readonly number[];
  /** Points of the pass over the prompt, with logits for each position: shape, and 32-bit floats, little-endian, in base64. */
  readonly points?: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly data: string }>
  >;
}

/** A pair. */
export interface ArchitecturePair {
  readonly name: string;
  readonly path: string;
  readonly expected: ExpectedPass;
}

/**
 * All pairs that are there.
 *
 * @throws {Error} for a file without its other half
 */
export async function architecturePairs(): Promise<ArchitecturePair[]> {
  const folder = new URL("../../fixtures/architectures/", import.meta.url);
  const files = (await Array.fromAsync(filesBelow(folder))).sort();
  const names = new Set(files.map((file) => file.replace(/\.(gguf|json)$/, "")));
  return await Promise.all([...names].map(async (name) => {
    for (const half of [`${name}.gguf`, `${name}.json`]) {
      if (!files.includes(half)) throw new Error(`fixtures/architectures/${half} is missing`);
    }
    const path = new URL(`${name}.gguf`, folder).pathname;
    const expected = JSON.parse(await Deno.readTextFile(new URL(`${name}.json`, folder)));
    return { name, path, expected };
  }));
}

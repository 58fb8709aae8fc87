/**
 * Tokenizers with llama.cpp's own vocabularies, those that are too large to keep here: fetched from
 * npm once, into Lamina's cache. Ignored where they cannot be had.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { createTokenizer } from "../../text/mod.ts";
import {
  LLAMA_CPP_VOCABULARIES,
  llamaCppVocabularies,
} from "../support/engines/llamacpp_source.ts";
import { readTokenizerIds } from "../support/text/tokenizer_fixtures.ts";
import { ggufMetadata } from "../support/text/vocabularies.ts";

const SEPARATOR = "\n__ggml_vocab_test__\n";

const folder = await llamaCppVocabularies();
const { strings, vocabularies } = readTokenizerIds();

for (const name of LLAMA_CPP_VOCABULARIES) {
  Deno.test({
    name: `${name}: ids equal llama.cpp's and its test vectors`,
    ignore: folder === undefined,
    async fn() {
      const path = join(folder!, `ggml-vocab-${name}.gguf`);
      const tokenizer = createTokenizer(await ggufMetadata(path));
      const expected = vocabularies[name];
      assert.ok(expected.parsed.length >= 250);
      for (const [index, ids] of expected.parsed.entries()) {
        const text = strings[index];
        assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
        const plain = tokenizer.encode(text, { special: false, bos: false, eos: false });
        assert.deepEqual(plain, expected.plain[index], JSON.stringify(text));
      }
      assert.equal(tokenizer.addBos, expected.addBos);
      assert.equal(tokenizer.addEos, expected.addEos);
      assert.deepEqual([...tokenizer.endOfGeneration].sort((a, b) => a - b), expected.ends);
      for (const { text, ids } of await testVectors(path)) {
        const plain = tokenizer.encode(text, { special: false, bos: false, eos: false });
        assert.deepEqual(plain, ids, JSON.stringify(text));
      }
    },
  });
}

/** The `.inp` and `.out` beside a vocabulary; a few vocabularies have none. */
async function testVectors(path: string): Promise<{ text: string; ids: number[] }[]> {
  let input, output;
  try {
    input = await Deno.readTextFile(`${path}.inp`);
    output = await Deno.readTextFile(`${path}.out`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  const texts = input.split(SEPARATOR);
  if (texts.at(-1) === "") texts.pop();
  const lines = output.replace(/\n$/, "").split("\n");
  assert.ok(texts.length > 40 && lines.length >= texts.length);
  return texts.map((text, index) => ({
    text,
    ids: lines[index].trim().split(/\s+/).filter((id) => id !== "").map(Number),
  }));
}

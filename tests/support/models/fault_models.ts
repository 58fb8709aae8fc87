/** Models to break: each cut to a short context, so that little is generated where two files are compared. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { createTokenizer } from "../../../text/mod.ts";
import {
  type QuantizationType,
  quantizeModel,
} from "../../../checkpoints/quantization/quantize.ts";
import { all, breakFile, type FileFault, mapped, metadata } from "./broken_files.ts";
import { type EngineRun, ForeignEngine } from "../engines/faulty_engine.ts";
import { smolLm2 } from "../text/vocabularies.ts";
import type { WriterValue } from "./gguf_writer.ts";
import { randomLlama } from "./random_llama.ts";

/** Positions that the models have. */
const CONTEXT = 64;
/** Tokens that the engine generates. */
export const GENERATED = 2;
/** With fewer a run would add a prompt of its own. */
const LEAST_IDS = 48;

/** A model to break, with a prompt. */
export interface FaultModel {
  readonly name: string;
  readonly path: string;
  readonly prompt: string;
  readonly ids: readonly number[];
  readonly engine: ForeignEngine;
  /** What the engine makes of it when it is right. */
  readonly right: EngineRun;
}

/** A model with a short context and no telling name. */
async function prepared(
  folder: string,
  name: string,
  from: string,
  prompt: string,
): Promise<FaultModel> {
  const path = join(folder, `${name}.gguf`);
  await breakFile(from, path, metadata("llama.context_length", CONTEXT));
  const file = await openGgufFile(path);
  const ids = createTokenizer(file.metadata).encode(prompt);
  file.close();
  assert.ok(ids.length >= LEAST_IDS && ids.length < CONTEXT - 4, `${ids.length} ids`);
  const engine = await ForeignEngine.open(path);
  return { name, path, prompt, ids, engine, right: engine.run(ids, GENERATED) };
}

/** Makes the models in a folder. */
export async function faultModels(folder: string) {
  const original = join(folder, "original.gguf");
  await Deno.writeFile(original, randomLlama(RANDOM));
  const larger = join(folder, "larger.gguf");
  await breakFile(
    original,
    larger,
    all(
      ...Object.entries(FACTORS).map(([name, factor]) =>
        mapped(name, (numbers) => numbers.map((value) => value * factor))
      ),
    ),
  );
  return {
    /** The embedded model. */
    tiny: await prepared(folder, "a", TINY, STORY),
    random: await prepared(folder, "b", original, BYTES),
    /** The random one with numbers beyond what 16 bits hold. */
    large: await prepared(folder, "c", larger, BYTES),
  };
}

/** The first blocks of the embedded model with each matrix of a block in another type, as llama.cpp quantizes it. */
export async function mixedModel(folder: string): Promise<FaultModel> {
  const path = join(folder, "mixed.gguf");
  const parts = await Promise.all(
    Object.entries(MIXTURE).map(async ([name, type]): Promise<FileFault> => {
      const quantized = await openGgufFile(await quantizeModel("tiny", type));
      const matrices = [...quantized.tensors.values()].filter((tensor) =>
        tensor.name.endsWith(`.${name}.weight`)
      );
      const tensors = await Promise.all(matrices.map(async (tensor) => {
        const bytes = await quantized.readTensor(tensor);
        return [tensor.name, { ...tensor, bytes: () => Promise.resolve(bytes) }] as const;
      }));
      quantized.close();
      return () => ({ tensors: new Map(tensors) });
    }),
  );
  const cut: FileFault = ({ tensors }) => ({
    metadata: new Map([["llama.block_count", MIXED_BLOCKS]]),
    tensors: new Map(
      [...tensors.keys()]
        .filter((name) => Number(name.match(/^blk\.(\d+)/)?.[1] ?? 0) >= MIXED_BLOCKS)
        .map((name) => [name, undefined]),
    ),
  });
  await breakFile(TINY, path, all(...parts, cut));
  return await prepared(folder, "d", path, STORY);
}

/** A small random model with SmolLM2's vocabulary. */
export async function bpeModel(folder: string): Promise<FaultModel> {
  const path = join(folder, "bpe.gguf");
  const vocabulary = await smolLm2();
  const vocab = (vocabulary.get("tokenizer.ggml.tokens") as string[]).length;
  const keys = [...vocabulary].filter(([key]) => key.startsWith("tokenizer."));
  const bytes = randomLlama({
    ...{ layers: 1, width: 32, heads: 2, ffnWidth: 64, vocab, tied: true, seed: 3 },
    metadata: Object.fromEntries(keys) as Record<string, WriterValue>,
  });
  await Deno.writeFile(path, bytes);
  return await prepared(folder, "e", path, `${STORY} Then they went home.`);
}

const TINY = new URL("../../../models/tiny/tiny.gguf", import.meta.url).pathname;
const STORY =
  "Once upon a time there was a little dog. He lived in a red house near the river with his " +
  "friend Tom. One day they found a small box under the tree. It was old and it was full of " +
  "sweet apples.";

/** Few, so that it is quick. */
const MIXED_BLOCKS = 2;
/** Each matrix of a block, and the file of llama.cpp's that it is taken from. */
const MIXTURE: Readonly<Record<string, QuantizationType>> = {
  attn_q: "Q4_0",
  attn_k: "Q8_0",
  attn_v: "Q6_K",
  attn_output: "Q4_K_S",
  ffn_gate: "Q5_0",
  ffn_up: "Q3_K_S",
  ffn_down: "Q5_K_S",
};

/** Biases, frequency factors, heads that turn in part, quantized blocks and single numbers, a vocabulary of bytes. */
const RANDOM = {
  layers: 3,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 192,
  ropeWidth: 12,
  vocab: 352,
  vocabulary: "llama",
  biases: true,
  ropeFactors: true,
  type: (name: string) => /attn_q|attn_output/.test(name) ? "F32" : "Q8_0",
  metadata: { "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_space_prefix": true },
  seed: 7,
} as const;

/** By which weights are larger: the residual stream leaves f16 when it is squared, the FFN in its product. */
const FACTORS: Readonly<Record<string, number>> = {
  "token_embd.weight": 400,
  ...Object.fromEntries([0, 1, 2].flatMap((layer) => [
    [`blk.${layer}.ffn_gate.weight`, 300],
    [`blk.${layer}.ffn_up.weight`, 300],
    [`blk.${layer}.ffn_down.weight`, 1 / 300],
  ])),
};

/** Each letter is a token, a space three. */
const BYTES = "Somebody told me a story of thirty foxes";

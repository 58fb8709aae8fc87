/** A small model of each family, made from its description: what llama.cpp and we are compared on. */
import { type Shape, syntheticModel } from "../../../checkpoints/files/synthetic_model.ts";
import type { MetadataType, MetadataValue } from "../../../engine/gguf/header.ts";
import { writeGguf } from "../../../engine/gguf/writer.ts";

/** Sizes that no vector and no block divides, queries in groups, heads that are as wide as their share of the stream. */
const USUAL: Shape = {
  ...{ layers: 4, width: 84, ffnWidth: 150, heads: 6, kvHeads: 2, headWidth: 14 },
  ...{ vocabSize: 211, contextLength: 512, ropeBase: 10000, normEpsilon: 1e-5, tiedOutput: false },
};

/** Heads that are wider than that. */
const WIDE = { headWidth: 22 };

const QKV_BIASES = ["attn_q.bias", "attn_k.bias", "attn_v.bias"];

/** Metadata below the architecture's name. */
type Keys = Readonly<Record<string, readonly [type: MetadataType, value: MetadataValue]>>;

/** YaRN as llama.cpp's converters write it. */
const YARN: Keys = {
  "rope.scaling.type": ["string", "yarn"],
  "rope.scaling.factor": ["f32", 4],
  "rope.scaling.original_context_length": ["u32", 128],
};

/** A small model of a family. */
export interface FamilyModel {
  readonly shape: Shape;
  /** Points that llama.cpp shows of it at least, of all layers. */
  readonly points: number;
}

/** By a name whose first word is `general.architecture`: how it differs from {@linkcode USUAL}, and how many points are shown. */
export const FAMILY_MODELS: Readonly<Record<string, FamilyModel>> = models({
  "llama": [88, WIDE],
  "llama with biases": [88, {
    optional: [
      ...QKV_BIASES,
      ...["attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"],
    ],
  }],
  "llama with one key head, tied": [88, { kvHeads: 1, tiedOutput: true }],
  "llama with Llama 3's factors": [88, { optional: ["rope_freqs.weight"], ropeBase: 500000 }],
  "llama with linear scaling": [88, {
    keys: { "rope.scaling.type": ["string", "linear"], "rope.scaling.factor": ["f32", 2.5] },
  }],
  "llama with YaRN": [88, { keys: YARN }],
  "ernie4_5": [88, { ...WIDE, tiedOutput: true }],
  "exaone": [88, { optional: ["rope_freqs.weight"] }],
  "internlm2": [88, {}],
  "qwen": [88, {
    kvHeads: 6,
    keys: { feed_forward_length: ["u32", 300] },
    optional: ["attn_qkv.weight", "attn_qkv.bias"],
  }],
  "qwen2": [88, { tiedOutput: true, optional: QKV_BIASES }],
  "seed_oss": [88, { ...WIDE, optional: QKV_BIASES }],
  "smollm3": [86, { tiedOutput: true }],
  "xverse": [88, { kvHeads: 6 }],
});

type Entry = readonly [points: number, difference: Partial<Shape>];

function models(entries: Readonly<Record<string, Entry>>): Record<string, FamilyModel> {
  return Object.fromEntries(
    Object.entries(entries).map(([name, [points, difference]]) => [
      name,
      { points, shape: { ...USUAL, architecture: name.split(" ")[0], ...difference } },
    ]),
  );
}

/** Writes the model of a name, with 32-bit weights; in other sizes if they are given. */
export async function writeFamilyModel(
  name: string,
  path: string,
  sizes: Partial<Shape> = {},
): Promise<void> {
  const shape = { ...FAMILY_MODELS[name].shape, ...sizes };
  await writeGguf(path, syntheticModel({ name, shape, type: "F32", seed: 15 }));
}

/** Small models of any description: a config that says what a family has, and random weights for all that its pass reads. */
import { Random, randomBlocks } from "../../../checkpoints/files/random.ts";
import type { Config, Rope } from "../../../engine/model/config.ts";
import { expectedTensors } from "../../../engine/plan/tensors.ts";
import { type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { sizeOf } from "../../../base/shape.ts";
import { writeGguf } from "../../../engine/gguf/writer.ts";

/** Turns of whole heads on halves. */
export const ROPE: Rope = {
  table: "rope_table",
  base: 10000,
  width: 16,
  style: "half",
  scaling: { type: "none" },
  magnitude: 1,
};

/** A block that sees everything. */
export const BLOCK = { window: 0, chunk: 0, rope: ROPE };

/** A Llama of three layers, from which others differ. */
const USUAL: Config = {
  ...{ architecture: "llama", name: "described", contextLength: 128, layers: 3, width: 48 },
  ...{ ffnWidth: 80, heads: 4, kvHeads: 2, headWidth: 16, vocabSize: 97 },
  embedding: { scale: 1, positions: false, norm: false },
  ...{ normKind: "rms", normEpsilon: 1e-5, parallel: false },
  norms: { attention: "attn_norm", ffn: "ffn_norm" },
  ...{ attentionScale: 1 / 4, attentionCap: 0, alibi: 0, sinks: false, qkvLimit: 0 },
  ropes: [ROPE],
  blocks: Array.from({ length: 3 }, () => BLOCK),
  ...{ activation: "silu", gated: true, residualScale: 1, logitScale: 1, logitCap: 0 },
  ...{ outputNorm: "output_norm", tiedOutput: false },
  optional: new Set(),
  fused: { qkv: false, gateUp: false },
};

/** A config and the file of its weights. */
export interface DescribedModel {
  readonly config: Config;
  readonly file: GgufFile;
}

/** How a description differs from a Llama; `optional` names what the file has beside the weights of its norms. */
export type Description = Omit<Partial<Config>, "optional"> & { readonly optional?: string[] };

/** The config of a description. */
export function describedConfig({ optional = [], ...different }: Description): Config {
  const config: Config = { ...USUAL, ...different };
  const norms = [
    ...Object.values(config.norms),
    config.outputNorm,
    ...config.qkNorm ? ["attn_q_norm", "attn_k_norm"] : [],
    ...config.embedding.norm ? ["token_embd_norm"] : [],
  ];
  return { ...config, optional: new Set([...norms.map((norm) => `${norm}.weight`), ...optional]) };
}

/** Makes a model of a description; the same seed gives the same weights. */
export async function describedModel(
  description: Description,
  path: string,
  seed = 1,
): Promise<DescribedModel> {
  const config = describedConfig(description);
  const type = GGML_TYPES.find(({ name }) => name === "F32")!;
  const random = new Random(seed);
  const tensors = expectedTensors(config).map(({ name, shape }) => ({
    ...{ name, shape, type },
    async *bytes() {
      yield await Promise.resolve(numbersOf(name, shape, random));
    },
  }));
  await writeGguf(path, {
    metadata: new Map([["general.architecture", "llama"]]),
    metadataTypes: new Map([["general.architecture", "string"]]),
    tensors,
  });
  return { config, file: await openGguf(bytesSource("described", await Deno.readFile(path))) };
}

/** Matrices that keep lengths, norms around 1, biases and sinks around 0, divisors of angles above 1. */
function numbersOf(name: string, shape: readonly number[], random: Random): Uint8Array {
  const count = sizeOf(shape);
  if (shape.length > 1) {
    // Scores and gates that differ, rather than all alike.
    const size = /attn_[qk]\.|gate_inp/.test(name) ? 3 : 1;
    return randomBlocks("F32", count, size / Math.sqrt(shape[0]), random);
  }
  const of = /norm\.weight$/.test(name)
    ? () => 1 + 0.3 * random.normal()
    : /rope_f/.test(name)
    ? (i: number) => (/long/.test(name) ? 4 : 1) + 0.2 * i
    : () => 0.5 * random.normal();
  return new Uint8Array(Float32Array.from({ length: count }, (_, i) => of(i)).buffer);
}

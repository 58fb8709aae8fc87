/** From a file's metadata and its family to the config. */
import { kindOf } from "../../base/layer_names.ts";
import { GgufError, quoted } from "../gguf/error.ts";
import type { MetadataValue } from "../gguf/reader.ts";
import type { Block, Config, Rope } from "./config.ts";
import { FAMILIES } from "./families/mod.ts";
import { type Family, type RopeRule, type Rule, type Sizes, valueOf } from "./family.ts";
import { type ConfigSource, Keys, shown } from "./keys.ts";
import { readRopeMagnitude, readRopeScaling } from "./rope_scaling.ts";

/** What GGUF files hold beside models, by `general.type` or `general.architecture`, and what to do with such a file. */
const OTHER_CONTENTS: Readonly<Record<string, string>> = {
  adapter:
    "a LoRA adapter, not a model: merge it into its base model (llama.cpp's llama-export-lora does) and give the result",
  imatrix:
    "an importance matrix (imatrix), not a model: quantizers read it; give the model's own GGUF file",
  clip:
    "a multimodal projector (mmproj, clip), not a language model: give the GGUF file that it belongs to",
  controlvector: "a control vector, not a model: give the GGUF file of its model",
};

/** Other words for the same: newer and older files. */
const OTHER_NAMES: Readonly<Record<string, string>> = { mmproj: "clip", "clip-vision": "clip" };

/** Which content other than a model a file says that it has: `adapter`, `imatrix`, `clip` or `controlvector`. */
export function otherContent(metadata: ReadonlyMap<string, MetadataValue>): string | undefined {
  return ["general.type", "general.architecture"].map((key) => String(metadata.get(key)))
    .map((word) => Object.hasOwn(OTHER_NAMES, word) ? OTHER_NAMES[word] : word)
    .find((word) => Object.hasOwn(OTHER_CONTENTS, word));
}

/**
 * Refuses files that say that they hold something else than a model.
 *
 * @throws {GgufError} one line that says what it is, and what to do
 */
export function checkIsModel({ name, metadata }: Pick<ConfigSource, "name" | "metadata">): void {
  const content = otherContent(metadata);
  if (content === undefined) return;
  throw new GgufError(`this is ${OTHER_CONTENTS[content]}`, { file: name });
}

/** The family of a file. */
export function familyOf(file: Pick<ConfigSource, "name" | "metadata">): Family {
  const architecture = file.metadata.get("general.architecture");
  if (typeof architecture !== "string") {
    throw new GgufError("general.architecture is missing: this GGUF file holds no model", {
      file: file.name,
    });
  }
  if (!Object.hasOwn(FAMILIES, architecture)) {
    const supported = Object.keys(FAMILIES).join(", ");
    throw new GgufError(
      `architecture ${quoted(architecture)} is not supported yet; supported: ${supported}`,
      { file: file.name },
    );
  }
  return FAMILIES[architecture];
}

/** How a file is to be understood where there are two ways. */
export interface ReadOptions {
  /** As llama.cpp does it, where that is not what the model was trained with. */
  readonly like?: "llama.cpp";
}

/**
 * Reads the hyperparameters of a model; its tensors are not looked at, except for which of the optional ones there are. Keys and
 * defaults are llama.cpp's.
 *
 * @throws {GgufError} one line that names the key at fault
 */
export function readHyperparameters(file: ConfigSource, { like }: ReadOptions = {}): Config {
  checkIsModel(file);
  const own = familyOf(file);
  const family = like === "llama.cpp" ? { ...own, ...own.likeLlamaCpp?.rules } : own;
  const keys = new Keys(file, file.metadata.get("general.architecture") as string);
  const sizes = readSizes(keys);
  const given = <T>(rule: Rule<T> | undefined, otherwise: T): T =>
    rule === undefined ? otherwise : valueOf(rule, keys, sizes);
  const { ropes, blocks } = readBlocks(family, keys, sizes);
  const epsilon = family.normKind === "layer" ? "layer_norm_epsilon" : "layer_norm_rms_epsilon";
  const places = {
    norms: given(family.norms, { attention: "attn_norm", ffn: "ffn_norm" }),
    qkNorm: given(family.qkNorm, undefined),
    embedding: { scale: 1, positions: false, norm: false, ...given(family.embedding, {}) },
    outputNorm: family.outputNorm ?? "output_norm",
  };
  const config: Config = {
    architecture: keys.architecture,
    name: keys.modelName(),
    ...like === "llama.cpp" && own.likeLlamaCpp ? { like } : {},
    contextLength: keys.integer("context_length"),
    ...sizes,
    ffnWidth: given(family.ffnWidth, keys.sameInLayers("feed_forward_length", sizes.layers)),
    vocabSize: readVocabSize(keys),
    ...places,
    normKind: family.normKind ?? "rms",
    normEpsilon: keys.real(`attention.${epsilon}`, (value) => value >= 0 && value < 1),
    parallel: given(family.parallel, false),
    attentionScale: given(family.attentionScale, 1 / Math.sqrt(sizes.headWidth)),
    attentionCap: given(family.attentionCap, 0),
    alibi: given(family.alibi, 0),
    sinks: family.sinks ?? false,
    qkvLimit: given(family.qkvLimit, 0),
    queryScaling: given(family.queryScaling, undefined),
    ropes,
    blocks,
    activation: given(family.activation, "silu"),
    xielu: given(family.xielu, undefined),
    gated: family.gated ?? true,
    residualScale: given(family.residualScale, 1),
    logitScale: given(family.logitScale, 1),
    logitCap: given(family.logitCap, 0),
    tiedOutput: !file.tensors.has("output.weight"),
    optional: optionalOf(file, family, places),
    fused: {
      qkv: keys.has("attn_qkv.weight"),
      gateUp: family.fusedGateUp ?? false,
    },
  };
  refuseUncomputed(keys);
  return deepFreeze(config);
}

/**
 * What llama.cpp does otherwise than the model was trained with, for this file, in words that follow its name; undefined where it
 * does the same.
 *
 * @throws as {@linkcode readHyperparameters}
 */
export function llamaCppDoes(file: ConfigSource): string | undefined {
  const { likeLlamaCpp } = familyOf(file);
  if (!likeLlamaCpp) return undefined;
  const [own, theirs] = [undefined, "llama.cpp" as const].map((like) =>
    JSON.stringify({ ...readHyperparameters(file, { like }), like: undefined })
  );
  return own === theirs ? undefined : likeLlamaCpp.does;
}

function readSizes(keys: Keys): Sizes {
  const layers = keys.integer("block_count");
  const { size } = keys.file.tensors;
  if (layers > size) {
    throw keys.error("block_count", `${layers}, but the file has only ${size} tensors`);
  }
  const width = keys.integer("embedding_length");
  const heads = keys.sameInLayers("attention.head_count", layers);
  const kvHeads = keys.sameInLayers("attention.head_count_kv", layers, heads);
  if (heads % kvHeads !== 0) {
    throw keys.error("attention.head_count_kv", `${kvHeads}, which does not divide ${heads} heads`);
  }
  return { layers, width, heads, kvHeads, headWidth: readHeadWidth(keys, width, heads) };
}

function readHeadWidth(keys: Keys, width: number, heads: number): number {
  if (keys.get("attention.key_length") === undefined && width % heads !== 0) {
    throw keys.error("attention.head_count", `${heads}, which does not divide the width ${width}`);
  }
  const keyWidth = keys.integer("attention.key_length", Math.floor(width / heads));
  const valueWidth = keys.integer("attention.value_length", keyWidth);
  if (valueWidth !== keyWidth) {
    throw keys.error(
      "attention.value_length",
      `${valueWidth} where keys have ${keyWidth}: different widths are not supported yet`,
    );
  }
  return keyWidth;
}

function readVocabSize(keys: Keys): number {
  const tokens = keys.file.metadata.get("tokenizer.ggml.tokens");
  if (Array.isArray(tokens) && tokens.length > 0) return tokens.length;
  return keys.integer("vocab_size", keys.file.tensors.get("token_embd.weight")?.shape[1] ?? 1);
}

/** The tables of turns, and what each layer takes of them. */
function readBlocks(
  family: Family,
  keys: Keys,
  sizes: Sizes,
): { ropes: Rope[]; blocks: Block[] } {
  const usual = family.rope === false
    ? undefined
    : readRope("rope_table", family, family.rope ?? {}, keys, sizes);
  const { window } = family;
  const size = window ? valueOf(window.size, keys, sizes) : 0;
  const windowed = size > 0 && window?.layers
    ? valueOf(window.layers, keys, sizes)
    : Array<boolean>(sizes.layers).fill(size > 0);
  const ofWindows = family.windowRope === undefined
    ? usual
    : family.windowRope === false
    ? undefined
    : readRope("rope_table_window", family, family.windowRope, keys, sizes);
  const experts = family.experts && valueOf(family.experts, keys, sizes);
  const dense = family.denseLayers ? valueOf(family.denseLayers, keys, sizes) : [];
  const unturned = family.unturned ? valueOf(family.unturned, keys, sizes) : [];
  const blocks = windowed.map((has, layer) => ({
    window: has && window?.kind !== "chunk" ? size : 0,
    chunk: has && window?.kind === "chunk" ? size : 0,
    rope: unturned[layer] ? undefined : has ? ofWindows : usual,
    ...experts && !dense[layer] ? { experts } : {},
  }));
  const used = new Set(blocks.map(({ rope }) => rope));
  return {
    ropes: [usual, ofWindows].filter((rope, i, all) =>
      rope !== undefined && used.has(rope) && all.indexOf(rope) === i
    ) as Rope[],
    blocks,
  };
}

function readRope(
  table: string,
  { ropeStyle }: Family,
  rule: RopeRule,
  keys: Keys,
  sizes: Sizes,
): Rope {
  const given = <T>(rule: Rule<T> | undefined, usual: () => T): T =>
    rule === undefined ? usual() : valueOf(rule, keys, sizes);
  const width = given(rule.width, () => keys.integer("rope.dimension_count", sizes.headWidth));
  if (width > sizes.headWidth || width % 2 !== 0) {
    throw keys.error(
      "rope.dimension_count",
      `${width}; it must be even and at most the head width ${sizes.headWidth}`,
    );
  }
  const scaling = given(rule.scaling, () => readRopeScaling(keys));
  return {
    table,
    base: given(rule.base, () => keys.real("rope.freq_base", (value) => value > 0, 10000)),
    width,
    style: given(rule.style, () => ropeStyle),
    scaling,
    factors: (rule.factors ?? true) && keys.file.tensors.has("rope_freqs.weight")
      ? "rope_freqs.weight"
      : undefined,
    magnitude: given(rule.magnitude, () => readRopeMagnitude(keys, scaling)),
  };
}

/** Biases of experts: the first layers may have none. */
const EXPERT_BIAS = /^blk\.\d+\.(exp_probs_b|ffn_gate_inp|ffn_\w+_exps)\.bias$/;

/** Those that a fused one holds. */
const QKV_BIASES = ["attn_q.bias", "attn_k.bias", "attn_v.bias"];

/** The biases that the file has, and the weights of norms that the family has. */
function optionalOf(
  { tensors }: ConfigSource,
  { weightlessNorms }: Family,
  { norms, qkNorm, embedding, outputNorm }: Pick<
    Config,
    "norms" | "qkNorm" | "embedding" | "outputNorm"
  >,
): Set<string> {
  const isOne = (name: string) => /^(blk\.0\.)?\w+\.bias$/.test(name) || EXPERT_BIAS.test(name);
  const biases = [...tensors.keys()].filter(isOne).map((name) => kindOf(name))
    .flatMap((name) => name === "attn_qkv.bias" ? QKV_BIASES : name);
  const own = [
    ...[norms.attention, norms.attentionAfter, norms.ffn, norms.ffnAfter, outputNorm],
    ...qkNorm && !qkNorm.weightless ? ["attn_q_norm", "attn_k_norm"] : [],
    ...embedding.norm ? ["token_embd_norm"] : [],
  ].filter((name) => name !== undefined);
  return new Set([...weightlessNorms ? [] : own.map((name) => `${name}.weight`), ...biases]);
}

/** Keys that change what llama.cpp computes, with the values with which they change nothing, and what they are for. */
const EFFECTS: Readonly<
  Record<string, readonly [neutral: readonly MetadataValue[], what: string]>
> = {
  "expert_count": [[0], "mixtures of experts"],
  "expert_weights_scale": [[0, 1], "scaled weights of experts in this architecture"],
  "expert_weights_norm": [[], "normalized weights of experts in this architecture"],
  "expert_gating_func": [[], "other gates of experts in this architecture"],
  "expert_group_scale": [[], "groups of experts that are scaled"],
  "swiglu_clamp_exp": [[], "clamped activations in this architecture"],
  "swiglu_clamp_shexp": [[], "clamped activations in this architecture"],
  "interleave_moe_layer_step": [[0, 1], "mixtures of experts in some layers of this architecture"],
  "attention.causal": [[true], "models that look ahead"],
  "attention.sliding_window": [[0], "windows of attention in this architecture"],
  "attention.scale": [[0], "scales of attention in this architecture"],
  "attention.max_alibi_bias": [[0], "ALiBi in this architecture"],
  "attention.clamp_kqv": [[0], "clamped queries, keys and values in this architecture"],
  "attention.temperature_scale": [[0], "temperatures of attention in this architecture"],
  "attention.kv_lora_rank": [[0], "latent attention"],
  "attention.shared_kv_layers": [[0], "keys and values that layers share"],
  "attn_logit_softcapping": [[0], "capped scores in this architecture"],
  "final_logit_softcapping": [[0], "capped logits in this architecture"],
  "logit_scale": [[0, 1], "scaled logits in this architecture"],
  "embedding_scale": [[0, 1], "scaled embeddings in this architecture"],
  "residual_scale": [[0, 1], "scaled residual writes in this architecture"],
  "use_parallel_residual": [[false], "parallel blocks in this architecture"],
  "rope.freq_base_swa": [[], "RoPE bases of windows in this architecture"],
  "rope.scaling.alpha": [[0, 1], "alphas of RoPE"],
  "rope.scaling.yarn_beta_fast": [[32], "other ramps of YaRN in this architecture"],
  "rope.scaling.yarn_beta_slow": [[1], "other ramps of YaRN in this architecture"],
  "rope.scaling.yarn_ext_factor": [[1, -1], "other ramps of YaRN in this architecture"],
  "rope.scaling.yarn_attn_factor": [[1], "attention factors of YaRN"],
  "rope.scaling.yarn_log_multiplier": [[0], "log multipliers of YaRN in this architecture"],
  "leading_dense_block_count": [[0], "mixtures of experts"],
  "nextn_predict_layers": [[0], "layers that predict the token after next"],
  "full_attention_interval": [[0], "recurrent layers"],
  "ssm.state_size": [[0], "state spaces"],
  "num_loops": [[0, 1], "looped blocks"],
};

/** A feature that the family does not compute would give wrong text without a word. */
function refuseUncomputed({ asked, file, architecture }: Keys): void {
  for (const [key, [neutral, what]] of Object.entries(EFFECTS)) {
    const value = file.metadata.get(`${architecture}.${key}`);
    if (value === undefined || asked.has(key) || neutral.includes(value)) continue;
    throw new GgufError(
      `${architecture}.${key} is ${shown(value)}: ${what} are not supported yet`,
      { file: file.name },
    );
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const each of Object.values(value)) deepFreeze(each);
  }
  return value;
}

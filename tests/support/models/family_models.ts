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

/** One tensor for all three, with its bias. */
const FUSED = ["attn_qkv.weight", "attn_qkv.bias"];

/** Biases of LayerNorm. */
const NORM_BIASES = ["attn_norm.bias", "ffn_norm.bias", "output_norm.bias"];

/** Biases of products, those of queries, keys and values left out. */
const OTHER_BIASES = ["attn_output.bias", "ffn_up.bias", "ffn_down.bias"];

/** Metadata below the architecture's name. */
type Keys = Readonly<Record<string, readonly [type: MetadataType, value: MetadataValue]>>;

/** YaRN as llama.cpp's converters write it. */
const YARN: Keys = {
  "rope.scaling.type": ["string", "yarn"],
  "rope.scaling.factor": ["f32", 4],
  "rope.scaling.original_context_length": ["u32", 128],
};

/** Experts, and how many a position goes to. */
function experts(count: number, used: number, width?: number): Keys {
  return {
    expert_count: ["u32", count],
    expert_used_count: ["u32", used],
    ...width === undefined ? {} : { expert_feed_forward_length: ["u32", width] },
  };
}

/** Granite's factors. */
const GRANITE: Keys = {
  "logit_scale": ["f32", 8],
  "embedding_scale": ["f32", 12],
  "residual_scale": ["f32", 0.22],
  "attention.scale": ["f32", 0.1],
};

/** Files of Phi have the factors, and no type of scaling. */
const LONG_ROPE = ["rope_factors_long.weight", "rope_factors_short.weight"];

function longRope(originalLength: number): Keys {
  return {
    "rope.scaling.original_context_length": ["u32", originalLength],
    "rope.scaling.attn_factor": ["f32", 1.2],
  };
}

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
  "llama with experts": [104, { keys: experts(6, 2) }],
  "bloom": [88, {
    kvHeads: 6,
    tiedOutput: true,
    optional: [...FUSED, ...NORM_BIASES, ...OTHER_BIASES, "token_embd_norm.bias"],
  }],
  "command-r": [77, { tiedOutput: true, keys: { "logit_scale": ["f32", 0.0625] } }],
  "command-r with norms of queries and keys": [1413, {
    ...{ layers: 64, width: 36, ffnWidth: 50, heads: 6, kvHeads: 2, headWidth: 6 },
    tiedOutput: true,
    keys: { "logit_scale": ["f32", 0.8] },
  }],
  "cohere2": [75, {
    tiedOutput: true,
    keys: { "logit_scale": ["f32", 0.25], "attention.sliding_window": ["u32", 23] },
  }],
  "qwen2moe": [136, {
    keys: { ...experts(6, 3, 58), expert_shared_feed_forward_length: ["u32", 70] },
    optional: QKV_BIASES,
  }],
  "qwen3moe": [120, { ...WIDE, keys: experts(7, 3, 58) }],
  "olmoe": [120, { kvHeads: 6, keys: experts(6, 3) }],
  "granitemoe": [133, {
    keys: { ...experts(6, 3), ...GRANITE, expert_shared_feed_forward_length: ["u32", 70] },
    tiedOutput: true,
  }],
  "granitemoe without an FFN for all": [109, { keys: { ...experts(6, 3), ...GRANITE } }],
  "gpt-oss": [104, {
    ...WIDE,
    keys: { ...experts(6, 3, 58), ...YARN, "attention.sliding_window": ["u32", 24] },
    optional: [
      ...[...QKV_BIASES, "attn_output.bias", "ffn_gate_inp.bias"],
      ...["ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"],
    ],
  }],
  "deepseek": [115, {
    keys: {
      ...experts(6, 3, 58),
      leading_dense_block_count: ["u32", 1],
      expert_shared_count: ["u32", 2],
      expert_weights_scale: ["f32", 1.5],
    },
  }],
  "dots1": [131, {
    ...{ ...WIDE, kvHeads: 6 },
    keys: {
      ...experts(6, 3, 58),
      leading_dense_block_count: ["u32", 1],
      expert_shared_count: ["u32", 2],
      expert_weights_scale: ["f32", 2.5],
      expert_weights_norm: ["bool", true],
      expert_gating_func: ["u32", 2],
    },
    optional: ["exp_probs_b.bias"],
  }],
  "dots1 with groups, softmax": [140, {
    kvHeads: 6,
    keys: {
      ...experts(12, 3, 58),
      expert_group_count: ["u32", 4],
      expert_group_used_count: ["u32", 2],
      expert_shared_count: ["u32", 1],
      expert_gating_func: ["u32", 1],
    },
    optional: ["exp_probs_b.bias"],
  }],
  "bailingmoe": [124, {
    ...WIDE,
    keys: {
      ...experts(6, 3, 58),
      expert_shared_count: ["u32", 2],
      expert_weights_scale: ["f32", 1.5],
      expert_weights_norm: ["bool", true],
    },
  }],
  "llama4": [111, {
    ...WIDE,
    keys: { ...experts(6, 1, 58), interleave_moe_layer_step: ["u32", 2] },
  }],
  "refact": [80, { kvHeads: 1 }],
  "ernie4_5": [88, { ...WIDE, tiedOutput: true }],
  "exaone": [88, { optional: ["rope_freqs.weight"] }],
  "falcon": [77, {
    kvHeads: 1,
    tiedOutput: true,
    optional: ["attn_qkv.weight", "attn_norm.bias", "output_norm.bias"],
  }],
  "falcon with two norms": [89, {
    kvHeads: 3,
    optional: [
      ...["attn_qkv.weight", "attn_norm_2.weight", "attn_norm_2.bias"],
      ...["attn_norm.bias", "output_norm.bias"],
    ],
  }],
  "gpt2": [87, {
    kvHeads: 6,
    tiedOutput: true,
    optional: [...FUSED, ...NORM_BIASES, ...OTHER_BIASES],
  }],
  "codeshell": [93, { optional: [...QKV_BIASES, ...NORM_BIASES, ...OTHER_BIASES] }],
  "gptneox": [89, {
    kvHeads: 6,
    ropeWidth: 6,
    optional: [...FUSED, ...NORM_BIASES, ...OTHER_BIASES],
    keys: { use_parallel_residual: ["bool", true] },
  }],
  "gptneox one half after the other": [93, {
    kvHeads: 6,
    ropeWidth: 6,
    optional: [...FUSED, ...NORM_BIASES, ...OTHER_BIASES],
    keys: { use_parallel_residual: ["bool", false] },
  }],
  "granite": [97, {
    tiedOutput: true,
    keys: GRANITE,
  }],
  "granite without RoPE": [81, {
    keys: { "logit_scale": ["f32", 2], "rope.scaling.finetuned": ["bool", false] },
  }],
  "internlm2": [88, {}],
  "minicpm": [97, {
    tiedOutput: true,
    keys: {
      "logit_scale": ["f32", 9],
      "embedding_scale": ["f32", 11],
      "residual_scale": ["f32", 0.3],
    },
  }],
  "minicpm without factors": [97, {}],
  "mpt": [76, {
    tiedOutput: true,
    optional: ["attn_qkv.weight"],
    keys: { "attention.max_alibi_bias": ["f32", 8], "attention.clamp_kqv": ["f32", 1.5] },
  }],
  "mpt with positions and biases": [87, {
    kvHeads: 6,
    optional: ["position_embd.weight", ...FUSED, ...NORM_BIASES, ...OTHER_BIASES],
    keys: { "attention.max_alibi_bias": ["f32", 0] },
  }],
  "nemotron": [93, { ropeWidth: 8, optional: NORM_BIASES }],
  "olmo": [91, {
    tiedOutput: true,
    keys: { "attention.clamp_kqv": ["f32", 1.25] },
  }],
  "olmo2": [104, {}],
  "olmo2 with windows and YaRN": [104, {
    keys: {
      ...YARN,
      "attention.sliding_window": ["u32", 23],
      "attention.sliding_window_pattern": ["bool[]", [true, false, true, true]],
    },
  }],
  "orion": [97, { optional: NORM_BIASES }],
  "phi2": [77, {
    kvHeads: 6,
    ropeWidth: 8,
    optional: [...FUSED, "attn_norm.bias", "output_norm.bias", ...OTHER_BIASES, "output.bias"],
  }],
  "qwen": [88, {
    kvHeads: 6,
    keys: { feed_forward_length: ["u32", 300] },
    optional: ["attn_qkv.weight", "attn_qkv.bias"],
  }],
  "qwen2": [88, { tiedOutput: true, optional: QKV_BIASES }],
  "seed_oss": [88, { ...WIDE, optional: QKV_BIASES }],
  "smollm3": [86, { tiedOutput: true }],
  "stablelm": [97, {
    ropeWidth: 4,
    optional: [...QKV_BIASES, "ffn_norm.weight", ...NORM_BIASES],
    keys: { use_parallel_residual: ["bool", true] },
  }],
  "stablelm with parallel blocks and norms of queries and keys": [97, {
    ropeWidth: 4,
    optional: ["attn_norm.bias", "output_norm.bias", "attn_q_norm.weight"],
    keys: { use_parallel_residual: ["bool", true] },
  }],
  "starcoder": [87, {
    kvHeads: 1,
    tiedOutput: true,
    optional: [...FUSED, ...NORM_BIASES, ...OTHER_BIASES],
  }],
  "starcoder2": [93, {
    tiedOutput: true,
    optional: [...QKV_BIASES, ...NORM_BIASES, ...OTHER_BIASES],
    keys: { "attention.sliding_window": ["u32", 23] },
  }],
  "xverse": [88, { kvHeads: 6 }],
  "apertus": [100, {
    ...WIDE,
    optional: ["rope_freqs.weight"],
    keys: {
      "xielu.alpha_n": ["f32[]", Float32Array.of(0.8, 0.2, -0.5, 1.1)],
      "xielu.alpha_p": ["f32[]", Float32Array.of(0.7, 1.3, 0.1, -0.4)],
      "xielu.beta": ["f32[]", Float32Array.of(0.5, 0.4, 0.5, 0.6)],
      "xielu.eps": ["f32[]", new Float32Array(4).fill(-1e-6)],
    },
  }],
  "arcee": [84, { keys: YARN }],
  "baichuan": [676, { layers: 32, kvHeads: 6 }],
  "baichuan with ALiBi": [764, { layers: 40, kvHeads: 6 }],
  "chatglm": [88, { ropeWidth: 6, optional: ["attn_qkv.weight", "attn_qkv.bias"] }],
  "exaone4": [104, { tiedOutput: true, optional: ["rope_freqs.weight"] }],
  "exaone4 with windows": [1572, {
    layers: 64,
    optional: ["rope_freqs.weight"],
    keys: { "attention.sliding_window": ["u32", 24] },
  }],
  "gemma": [89, { ...WIDE, kvHeads: 1, tiedOutput: true }],
  "gemma2": [106, {
    ...WIDE,
    tiedOutput: true,
    keys: {
      "attention.sliding_window": ["u32", 24],
      "attn_logit_softcapping": ["f32", 2],
      "final_logit_softcapping": ["f32", 3],
    },
  }],
  "gemma3": [208, {
    ...WIDE,
    layers: 7,
    tiedOutput: true,
    ropeBase: 1000000,
    keys: {
      "attention.sliding_window": ["u32", 24],
      "rope.scaling.type": ["string", "linear"],
      "rope.scaling.factor": ["f32", 8],
    },
  }],
  "gemma3 without windows": [121, { ...WIDE, tiedOutput: true, keys: YARN }],
  "glm4": [104, { ...WIDE, ropeWidth: 10, optional: QKV_BIASES }],
  "glm4 with positions of three numbers": [104, {
    ropeWidth: 8,
    optional: QKV_BIASES,
    keys: { "rope.dimension_sections": ["i32[]", Int32Array.of(1, 1, 2, 0)] },
  }],
  "hunyuan-dense": [104, {
    ...WIDE,
    tiedOutput: true,
    keys: {
      "rope.scaling.type": ["string", "none"],
      "rope.scaling.factor": ["f32", 4],
      "rope.scaling.alpha": ["f32", 1000],
    },
  }],
  "mistral3": [92, {
    ...WIDE,
    keys: {
      ...YARN,
      "rope.scaling.original_context_length": ["u32", 64],
      "rope.scaling.yarn_beta_fast": ["f32", 4],
      "rope.scaling.yarn_beta_slow": ["f32", 0.5],
      "rope.scaling.yarn_log_multiplier": ["f32", 1],
      "attention.temperature_scale": ["f32", 0.1],
    },
  }],
  "phi3": [84, {
    ropeWidth: 10,
    optional: ["attn_qkv.weight"],
    keys: { "attention.sliding_window": ["u32", 24] },
  }],
  "phi3 with LongRoPE, short": [84, {
    optional: ["attn_qkv.weight", ...LONG_ROPE],
    keys: longRope(256),
  }],
  "phi3 with LongRoPE, long": [84, {
    optional: ["attn_qkv.weight", ...LONG_ROPE],
    keys: longRope(64),
  }],
  "qwen3": [104, { ...WIDE, tiedOutput: true }],
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

/** What is known about every kind of point: its axes, what it means, and what other engines call it. */
import type { Config } from "../../engine/model/config.ts";
import { EXPERT_KINDS, outNodes } from "./expert_kinds.ts";
import type { AliasModel, Axis, PointKind, Templates } from "./kind.ts";

/** Of most points. */
export const ROWS: readonly Axis[] = ["position", "feature"];
const HEADS: readonly Axis[] = ["position", "head", "feature"];
const KV_HEADS: readonly Axis[] = ["position", "kv_head", "feature"];
const CACHE: readonly Axis[] = ["slot", "kv_head", "feature"];
const ATTENTION: readonly Axis[] = ["head", "query", "key"];

/** What the next block reads. */
const STREAM = {
  own: ["blk.{next}.inp", "resid_pre.{next}"],
  transformerLens: ["blocks.{next}.hook_resid_pre"],
  huggingFace: ["hidden_states[{next}]", "model.layers.{next}.input"],
} as const;

/** A norm, in the words and names of all that it makes on its way. */
interface NormNames {
  /** `attention's`, `of queries`. */
  readonly whose: string;
  /** What is normalized: `the residual stream before attention`. */
  readonly of: string;
  /** What its outcome is for. */
  readonly use: string;
  readonly axes?: readonly Axis[];
  readonly rotary?: boolean;
  /** Names of its outcome. */
  readonly names?: Pick<PointKind, "own" | "llamaCpp" | "huggingFace">;
  /** llama.cpp's name before the weight. */
  readonly llamaCpp?: string;
  /** TransformerLens's module: `blocks.{L}.ln1`. It shows RMSNorm before its weight, and LayerNorm as a whole. */
  readonly lens?: string;
  /** TransformerLens's further names of the outcome. */
  readonly outcome?: readonly string[];
}

const isLayerNorm = ({ config }: AliasModel) => config.normKind === "layer";

/** The kinds of a norm. */
function norm(kind: string, names: NormNames): Record<string, PointKind> {
  const { whose, of, use, axes = ROWS, rotary, lens, llamaCpp, outcome = [] } = names;
  const shown = lens === undefined ? [] : [`${lens}.hook_normalized`];
  const both = { axes, ...(rotary ? { rotary } : {}) };
  return {
    [`${kind}_centered`]: { ...both, meaning: `${of}, less its mean` },
    [`${kind}_rms`]: {
      axes,
      meaning: `root mean square of ${of}, epsilon included`,
      transformerLens: lens === undefined ? [] : [`${lens}.hook_scale`],
    },
    [`${kind}_pre`]: {
      ...both,
      meaning: `${whose} norm before its weight`,
      llamaCpp: llamaCpp === undefined ? [] : [llamaCpp],
      transformerLens: (model) => isLayerNorm(model) ? [] : shown,
    },
    [`${kind}_scaled`]: { ...both, meaning: `${whose} norm before its bias` },
    [kind]: {
      ...both,
      meaning: `${whose} norm: ${use}`,
      ...names.names,
      transformerLens: (model) => [...isLayerNorm(model) ? shown : [], ...outcome],
    },
  };
}

/** Names of modules that q, k and v, or gate and up, have where they are modules of their own. */
function unfused(part: "qkv" | "gateUp", name: string): Templates {
  return ({ config }) => config.fused[part] ? [] : [name];
}

/** Aliases of what a half adds to the stream: where a norm follows they are that norm's. */
function added(norm: string, templates: readonly string[]): Templates {
  return ({ has }) => has(norm) ? [] : templates;
}

/** Hugging Face's classes that are like Llama's but for norms after each half. */
const isGemma = ({ config }: AliasModel) => /^gemma[23]/.test(config.architecture);
const hasNormsAfterOnly = ({ has }: AliasModel) => has("attn_post_norm") && !has("ffn_norm");

/** Hugging Face's module of the FFN's norm. */
function ffnModule(model: AliasModel): string {
  return isGemma(model) ? "pre_feedforward_layernorm" : "post_attention_layernorm";
}

/** llama.cpp's names for what activations make: with the gate's factor, and without. */
const ACTIVATED: Readonly<Record<Config["activation"], readonly string[]>> = {
  silu: ["ffn_swiglu", "ffn_silu"],
  gelu_tanh: ["ffn_geglu", "ffn_gelu"],
  gelu: ["ffn_geglu", "ffn_gelu"],
  relu: ["ffn_reglu", "ffn_relu"],
  relu2: ["", "ffn_sqr(relu)"],
  swiglu_clamped: ["ffn_swiglu_oai"],
  xielu: ["", "ffn_xielu"],
};

/** What the stream begins with. Only the last of them that a model has enters the first block, and has the names of that. */
const STARTS: Readonly<Record<string, PointKind>> = {
  token_embd: {
    axes: ROWS,
    meaning: "embedding rows: the residual stream before the first block",
    own: [...STREAM.own, "embeddings"],
    llamaCpp: ({ has }) => has("embd_scaled") ? [] : ["embd", "inp_embd"],
    transformerLens: ({ has }) => [
      ...has("embd_scaled") ? [] : ["hook_embed"],
      ...STREAM.transformerLens,
    ],
    huggingFace: ["model.embed_tokens", ...STREAM.huggingFace],
  },
  embd_scaled: {
    axes: ROWS,
    meaning: "embedding rows times the family's factor",
    ...STREAM,
    llamaCpp: ["inp_scaled"],
    transformerLens: ["hook_embed", ...STREAM.transformerLens],
  },
  position_embd: {
    axes: ROWS,
    meaning: "the learned row of each position",
    llamaCpp: ["pos_embd"],
    transformerLens: ["hook_pos_embed"],
  },
  embd_sum: {
    axes: ROWS,
    meaning: "embedding rows and the learned rows of their positions",
    ...STREAM,
    llamaCpp: ["inpL"],
  },
  ...norm("embd_norm", {
    whose: "the embedding's",
    of: "the embedding rows",
    use: "the residual stream before the first block",
    names: { own: STREAM.own, llamaCpp: ["inp_norm"], huggingFace: STREAM.huggingFace },
    outcome: STREAM.transformerLens,
  }),
};

/** All kinds, in the order of computation. Values of a plan that are not here are no points. */
export const POINT_KINDS: Readonly<Record<string, PointKind>> = {
  ...STARTS,
  ...norm("attn_norm", {
    whose: "attention's",
    of: "the residual stream before attention",
    use: "what q, k and v are computed from",
    names: {
      own: ["attn_in.{L}"],
      llamaCpp: (
        { config: { norms } },
      ) => [norms.attention === "attn_norm_2" ? "attn_norm_2-{L}" : "attn_norm-{L}"],
      huggingFace: ["model.layers.{L}.input_layernorm"],
    },
    llamaCpp: "norm-{L}#attn_norm",
    lens: "blocks.{L}.ln1",
  }),
  q_unclamped: { axes: HEADS, meaning: "queries before they are clamped", rotary: true },
  q: {
    axes: HEADS,
    meaning: "queries before RoPE",
    rotary: true,
    own: ({ has }) => has("q_norm") ? ["q_norm_in.{L}"] : [],
    llamaCpp: ["Qcur-{L}#pre_rope"],
    transformerLens: ["blocks.{L}.attn.hook_q"],
    huggingFace: unfused("qkv", "model.layers.{L}.self_attn.q_proj"),
  },
  k_unclamped: { axes: KV_HEADS, meaning: "keys before they are clamped", rotary: true },
  k: {
    axes: KV_HEADS,
    meaning: "keys before RoPE",
    rotary: true,
    own: ({ has }) => has("k_norm") ? ["k_norm_in.{L}"] : [],
    llamaCpp: ["Kcur-{L}#pre_rope"],
    transformerLens: ["blocks.{L}.attn.hook_k"],
    huggingFace: unfused("qkv", "model.layers.{L}.self_attn.k_proj"),
  },
  v_unclamped: { axes: KV_HEADS, meaning: "values before they are clamped" },
  v: {
    axes: KV_HEADS,
    meaning: "values",
    own: ["value.{L}"],
    llamaCpp: ["Vcur-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_v"],
    huggingFace: unfused("qkv", "model.layers.{L}.self_attn.v_proj"),
  },
  ...norm("q_norm", {
    whose: "the queries'",
    of: "the queries",
    use: "what is compared with keys",
    axes: HEADS,
    rotary: true,
    names: {
      own: ["q_norm_out.{L}"],
      llamaCpp: ["Qcur_normed-{L}"],
      huggingFace: ["model.layers.{L}.self_attn.q_norm"],
    },
  }),
  ...norm("k_norm", {
    whose: "the keys'",
    of: "the keys",
    use: "what queries are compared with",
    axes: KV_HEADS,
    rotary: true,
    names: {
      own: ["k_norm_out.{L}"],
      llamaCpp: ["Kcur_normed-{L}"],
      huggingFace: ["model.layers.{L}.self_attn.k_norm"],
    },
  }),
  q_rope: {
    axes: HEADS,
    meaning: "queries after RoPE",
    rotary: true,
    llamaCpp: ["Qcur-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_rot_q"],
  },
  k_rope: {
    axes: KV_HEADS,
    meaning: "keys after RoPE",
    rotary: true,
    llamaCpp: ["Kcur-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_rot_k"],
  },
  q_scaled: {
    axes: HEADS,
    meaning: "queries times what grows with their positions",
    rotary: true,
    llamaCpp: ["Qcur_attn_temp_scaled-{L}"],
  },
  cache_k: {
    axes: CACHE,
    meaning: "the KV cache's keys, after RoPE, of all positions so far",
    rotary: true,
    llamaCpp: ["cache_k_l{L}"],
    huggingFace: ["past_key_values.layers[{L}].keys"],
  },
  cache_v: {
    axes: CACHE,
    meaning: "the KV cache's values of all positions so far",
    llamaCpp: ["cache_v_l{L}"],
    huggingFace: ["past_key_values.layers[{L}].values"],
  },
  attn_scores: {
    axes: ATTENTION,
    meaning: "scaled q·k before the softmax; −∞ at keys that are not seen",
    own: ["attn_scores.{L}"],
    // Capped scores, and those with ALiBi's bias, are in none of its nodes.
    llamaCpp: ({ config }) => config.attentionCap === 0 && config.alibi === 0 ? ["kq-{L}"] : [],
    transformerLens: ["blocks.{L}.attn.hook_attn_scores"],
    factors: { "kq-{L}": (config) => 1 / config.attentionScale },
  },
  attn_probs: {
    axes: ATTENTION,
    meaning: "attention pattern: softmax of the scores; 0 for −∞",
    own: ["attn_probs.{L}"],
    llamaCpp: ["kq_soft_max-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_pattern"],
    huggingFace: ["attentions[{L}]"],
  },
  head_out: {
    axes: HEADS,
    meaning: "each head's mix of values",
    own: ["z.{L}"],
    llamaCpp: ["kqv_out-{L}", "kqv-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_z"],
    huggingFace: ["model.layers.{L}.self_attn.o_proj.input"],
  },
  head_result: {
    axes: HEADS,
    meaning:
      "each head's own contribution to the residual stream; their sum is attn_out, less its bias",
    onRequest: true,
    transformerLens: ["blocks.{L}.attn.hook_result"],
  },
  attn_out: {
    axes: ROWS,
    meaning: "attention's contribution to the residual stream",
    own: ["attn_out.{L}"],
    llamaCpp: ["attn_out-{L}"],
    transformerLens: added("attn_post_norm", ["blocks.{L}.hook_attn_out"]),
    huggingFace: ["model.layers.{L}.self_attn.o_proj", "model.layers.{L}.self_attn"],
  },
  ...norm("attn_post_norm", {
    whose: "the",
    of: "what attention makes",
    use: "what attention adds to the residual stream",
    names: {
      own: ["attn_out_post.{L}"],
      llamaCpp: ["attn_post_norm-{L}"],
      huggingFace: (model) =>
        isGemma(model) || hasNormsAfterOnly(model)
          ? ["model.layers.{L}.post_attention_layernorm"]
          : [],
    },
    lens: "blocks.{L}.ln1_post",
    outcome: ["blocks.{L}.hook_attn_out"],
  }),
  attn_out_scaled: { axes: ROWS, meaning: "attention's contribution, times the family's factor" },
  ffn_inp: {
    axes: ROWS,
    meaning: "residual stream between attention and FFN",
    own: ["resid_mid.{L}"],
    llamaCpp: ["ffn_inp-{L}"],
    transformerLens: ["blocks.{L}.hook_resid_mid", "blocks.{L}.hook_mlp_in"],
    huggingFace: (model) => [
      `model.layers.{L}.${ffnModule(model)}.input`,
    ],
  },
  ...norm("ffn_norm", {
    whose: "the FFN's",
    of: "the residual stream before the FFN",
    use: "what the FFN reads",
    names: {
      own: ["mlp_in.{L}"],
      // Of Falcon 40B what attention's norm is called elsewhere.
      llamaCpp: (
        { config: { norms } },
      ) => [norms.ffn === "attn_norm" ? "attn_norm-{L}" : "ffn_norm-{L}"],
      huggingFace: (model) => [`model.layers.{L}.${ffnModule(model)}`],
    },
    llamaCpp: "norm-{L}",
    lens: "blocks.{L}.ln2",
  }),
  ffn_gate: {
    axes: ROWS,
    meaning: "the FFN's gate, before its activation",
    own: ["mlp_pre.{L}"],
    llamaCpp: ["ffn_gate-{L}"],
    transformerLens: ["blocks.{L}.mlp.hook_pre"],
    huggingFace: unfused("gateUp", "model.layers.{L}.mlp.gate_proj"),
  },
  ffn_up: {
    axes: ROWS,
    meaning: "what goes up in the FFN: what the gate multiplies, or what is activated itself",
    own: ({ has }) => has("ffn_gate") ? ["mlp_pre_linear.{L}"] : ["mlp_pre.{L}"],
    llamaCpp: ["ffn_up-{L}"],
    transformerLens: ({ has }) => [`blocks.{L}.mlp.hook_pre${has("ffn_gate") ? "_linear" : ""}`],
    huggingFace: unfused("gateUp", "model.layers.{L}.mlp.up_proj"),
  },
  ffn_act: {
    axes: ROWS,
    meaning: "the FFN's neurons: act(gate) · up, or act(up)",
    own: ["mlp_act.{L}"],
    llamaCpp: ({ config: { activation, gated } }) =>
      ACTIVATED[activation].filter((_, i) => i === (gated ? 0 : 1)).map((name) => `${name}-{L}`),
    transformerLens: ["blocks.{L}.mlp.hook_post"],
    huggingFace: ["model.layers.{L}.mlp.down_proj.input"],
  },
  ...EXPERT_KINDS,
  ffn_out: {
    axes: ROWS,
    meaning: "the FFN's contribution to the residual stream",
    own: ["mlp_out.{L}"],
    llamaCpp: outNodes,
    transformerLens: added("ffn_post_norm", ["blocks.{L}.hook_mlp_out"]),
    huggingFace: ["model.layers.{L}.mlp.down_proj", "model.layers.{L}.mlp"],
  },
  ...norm("ffn_post_norm", {
    whose: "the",
    of: "what the FFN makes",
    use: "what the FFN adds to the residual stream",
    names: {
      own: ["mlp_out_post.{L}"],
      llamaCpp: ["ffn_post_norm-{L}"],
      huggingFace: (model) =>
        isGemma(model) || hasNormsAfterOnly(model)
          ? ["model.layers.{L}.post_feedforward_layernorm"]
          : [],
    },
    lens: "blocks.{L}.ln2_post",
    outcome: ["blocks.{L}.hook_mlp_out"],
  }),
  ffn_out_scaled: { axes: ROWS, meaning: "the FFN's contribution, times the family's factor" },
  attn_resid: { axes: ROWS, meaning: "of parallel halves: residual stream and attention" },
  out: {
    axes: ROWS,
    meaning: "residual stream after the block",
    own: [...STREAM.own, "resid_post.{L}"],
    llamaCpp: ["l_out-{L}"],
    transformerLens: ["blocks.{L}.hook_resid_post", ...STREAM.transformerLens],
    huggingFace: ["model.layers.{L}", ...STREAM.huggingFace],
  },
  ...norm("output_norm", {
    whose: "the last",
    of: "the last residual stream",
    use: "what the logits are computed from",
    names: {
      own: ["final_norm"],
      llamaCpp: ["result_norm"],
      huggingFace: ["model.norm", "hidden_states[{layers}]"],
    },
    llamaCpp: "norm",
    lens: "ln_final",
  }),
  logits_unscaled: { axes: ROWS, meaning: "logits before the family's factor" },
  logits_uncapped: { axes: ROWS, meaning: "logits before their cap" },
  logits: {
    axes: ROWS,
    meaning: "a score for every token of the vocabulary",
    llamaCpp: ["result_output"],
    huggingFace: ["lm_head"],
  },
  probs: {
    axes: ROWS,
    meaning: "softmax of the logits",
  },
};

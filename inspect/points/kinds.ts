/** What is known about every kind of point: its axes, what it means, and what other engines call it. */
import type { Config } from "../../engine/model/config.ts";

/** What an axis of a point counts. `slot` is a place in the KV cache; slot s holds position s. */
export type Axis = "position" | "head" | "kv_head" | "feature" | "query" | "key" | "slot";

/**
 * A kind of point: the name without its `blk.<layer>.`.
 *
 * In the templates of aliases `{L}` stands for the layer, `{next}` for the following one (the embedding comes before layer 0;
 * the last layer has none) and `{layers}` for the number of layers.
 */
export interface PointKind {
  readonly axes: readonly Axis[];
  readonly meaning: string;
  /** Captured only when it is named, not by a star. */
  readonly onRequest?: boolean;
  /** Its heads are in the order that the file's RoPE asks for. */
  readonly rotary?: boolean;
  /** Names without another owner; same numbers. */
  readonly own?: readonly string[];
  /**
   * Tensors of llama.cpp's graph. Where it has several tensors of one name, the plain name is the last, and a `#` says which
   * other one is meant.
   */
  readonly llamaCpp?: readonly string[];
  /** Hooks of TransformerLens's `HookedTransformer`, nothing folded or centred. Rotary points are in half order. */
  readonly transformerLens?: readonly string[];
  /**
   * What modules of Hugging Face's `LlamaForCausalLM` give (of a tuple: its first), what they take (`.input`), and fields of
   * the model's output. Rotary points are in half order.
   */
  readonly huggingFace?: readonly string[];
  /** Factor on our numbers which gives those of the alias with this template; 1 without it. */
  readonly factors?: Readonly<Record<string, (config: Config) => number>>;
}

const ROWS: readonly Axis[] = ["position", "feature"];
const HEADS: readonly Axis[] = ["position", "head", "feature"];
const KV_HEADS: readonly Axis[] = ["position", "kv_head", "feature"];
const CACHE: readonly Axis[] = ["slot", "kv_head", "feature"];
const ATTENTION: readonly Axis[] = ["head", "query", "key"];

/** All kinds, in the order of computation. Values of a plan that are not here are no points. */
export const POINT_KINDS: Readonly<Record<string, PointKind>> = {
  token_embd: {
    axes: ROWS,
    meaning: "embedding rows: the residual stream before the first block",
    own: ["blk.{next}.inp"],
    llamaCpp: ["embd", "inp_embd"],
    transformerLens: ["hook_embed", "blocks.{next}.hook_resid_pre"],
    huggingFace: ["model.embed_tokens", "hidden_states[{next}]", "model.layers.{next}.input"],
  },
  attn_norm_rms: {
    axes: ROWS,
    meaning: "root mean square of the residual stream before attention, epsilon included",
    transformerLens: ["blocks.{L}.ln1.hook_scale"],
  },
  attn_norm_pre: {
    axes: ROWS,
    meaning: "attention's RMSNorm before its weight",
    llamaCpp: ["norm-{L}#attn_norm"],
    transformerLens: ["blocks.{L}.ln1.hook_normalized"],
  },
  attn_norm: {
    axes: ROWS,
    meaning: "attention's RMSNorm: what q, k and v are computed from",
    llamaCpp: ["attn_norm-{L}"],
    huggingFace: ["model.layers.{L}.input_layernorm"],
  },
  q: {
    axes: HEADS,
    meaning: "queries before RoPE",
    rotary: true,
    llamaCpp: ["Qcur-{L}#pre_rope"],
    transformerLens: ["blocks.{L}.attn.hook_q"],
    huggingFace: ["model.layers.{L}.self_attn.q_proj"],
  },
  k: {
    axes: KV_HEADS,
    meaning: "keys before RoPE",
    rotary: true,
    llamaCpp: ["Kcur-{L}#pre_rope"],
    transformerLens: ["blocks.{L}.attn.hook_k"],
    huggingFace: ["model.layers.{L}.self_attn.k_proj"],
  },
  v: {
    axes: KV_HEADS,
    meaning: "values",
    llamaCpp: ["Vcur-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_v"],
    huggingFace: ["model.layers.{L}.self_attn.v_proj"],
  },
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
    llamaCpp: ["kq-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_attn_scores"],
    factors: { "kq-{L}": (config) => 1 / config.attentionScale },
  },
  attn_probs: {
    axes: ATTENTION,
    meaning: "attention pattern: softmax of the scores; 0 for −∞",
    llamaCpp: ["kq_soft_max-{L}"],
    transformerLens: ["blocks.{L}.attn.hook_pattern"],
    huggingFace: ["attentions[{L}]"],
  },
  head_out: {
    axes: HEADS,
    meaning: "each head's mix of values",
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
    llamaCpp: ["attn_out-{L}"],
    transformerLens: ["blocks.{L}.hook_attn_out"],
    huggingFace: ["model.layers.{L}.self_attn.o_proj", "model.layers.{L}.self_attn"],
  },
  ffn_inp: {
    axes: ROWS,
    meaning: "residual stream between attention and FFN",
    llamaCpp: ["ffn_inp-{L}"],
    transformerLens: ["blocks.{L}.hook_resid_mid", "blocks.{L}.hook_mlp_in"],
    huggingFace: ["model.layers.{L}.post_attention_layernorm.input"],
  },
  ffn_norm_rms: {
    axes: ROWS,
    meaning: "root mean square of the residual stream before the FFN, epsilon included",
    transformerLens: ["blocks.{L}.ln2.hook_scale"],
  },
  ffn_norm_pre: {
    axes: ROWS,
    meaning: "the FFN's RMSNorm before its weight",
    llamaCpp: ["norm-{L}"],
    transformerLens: ["blocks.{L}.ln2.hook_normalized"],
  },
  ffn_norm: {
    axes: ROWS,
    meaning: "the FFN's RMSNorm: what gate and up are computed from",
    llamaCpp: ["ffn_norm-{L}"],
    huggingFace: ["model.layers.{L}.post_attention_layernorm"],
  },
  ffn_gate: {
    axes: ROWS,
    meaning: "gate of the SwiGLU FFN, before SiLU",
    llamaCpp: ["ffn_gate-{L}"],
    transformerLens: ["blocks.{L}.mlp.hook_pre"],
    huggingFace: ["model.layers.{L}.mlp.gate_proj"],
  },
  ffn_up: {
    axes: ROWS,
    meaning: "what the gate multiplies",
    llamaCpp: ["ffn_up-{L}"],
    transformerLens: ["blocks.{L}.mlp.hook_pre_linear"],
    huggingFace: ["model.layers.{L}.mlp.up_proj"],
  },
  ffn_act: {
    axes: ROWS,
    meaning: "the FFN's neurons: silu(gate) · up",
    llamaCpp: ["ffn_swiglu-{L}"],
    transformerLens: ["blocks.{L}.mlp.hook_post"],
    huggingFace: ["model.layers.{L}.mlp.down_proj.input"],
  },
  ffn_out: {
    axes: ROWS,
    meaning: "the FFN's contribution to the residual stream",
    llamaCpp: ["ffn_out-{L}"],
    transformerLens: ["blocks.{L}.hook_mlp_out"],
    huggingFace: ["model.layers.{L}.mlp.down_proj", "model.layers.{L}.mlp"],
  },
  out: {
    axes: ROWS,
    meaning: "residual stream after the block",
    own: ["blk.{next}.inp"],
    llamaCpp: ["l_out-{L}"],
    transformerLens: ["blocks.{L}.hook_resid_post", "blocks.{next}.hook_resid_pre"],
    huggingFace: ["model.layers.{L}", "hidden_states[{next}]", "model.layers.{next}.input"],
  },
  output_norm_rms: {
    axes: ROWS,
    meaning: "root mean square of the last residual stream, epsilon included",
    transformerLens: ["ln_final.hook_scale"],
  },
  output_norm_pre: {
    axes: ROWS,
    meaning: "the last RMSNorm before its weight",
    llamaCpp: ["norm"],
    transformerLens: ["ln_final.hook_normalized"],
  },
  output_norm: {
    axes: ROWS,
    meaning: "the last RMSNorm: what the logits are computed from",
    llamaCpp: ["result_norm"],
    huggingFace: ["model.norm", "hidden_states[{layers}]"],
  },
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

/** GPT-2 and what came between it and Llama: LayerNorm, an FFN without a gate, GELU. */
import { type Family, NO_WINDOW, real, whole } from "../family.ts";

/** LayerNorm and an FFN without a gate, activated by GELU's usual approximation with tanh. */
const before: Family = {
  ropeStyle: "half",
  normKind: "layer",
  gated: false,
  activation: "gelu_tanh",
};

/** GPT-2 (Radford et al. 2019): a learned row for each position instead of RoPE. */
export const gpt2: Family = {
  ...before,
  rope: false,
  embedding: { positions: true },
  huggingFace: {
    transposed: true,
    modules: {
      "wte": "token_embd",
      "wpe": "position_embd",
      "ln_1": "attn_norm",
      "attn.c_attn": "attn_qkv",
      "attn.c_proj": "attn_output",
      "ln_2": "ffn_norm",
      "mlp.c_fc": "ffn_up",
      "mlp.c_proj": "ffn_down",
      "ln_f": "output_norm",
    },
  },
};

/** StarCoder and SantaCoder (Li et al. 2023b): GPT-2 whose query heads share one key head. */
export const starcoder: Family = {
  ...gpt2,
  huggingFace: { types: ["gpt_bigcode"], modules: gpt2.huggingFace!.modules },
};

/** GPT-NeoX (Black et al. 2022) and Pythia: RoPE on part of a head; both halves of a block, each with a norm, read the same stream. */
export const gptneox: Family = {
  ...before,
  parallel: (keys) => keys.flag("use_parallel_residual", true),
  huggingFace: {
    types: ["gpt_neox"],
    qkvByHeads: true,
    modules: {
      "embed_in": "token_embd",
      "attention.query_key_value": "attn_qkv",
      "attention.dense": "attn_output",
      "mlp.dense_h_to_4h": "ffn_up",
      "mlp.dense_4h_to_h": "ffn_down",
      "final_layer_norm": "output_norm",
      "embed_out": "output",
    },
  },
};

/** What llama.cpp does where a model was trained with GELU itself. */
const approximates: Family["likeLlamaCpp"] = {
  does: "computes GELU by its approximation with tanh",
  rules: { activation: "gelu_tanh" },
};

/** Falcon (Almazrouei et al. 2023): parallel blocks; of 40B the halves have norms of their own, of 7B they share one. */
export const falcon: Family = {
  ...before,
  parallel: true,
  norms: (keys) =>
    keys.has("attn_norm_2.weight")
      ? { attention: "attn_norm_2", ffn: "attn_norm" }
      : { attention: "attn_norm" },
  activation: "gelu",
  likeLlamaCpp: approximates,
  huggingFace: {
    qkvByHeads: true,
    modules: {
      "word_embeddings": "token_embd",
      "ln_attn": "attn_norm_2",
      "ln_mlp": "attn_norm",
      "self_attention.query_key_value": "attn_qkv",
      "self_attention.dense": "attn_output",
      "mlp.dense_h_to_4h": "ffn_up",
      "mlp.dense_4h_to_h": "ffn_down",
      "ln_f": "output_norm",
    },
  },
};

/** BLOOM (Workshop et al. 2022): a norm behind the embedding, ALiBi; its largest bias is no key. */
export const bloom: Family = {
  ...before,
  rope: false,
  embedding: { norm: true },
  alibi: 8,
  huggingFace: {
    qkvByHeads: true,
    modules: { ...falcon.huggingFace!.modules, word_embeddings_layernorm: "token_embd_norm" },
  },
};

/** MPT (MosaicML 2023): ALiBi, or learned positions; queries, keys and values may be clamped. */
export const mpt: Family = {
  ...before,
  rope: false,
  embedding: (keys) => ({ positions: keys.has("position_embd.weight") }),
  alibi: real("attention.max_alibi_bias"),
  qkvLimit: real("attention.clamp_kqv"),
  activation: "gelu",
  likeLlamaCpp: approximates,
  huggingFace: {
    modules: {
      "wte": "token_embd",
      "wpe": "position_embd",
      "norm_1": "attn_norm",
      "attn.Wqkv": "attn_qkv",
      "attn.out_proj": "attn_output",
      "norm_2": "ffn_norm",
      "ffn.up_proj": "ffn_up",
      "ffn.down_proj": "ffn_down",
      "norm_f": "output_norm",
    },
  },
};

/** Phi 1, 1.5 and 2 (Li et al. 2023): RoPE on part of a head, parallel blocks with one norm, a bias of the logits. */
export const phi2: Family = {
  ...before,
  parallel: true,
  norms: { attention: "attn_norm" },
  huggingFace: {
    types: ["phi"],
    modules: {
      "self_attn.dense": "attn_output",
      "mlp.fc1": "ffn_up",
      "mlp.fc2": "ffn_down",
      "final_layernorm": "output_norm",
    },
  },
};

/**
 * StarCoder 2 (Lozhkov et al. 2024): Llama's blocks with biases everywhere, RoPE, and a window of 4096 positions, which converters leave
 * out.
 */
export const starcoder2: Family = {
  ...before,
  window: { size: whole("attention.sliding_window", 4096) },
  likeLlamaCpp: {
    does: "leaves out the window of attention",
    rules: { window: NO_WINDOW },
  },
  huggingFace: { modules: { "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down" } },
};

/** CodeShell (Xie et al. 2024): GPT-2's blocks with RoPE and grouped queries. */
export const codeshell: Family = before;

/** Nemotron 3 and Minitron (Parmar et al. 2024): RoPE on part of a head, squared ReLU. Files have its norms' weights as 1 + w. */
export const nemotron: Family = {
  ...before,
  activation: "relu2",
  huggingFace: { normOffset: 1 },
};

/** Descriptions with the parts of other families than Llama: each like a released one, in small. */
import type { Block, Experts, Rope } from "../../../engine/model/config.ts";
import { BLOCK, type Description, ROPE } from "./described_model.ts";

/** Every other layer has the window. */
function alternating(window: number, rope: Rope = ROPE): Block[] {
  return [0, 1, 2].map((layer) => layer % 2 === 0 ? { ...BLOCK, window, rope } : BLOCK);
}

const SANDWICH = {
  attention: "attn_norm",
  attentionAfter: "post_attention_norm",
  ffn: "ffn_norm",
  ffnAfter: "post_ffw_norm",
};

/** The base of layers with a window. */
const WINDOW_ROPE: Rope = { ...ROPE, table: "rope_table_window", base: 500 };

const EXPERTS: Experts = {
  ...{ count: 6, used: 2, width: 40, gating: "softmax", normalized: true, scale: 1 },
  weighsInput: false,
};

function withRope(rope: Rope): Description {
  return { ropes: [rope], blocks: [0, 1, 2].map(() => ({ ...BLOCK, rope })) };
}

function withExperts(experts: Experts): Description {
  return { blocks: [0, 1, 2].map(() => ({ ...BLOCK, experts })) };
}

const UNTURNED = { ropes: [], blocks: [0, 1, 2].map(() => ({ window: 0, chunk: 0 })) };

const LAYER_NORM_BIASES = ["attn_norm.bias", "ffn_norm.bias", "output_norm.bias"];

/** By the name of a family that has such parts. */
export const DESCRIPTIONS = {
  gemma2: {
    ...{ embedding: { scale: Math.sqrt(48), positions: false, norm: false }, norms: SANDWICH },
    ...{ attentionCap: 5, logitCap: 3, activation: "gelu_tanh", blocks: alternating(9) },
  },
  gemma3: {
    ...{ embedding: { scale: Math.sqrt(48), positions: false, norm: false }, norms: SANDWICH },
    qkNorm: { over: "head", afterRope: false },
    ...{ ropes: [ROPE, WINDOW_ROPE], blocks: alternating(9, WINDOW_ROPE) },
    activation: "gelu_tanh",
  },
  gpt2: {
    ...{ embedding: { scale: 1, positions: true, norm: false }, normKind: "layer", ...UNTURNED },
    ...{ kvHeads: 4, activation: "gelu_tanh", gated: false },
    optional: [
      ...LAYER_NORM_BIASES,
      ...["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"],
      ...["ffn_up.bias", "ffn_down.bias"],
    ],
  },
  bloom: {
    ...{ embedding: { scale: 1, positions: false, norm: true }, normKind: "layer", ...UNTURNED },
    ...{ kvHeads: 4, alibi: 8, activation: "gelu", gated: false },
    optional: [...LAYER_NORM_BIASES, "token_embd_norm.bias"],
  },
  "command-r": {
    ...{ normKind: "layer", parallel: true, norms: { attention: "attn_norm" } },
    ...{ logitScale: 0.0625, tiedOutput: true, qkNorm: { over: "own_heads", afterRope: false } },
  },
  phi2: {
    ...{ normKind: "layer", parallel: true, gated: false, activation: "gelu_tanh" },
    norms: { attention: "attn_norm" },
    ...withRope({ ...ROPE, width: 8 }),
    optional: ["attn_norm.bias", "output_norm.bias", "ffn_up.bias", "ffn_down.bias"],
  },
  olmo2: {
    norms: { attentionAfter: "post_attention_norm", ffnAfter: "post_ffw_norm" },
    qkNorm: { over: "row", afterRope: false },
  },
  granite: {
    embedding: { scale: 12, positions: false, norm: false },
    ...{ residualScale: 0.22, logitScale: 0.125, attentionScale: 0.05 },
  },
  qwen3: { qkNorm: { over: "head", afterRope: false } },
  yarn: withRope({
    ...ROPE,
    scaling: {
      ...{ type: "yarn", factor: 4, originalLength: 16, betaFast: 4, betaSlow: 1, share: 1 },
    },
    magnitude: 1 + 0.1 * Math.log(4),
  }),
  longrope: withRope({
    ...ROPE,
    scaling: {
      ...{ type: "longrope", originalLength: 64 },
      ...{ short: "rope_factors_short.weight", long: "rope_factors_long.weight" },
    },
    magnitude: 1.19,
  }),
  "gpt-oss": {
    ...{ sinks: true, activation: "swiglu_clamped" },
    blocks: alternating(9).map((block) => ({
      ...block,
      experts: { ...EXPERTS, gating: "softmax_chosen", normalized: false },
    })),
    optional: [
      ...["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias", "ffn_gate_inp.bias"],
      ...["ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"],
    ],
  },
  qwen2moe: withExperts({
    ...{ ...EXPERTS, normalized: false, shared: { width: 56, gated: true } },
  }),
  qwen3moe: withExperts(EXPERTS),
  deepseek3: {
    ...withExperts({
      ...EXPERTS,
      ...{ gating: "sigmoid", scale: 2.5, groups: { count: 3, used: 2 } },
      shared: { width: 56, gated: false },
    }),
    optional: ["exp_probs_b.bias"],
  },
  llama4: {
    queryScaling: { scale: 0.1, period: 8, offset: 1 },
    blocks: [0, 1, 2].map((layer) => ({
      ...(layer === 1 ? { ...BLOCK, rope: undefined } : { ...BLOCK, chunk: 8 }),
      experts: {
        ...EXPERTS,
        ...{ used: 1, gating: "sigmoid", normalized: false, weighsInput: true },
        shared: { width: 56, gated: false },
      },
    })),
  },
  mpt: {
    ...{ normKind: "layer", ...UNTURNED, kvHeads: 4, alibi: 8, qkvLimit: 1.5 },
    ...{ gated: false, activation: "gelu", optional: [] },
  },
  apertus: {
    ...{ gated: false, activation: "xielu", qkNorm: { over: "head", afterRope: false } },
    xielu: {
      ...{ alphaN: [0.8, 0.5, 1], alphaP: [0.8, 1, 0.3], beta: [0.5, 0.5, 0.5] },
      epsilon: [-1e-6, -1e-6, -1e-6],
    },
  },
  nemotron: { ...{ normKind: "layer", gated: false, activation: "relu2" } },
} as const satisfies Readonly<Record<string, Description>>;

/** Name of a description. */
export type DescriptionName = keyof typeof DESCRIPTIONS;

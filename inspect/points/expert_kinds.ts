/** The points of mixtures of experts, in the order of computation. */
import type { AliasModel, Axis, PointKind } from "./kind.ts";

const ROWS: readonly Axis[] = ["position", "feature"];
/** The best expert first. */
const CHOSEN: readonly Axis[] = ["position", "expert"];
const EACH: readonly Axis[] = ["position", "expert", "feature"];

/** llama.cpp's name of what experts make is multiplied by: of the last step that a model has. */
function weightsNode({ config: { blocks } }: AliasModel): readonly string[] {
  const experts = blocks.find((block) => block.experts)?.experts;
  if (!experts) return [];
  const { gating, normalized, scale } = experts;
  const chosen = gating === "softmax_chosen" ? "_softmax" : "";
  return [`ffn_moe_weights${scale !== 1 ? "_scaled" : normalized ? "_norm" : chosen}-{L}`];
}

/** llama.cpp's name of a product, which is another one before a bias. */
function product(name: string, tensor: string): PointKind["llamaCpp"] {
  return ({ config }) => [`${name}${config.optional.has(tensor) ? "_biased" : ""}-{L}`];
}

const isClamped = ({ config }: AliasModel) => config.activation === "swiglu_clamped";

/** Kinds of points by their names without layer. */
export const EXPERT_KINDS: Readonly<Record<string, PointKind>> = {
  ffn_router: {
    axes: ROWS,
    meaning: "the router's logits: one for each expert",
    own: ["router_logits.{L}"],
    llamaCpp: product("ffn_moe_logits", "ffn_gate_inp.bias"),
    huggingFace: ({ config }) =>
      config.architecture === "llama" ? ["model.layers.{L}.block_sparse_moe.gate"] : [],
  },
  ffn_expert_ids: {
    axes: CHOSEN,
    meaning: "the experts that a position goes to, the best first; whole numbers",
    own: ["expert_indices.{L}"],
    llamaCpp: ["ffn_moe_topk-{L}"],
  },
  ffn_expert_weights: {
    axes: CHOSEN,
    meaning: "what each of them counts",
    own: ["expert_weights.{L}"],
    llamaCpp: weightsNode,
  },
  ffn_expert_inp: {
    axes: ROWS,
    meaning: "what the expert reads: the normed row times its weight",
    llamaCpp: ["ffn_moe_weighted-{L}"],
  },
  ffn_expert_gate: {
    axes: EACH,
    meaning: "the gate of each of a position's experts, before its activation",
    llamaCpp: product("ffn_moe_gate", "ffn_gate_exps.bias"),
  },
  ffn_expert_up: {
    axes: EACH,
    meaning: "what goes up in each of them",
    llamaCpp: product("ffn_moe_up", "ffn_up_exps.bias"),
  },
  ffn_expert_act: {
    axes: EACH,
    meaning: "the neurons of each of them: act(gate) · up",
    llamaCpp: (model) => [`ffn_moe_swiglu${isClamped(model) ? "_oai" : ""}-{L}`],
  },
  ffn_expert_out: {
    axes: EACH,
    meaning: "what each of them makes, before its weight",
    llamaCpp: product("ffn_moe_down", "ffn_down_exps.bias"),
  },
  ffn_experts: {
    axes: ROWS,
    meaning: "the weighted sum of what a position's experts make",
    llamaCpp: ["ffn_moe_out-{L}"],
  },
  ffn_shared_gate: {
    axes: ROWS,
    meaning: "the gate of the FFN that all positions go to, before its activation",
    llamaCpp: ["ffn_gate-{L}"],
  },
  ffn_shared_up: {
    axes: ROWS,
    meaning: "what goes up in the FFN that all positions go to",
    llamaCpp: ["ffn_up-{L}"],
  },
  ffn_shared_act: {
    axes: ROWS,
    meaning: "the neurons of the FFN that all positions go to",
    llamaCpp: ["ffn_swiglu-{L}"],
  },
  ffn_shared_out: {
    axes: ROWS,
    meaning: "what the FFN makes that all positions go to",
    llamaCpp: (
      { config: { blocks } },
    ) => [
      blocks.some(({ experts }) => experts?.weighsInput) ? "ffn_moe_shexp-{L}" : "ffn_shexp-{L}",
    ],
  },
  ffn_shared_router: {
    axes: ROWS,
    meaning: "the logit of that FFN's own gate: one number",
    llamaCpp: ["ffn_shexp_gate_inp-{L}"],
  },
  ffn_shared_weight: {
    axes: ROWS,
    meaning: "its sigmoid: what that FFN counts",
    llamaCpp: ["ffn_shexp_gate-{L}"],
  },
  ffn_shared_weighted: {
    axes: ROWS,
    meaning: "what that FFN makes, times what it counts",
    llamaCpp: ["ffn_shexp_out-{L}"],
  },
};

/** llama.cpp's names of what a mixture, or an FFN, adds to the stream. */
export function outNodes({ config: { blocks } }: AliasModel): readonly string[] {
  const experts = blocks.find((block) => block.experts)?.experts;
  if (experts?.weighsInput) return ["ffn_moe_out_merged-{L}"];
  return experts && !experts.shared ? ["ffn_moe_out-{L}"] : ["ffn_out-{L}"];
}

/** What llama.cpp's process has to know of a model to find its points. The process itself knows nothing of plans. */
import { kindOf } from "../../../base/layer_names.ts";
import type { Config, Experts } from "../../../engine/model/config.ts";
import { partsOf } from "../../../engine/model/unfused.ts";
import { forward } from "../../../engine/plan/forward.ts";
import type { Operation } from "../../../kernels/kernel.ts";
import type { GraphModel, MixtureNodes, WeightNode } from "./points.ts";

/** ggml's operation for one of ours that reads a weight. */
const OPERATIONS: Partial<Readonly<Record<Operation, string>>> = {
  embed: "GET_ROWS",
  embed_positions: "GET_ROWS",
  linear: "MUL_MAT",
  add_bias: "ADD",
  scale_columns: "MUL",
  linear_experts: "MUL_MAT_ID",
  add_expert_bias: "ADD_ID",
};

/** What the tensors of a model's graph mean. */
export function graphModel(config: Config): GraphModel {
  const { heads, kvHeads, headWidth, attentionCap, activation } = config;
  const weights: Record<string, WeightNode> = {};
  for (const { operation, inputs, outputs, weights: [weight], constants } of forward(config)) {
    const own = OPERATIONS[operation];
    if (own === undefined || weight === undefined) continue;
    const columns = operation === "linear" ? constants.rows : constants.columns ?? constants.rows;
    weights[`${own} ${kindOf(weight)}`] = {
      points: [[kindOf(outputs[0]!.name), columns]],
      ...operation === "scale_columns" ? { normalized: kindOf(inputs[0].name) } : {},
    };
  }
  // Gate and up in one tensor are one product; q, k and v are shown apart.
  for (const [operation, suffix] of [["MUL_MAT", "weight"], ["ADD", "bias"]]) {
    const kind = `ffn_up.${suffix}`;
    const points = partsOf(config, kind)
      ?.flatMap(([part]) => weights[`${operation} ${part}`]?.points ?? []);
    if (points && points.length > 0) weights[`${operation} ${kind}`] = { points };
  }
  const mixtures = mixtureNodes(config);
  const capped = attentionCap !== 0;
  return { heads, kvHeads, headWidth, capped, activation, weights, ...mixtures && { mixtures } };
}

/** The names of `build_moe_ffn`, of which the last that a model makes has its weights; of the shared FFN those of its family. */
function mixtureNodes({ blocks, activation }: Config): MixtureNodes | undefined {
  const experts = blocks.find((block) => block.experts)?.experts;
  if (!experts) return undefined;
  const { used, weighsInput, shared } = experts;
  const act = activation === "swiglu_clamped" ? "swiglu_oai" : "swiglu";
  return {
    layers: blocks.map((block) => block.experts !== undefined),
    used,
    kinds: {
      ffn_moe_topk: "ffn_expert_ids",
      [expertWeightsNode(experts)]: "ffn_expert_weights",
      [`ffn_moe_${act}`]: "ffn_expert_act",
      ...weighsInput
        ? { ffn_moe_weighted: "ffn_expert_inp", ffn_moe_out_merged: "ffn_out" }
        : { ffn_moe_out: shared ? "ffn_experts" : "ffn_out" },
      ...shared && {
        [`ffn_${act}`]: "ffn_shared_act",
        ffn_shexp_gate: "ffn_shared_weight",
        ffn_shexp_out: "ffn_shared_weighted",
        ffn_out: "ffn_out",
      },
    },
  };
}

/** The name of the node that has experts' weights as they are used. */
export function expertWeightsNode({ gating, normalized, scale }: Experts): string {
  if (scale !== 1) return "ffn_moe_weights_scaled";
  if (normalized) return "ffn_moe_weights_norm";
  return gating === "softmax_chosen" ? "ffn_moe_weights_softmax" : "ffn_moe_weights";
}

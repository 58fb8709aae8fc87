/** What llama.cpp's process has to know of a model to find its points. The process itself knows nothing of plans. */
import { kindOf } from "../../../base/layer_names.ts";
import type { Config } from "../../../engine/model/config.ts";
import { partsOf } from "../../../engine/model/unfused.ts";
import { forward } from "../../../engine/plan/forward.ts";
import type { Operation } from "../../../kernels/kernel.ts";
import type { GraphModel, WeightNode } from "./points.ts";

/** ggml's operation for one of ours that reads a weight. */
const OPERATIONS: Partial<Readonly<Record<Operation, string>>> = {
  embed: "GET_ROWS",
  embed_positions: "GET_ROWS",
  linear: "MUL_MAT",
  add_bias: "ADD",
  scale_columns: "MUL",
};

/** What the tensors of a model's graph mean. */
export function graphModel(config: Config): GraphModel {
  const { heads, kvHeads, headWidth, attentionCap, activation } = config;
  const weights: Record<string, WeightNode> = {};
  for (const { operation, inputs, outputs, weights: [weight], constants } of forward(config)) {
    const own = OPERATIONS[operation];
    if (own === undefined || weight === undefined) continue;
    const columns = operation === "linear" ? constants.rows : constants.columns;
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
  return { heads, kvHeads, headWidth, capped: attentionCap !== 0, activation, weights };
}

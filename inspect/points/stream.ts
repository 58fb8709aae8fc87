/** The residual stream: which points it is, and what is added to it. Both are read off the plan. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { type Plan, planValues, type Step, stepName } from "../../engine/plan/plan.ts";

/** Kinds of points that the stream begins with, the last one that a model has being what enters the first block. */
export const STREAM_STARTS: readonly string[] = [
  "token_embd",
  "embd_scaled",
  "embd_sum",
  "embd_norm",
];

/** Kinds of points that are the stream itself, in the order of computation. */
export const STREAM_KINDS: readonly string[] = [...STREAM_STARTS, "ffn_inp", "out"];

/** The point that enters the first block: `token_embd` of most models. */
export function streamStart(plan: Plan): string {
  const values = planValues(plan);
  return STREAM_STARTS.findLast((name) => values.has(name))!;
}

/** Something that a layer adds to the residual stream. */
export interface StreamWrite {
  readonly layer: number;
  /** Which half of the block writes it. */
  readonly half: "attention" | "ffn";
  /** The point of that half's own outcome: `blk.3.attn_out`. */
  readonly made: string;
  /** The steps between that and what is added, in order: norms, a factor; none of most models. */
  readonly between: readonly Step[];
}

/** All writes, in the order of computation. */
export function streamWrites(plan: Plan): StreamWrite[] {
  const makers = new Map(plan.map((step) => [stepName(step), step]));
  // A sum is a write where it adds to the stream: a mixture has sums of its own.
  const stream = new Set([streamStart(plan)]);
  return plan.filter(({ operation }) => operation === "add").flatMap((sum): StreamWrite[] => {
    const layer = layerOf(stepName(sum));
    if (layer === undefined || !stream.has(sum.inputs[0].name)) return [];
    stream.add(stepName(sum));
    const between: Step[] = [];
    let { name } = sum.inputs[1];
    while (!/^(attn|ffn)_out$/.test(kindOf(name))) {
      const step = makers.get(name)!;
      between.unshift(step);
      name = step.inputs[0].name;
    }
    const half = kindOf(name) === "attn_out" ? "attention" : "ffn";
    return [{ layer, half, made: name, between }];
  });
}

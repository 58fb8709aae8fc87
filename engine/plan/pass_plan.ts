/** What a pass can compute: the forward pass, and behind it what is asked about its logits. */
import type { Config } from "../model/config.ts";
import { forward } from "./forward.ts";
import { type Plan, planValues, type Value } from "./plan.ts";

/** The ids that follow the last rows, where they are known. */
const NEXT_IDS: Value = { name: "next_ids", shape: ["R"], dtype: "u32", kind: "ids" };

/** The steps of {@linkcode forward}, and `surprisal` [R]: −ln p of each row's next id. */
export function passPlan(config: Config): Plan {
  const steps = forward(config);
  const logits = planValues(steps).get("logits")!;
  return [...steps, {
    operation: "surprisal",
    inputs: [logits, NEXT_IDS],
    weights: [],
    outputs: [{ name: "surprisal", shape: ["R"], dtype: "f32", kind: "result" }],
    constants: { columns: config.vocabSize },
  }];
}

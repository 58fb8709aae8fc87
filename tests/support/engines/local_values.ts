/** Each step of a pass by our own kernels, from the reference's inputs instead of from our own earlier results. */
import type { Session } from "../../../engine/backend.ts";
import type { HostTensor } from "../../../engine/host_tensor.ts";
import { planValues } from "../../../engine/plan/plan.ts";
import { kindOf } from "../../../base/layer_names.ts";

/** One pass whose points the reference has; the session stands at its start, and stays there. */
export interface LocalPass {
  readonly session: Session;
  readonly ids: readonly number[];
  readonly reference: ReadonlyMap<string, HostTensor>;
}

/** Every point by the kernels of a plan in which nothing is fused. */
export async function unfusedValues(
  { session, ids, reference }: LocalPass,
): Promise<Map<string, HostTensor>> {
  const steps = session.steps({ ids, rows: ids.length, wanted: [...reference.keys()] });
  try {
    // Only what has been computed once can be written on either backend.
    await steps.run(0, steps.plan.length);
    for (const name of planValues(steps.plan).keys()) {
      steps.write(name, reference.get(name)!.data);
    }
    // From the last to the first: a step's result then comes too late for the steps that would read it.
    for (let i = steps.plan.length - 1; i >= 0; i--) await steps.run(i, i + 1);
    const names = [...planValues(steps.plan).keys()];
    const values = await Promise.all(names.map((name) => steps.read(name)));
    return new Map(names.map((name, i) => [name, values[i]]));
  } finally {
    steps.dispose();
  }
}

/** What the fused kernels compute, in two passes: what one makes is given to the other. */
const FUSED = [
  {
    given: /^(token_embd|q|k|v|head_out|ffn_norm|out)$/,
    made:
      /^(attn_norm.*|q_rope|k_rope|cache_.|attn_out|ffn_inp|ffn_gate|ffn_up|ffn_act|output_norm.*)$/,
  },
  {
    given: /^(attn_norm|q_rope|cache_.|ffn_inp|ffn_act|output_norm)$/,
    made: /^(token_embd|q|k|v|head_out|ffn_norm.*|ffn_out|out|logits|probs|argmax)$/,
  },
];

/** Every point that a fused kernel makes (scores and probabilities never leave one) by the kernels that plain passes run. */
export async function fusedValues(
  { session, ids, reference }: LocalPass,
): Promise<Map<string, HostTensor>> {
  const found = new Map<string, HostTensor>();
  const start = session.position;
  for (const { given, made } of FUSED) {
    const names = [...reference.keys()];
    const values = await session.pass({
      ids,
      rows: ids.length,
      wanted: names.filter((name) => made.test(kindOf(name))),
      given: new Map(
        names.filter((name) => given.test(kindOf(name))).map((name) =>
          [name, reference.get(name)!.data] as const
        ),
      ),
    });
    session.rewind(start);
    for (const [name, value] of values) found.set(name, value);
  }
  return found;
}

/** Suspected faults of mixtures of experts: who is chosen, with which weights, and what all share. */
import { kindOf } from "../../../../base/layer_names.ts";
import { GATINGS } from "../../../../kernels/experts/routing/route.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

/** What gates are, in words. */
const MEANT = {
  softmax: "a softmax over all",
  sigmoid: "sigmoids",
  softmax_chosen: "a softmax over the chosen",
} as const;

/** logits [T, E] → ids [T, K]. */
export function routeVariants(operation: Operation): Variant[] {
  const { step: { constants }, inputs: [logits], weights } = operation;
  const { experts, used, groups, gating } = constants;
  const by = (what: string, make: Variant["make"]): Variant => ({
    ...{ cause: "expert-choice", what, early: true, make },
  });
  return [
    ...weights.length > 0
      ? [
        by("the bias of the choice is left out", () =>
          rerun({ ...operation, step: { ...operation.step, biased: false } }, { weights: [] })),
      ]
      : [],
    ...groups > 1
      ? [by("groups of experts are left out", () => rerun(operation, { constants: { groups: 1 } }))]
      : [],
    // Without a bias and groups all gates keep the logits' order.
    ...GATINGS.flatMap((name, other) =>
      other === gating || (weights.length === 0 && groups === 1) ? [] : [
        by(
          `gates are ${MEANT[name]} instead of ${MEANT[GATINGS[gating]]}`,
          () => rerun(operation, { constants: { gating: other } }),
        ),
      ]
    ),
    by("the worst experts are chosen", () => rerun(operation, { inputs: [logits.map((x) => -x)] })),
    by(
      "experts stand in another order",
      () => {
        const out = new Float32Array(operation.output.length);
        for (let at = 0; at < out.length; at += used) {
          out.set(operation.output.slice(at, at + used).sort((a, b) => a - b), at);
        }
        return out;
      },
    ),
    ...used === experts
      ? []
      : [by("the same experts are chosen at all positions", () =>
        operation.output.map((_, i, all) =>
          all[i % used]
        ))],
  ];
}

/** logits [T, E], ids [T, K] → weights [T, K]. */
export function routeWeightVariants(operation: Operation): Variant[] {
  const { step: { constants } } = operation;
  const { normalize, scale, gating } = constants;
  const by = (what: string, changed: Record<string, number>): Variant => ({
    ...{ cause: "expert-weights", what, early: true },
    make: () => rerun(operation, { constants: changed }),
  });
  return [
    by(
      normalize ? "they are not divided by their sum" : "they are divided by their sum",
      { normalize: normalize ? 0 : 1 },
    ),
    ...scale === 1
      ? []
      : [by(`their factor ${Number(scale.toPrecision(5))} is left out`, { scale: 1 })],
    ...GATINGS.flatMap((name, other) =>
      other === gating ? [] : [
        by(`they are ${MEANT[name]} instead of ${MEANT[GATINGS[gating]]}`, { gating: other }),
        by(
          `they are ${MEANT[name]} instead of ${MEANT[GATINGS[gating]]}, ` +
            (normalize ? "not divided" : "divided") + " by their sum",
          { gating: other, normalize: normalize ? 0 : 1 },
        ),
      ]
    ),
  ];
}

/** x [T, K, columns], weights [T, K] → [T, columns]; of one row the FFN that all share, times its gate. */
export function combineVariants(operation: Operation): Variant[] {
  const { inputs: [x, weights], step: { constants: { used } }, name } = operation;
  if (/^ffn_shared/.test(kindOf(name))) {
    return [{
      ...{ cause: "shared-expert", what: "its gate is left out", early: true },
      make: () => x.slice(),
    }];
  }
  const by = (what: string, weight: (token: number) => number): Variant => ({
    ...{ cause: "expert-weights", what, early: true },
    make: () =>
      rerun(operation, { inputs: [x, weights.map((_, i) => weight(Math.floor(i / used)))] }),
  });
  const sum = (token: number) =>
    weights.subarray(token * used, (token + 1) * used).reduce((a, b) => a + b, 0);
  return [
    by("they are left out: experts are summed up", () => 1),
    by("they are left out: the mean of experts is taken", () => 1 / used),
    {
      ...{ cause: "expert-weights", what: "they are divided by their sum", early: true },
      make: () =>
        rerun(operation, {
          inputs: [x, weights.map((weight, i) => weight / sum(Math.floor(i / used)))],
        }),
    },
  ];
}

/** x [T, K, columns], weights [T, K] → each row times its weight, or as it is. */
export function weighVariants({ inputs: [x] }: Operation): Variant[] {
  return [{
    ...{ cause: "expert-weights", what: "they do not multiply what experts read", early: true },
    make: () => x.slice(),
  }];
}

/** x [T, K, rows], ids [T, K] → with the experts' biases, or without. */
export function expertBiasVariants({ inputs: [x], weights: [bias] }: Operation): Variant[] {
  return [{
    ...{ cause: "bias-missing", what: "it is not added", where: bias.name, early: true },
    make: () => x.slice(),
  }];
}

/** What all share, and what chosen experts make → their sum, or one of them. */
export function sharedVariants({ inputs: [shared, chosen], name }: Operation): Variant[] {
  if (kindOf(name) !== "ffn_out") return [];
  const by = (cause: Variant["cause"], what: string, make: Variant["make"]): Variant => ({
    ...{ cause, what, early: true, make },
  });
  return [
    by("shared-expert", "what the shared expert makes is not added", () => chosen.slice()),
    by("expert-weights", "what the chosen experts make is not added", () => shared.slice()),
  ];
}

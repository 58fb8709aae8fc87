/** All that is tried on a chain: what suspected faults would make of each operation, by what it computes. */
import { layerOf } from "../../../base/layer_names.ts";
import type { Cause } from "../causes.ts";
import { misreadRows } from "./products/blocks.ts";
import type { Chain } from "./chain.ts";
import { boundVariants, factorVariants, leftOutVariants, zeroVariants } from "./any_operation.ts";
import { maskTrials, softmaxVariants } from "./attention/attention.ts";
import { activationVariants, addVariants } from "./elementwise.ts";
import { embedVariants, positionRowVariants } from "./products/embed.ts";
import { mixVariants, scoresVariants } from "./attention/heads.ts";
import { sameVariants } from "./instead.ts";
import { biasVariants, linearVariants } from "./products/linear.ts";
import { normalizeVariants, rmsVariants, scaleVariants } from "./norm.ts";
import { positionVariants, scatteredZeros } from "./attention/positions.ts";
import { ropeVariants } from "./attention/rope.ts";
import {
  combineVariants,
  expertBiasVariants,
  routeVariants,
  routeWeightVariants,
  sharedVariants,
  weighVariants,
} from "./parts/experts.ts";
import {
  capVariants,
  clampVariants,
  multiplierVariants,
  queryScalingVariants,
} from "./parts/multipliers.ts";
import { centerVariants, normTrials } from "./parts/norms.ts";
import { partsOfScores, sinkVariants } from "./parts/scores.ts";
import { partsOfRope } from "./parts/turns.ts";
import { roundedOutcomes } from "./rounded.ts";
import { storeVariants } from "./attention/slots.ts";
import type { Operation, Variant } from "./operation.ts";

/** Lists the variants of one operation. */
type Suspect = (operation: Operation) => Promise<readonly Variant[]> | readonly Variant[];

/** By operation. */
const SUSPECTS: Readonly<Record<string, Suspect>> = {
  embed: async (operation) => [
    ...await misreadRows(operation),
    ...await embedVariants(operation),
  ],
  embed_positions: positionRowVariants,
  rms: rmsVariants,
  normalize: normalizeVariants,
  scale_columns: scaleVariants,
  linear: linearVariants,
  add_bias: biasVariants,
  rope: (operation) => [...partsOfRope(operation), ...ropeVariants(operation)],
  store: storeVariants,
  scores: (operation) => [...partsOfScores(operation), ...scoresVariants(operation)],
  softmax: (operation) => [...sinkVariants(operation), ...softmaxVariants(operation)],
  mix: mixVariants,
  glu: activationVariants,
  activate: activationVariants,
  xielu: activationVariants,
  add: (operation) => [...sharedVariants(operation), ...addVariants(operation)],
  center: centerVariants,
  scale: multiplierVariants,
  cap: capVariants,
  clamp: clampVariants,
  scale_by_position: queryScalingVariants,
  route: routeVariants,
  route_weights: routeWeightVariants,
  combine: combineVariants,
  weigh: weighVariants,
  add_expert_bias: expertBiasVariants,
};

/** Operations whose outcome has masks or slots of its own: other numbers than those that are made. */
const APART: ReadonlySet<string> = new Set([
  ...["scores", "softmax", "store", "embed", "embed_positions", "route"],
]);

/** What the known causes would make of an operation. */
async function variantsOf(operation: Operation): Promise<readonly Variant[]> {
  const own = await SUSPECTS[operation.step.operation]?.(operation) ?? [];
  if (APART.has(operation.step.operation)) return own;
  const any = [
    ...[zeroVariants, positionVariants, factorVariants, boundVariants, roundedOutcomes],
    scatteredZeros,
  ];
  return [...own, ...any.flatMap((of) => of(operation))];
}

/** A cause to try. */
export interface Suspicion {
  readonly cause: Cause;
  readonly detail: string;
  readonly fitted?: boolean;
  /** Multiplications, about. */
  readonly cost: number;
  make(): Promise<Float32Array>;
}

/** One that may be of a part that the model's description has. */
interface Ranked extends Suspicion {
  readonly early?: boolean;
}

/**
 * All that can be tried on a chain: each fault in each operation, the last one first, and each in all operations that could have
 * it, for what is set once for a whole model. Over several blocks the latter come first: there are many places for the former.
 */
export async function suspicionsOf(chain: Chain): Promise<Suspicion[]> {
  const { operations } = chain;
  const point = operations.at(-1)!.name;
  const variants = await Promise.all(operations.map((operation) => variantsOf(operation)));
  const last = variants.length - 1;
  const whole = [...leftOutVariants(operations), ...sameVariants(operations[last])];
  variants[last] = [...variants[last], ...whole];
  const suspected = [...operations.entries()].toReversed().flatMap(([index, operation]) =>
    variants[index].map((variant) => ({ index, operation, variant }))
  );
  const rank = ({ early, late }: Variant) => early ? 0 : late ? 2 : 1;
  const inOrder = suspected.toSorted((a, b) => rank(a.variant) - rank(b.variant));
  const single = inOrder.map(({ index, operation, variant }): Ranked => ({
    cause: variant.cause,
    early: variant.early,
    detail: detailOf(variant, operation, point),
    fitted: variant.fitted,
    cost: chain.cost(index),
    make: () =>
      chain.replaced(index, (_, i) => Promise.resolve(i === index ? variant.make() : undefined)),
  }));

  const places = new Map<string, number[]>();
  for (const [index, found] of variants.entries()) {
    for (const variant of found) {
      if (variant.fitted) continue; // to one place's numbers
      const key = keyOf(variant);
      places.set(key, [...places.get(key) ?? [], index]);
    }
  }
  const joint = [...places].filter(([, indices]) => indices.length > 1).map(
    ([key, indices]): Ranked => {
      const { cause, what, jointly, early } = variants[indices[0]].find((each) =>
        keyOf(each) === key
      )!;
      return {
        early,
        cause: jointly ? "unknown" : cause,
        detail: `${jointly ?? what} (in ${operations[indices[0]].name} to ${
          operations[indices.at(-1)!].name
        })`,
        cost: chain.cost(indices[0]),
        make: () =>
          chain.replaced(indices[0], async (operation, i) => {
            if (!indices.includes(i)) return undefined;
            return (await variantsOf(operation)).find((each) => keyOf(each) === key)?.make();
          }),
      };
    },
  ).reverse();
  const masks = maskTrials(chain).map(({ what, first, cost, make }): Suspicion => ({
    cause: "mask",
    detail: what,
    cost: chain.cost(first) + cost,
    make,
  }));
  const isLong = new Set(operations.map(({ name }) => layerOf(name))).size > 1;
  const norms = normTrials(chain).map(({ from, ...trial }): Suspicion => ({
    ...trial,
    cost: chain.cost(from),
  }));
  const isEarly = ({ early }: Ranked) => early ?? false;
  const all = isLong ? [joint, single] : [single, joint];
  const parts = all.flatMap((list) => list.filter(isEarly));
  const others = all.map((list) => list.filter((each) => !isEarly(each)));
  return isLong
    ? [...norms, ...parts, ...others[0], ...masks, ...others[1]]
    : [...norms, ...parts, ...others.flat(), ...masks];
}

/** Equal for the same fault in several places. */
function keyOf({ cause, what }: Variant): string {
  return `${cause}: ${what}`;
}

function detailOf({ what, where }: Variant, { name }: Operation, point: string): string {
  const place = [...name === point ? [] : [name], ...where === undefined ? [] : [where]];
  return [...place, what].join(": ");
}

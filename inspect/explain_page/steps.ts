/** The steps of a page, from the model's plan: names, order, what each reads, its weights and constants. */
import { type Plan, resolveShape, type Step, stepName } from "../../engine/plan/plan.ts";
import type { Operation } from "../../kernels/kernel.ts";
import type { Point } from "../points/points.ts";
import { tableColumns } from "../tables/mod.ts";
import type { Model } from "../run/model.ts";

/** A weight that a step reads. */
export interface PageWeight {
  readonly name: string;
  /** As the file stores it: `F16`, `Q4_1`. */
  readonly type: string;
  /** Rows first. */
  readonly shape: readonly number[];
  /** In the file. */
  readonly bytes: number;
  /** The row that the page holds, where it holds only one. */
  readonly row?: number;
}

/** One step of a page. */
export interface PageStep {
  /** The point, or the plan's own name where it is none: `ids`, `last_rows`, `argmax`. */
  readonly name: string;
  readonly layer?: number;
  /** The name without `blk.<layer>.`. */
  readonly kind: string;
  readonly operation: string;
  readonly inputs: readonly string[];
  readonly weights: readonly PageWeight[];
  /** In numbers, of the whole pass. */
  readonly shape: readonly number[];
  readonly axes: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
}

/** Axes of what has a step in the plan but is no point. */
const OTHER_AXES: Readonly<Record<string, readonly string[]>> = {
  last_rows: ["position", "feature"],
  argmax: ["position"],
};

/** Operations that the page does not show. */
const LEFT_OUT: readonly Operation[] = ["sample", "surprisal"];

/**
 * The steps of a pass over a prompt, the ids first. A bias belongs to its matrix's step; what runs only when it is asked for
 * (`head_result`, `sample` when ids are drawn, `surprisal` in runs) is left out.
 *
 * @param positions T = S = R of the pass
 */
export async function pageSteps(model: Model, positions: number): Promise<PageStep[]> {
  const points = new Map(model.pointList.map((point) => [point.name, point]));
  const weight = await weightFacts(model);
  const lengths = { T: positions, S: positions, R: positions };
  const steps = joinBiases(model.plan)
    .filter((step) => !points.get(stepName(step))?.onRequest && !LEFT_OUT.includes(step.operation))
    .map((step): PageStep => {
      const name = stepName(step);
      const point = points.get(name);
      return {
        name,
        ...placeOf(name, point),
        operation: step.operation,
        inputs: step.inputs.map((input) => input.name),
        weights: step.weights.map(weight),
        shape: resolveShape(step.outputs[0]!.shape, lengths),
        axes: point?.axes ?? OTHER_AXES[name],
        constants: step.constants,
      };
    });
  const nothing = { inputs: [], weights: [], constants: {} };
  const ids = {
    name: "ids",
    kind: "ids",
    operation: "ids",
    shape: [positions],
    axes: ["position"],
  };
  return [{ ...ids, ...nothing }, ...steps];
}

function placeOf(name: string, point: Point | undefined) {
  return { layer: point?.layer, kind: point?.kind ?? name };
}

/** Operations that add a bias to the product before them. */
const BIASES: readonly Operation[] = ["add_bias", "add_expert_bias"];

/** Puts each `add_bias` (`add_expert_bias`) into the product before it, which nothing else reads. */
function joinBiases(plan: Plan): Step[] {
  const steps: Step[] = [];
  for (const step of plan) {
    const product = steps.at(-1);
    if (!BIASES.includes(step.operation) || !product) {
      steps.push(step);
      continue;
    }
    const weights = [...product.weights, ...step.weights];
    steps.splice(-1, 1, { ...product, weights, outputs: step.outputs });
  }
  return steps;
}

/** Looks weights up in the file's directory. */
async function weightFacts(model: Model): Promise<(name: string) => PageWeight> {
  const { name, type, shape, bytes } = tableColumns(await model.tensorTable());
  const facts = new Map(Array.from({ length: name.length }, (_, i) => [
    `${name[i]}`,
    {
      name: `${name[i]}`,
      type: `${type[i]}`,
      shape: JSON.parse(`${shape[i]}`) as number[],
      bytes: Number(bytes[i]),
    },
  ]));
  return (wanted) => facts.get(wanted)!;
}

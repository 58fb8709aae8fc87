/**
 * An engine that runs any description, step by step, in 64-bit floats that are rounded once at each: right, or wrong by running another
 * description than the model's, or by what it makes of a step.
 */
import { compute, readWeight } from "../../../checkpoints/parity/steps_behind.ts";
import type { ReferencePass, ReferenceTensor } from "../../../checkpoints/references/reference.ts";
import { explain } from "../../../checkpoints/diagnosis/activations/cause.ts";
import type { Explanation } from "../../../checkpoints/diagnosis/causes.ts";
import { judgeOf } from "../../../checkpoints/parity/judge.ts";
import { isCompared } from "../../../checkpoints/parity/contract.ts";
import type { Chain } from "../../../checkpoints/diagnosis/activations/chain.ts";
import type { Config } from "../../../engine/model/config.ts";
import { ropeFactors, ropeTables } from "../../../engine/model/rope_table.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { elementCount, type Plan, resolveShape, stepName } from "../../../engine/plan/plan.ts";
import type { DescribedModel } from "../models/described_model.ts";

/** What an engine gets wrong. */
export interface DescribedFault {
  /** What it takes the model for. */
  readonly config?: (config: Config) => Config;
  /** The steps that it runs instead. */
  readonly steps?: (plan: Plan) => Plan;
  /** What it makes of a step's outcome. */
  readonly made?: (name: string, numbers: Float32Array) => Float32Array;
}

/** Points within norms and products that engines hardly show. */
const INNER = /norm_(centered|rms|pre|scaled)$|_(product|unclamped|unscaled|uncapped)$/;

/** Runs ids from position 0 on, and shows what engines show: the points that are compared, but for what is within a norm or a product. */
export async function describedPass(
  { config: right, file }: DescribedModel,
  ids: readonly number[],
  { config: change = (same) => same, steps = (same) => same, made = (_, same) => same }:
    DescribedFault = {},
): Promise<ReferencePass> {
  const config = change(right);
  const T = ids.length;
  const lengths = { T, S: T, R: T };
  const values = new Map<string, Float32Array>([["ids", Float32Array.from(ids)]]);
  const factors = await ropeFactors(file, config);
  for (const [name, table] of ropeTables(config, T, "exact", factors)) values.set(name, table);
  const tensors = new Map<string, ReferenceTensor>();
  for (const step of steps(forward(config))) {
    if (/^(head_result|argmax|sample)$/.test(step.operation)) continue;
    const name = stepName(step);
    const weights = await Promise.all(step.weights.map((each) => readWeight(file, each)));
    const { shape } = step.outputs[0]!;
    const out = new Float32Array(elementCount(shape, lengths));
    const pass = { tokens: T, start: 0, rows: T };
    const inputs = step.inputs.map((input) => values.get(input.name)!);
    const whole = { step, pass, inputs, weights: weights.map((weight) => weight!) };
    const data = made(name, compute(whole, out));
    values.set(name, data);
    if (INNER.test(name) || !isCompared(name)) continue;
    tensors.set(name, { shape: resolveShape(shape, lengths), data });
  }
  return { step: 0, start: 0, ids, tensors };
}

/** The first point that is wrong, and why. */
export interface Diagnosed extends Explanation {
  readonly point: string;
  /** What the explanation was made of. */
  readonly chain: Chain;
}

/** Looks at what a pass shows in the order of the model, until something is wrong; undefined where nothing is. */
export async function diagnosed(
  { config, file }: DescribedModel,
  pass: ReferencePass,
  shown: RegExp = /./,
): Promise<Diagnosed | undefined> {
  const plan = forward(config);
  const tensors = new Map([...pass.tensors].filter(([name]) => shown.test(name)));
  const judge = judgeOf({ activations: "f32" }, { file }, { plan, config, rope: "exact" });
  for (const step of plan) {
    const point = stepName(step);
    if (!tensors.has(point)) continue;
    let chain: Chain | undefined;
    const found = await explain({
      ...{ plan, config, file, point, judge, rope: "exact" },
      pass: { ...pass, tensors },
      onChain: (each) => chain = each,
    });
    const isRight = found.detail.includes("it is within what is allowed");
    if (!isRight) return { ...found, point, chain: chain! };
  }
  return undefined;
}

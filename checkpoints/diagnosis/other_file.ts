/** A chain of operations as the file of the other side would have it, from the same numbers: what differs is then in the files. */
import { readConfig } from "../../engine/plan/tensors.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { ropeOfTable } from "../../engine/model/config.ts";
import { factorsOf, ropeFactors, ropeTable } from "../../engine/model/rope_table.ts";
import { forward } from "../../engine/plan/forward.ts";
import { type Step, stepName } from "../../engine/plan/plan.ts";
import type { RopeFacts } from "../parity/divergence/evidence.ts";
import { compute, type Weight } from "../parity/steps_behind.ts";
import type { Chain } from "./activations/chain.ts";
import { type Operation, WeightReader } from "./activations/operation.ts";

/** An operation of the other file. */
export interface OtherOperation {
  readonly step: Step;
  /** In the step's order; what is the same as here is the same array. */
  readonly inputs: readonly Float32Array[];
  readonly rope?: RopeFacts;
}

/**
 * The chain's operations of the other file, by what they make. One that it has not, or in another shape, is not there, and nor is what
 * is made of it.
 */
export async function otherOperations(
  file: GgufFile,
  { operations }: Chain,
): Promise<Map<string, OtherOperation>> {
  const config = readConfig(file);
  const steps = new Map(forward(config).map((step) => [stepName(step), step]));
  const factors = await ropeFactors(file, config);
  const made = new Map<string, Float32Array>();
  const found = new Map<string, OtherOperation>();
  const isMadeHere = new Set(operations.map(({ name }) => name));
  for (const operation of operations) {
    const { step, name, builder } = operation;
    const theirs = steps.get(name);
    if (theirs?.operation !== step.operation) continue;
    const names = step.inputs.map((input) => input.name);
    if (names.some((each) => isMadeHere.has(each) && !made.has(each))) continue;
    const inputs = operation.inputs.map((input, i) => {
      if (step.inputs[i].kind !== "table") return made.get(names[i]) ?? input;
      const positions = input.length / step.constants.rope_width;
      return ropeTable(ropeOfTable(config, theirs.inputs[i].name), positions, builder, factors);
    });
    const reader = operation.others ?? new WeightReader(file);
    const weights = await Promise.all(theirs.weights.map((weight) => reader.read(weight)));
    if (!sameSizes(operation, inputs, weights)) continue;
    const rope = theirs.operation === "rope"
      ? ropeFacts({ config, step: theirs, factors, builder })
      : undefined;
    found.set(name, { step: theirs, inputs, rope });
    if (operation === operations.at(-1)) break;
    const own = { ...operation, step: theirs, inputs, weights: weights as Weight[] };
    made.set(name, compute(own, operation.output.slice()));
  }
  return found;
}

function sameSizes(
  operation: Operation,
  inputs: readonly Float32Array[],
  weights: readonly (Weight | undefined)[],
): boolean {
  return inputs.every((input, i) => input.length === operation.inputs[i].length) &&
    operation.weights.every(({ rows, columns }, i) =>
      weights[i]?.rows === rows && weights[i].columns === columns
    );
}

/** What RoPE's table is made from. */
export function ropeFacts(
  { config, step, factors, builder }: Pick<Operation, "config" | "step" | "factors" | "builder">,
): RopeFacts {
  const rope = ropeOfTable(config, step.inputs[1].name);
  const { base, width, scaling, magnitude } = rope;
  const said = magnitude === 1 ? {} : { magnitude };
  const facts: RopeFacts = { base, width, scaling, ...said, builder };
  const divisors = factorsOf(rope, config.contextLength, factors);
  return divisors ? { ...facts, factors: [...divisors] } : facts;
}

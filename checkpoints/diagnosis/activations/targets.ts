/** What earlier operations would have to make for the last one to make what the other side shows: it lets faults be measured there. */
import type { Operation } from "./operation.ts";
import { inverse } from "./attention/rope.ts";

/** The operations of a chain with their targets, where those can be told: the last one's, and back through all that can be undone. */
export function withTargets(operations: readonly Operation[], target: Float32Array): Operation[] {
  const targets = new Map<string, Float32Array>([[operations.at(-1)!.name, target]]);
  return operations.toReversed().map((operation) => {
    const own = targets.get(operation.name);
    if (!own) return operation;
    const traced = { ...operation, target: own };
    for (const [name, before] of undone(traced, own)) targets.set(name, before);
    return traced;
  }).reverse();
}

/** By operation: an input that alone could be at fault, and what it would have to be. */
function undone(
  operation: Operation,
  target: Float32Array,
): [name: string, target: Float32Array][] {
  const { step: { inputs: values, constants }, inputs, weights } = operation;
  switch (operation.step.operation) {
    case "scale_columns": {
      const { data, columns } = weights[0];
      return [[values[0].name, target.map((value, i) => value / data[i % columns])]];
    }
    case "normalize":
      return [[values[1].name, divisors(inputs[0], target, constants.columns)]];
    case "add_bias": {
      const { data, columns } = weights[0];
      return [[values[0].name, target.map((value, i) => value - data[i % columns])]];
    }
    case "add":
      return [[values[1].name, target.map((value, i) => value - inputs[0][i])]];
    case "scale":
      return [[values[0].name, target.map((value) => value / constants.factor)]];
    case "cap": {
      const { cap } = constants;
      return [[values[0].name, target.map((value) => cap * Math.atanh(value / cap))]];
    }
    case "rope":
      return [[values[0].name, inverse(operation, target)]];
    default:
      return [];
  }
}

/** The number by which each row of x was divided to make y: least squares of x = r · y. */
function divisors(x: Float32Array, y: Float32Array, columns: number): Float32Array {
  return Float32Array.from({ length: x.length / columns }, (_, row) => {
    let [above, below] = [0, 0];
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      above += x[i] * y[i];
      below += y[i] * y[i];
    }
    return above / below;
  });
}

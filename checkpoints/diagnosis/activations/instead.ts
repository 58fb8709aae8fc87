/** Suspected mix-ups of whole tensors: an operation that reads another one than it should, or a point that holds another's numbers. */
import { kindOf } from "../../../base/layer_names.ts";
import { dot } from "../../../inspect/analyses/numbers.ts";
import { isCache } from "../../parity/cache.ts";
import { isAttention } from "../../parity/compare.ts";
import { rootMean } from "./root_mean.ts";
import { type Operation, rerun, type Variant } from "./operation.ts";

/** Numbers of the outcome that an input is tried on first, and how far off they may be, as a share of the largest. */
const [SAMPLE, NEAR] = [24, 1e-3];
/** Numbers that are equal by chance are fewer. */
const ENOUGH = 8;

/** What a point holds where it has another one's numbers, bit for bit: of the stream before it, nothing was computed between. */
export function sameVariants(operation: Operation): Variant[] {
  const { target, output, name } = operation;
  if (!target || new Set(target).size < ENOUGH) return [];
  return candidates(operation, output.length, name).flatMap(([other, data]): Variant[] => {
    if (!data.every((value, i) => value === target[i])) return [];
    const isBefore = isStream(other);
    return [{
      cause: isBefore ? "left-out" : "other-tensor",
      what: `its numbers are those of ${other}${isBefore ? ": what lies between is left out" : ""}`,
      make: () => data.slice(),
    }];
  });
}

/** x [T, columns] → y [T, rows]: the product with something else that is shown. */
export function otherInputs(operation: Operation): Variant[] {
  const { inputs: [x], weights: [{ rows, columns, data }], step, target } = operation;
  if (!target) return [];
  const own = step.inputs[0].name;
  const makes = (other: Float32Array) => {
    let [worst, largest] = [0, 0];
    for (let n = 0; n < SAMPLE; n++) {
      const at = Math.floor((n + 0.5) * target.length / SAMPLE);
      const [t, row] = [Math.floor(at / rows), at % rows];
      const weights = data.subarray(row * columns, (row + 1) * columns);
      worst = Math.max(worst, Math.abs(dot(other, weights, t * columns) - target[at]));
      largest = Math.max(largest, Math.abs(target[at]));
    }
    return worst <= NEAR * largest;
  };
  return candidates(operation, x.length, own).filter(([, data]) => makes(data)).map(
    ([other, data]): Variant => {
      const isBefore = isStream(other) && kindOf(own).endsWith("norm");
      return {
        cause: isBefore ? "left-out" : "other-tensor",
        what: isBefore
          ? `it reads ${other}: the norm between is left out`
          : `it reads ${other} instead of ${own}`,
        make: () => rerun(operation, { inputs: [data] }),
      };
    },
  );
}

/** pre [T, D], weight [D] → [T, D]: the norm of something else that is shown. */
export function normsOfOthers(operation: Operation): Variant[] {
  const { name, inputs: [x], weights: [{ columns }], config } = operation;
  const streams = candidates(operation, x.length, name).filter(([other]) => isStream(other));
  return streams.map(([other, data]): Variant => ({
    cause: "other-tensor",
    what: `it is the norm of ${other}`,
    make: () => rerun(operation, { inputs: [rootMean(data, columns, config.normEpsilon)] }),
  }));
}

/** stream [T, D], branch [T, D] → their sum: with another stream, or another branch, that is shown. */
export function sumsOfOthers(operation: Operation): Variant[] {
  const { name, inputs, step } = operation;
  const [stream, branch] = step.inputs.map(({ name }) => name);
  const others = candidates(operation, inputs[0].length, name)
    .filter(([other]) => isStream(other) && other !== stream);
  return others.map(([other, data]): Variant => ({
    cause: "residual-missing",
    what: `${branch} is added to ${other} instead of ${stream}`,
    make: () => data.map((value, i) => value + inputs[1][i]),
  }));
}

/**
 * Tensors of so many numbers that the other side shows and has before this operation; caches and what attention weighs with are no
 * such. Those that are mostly zeros tell nothing.
 */
function candidates(
  { earlier, shownRows }: Operation,
  length: number,
  not: string,
): [name: string, data: Float32Array][] {
  return earlier.flatMap((name) => {
    if (name === not || isCache(name) || isAttention(name)) return [];
    const data = shownRows(name);
    return data.length === length && isTelling(data) ? [[name, data]] : [];
  });
}

/** Whether numbers are finite, and mostly not zero. */
function isTelling(numbers: Float32Array): boolean {
  let count = 0;
  for (const value of numbers) {
    if (!Number.isFinite(value)) return false;
    if (value !== 0) count++;
  }
  return 2 * count > numbers.length;
}

/** Whether a point is the stream between two halves of blocks. */
function isStream(point: string): boolean {
  return /^(token_embd|embd_scaled|embd_sum|embd_norm|ffn_inp|attn_resid|out)$/.test(kindOf(point));
}

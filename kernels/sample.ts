/** The choice of the next id. */
import { bindings, type Kernel } from "./kernel.ts";
import { chosen, penalized, randomShare, samplingNumbers } from "./sampling.ts";
import sampleWgsl from "./sample.wgsl" with { type: "text" };

/**
 * x [R, columns], sampling [16] (bits of 32-bit words, as `samplingWords` lays them out), history [S] (ids; u32 on the device) → the
 * id [1] that follows the last row, as the CPU's sampler chooses it; −1 where a number is NaN or +Infinity, or none is finite.
 */
export const sample: Kernel = {
  name: "sample",
  wgsl: sampleWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "input sampling", "input history", "output index", "scratch list"),
  lanes: (knobs) => 4 * knobs.lanes,
  grid: () => [1, 1, 1],
  scratch: ({ columns }) => 4 * columns,
  reference({ pass, constants: { columns }, inputs: [x, sampling, history], outputs: [index] }) {
    const numbers = samplingNumbers(
      new Uint32Array(sampling.buffer, sampling.byteOffset, sampling.length),
    );
    const row = x.subarray((pass.rows - 1) * columns, pass.rows * columns);
    const ids = history.subarray(0, pass.start + pass.tokens);
    const random = randomShare(numbers.seed, ids.length);
    index![0] = chosen(penalized(row, ids, numbers), numbers, random);
  },
};

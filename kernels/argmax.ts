/** The greedy choice. */
import { bindings, type Kernel } from "./kernel.ts";
import argmaxWgsl from "./argmax.wgsl" with { type: "text" };

/** x [R, columns] → index [R] of the largest number, of equal ones the first (u32 bits on the device). */
export const argmax: Kernel = {
  name: "argmax",
  wgsl: argmaxWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "output index"),
  lanes: (knobs) => knobs.lanes,
  grid: (pass) => [pass.rows, 1, 1],
  reference({ constants: { columns }, inputs: [x], outputs: [index] }) {
    for (let row = 0; row < index!.length; row++) {
      let best = 0;
      for (let i = 1; i < columns; i++) {
        if (x[row * columns + i] > x[row * columns + best]) best = i;
      }
      index![row] = best;
    }
  },
};

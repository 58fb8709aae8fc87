/** The greedy choice. */
import { bindings, kernel } from "../kernel.ts";
import argmaxWgsl from "./argmax.wgsl" with { type: "text" };

/**
 * x [R, columns] → index [R] of the largest number, of equal ones the first (i32 bits on the device); −1 where a number is NaN or
 * +Infinity, or none is finite.
 */
export const argmax = kernel({
  operation: "argmax",
  wgsl: argmaxWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "output index i32"),
  grid: (pass) => [pass.rows, 1, 1],
  twin({ constants: { columns }, inputs: [x], outputs: [index] }) {
    for (let row = 0; row < index!.length; row++) {
      const numbers = x.subarray(row * columns, (row + 1) * columns);
      let best = -1;
      for (let i = 0; i < columns; i++) {
        if (numbers[i] > (numbers[best] ?? -Infinity)) best = i;
      }
      index![row] = numbers.every((number) => number < Infinity) ? best : -1;
    }
  },
});

/** Kernels that touch each number once: sums, SwiGLU, row selection. */
import { bindings, kernel, perToken } from "../kernel.ts";
import { silu } from "../products/products.ts";
import addWgsl from "./add.wgsl" with { type: "text" };
import addBiasWgsl from "./add_bias.wgsl" with { type: "text" };
import swigluWgsl from "./swiglu.wgsl" with { type: "text" };
import lastRowsWgsl from "../branches/last_rows.wgsl" with { type: "text" };
import listedRowsWgsl from "../branches/listed_rows.wgsl" with { type: "text" };
import takeRowsWgsl from "./take_rows.wgsl" with { type: "text" };

/** a, b [T, columns] → a + b. */
const add = kernel({
  operation: "add",
  wgsl: addWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input a", "input b", "output y"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ inputs: [a, b], outputs: [y] }) {
    for (let i = 0; i < a.length; i++) y![i] = a[i] + b[i];
  },
});

/** x [T, columns], bias [columns] → x + bias in each row. */
export const addBias = kernel({
  operation: "add_bias",
  wgsl: addBiasWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "weight bias", "output y"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ constants: { columns }, inputs: [x], weights: [bias], outputs: [y] }) {
    const b = new Float32Array(columns);
    bias.read(0, b);
    for (let i = 0; i < x.length; i++) y![i] = x[i] + b[i % columns];
  },
});

/** gate, up [T, columns] → silu(gate) · up (Shazeer 2020, "GLU Variants Improve Transformer"). */
const swiglu = kernel({
  operation: "swiglu",
  wgsl: swigluWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input gate", "input up", "output act"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ inputs: [gate, up], outputs: [act] }) {
    for (let i = 0; i < gate.length; i++) act![i] = silu(gate[i]) * up[i];
  },
});

/** x [T, columns] → its last R rows [R, columns]. */
const takeRows = kernel({
  operation: "take_rows",
  wgsl: takeRowsWgsl,
  prologue: () => lastRowsWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "output y"),
  grid: (pass, { columns }, lanes) => [Math.ceil(columns / lanes), pass.rows, 1],
  twin({ inputs: [x], outputs: [y] }) {
    y!.set(x.subarray(x.length - y!.length));
  },
});

/** x [T, columns], branch_rows [R] → those rows. */
const takeRowsOfBranches = kernel({
  ...takeRows,
  branches: true,
  prologue: () => listedRowsWgsl,
  bindings: bindings("input x", "output y", "input branch_rows u32"),
  twin({ constants: { columns }, inputs: [x, rows], outputs: [y] }) {
    for (let i = 0; i * columns < y!.length; i++) {
      y!.set(x.subarray(rows[i] * columns, (rows[i] + 1) * columns), i * columns);
    }
  },
});

export const elementwiseKernels = [add, swiglu, takeRows, takeRowsOfBranches];

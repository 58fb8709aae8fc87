/** Kernels that touch each number once: sums, gates, activations, scales, row selection. */
import { ofBranches, ofWholePasses, rowGap } from "../branches/branches.ts";
import {
  bindings,
  type Constants,
  type Kernel,
  kernel,
  perGroup,
  perToken,
  type TwinArguments,
} from "../kernel.ts";
import { activate as activated, gated, xielu as bent, type XieluNumbers } from "./activations.ts";
import activateWgsl from "./activate.wgsl" with { type: "text" };
import activationsWgsl from "./activations.wgsl" with { type: "text" };
import addWgsl from "./add.wgsl" with { type: "text" };
import addBiasWgsl from "./add_bias.wgsl" with { type: "text" };
import capWgsl from "./cap.wgsl" with { type: "text" };
import clampWgsl from "./clamp.wgsl" with { type: "text" };
import gluWgsl from "./glu.wgsl" with { type: "text" };
import scaleByPositionWgsl from "./scale_by_position.wgsl" with { type: "text" };
import scaleWgsl from "./scale.wgsl" with { type: "text" };
import tanhWgsl from "../tanh.wgsl" with { type: "text" };
import xieluWgsl from "./xielu.wgsl" with { type: "text" };
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

/** x [T, groups, columns], bias [columns] → x + bias in each row; a position has `groups` of them. */
export const addBias = kernel({
  operation: "add_bias",
  wgsl: addBiasWgsl,
  constants: { columns: "u32", groups: "u32" },
  bindings: bindings("input x", "weight bias", "output y"),
  grid: (pass, { columns, groups }, lanes) => perGroup(columns, groups, pass, lanes),
  twin({ constants: { columns }, inputs: [x], weights: [bias], outputs: [y] }) {
    const b = new Float32Array(columns);
    bias.read(0, b);
    for (let i = 0; i < x.length; i++) y![i] = x[i] + b[i % columns];
  },
});

/** gate, up [T, columns] → act(gate) · up; `activation` is a place in ACTIVATIONS. */
const glu = kernel({
  operation: "glu",
  wgsl: activationsWgsl + gluWgsl,
  constants: { columns: "u32", activation: "u32" },
  bindings: bindings("input gate", "input up", "output act"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ constants: { activation }, inputs: [gate, up], outputs: [act] }) {
    for (let i = 0; i < gate.length; i++) act![i] = gated(activation, gate[i], up[i]);
  },
});

/** A kernel from x [T, columns] to as many numbers, each made of the one in its place. */
function ofEach(
  operation: Kernel["operation"],
  wgsl: string,
  constants: Kernel["constants"],
  make: (x: number, constants: Constants) => number,
  output = "y",
): Kernel {
  return kernel({
    operation,
    wgsl,
    constants: { columns: "u32", ...constants },
    bindings: bindings("input x", `output ${output}`),
    grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
    twin({ constants, inputs: [x], outputs: [y] }) {
      for (let i = 0; i < x.length; i++) y![i] = make(x[i], constants);
    },
  });
}

/** x [T, columns] → act(x); `activation` is a place in ACTIVATIONS, none of those that gate only. */
const activate = ofEach(
  "activate",
  activationsWgsl + activateWgsl,
  { activation: "u32" },
  (x, { activation }) => activated(activation, x),
  "act",
);

/** x [T, columns] → xIELU of it: see {@linkcode bent}. The constants are those of the file. */
const xielu = ofEach(
  "xielu",
  xieluWgsl,
  { alpha_n: "f32", alpha_p: "f32", beta: "f32", epsilon: "f32" },
  (x, constants) => bent(x, constants as unknown as XieluNumbers),
  "act",
);

/** x [T, columns] → x · factor. */
const scale = ofEach("scale", scaleWgsl, { factor: "f32" }, (x, { factor }) => x * factor);

/** x [T, columns] → cap · tanh(x / cap): nothing gets beyond ±cap (Gemma 2's soft-capping). */
const cap = ofEach(
  "cap",
  tanhWgsl + capWgsl,
  { cap: "f32" },
  (x, { cap }) => cap * Math.tanh(x / cap),
);

/** x [T, columns] → x within ±limit. */
const clamp = ofEach(
  "clamp",
  clampWgsl,
  { limit: "f32" },
  (x, { limit }) => Math.max(-limit, Math.min(x, limit)),
);

/**
 * x [T, columns] → x · (1 + scale · ln(1 + ⌊(position + offset) / period⌋)): queries of positions far out are made longer (Llama 4, Ministral 3).
 * Positions count from the sequence's first; of branches they are their own. Without an `offset` it is 0.
 */
const scaleByPosition = kernel({
  operation: "scale_by_position",
  wgsl: scaleByPositionWgsl,
  constants: { columns: "u32", scale: "f32", period: "u32", offset: "u32" },
  bindings: bindings("input x", "output y"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin(args: TwinArguments) {
    const { pass, constants: { columns, scale, period, offset = 0 }, inputs: [x] } = args;
    for (let token = 0; token < pass.tokens; token++) {
      const [gap, end] = rowGap(args, 1, token);
      const position = pass.start + token - (end - gap);
      const factor = 1 + scale * Math.log1p(Math.floor((position + offset) / period));
      for (let i = token * columns; i < (token + 1) * columns; i++) {
        args.outputs[0]![i] = x[i] * factor;
      }
    }
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

export const elementwiseKernels = [
  add,
  glu,
  activate,
  xielu,
  scale,
  cap,
  clamp,
  ofWholePasses(scaleByPosition),
  ofBranches(scaleByPosition),
  takeRows,
  takeRowsOfBranches,
];

/**
 * RMSNorm (Zhang & Sennrich 2019), in its three named steps and fused; and what LayerNorm (Ba et al. 2016) does before them. A position has
 * `groups` rows of `columns` numbers: one, or one for each head.
 */
import { bindings, kernel, perGroup, type TwinArguments } from "../kernel.ts";
import centerWgsl from "./center.wgsl" with { type: "text" };
import rmsWgsl from "./rms.wgsl" with { type: "text" };
import normalizeWgsl from "./normalize.wgsl" with { type: "text" };
import scaleColumnsWgsl from "./scale_columns.wgsl" with { type: "text" };
import rmsNormWgsl from "./rms_norm.wgsl" with { type: "text" };

function rootMeanSquare(x: Float32Array, row: number, columns: number, epsilon: number): number {
  let sum = 0;
  for (let i = row * columns; i < (row + 1) * columns; i++) sum += x[i] * x[i];
  return Math.sqrt(sum / columns + epsilon);
}

/** x [T, groups, columns] → x − mean(x), of each row. */
const center = kernel({
  operation: "center",
  wgsl: centerWgsl,
  constants: { columns: "u32", groups: "u32" },
  bindings: bindings("input x", "output centered"),
  grid: (pass, { groups }) => [pass.tokens, groups, 1],
  twin({ constants: { columns }, inputs: [x], outputs: [centered] }) {
    for (let at = 0; at < x.length; at += columns) {
      let sum = 0;
      for (let i = 0; i < columns; i++) sum += x[at + i];
      const mean = sum / columns;
      for (let i = 0; i < columns; i++) centered![at + i] = x[at + i] - mean;
    }
  },
});

/** x [T, groups, columns] → rms [T, groups, 1] = sqrt(mean(x²) + epsilon). */
const rms = kernel({
  operation: "rms",
  wgsl: rmsWgsl,
  constants: { columns: "u32", groups: "u32", epsilon: "f32" },
  bindings: bindings("input x", "output rms"),
  grid: (pass, { groups }) => [pass.tokens, groups, 1],
  twin({ constants: { columns, epsilon }, inputs: [x], outputs: [out] }) {
    for (let row = 0; row < out!.length; row++) {
      out![row] = rootMeanSquare(x, row, columns, epsilon);
    }
  },
});

/** x [T, groups, columns], rms [T, groups, 1] → x / rms. */
const normalize = kernel({
  operation: "normalize",
  wgsl: normalizeWgsl,
  constants: { columns: "u32", groups: "u32" },
  bindings: bindings("input x", "input rms", "output pre"),
  grid: (pass, { columns, groups }, lanes) => perGroup(columns, groups, pass, lanes),
  twin({ constants: { columns }, inputs: [x, rms], outputs: [pre] }) {
    for (let i = 0; i < x.length; i++) pre![i] = x[i] / rms[Math.floor(i / columns)];
  },
});

/** x [T, groups, columns], weight [columns] → x · weight, element by element of each row. */
const scaleColumns = kernel({
  operation: "scale_columns",
  wgsl: scaleColumnsWgsl,
  constants: { columns: "u32", groups: "u32" },
  bindings: bindings("input x", "weight weight", "output y"),
  grid: (pass, { columns, groups }, lanes) => perGroup(columns, groups, pass, lanes),
  twin({ constants: { columns }, inputs: [x], weights: [weight], outputs: [y] }) {
    const w = new Float32Array(columns);
    weight.read(0, w);
    for (let i = 0; i < x.length; i++) y![i] = x[i] * w[i % columns];
  },
});

/** The three in one: x [T, groups, columns] → norm, with rms [T, groups, 1] and pre (norm before its weight) as taps. */
export const rmsNorm = kernel({
  operation: "rms_norm",
  wgsl: rmsNormWgsl,
  constants: { columns: "u32", groups: "u32", epsilon: "f32" },
  bindings: bindings("input x", "weight weight", "output norm", "tap rms", "tap pre"),
  grid: (pass, { groups }) => [pass.tokens, groups, 1],
  twin(
    { constants: { columns, epsilon }, inputs: [x], weights, outputs }: TwinArguments,
  ) {
    const [norm, rmsOut, preOut] = outputs;
    const w = new Float32Array(columns);
    weights[0].read(0, w);
    for (let row = 0; row * columns < x.length; row++) {
      const root = rootMeanSquare(x, row, columns, epsilon);
      if (rmsOut) rmsOut[row] = root;
      for (let i = 0, at = row * columns; i < columns; i++, at++) {
        if (preOut) preOut[at] = x[at] / root;
        norm![at] = x[at] / root * w[i];
      }
    }
  },
});

export const normKernels = [center, rms, normalize, scaleColumns, rmsNorm];

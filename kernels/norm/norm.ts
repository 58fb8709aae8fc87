/** RMSNorm (Zhang & Sennrich 2019), in its three named steps and fused. */
import { bindings, kernel, perToken, type TwinArguments } from "../kernel.ts";
import rmsWgsl from "./rms.wgsl" with { type: "text" };
import normalizeWgsl from "./normalize.wgsl" with { type: "text" };
import scaleColumnsWgsl from "./scale_columns.wgsl" with { type: "text" };
import rmsNormWgsl from "./rms_norm.wgsl" with { type: "text" };

function rootMeanSquare(x: Float32Array, row: number, columns: number, epsilon: number): number {
  let sum = 0;
  for (let i = row * columns; i < (row + 1) * columns; i++) sum += x[i] * x[i];
  return Math.sqrt(sum / columns + epsilon);
}

/** x [N, columns] → rms [N, 1] = sqrt(mean(x²) + epsilon). */
const rms = kernel({
  operation: "rms",
  wgsl: rmsWgsl,
  constants: { columns: "u32", epsilon: "f32" },
  bindings: bindings("input x", "output rms"),
  grid: (pass) => [pass.tokens, 1, 1],
  twin({ constants: { columns, epsilon }, inputs: [x], outputs: [out] }) {
    for (let row = 0; row < out!.length; row++) {
      out![row] = rootMeanSquare(x, row, columns, epsilon);
    }
  },
});

/** x [N, columns], rms [N, 1] → x / rms. */
const normalize = kernel({
  operation: "normalize",
  wgsl: normalizeWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "input rms", "output pre"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ constants: { columns }, inputs: [x, rms], outputs: [pre] }) {
    for (let i = 0; i < x.length; i++) pre![i] = x[i] / rms[Math.floor(i / columns)];
  },
});

/** x [N, columns], weight [columns] → x · weight, element by element. */
const scaleColumns = kernel({
  operation: "scale_columns",
  wgsl: scaleColumnsWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "weight weight", "output y"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ constants: { columns }, inputs: [x], weights: [weight], outputs: [y] }) {
    const w = new Float32Array(columns);
    weight.read(0, w);
    for (let i = 0; i < x.length; i++) y![i] = x[i] * w[i % columns];
  },
});

/** The three in one: x [N, columns] → norm, with rms [N, 1] and pre (norm before its weight) as taps. */
export const rmsNorm = kernel({
  operation: "rms_norm",
  wgsl: rmsNormWgsl,
  constants: { columns: "u32", epsilon: "f32" },
  bindings: bindings("input x", "weight weight", "output norm", "tap rms", "tap pre"),
  grid: (pass) => [pass.tokens, 1, 1],
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

export const normKernels = [rms, normalize, scaleColumns, rmsNorm];

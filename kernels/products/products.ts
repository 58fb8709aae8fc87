/**
 * Products with weight matrices, W·x: one source for few positions (matvec), one for many (matmul), each with the
 * epilogues plain, residual, qkv and glu.
 */
import {
  type Binding,
  bindings,
  type Computation,
  type Constants,
  type Kernel,
  kernel,
  type Knobs,
  type RowReader,
  type TwinArguments,
} from "../kernel.ts";
import { gated } from "../elementwise/activations.ts";
import type { Packing } from "../weights/packings.ts";
import { rmsNorm } from "../norm/norm.ts";
import { ropeStore } from "../rope/rope.ts";
import xPlainWgsl from "./x_plain.wgsl" with { type: "text" };
import xNormedWgsl from "./x_normed.wgsl" with { type: "text" };
import x8BroadcastWgsl from "./x8_broadcast.wgsl" with { type: "text" };
import x32BroadcastWgsl from "./x32_broadcast.wgsl" with { type: "text" };
import x8DirectWgsl from "./x8_direct.wgsl" with { type: "text" };
import x32DirectWgsl from "./x32_direct.wgsl" with { type: "text" };
import matvecWgsl from "./matvec.wgsl" with { type: "text" };
import matmulWgsl from "./matmul.wgsl" with { type: "text" };
import matmulRowsWgsl from "./matmul_rows.wgsl" with { type: "text" };
import plainWgsl from "./plain.wgsl" with { type: "text" };
import residualWgsl from "./residual.wgsl" with { type: "text" };
import qkvRopeWgsl from "./qkv_rope.wgsl" with { type: "text" };
import qkvWgsl from "./qkv.wgsl" with { type: "text" };
import gluWgsl from "./glu.wgsl" with { type: "text" };
import activationsWgsl from "../elementwise/activations.wgsl" with { type: "text" };

/** The fields of weights.wgsl's `struct Step` that all its kernels use. */
export const PACKED_CONSTANTS = {
  columns: "u32",
  groups: "u32",
  scales: "u32",
  highs: "u32",
  weight_row: "u32",
  rows: "u32",
  out_row: "u32",
  out_rows: "u32",
} as const;

/** From this number of positions on the matmul kernels serve better than matvec. */
export const MATMUL_FROM = 8;

/** Whether a product of this many positions and columns goes to the kernel for many. */
export function manyPositions(positions: number, columns: number): boolean {
  // matvec reads x by fours, so rows after the first must begin at a multiple of four.
  return positions >= MATMUL_FROM || (positions > 1 && columns % 4 !== 0);
}

/** Must equal the number in the WGSL. */
const MOST_X = 32768;

/** Workgroups may outnumber what one dimension of a dispatch can count. */
function twoDimensions(count: number): [x: number, z: number] {
  return [Math.min(count, MOST_X), Math.ceil(count / MOST_X)];
}

/** y [T, rows] (or one row's part of it) = W [rows, columns] · x [T, columns] in 64-bit floats. */
function product(
  x: Float32Array,
  weight: RowReader,
  emit: (token: number, row: number, sum: number) => void,
): void {
  const { rows, columns } = weight;
  const tokens = x.length / columns;
  const w = new Float32Array(columns);
  for (let row = 0; row < rows; row++) {
    weight.read(row, w);
    let token = 0;
    // Four sums at a time need not wait for each other's additions.
    for (; token + 4 <= tokens; token += 4) {
      let [a, b, c, d] = [0, 0, 0, 0];
      const first = token * columns;
      const [second, third, fourth] = [first + columns, first + 2 * columns, first + 3 * columns];
      for (let i = 0; i < columns; i++) {
        const factor = w[i];
        a += factor * x[first + i];
        b += factor * x[second + i];
        c += factor * x[third + i];
        d += factor * x[fourth + i];
      }
      emit(token, row, a);
      emit(token + 1, row, b);
      emit(token + 2, row, c);
      emit(token + 3, row, d);
    }
    for (; token < tokens; token++) {
      let sum = 0;
      for (let i = 0, at = token * columns; i < columns; i++, at++) sum += w[i] * x[at];
      emit(token, row, sum);
    }
  }
}

interface Epilogue {
  /** None of the plain one. */
  readonly epilogue?: Computation["epilogue"];
  readonly wgsl: string;
  readonly bindings: Binding[];
  /** Rows of a tile that belong to one output row: 2 for gate and up together. */
  readonly rowsPerOutput: number;
  /** Values of its overrides. */
  overrides?(constants: Constants): Record<string, number>;
  twin(args: TwinArguments): void;
}

const EPILOGUES: Epilogue[] = [
  {
    wgsl: plainWgsl,
    bindings: bindings("input x", "weight weight", "output y"),
    rowsPerOutput: 1,
    twin({ inputs: [x], weights: [weight], outputs: [y] }) {
      product(x, weight, (token, row, sum) => y![token * weight.rows + row] = sum);
    },
  },
  {
    epilogue: "residual",
    wgsl: residualWgsl,
    bindings: bindings("input x", "weight weight", "input residual", "output y", "tap product"),
    rowsPerOutput: 1,
    twin({ inputs: [x, residual], weights: [weight], outputs: [y, tap] }) {
      product(x, weight, (token, row, sum) => {
        const at = token * weight.rows + row;
        if (tap) tap[at] = sum;
        y![at] = residual[at] + sum;
      });
    },
  },
  {
    epilogue: "qkv",
    wgsl: qkvWgsl,
    bindings: bindings("input x", "weight qkv", "output q", "output k", "output v"),
    rowsPerOutput: 1,
    twin({ inputs: [x], weights, outputs }) {
      weights.forEach((weight, i) =>
        product(x, weight, (token, row, sum) => outputs[i]![token * weight.rows + row] = sum)
      );
    },
  },
  {
    epilogue: "glu",
    wgsl: activationsWgsl + gluWgsl,
    bindings: bindings("input x", "weight gate_up", "output act", "tap gate", "tap up"),
    rowsPerOutput: 2,
    // Compiled in, since an epilogue stands at many places of a kernel: all activations there would take long to compile.
    overrides: ({ activation }): Record<string, number> => ({ ACTIVATION: activation }),
    twin({ constants, inputs: [x], weights: [gateWeight, upWeight], outputs }) {
      const [act, gateTap, upTap] = outputs;
      const tokens = x.length / gateWeight.columns;
      const gate = new Float64Array(tokens * gateWeight.rows);
      product(x, gateWeight, (token, row, sum) => gate[token * gateWeight.rows + row] = sum);
      product(x, upWeight, (token, row, up) => {
        const at = token * upWeight.rows + row;
        if (gateTap) gateTap[at] = gate[at];
        if (upTap) upTap[at] = up;
        act![at] = gated(constants.activation, gate[at], up);
      });
    },
  },
];

/**
 * x, qkv, table → q_rope [T, heads, d], cache_k and cache_v, with q, k, v and k_rope as taps: qkv and `rope_store` in one. Only for
 * few positions, after a norm.
 */
const QKV_ROPE: Epilogue = {
  epilogue: "qkv_rope",
  wgsl: qkvRopeWgsl,
  bindings: bindings(
    "input x",
    "weight qkv",
    "input table",
    "output q_rope",
    "output cache_k",
    "output cache_v",
    "tap q",
    "tap k",
    "tap v",
    "tap k_rope",
  ),
  rowsPerOutput: 1,
  twin(args) {
    const { inputs: [x, table], weights, outputs } = args;
    const [qRope, cacheK, cacheV, ...taps] = outputs;
    const tokens = x.length / weights[0].columns;
    const qkv = weights.map(({ rows }, i) => taps[i] ?? new Float32Array(tokens * rows));
    weights.forEach((weight, i) =>
      product(x, weight, (token, row, sum) => qkv[i][token * weight.rows + row] = sum)
    );
    const [heads, kv_heads] = weights.map(({ rows }) => rows / args.constants.head_width);
    ropeStore.twin({
      ...args,
      constants: { ...args.constants, heads, kv_heads },
      inputs: [...qkv, table],
      outputs: [qRope, cacheK, cacheV, taps[3]],
    });
  },
};

/** How a lane gets columns of x, by the columns of a chunk. */
const DIRECT_WGSL = { 8: x8DirectWgsl, 32: x32DirectWgsl };
const BROADCAST_WGSL = { 8: x8BroadcastWgsl, 32: x32BroadcastWgsl };

/** Columns of x that lanes hand on to each other, as they are. */
export function broadcastX(packing: Packing): string {
  return xPlainWgsl + BROADCAST_WGSL[packing.chunk];
}

/** Columns of x as they are, for kernels for few positions. */
export function plainX({ broadcast }: Knobs, packing?: Packing): string {
  return broadcast ? broadcastX(packing!) : xPlainWgsl + DIRECT_WGSL[packing!.chunk];
}

/** Tiles of four rows. */
function tileCount(epilogue: Epilogue, { rows }: Constants): number {
  return Math.ceil(rows * epilogue.rowsPerOutput / 4);
}

/** Whether x goes through RMSNorm on its way into products with few positions: it is read by fours. */
export function canNorm(columns: number): boolean {
  return columns % 8 === 0;
}

function matvec(epilogue: Epilogue): Kernel {
  return kernel({
    operation: "linear",
    epilogue: epilogue.epilogue,
    wgsl: epilogue.wgsl + matvecWgsl,
    packed: true,
    constants: PACKED_CONSTANTS,
    bindings: epilogue.bindings,
    lanes: (knobs) => knobs.dotLanes,
    overrides: ({ columnLanes }, constants) => ({
      COLUMN_LANES: columnLanes,
      ...epilogue.overrides?.(constants),
    }),
    prologue: plainX,
    grid(pass, constants, lanes, { columnLanes }) {
      const tiles = tileCount(epilogue, constants);
      const [x, z] = twoDimensions(Math.ceil(tiles * columnLanes / lanes));
      return [x, pass.tokens, z];
    },
    twin: epilogue.twin,
  });
}

/** `rms_norm` and a product in one: the norm's weight is the last one, and rms, pre and the norm are taps. */
function normed(epilogue: Epilogue): Kernel {
  const plain = matvec(epilogue);
  const first = 2 + plain.bindings.length;
  const results = plain.bindings.filter(({ kind }) => kind === "output" || kind === "tap").length;
  return kernel({
    ...plain,
    normed: true,
    constants: {
      ...PACKED_CONSTANTS,
      heads: "u32",
      epsilon: "f32",
      head_width: "u32",
      rope_width: "u32",
      half_style: "u32",
      rope_start: "u32",
    },
    bindings: [...plain.bindings, ...bindings("vector gain", "tap norm", "tap rms", "tap pre")],
    prologue: ({ broadcast }, packing) =>
      `const FIRST_NORM_BINDING = ${first}u;\n` + xNormedWgsl +
      (broadcast ? BROADCAST_WGSL[packing!.chunk] : DIRECT_WGSL[packing!.chunk]),
    twin(args) {
      const { inputs: [x, ...others], weights, outputs } = args;
      const [norm, rms, pre] = outputs.slice(results);
      const all = norm ?? new Float32Array(x.length);
      rmsNorm.twin({
        ...args,
        constants: { ...args.constants, groups: 1 },
        inputs: [x],
        weights: weights.slice(-1),
        outputs: [all, rms, pre],
      });
      plain.twin({
        ...args,
        inputs: [all, ...others],
        weights: weights.slice(0, -1),
        outputs: outputs.slice(0, results),
      });
    },
  });
}

function matmul(epilogue: Epilogue): Kernel {
  return kernel({
    operation: "linear",
    epilogue: epilogue.epilogue,
    positions: "many",
    wgsl: epilogue.wgsl,
    packed: true,
    constants: PACKED_CONSTANTS,
    bindings: epilogue.bindings,
    lanes: (knobs) => knobs.dotLanes,
    overrides: (_, constants) => epilogue.overrides?.(constants) ?? {},
    prologue: ({ broadcast }, packing) =>
      broadcast ? broadcastX(packing!) + matmulRowsWgsl : matmulWgsl,
    grid(pass, constants, lanes, { broadcast }) {
      const [tiles, positions] = broadcast ? [lanes, 8] : [2, lanes * 4];
      const [x, z] = twoDimensions(Math.ceil(tileCount(epilogue, constants) / tiles));
      return [x, Math.ceil(pass.tokens / positions), z];
    },
    twin: epilogue.twin,
  });
}

/** For any number of positions, at their best with few; those that norm their x, for few; for many. */
export const productKernels: Kernel[] = [
  ...EPILOGUES.map(matvec),
  ...[...EPILOGUES.filter(({ epilogue }) => epilogue !== "residual"), QKV_ROPE].map(normed),
  ...EPILOGUES.map(matmul),
];

/** Products with the matrices of chosen experts, and what is done with their results. */
import { bindings, type Constants, type Kernel, kernel, type RowReader } from "../kernel.ts";
import { broadcastX, MATMUL_FROM, PACKED_CONSTANTS, plainX } from "../products/products.ts";
import addExpertBiasWgsl from "./add_expert_bias.wgsl" with { type: "text" };
import combineWgsl from "./combine.wgsl" with { type: "text" };
import matmulWgsl from "./matmul.wgsl" with { type: "text" };
import matvecWgsl from "./matvec.wgsl" with { type: "text" };
import partWgsl from "./part.wgsl" with { type: "text" };
import x32RowsWgsl from "./x32_rows.wgsl" with { type: "text" };
import x8RowsWgsl from "./x8_rows.wgsl" with { type: "text" };
import weighWgsl from "./weigh.wgsl" with { type: "text" };

/** Of matmul.wgsl: positions that a workgroup lists, and tiles that its lanes go over. */
const POSITIONS = 128;
const RUNS = 8;

/** How a lane gets columns of x, by the columns of a chunk, in the kernel for many positions. */
const ROWS_WGSL = { 8: x8RowsWgsl, 32: x32RowsWgsl };

/** Whether a product with experts goes to the kernel for many positions; also of few, where rows of x begin anywhere (see matvec.wgsl). */
export function manyForExperts(positions: number, { columns, used, shared }: Constants): boolean {
  return positions >= MATMUL_FROM ||
    (columns % 4 !== 0 && positions * (shared ? 1 : used) > 1);
}

/** Which pairs of position and expert, counted through ids [T, used], each expert has. */
export function pairsByExpert(ids: Float32Array): Map<number, number[]> {
  return Map.groupBy(ids.keys(), (pair) => ids[pair]);
}

/** A reader of the rows of one expert. */
function expertRows(weight: RowReader, expert: number, rows: number): RowReader {
  return { ...weight, rows, read: (row, out) => weight.read(expert * rows + row, out) };
}

/** The experts' matrices, one behind another, each on its own. */
export function expertReaders(weight: RowReader, rows: number): RowReader[] {
  return Array.from(
    { length: weight.rows / rows },
    (_, expert) => expertRows(weight, expert, rows),
  );
}

/**
 * x [T, columns] (`shared` 1: the same for all experts of a position) or [T, used, columns] (`shared` 0), ids [T, used], weight
 * [experts · rows, columns], the experts' matrices one behind another → W_id · x [T, used, rows].
 *
 * Ids are those of {@linkcode route}: where one has no expert, its result is NaN on the processor and nothing on a GPU. In the kernel's `struct
 * Step` `out_row` is the first row that a part of a split matrix has, `out_rows` how many it has. For few positions; also for many, where all rows
 * of x begin at a multiple of four numbers.
 */
const linearExperts = kernel({
  operation: "linear_experts",
  wgsl: partWgsl + matvecWgsl,
  packed: true,
  constants: {
    ...PACKED_CONSTANTS,
    ...{ heads: "u32", epsilon: "f32", head_width: "u32", rope_width: "u32", half_style: "u32" },
    rope_start: "u32",
    ...{ used: "u32", shared: "u32" },
  },
  bindings: bindings("input x", "weight weight", "input ids i32", "output y"),
  lanes: (knobs) => knobs.dotLanes,
  overrides: (knobs) => ({ COLUMN_LANES: knobs.columnLanes }),
  prologue: plainX,
  grid(pass, { rows, used }, lanes, { columnLanes }) {
    return [Math.ceil(Math.ceil(rows / 4) * columnLanes / lanes), pass.tokens * used, 1];
  },
  twin({ constants: { columns, rows, used, shared }, inputs: [x, ids], weights, outputs: [y] }) {
    const w = new Float32Array(columns);
    const readers = expertReaders(weights[0], rows);
    for (const [expert, pairs] of pairsByExpert(ids)) {
      for (let row = 0; row < rows; row++) {
        readers[expert]?.read(row, w);
        for (const pair of pairs) {
          const first = (shared ? Math.floor(pair / used) : pair) * columns;
          let sum = 0;
          for (let i = 0; i < columns; i++) sum += w[i] * x[first + i];
          y![pair * rows + row] = readers[expert] ? sum : NaN;
        }
      }
    }
  },
});

/** The same for many positions, and for few whose rows of x begin anywhere: each expert goes over those that have chosen it. */
const linearExpertsMany = kernel({
  ...linearExperts,
  positions: "many",
  wgsl: partWgsl + matmulWgsl,
  prologue({ broadcast }, packing) {
    return broadcast ? broadcastX(packing!) : ROWS_WGSL[packing!.chunk];
  },
  grid(pass, { rows, out_row, out_rows }, lanes, { columnLanes }) {
    const tiles = RUNS * lanes / columnLanes;
    const experts = Math.ceil((out_row + out_rows) / rows) - Math.floor(out_row / rows);
    return [Math.ceil(Math.ceil(rows / 4) / tiles), experts, Math.ceil(pass.tokens / POSITIONS)];
  },
});

/** x [T, used, rows], ids [T, used], bias [experts, rows] → x and the bias of each row's expert. */
const addExpertBias = kernel({
  operation: "add_expert_bias",
  wgsl: addExpertBiasWgsl,
  constants: { rows: "u32", used: "u32" },
  bindings: bindings("input x", "input ids i32", "weight bias", "output y"),
  grid: (pass, { rows, used }, lanes) => [Math.ceil(rows / lanes), pass.tokens * used, 1],
  twin({ constants: { rows }, inputs: [x, ids], weights: [bias], outputs: [y] }) {
    const b = new Float32Array(bias.columns);
    bias.read(0, b);
    for (let i = 0; i < x.length; i++) {
      y![i] = x[i] + b[ids[Math.floor(i / rows)] * rows + i % rows];
    }
  },
});

/** x [T, used, columns], weights [T, used] → Σ weight · row over each position's experts, [T, columns]. */
const combine = kernel({
  operation: "combine",
  wgsl: combineWgsl,
  constants: { columns: "u32", used: "u32" },
  bindings: bindings("input x", "input weights", "output y"),
  grid: (pass, { columns }, lanes) => [Math.ceil(columns / lanes), pass.tokens, 1],
  twin({ constants: { columns, used }, inputs: [x, weights], outputs: [y] }) {
    for (let i = 0; i < y!.length; i++) {
      const first = Math.floor(i / columns) * used;
      let sum = 0;
      for (let k = first; k < first + used; k++) sum += weights[k] * x[k * columns + i % columns];
      y![i] = sum;
    }
  },
});

/** x [T, used, columns], weights [T, used] → each row times its weight (Llama 4 weighs what goes into its experts). */
const weigh = kernel({
  operation: "weigh",
  wgsl: weighWgsl,
  constants: { columns: "u32", used: "u32" },
  bindings: bindings("input x", "input weights", "output y"),
  grid: (pass, { columns, used }, lanes) => [Math.ceil(columns / lanes), pass.tokens * used, 1],
  twin({ constants: { columns }, inputs: [x, weights], outputs: [y] }) {
    for (let i = 0; i < x.length; i++) y![i] = x[i] * weights[Math.floor(i / columns)];
  },
});

export const expertKernels: Kernel[] = [
  linearExperts,
  linearExpertsMany,
  addExpertBias,
  combine,
  weigh,
];

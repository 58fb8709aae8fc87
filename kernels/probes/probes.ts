/**
 * Kernels that no model needs: they find out what a device can do, for `task bench`. Of each there are a few variants, of which the best
 * counts; matrices lie as the kernel likes it best.
 */
import emptyWgsl from "./empty.wgsl" with { type: "text" };
import positionsWgsl from "./product_positions.wgsl" with { type: "text" };
import rowsWgsl from "./product_rows.wgsl" with { type: "text" };
import tilesWgsl from "./product_tiles.wgsl" with { type: "text" };
import subgroupWgsl from "./product_subgroup.wgsl" with { type: "text" };
import readWgsl from "./read.wgsl" with { type: "text" };

/** A dispatch of nothing. */
export const EMPTY_WGSL = emptyWgsl;

/** y [positions, rows] = x [positions, columns] · Wᵀ. */
export interface ProductShape {
  readonly positions: number;
  readonly rows: number;
  readonly columns: number;
}

/** A way to read. */
export interface ReadKernel {
  readonly name: string;
  /** With the overrides LANES, RUN and APART. */
  readonly wgsl: string;
  readonly word: "u32" | "vec4<u32>";
  /** Of a workgroup. */
  readonly lanes: number;
  /** Words for each lane. */
  readonly run: number;
  /** Whether each lane reads a run of its own; else they read side by side. */
  readonly apart: boolean;
}

/** The ways to read, for subgroups of that size. */
export function readKernels(subgroup: number): ReadKernel[] {
  const kernels = [
    ["u32", subgroup, 1024, false],
    ["u32", 64, 256, false],
    ["vec4<u32>", subgroup, 256, false],
    ["vec4<u32>", 64, 64, false],
    ["vec4<u32>", 256, 64, false],
    ["u32", subgroup, 1024, true],
    ["vec4<u32>", subgroup, 256, true],
  ] as const;
  return kernels.map(([word, lanes, run, apart]) => ({
    name: `${word}, ${lanes} lanes ${apart ? "apart" : "side by side"}`,
    ...{ wgsl: `alias Word = ${word};\n${readWgsl}`, word, lanes, run, apart },
  }));
}

/** Buffers that are read have a multiple of so many bytes, which the runs of all variants divide. */
export const READ_STEP = 2 ** 20;

/** Rows and columns that every variant divides. */
export const PRODUCT_TILE = 64;

/** A way to multiply. */
export interface ProductKernel {
  readonly name: string;
  readonly wgsl: string;
  /** x lies as [columns, positions]; else as [positions, columns]. */
  readonly xTransposed: boolean;
  /** W lies as [columns, rows]; else as [rows, columns]. */
  readonly wTransposed: boolean;
  /** Lanes of a workgroup; undefined where the kernel says it itself. */
  readonly lanes?: number;
  /** Workgroups; undefined where the shape does not suit it. */
  grid(shape: ProductShape): readonly [x: number, y: number] | undefined;
}

/**
 * The ways to multiply, for subgroups of that size.
 *
 * @param shuffles whether lanes of a subgroup can hand numbers to each other
 */
export function productKernels(subgroup: number, shuffles: boolean): ProductKernel[] {
  const whole = (...parts: number[]) => parts.every(Number.isInteger);
  const grid = (x: number, y: number) => whole(x, y) ? [x, y] as const : undefined;
  const lanes = Math.min(32, subgroup);
  return [
    {
      name: "lanes are positions",
      ...{ wgsl: positionsWgsl, xTransposed: true, wTransposed: false, lanes: Math.min(16, lanes) },
      grid: ({ positions, rows }) => grid(positions / (8 * Math.min(16, lanes)), rows / 8),
    },
    {
      name: "lanes are rows",
      ...{ wgsl: rowsWgsl, xTransposed: false, wTransposed: true, lanes },
      grid: ({ positions, rows, columns }) =>
        columns % 4 === 0 ? grid(rows / (2 * lanes), positions / 8) : undefined,
    },
    ...(shuffles && subgroup >= 8
      ? [{
        name: "lanes are rows, columns handed on",
        ...{ wgsl: subgroupWgsl, xTransposed: false, wTransposed: true, lanes: subgroup },
        grid: ({ positions, rows, columns }: ProductShape) =>
          columns % 8 === 0 ? grid(rows / (4 * subgroup), positions / 8) : undefined,
      }]
      : []),
    {
      name: "64 × 64 tiles",
      ...{ wgsl: tilesWgsl, xTransposed: true, wTransposed: true },
      grid: ({ positions, rows, columns }) =>
        columns % 16 === 0 ? grid(rows / 64, positions / 64) : undefined,
    },
  ];
}

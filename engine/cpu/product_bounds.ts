/**
 * How far the processor's products with weights may be from their 64-bit twins. Bounds of all other kernels are those that every device has
 * (engine/check/bounds.ts); products are worked out here, because quants are multiplied as whole numbers, and because WebAssembly's arithmetic
 * is stricter than WGSL's: each operation rounds to nearest, which is an error of half an ULP at most.
 */
import { gatedError } from "../check/activation_bounds.ts";
import { allowedErrors } from "../check/bounds.ts";
import { type BoundArguments, relative, rounded, sumError, TINY } from "../check/rounding.ts";
import type { KernelCase } from "../check/case.ts";
import { numbersReader, type PackedMatrices } from "../check/data.ts";
import { expertReaders, pairsByExpert } from "../../kernels/experts/linear_experts.ts";
import type { RowReader } from "../../kernels/kernel.ts";

/** Sums that every kernel but the products makes side by side, at least: 4 in softmax, 16 in norms. */
const LANES = 4;

/** Numbers of positions up to which tiles are multiplied as they are: see linear.as.ts. */
const FEW_QUANTS = 15;
const FEW_FLOATS = 3;

/** Types whose numbers are scale · quant + minimum. */
const WITH_MINIMUMS: ReadonlySet<string> = new Set(["Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"]);
/** Types with a scale for every 16 columns; the other quantized ones have one for 32. */
const OF_SIXTEEN: ReadonlySet<string> = new Set(["Q2_K", "Q3_K", "Q6_K"]);

/** Columns of x that become whole numbers with one unit. */
const TURNED = 32;
/**
 * How far those are off, as a share of the largest of them. Of 24 bits the largest is about 0x7f7f7e units, or at least half as many where units
 * are powers of two and nothing is rounded (x.as.ts); a number is off by half a unit, and by a quarter before, where it becomes so many units.
 * Of Q8_0's 28 bits the largest is at least 2²⁶ units.
 */
const SIGNED_ERROR = 0.75 / 0x7f7f7e;
const SEVENS_ERROR = 0.5 / 2 ** 26;

/** The numbers of matrices if all their quants were 0: their minimums. */
function minimums({ packing, columns, words, scales, highs, readers }: PackedMatrices) {
  const zeros = new Uint32Array(words);
  zeros.fill(0, 0, scales);
  zeros.fill(0, highs);
  const planes = {
    quants: zeros.subarray(0, scales),
    scales: zeros.subarray(scales, highs),
    highs: zeros.subarray(highs),
  };
  let first = 0;
  return readers.map(({ rows }) => {
    const numbers = new Float32Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      packing.unpack(
        planes,
        first + row,
        columns,
        numbers.subarray(row * columns, (row + 1) * columns),
      );
    }
    first += rows;
    return numbersReader(numbers, columns);
  });
}

/** How large at most the parts are that each number is the sum of: |scale · quant| ≤ |number| + |minimum|. */
function partSizes(packed: PackedMatrices): RowReader[] {
  const { packing, readers } = packed;
  const added = WITH_MINIMUMS.has(packing.name) ? minimums(packed) : [];
  return readers.map((reader, i) => {
    const { rows, columns } = reader;
    const minimum = new Float32Array(columns);
    return {
      rows,
      columns,
      read(row, out) {
        reader.read(row, out);
        added[i]?.read(row, minimum);
        for (let k = 0; k < columns; k++) out[k] = Math.abs(out[k]) + 2 * Math.abs(minimum[k]);
      },
    };
  });
}

/** Operations that round, on the way of a term of W·x to its sum, and how far x is off before. */
function arithmetic(
  { packing: { name, blockSize } }: PackedMatrices,
  tokens: number,
  columns: number,
  split: boolean,
): { readonly operations: number; readonly turned: number } {
  const quants = blockSize > 1;
  if (split || tokens > (quants ? FEW_QUANTS : FEW_FLOATS)) {
    // many.as.ts: a number is made f32, two operations; a product; sums of a piece's columns, of a group's pieces, and their total.
    const sums = Math.min(columns, 32) + Math.min(Math.ceil(columns / 32), 8) +
      Math.ceil(columns / 256);
    return { operations: 2 + 1 + sums, turned: 0 };
  }
  if (!quants) {
    // plain.as.ts: a product, sums of sixteen columns, of four such sums, their total, and two factors of halves.
    return { operations: 1 + 16 + 2 + Math.ceil(columns / 64) + 2, turned: 0 };
  }
  // quants.as.ts: the twin's number is rounded; digits' sums become f32 and are put together; two factors, with minimums a sum before the
  // second, and roundings of the unit and its inverse; then sums of a piece's blocks, and of pieces.
  const [blocks, piece] = OF_SIXTEEN.has(name) ? [columns / 16, 18] : [columns / 32, 9];
  return {
    operations: 1 + 3 + 2 + (WITH_MINIMUMS.has(name) ? 1 : 0) + 2 + Math.min(blocks, piece) +
      Math.ceil(blocks / piece),
    turned: name === "Q8_0" ? SEVENS_ERROR : SIGNED_ERROR,
  };
}

/** How far each matrix's products with x [T, columns] may be off, [T, rows] or, split among heads, [T, heads, rows]. */
function productErrors(
  packed: PackedMatrices,
  sizes: readonly RowReader[],
  x: Float32Array,
  heads: number,
  more: number,
  whole: boolean,
): Float64Array[] {
  const { columns } = packed;
  const tokens = x.length / columns;
  const width = columns / heads;
  const { operations, turned } = arithmetic(packed, tokens, width, heads > 1);
  const magnitudes = x.map(Math.abs);
  const largest = new Float32Array(x.length);
  for (let from = 0; from < x.length; from += TURNED) {
    if (turned) {
      largest.fill(
        magnitudes.subarray(from, from + TURNED).reduce((a, b) => Math.max(a, b)),
        from,
        from + TURNED,
      );
    }
  }
  const w = new Float32Array(columns);
  return sizes.map((reader) => {
    const errors = new Float64Array(tokens * heads * reader.rows);
    for (let row = 0; row < reader.rows; row++) {
      reader.read(row, w);
      for (let part = 0; part < tokens * heads; part++) {
        let terms = 0;
        let off = 0;
        const first = part % heads * width;
        const start = part * width;
        for (let i = 0; i < width; i++) terms += w[first + i] * magnitudes[start + i];
        if (turned) { for (let i = 0; i < width; i++) off += w[first + i] * largest[start + i]; }
        const rounding = sumError(terms, (operations + more) / 2, whole);
        // Whole numbers stay what they are when they are turned.
        errors[part * reader.rows + row] = rounding && rounding + off * turned + TINY;
      }
    }
    return errors;
  });
}

/** Root, its rounding, division and gain, and the twin's own rounding of what it multiplies: see norm_rows.as.ts. */
const NORM_OPERATIONS = 4;

function linearErrors(args: BoundArguments, packed: PackedMatrices): Float64Array[] {
  const { kernel: { epilogue, normed }, inputs, outputs, whole } = args;
  const results = outputs.length - (normed ? 3 : 0);
  const [x, more] = normed ? [outputs[results], NORM_OPERATIONS] : [inputs[0], 0];
  const products = productErrors(packed, partSizes(packed), x, 1, more, whole && !normed);
  const stored = (first: number) => products.map((each, i) => rounded(each, outputs[first + i]));
  const norms = normed
    ? [
      relative(outputs[results], 1.5),
      relative(outputs[results + 1], 0.5),
      relative(outputs[results + 2], 1),
    ]
    : [];
  switch (epilogue) {
    case "residual": {
      const [tap] = stored(1);
      const [error] = products;
      // One operation more; a sum of whole numbers is exact.
      const sum = error.map((each, i) =>
        each && each + relative(outputs[0].subarray(i, i + 1), 0.5)[0]
      );
      return [rounded(sum, outputs[0]), tap];
    }
    case "glu": {
      const [act, gate, up] = outputs;
      const [gates, ups] = products;
      const acts = Float64Array.from(
        act,
        (_, i) => gatedError(args.constants.activation, gate[i], up[i], gates[i], ups[i]),
      );
      return [acts, ...stored(1), ...norms];
    }
    default:
      return [...stored(0), ...norms];
  }
}

/** Each expert's products with its own positions. */
function expertErrors(
  { constants: { columns, rows, used, shared }, inputs: [x, ids], outputs: [y], whole }:
    BoundArguments,
  packed: PackedMatrices,
): Float64Array[] {
  const errors = new Float64Array(y.length);
  const sizes = partSizes({ ...packed, readers: expertReaders(packed.readers[0], rows) });
  for (const [expert, pairs] of pairsByExpert(ids)) {
    const own = new Float32Array(pairs.length * columns);
    pairs.forEach((pair, i) => {
      const row = shared ? Math.floor(pair / used) : pair;
      own.set(x.subarray(row * columns, (row + 1) * columns), i * columns);
    });
    const [each] = productErrors(packed, [sizes[expert]], own, 1, 0, whole);
    pairs.forEach((pair, i) => errors.set(each.subarray(i * rows, (i + 1) * rows), pair * rows));
  }
  return [rounded(errors, y)];
}

/** How far each number of each output of a case may be from the twin's on the processor. */
export function cpuAllowedErrors(
  each: KernelCase,
  expected: readonly Float32Array[],
): Float64Array[] {
  const { kernel, packed, kind, constants, inputs } = each;
  const args: BoundArguments = {
    ...each,
    outputs: expected,
    lanes: LANES,
    columnLanes: LANES,
    broadcast: false,
    whole: kind === "whole",
  };
  if (packed && kernel.operation === "linear") return linearErrors(args, packed);
  if (packed && kernel.operation === "linear_experts") return expertErrors(args, packed);
  if (packed && kernel.operation === "head_result") {
    return productErrors(packed, partSizes(packed), inputs[0], constants.heads, 0, args.whole)
      .map((errors, i) => rounded(errors, expected[i]));
  }
  return allowedErrors(args);
}

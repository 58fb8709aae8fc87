/** Products on the CPU run by a thread at a time, and how far each result may be from its 64-bit twin. */
import assert from "node:assert/strict";
import { Noise, numbersReader, packMatrices, randomBlocks } from "../../engine/check/data.ts";
import type { Kind } from "../../engine/check/data.ts";
import type { Constants, RowReader } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import type { Packing } from "../../kernels/weights/packings.ts";
import { TILES } from "../../kernels/weights/tiles.ts";
import { OPERATIONS } from "../../engine/cpu/records.ts";
import type { Operation } from "../../kernels/kernel.ts";
import kernelsBase64 from "../../kernels/kernels.wasm.base64" with { type: "text" };
import { activate, ACTIVATIONS } from "../../kernels/elementwise/activations.ts";

const SILU = ACTIVATIONS.indexOf("silu");
const PAGES = 65536;
const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
const { instance } = await WebAssembly.instantiate(
  Uint8Array.fromBase64(kernelsBase64),
  { env: { memory } },
);
export type StepKernel = (step: number, pass: number, thread: number, threads: number) => void;
const wasm = instance.exports as unknown as {
  runStep(step: number, thread: number, threads: number): void;
  pack(id: number, source: number, destination: number, rows: number, columns: number): void;
  read_row(descriptor: number, row: number, out: number): void;
};
export const stepKernel = (operation: Operation): StepKernel => (step, pass, thread, threads) => {
  words(step, 2).set([OPERATIONS.get(operation)!, pass]);
  wasm.runStep(step, thread, threads);
};
export const kernels = {
  ...wasm,
  linear: stepKernel("linear"),
  embed: stepKernel("embed"),
  head_result: stepKernel("head_result"),
};

export const FIRST = 1 << 20;
/** What lies behind what a kernel may write. */
export const UNTOUCHED = 12345.5;
let free = FIRST;

export function room(bytes: number): number {
  const at = free;
  free += Math.ceil(bytes / 16) * 16 + 64;
  return at;
}

export function floats(at: number, length: number): Float32Array {
  return new Float32Array(memory.buffer, at, length);
}

export function words(at: number, length: number): Uint32Array {
  return new Uint32Array(memory.buffer, at, length);
}

export function put(numbers: ArrayLike<number>): number {
  const at = room(numbers.length * 4);
  floats(at, numbers.length).set(numbers);
  return at;
}

export interface Matrix {
  readonly descriptor: number;
  readonly reader: RowReader;
  /** Of each number of a row, how large what it is the sum of is at most. */
  magnitudes(row: number): Float64Array;
}

export function matrix(packing: Packing, bytes: Uint8Array, rows: number, columns: number): Matrix {
  const { id, tileBytes, blockSize } = TILES.get(packing.name)!;
  const source = room(bytes.length + 1) + 1; // at no even address
  new Uint8Array(memory.buffer, source, bytes.length).set(bytes);
  const tiles = room(Math.ceil(rows / 8) * tileBytes(columns));
  new Uint8Array(memory.buffer, tiles, Math.ceil(rows / 8) * tileBytes(columns)).fill(255);
  kernels.pack(id, source, tiles, rows, columns);
  const descriptor = room(32);
  words(descriptor, 5).set([tiles, id, rows, columns, tileBytes(columns)]);
  const reader = packMatrices(packing, columns, [rows], bytes).readers[0];
  const minimums = ["Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"].includes(packing.name);
  const size = packing.name === "Q2_K" ? 16 : 32;
  return {
    descriptor,
    reader,
    magnitudes(row) {
      const w = new Float32Array(columns);
      reader.read(row, w);
      const all = Float64Array.from(w, Math.abs);
      if (!minimums || blockSize === 1) return all;
      const blockBytes = tileBytes(columns) / (columns / size);
      for (let i = 0; i < columns; i++) {
        const block = tiles + (row >> 3) * tileBytes(columns) + Math.floor(i / size) * blockBytes;
        all[i] += 2 * Math.abs(floats(block + blockBytes - 32, 8)[row & 7]); // |d·q| ≤ |w| + |m|
      }
      return all;
    },
  };
}

export const THREAD_BYTES = 1 << 23;

export interface StepFields {
  readonly inputs: readonly number[];
  readonly weights: readonly number[];
  readonly outputs: readonly number[];
  readonly constants: readonly number[];
  readonly epsilon?: number;
}

/** Runs a kernel for each of so many threads, one after the other, in that order. */
export function run(
  kernel: StepKernel,
  tokens: number,
  fields: StepFields,
  order: readonly number[],
) {
  const step = room(256), pass = room(32), scratch = room(THREAD_BYTES * order.length);
  const record = words(step, 64);
  record.fill(0);
  record.set(fields.inputs, 2);
  record.set(fields.weights, 8);
  record.set(fields.outputs, 12);
  record.set(fields.constants, 24);
  if (fields.epsilon !== undefined) floats(step, 64)[27] = fields.epsilon;
  words(pass, 5).set([tokens, 0, 1, scratch, THREAD_BYTES]);
  floats(scratch, THREAD_BYTES / 4 * order.length).fill(NaN);
  for (const thread of order) kernel(step, pass, thread, order.length);
}

export const EPSILON = 1e-5;
export const HALF_ULP = 2 ** -24;
export const EPILOGUES = ["plain", "residual", "qkv", "glu"] as const;
export type Epilogue = typeof EPILOGUES[number];

export interface Product {
  readonly epilogue: Epilogue;
  readonly normed: boolean;
  readonly tokens: number;
  readonly matrices: readonly Matrix[];
  readonly x: Float32Array;
  /** Which outputs, taps among them, are wanted. */
  readonly wanted: (i: number) => boolean;
  readonly order?: readonly number[];
}

export interface Results {
  readonly outputs: (Float32Array | null)[];
  readonly expected: (Float32Array | null)[];
  /** Each result's allowed error. */
  readonly allowed: (Float64Array | null)[];
}

/** How far a product of `reader`'s rows with x may be off: see the comments. */
export function productErrors(
  { reader, magnitudes }: Matrix,
  x: Float32Array,
  tokens: number,
  rounding: number,
): Float64Array {
  const { rows, columns } = reader;
  const errors = new Float64Array(tokens * rows);
  for (let row = 0; row < rows; row++) {
    const m = magnitudes(row);
    for (let t = 0; t < tokens; t++) {
      let total = 0, turned = 0;
      for (let block = 0; block < columns; block += 32) {
        let most = 0, weight = 0;
        for (let i = block; i < Math.min(columns, block + 32); i++) {
          most = Math.max(most, Math.abs(x[t * columns + i]));
          weight += m[i];
          total += Math.abs(x[t * columns + i]) * m[i];
        }
        // x becomes a whole number whose unit is at most 2⁻²² (and a bit) of the block's largest.
        turned += most * weight * 1.01 * 2 ** -23;
      }
      // Sums of 64 columns, or of whole numbers; then the total of all; the number itself, products and factors are rounded, too.
      const operations = Math.min(columns, 64) + columns / 32 + 8 + rounding;
      errors[t * rows + row] = total * operations * HALF_ULP + turned;
    }
  }
  return errors;
}

export function runProduct(product: Product): Results {
  const { epilogue, normed, tokens, matrices, x, wanted, order = [0] } = product;
  const { columns } = matrices[0].reader;
  const before = free;
  const name = ["linear", epilogue === "plain" ? "" : epilogue, normed ? "normed" : ""]
    .filter(Boolean).join("_");
  const kernel = KERNELS.get(name)!;
  const noise = new Noise(`${name} ${tokens} ${columns}`);
  const gain = noise.numbers(columns);
  const rows = matrices.map(({ reader }) => reader.rows);
  const residual = epilogue === "residual" ? [noise.numbers(tokens * rows[0])] : [];
  const sizes = [
    ...({
      plain: [rows[0]],
      residual: [rows[0], rows[0]],
      qkv: rows,
      glu: [rows[0], rows[0], rows[0]],
    }[epilogue]),
    ...(normed ? [columns, 1, columns] : []),
  ].map((each) => each * tokens);
  const results = sizes.length - (normed ? 3 : 0);
  const places = sizes.map((size, i) =>
    wanted(i) ? put(new Float32Array(size + 4).fill(UNTOUCHED)) : 0
  );
  run(kernels.linear, tokens, {
    inputs: [put(x), ...residual.map(put)],
    weights: [...matrices.map(({ descriptor }) => descriptor), ...(normed ? [put(gain)] : [])],
    outputs: places,
    constants: [columns, EPILOGUES.indexOf(epilogue), normed ? 1 : 0, 0, SILU],
    epsilon: normed ? EPSILON : undefined,
  }, order);
  const outputs = places.map((at, i) => at ? floats(at, sizes[i]).slice() : null);
  places.forEach((at, i) =>
    assert.ok(!at || floats(at, sizes[i] + 4).slice(-4).every((each) => each === UNTOUCHED))
  );
  free = before;

  // All of the twin's results: what is allowed depends on some that are not wanted.
  const all = sizes.map((size) => new Float32Array(size));
  const constants: Constants = { columns, epsilon: Math.fround(EPSILON), activation: SILU };
  kernel.twin({
    pass: { tokens, start: 0, rows: 1 },
    constants,
    inputs: [x, ...residual],
    weights: [
      ...matrices.map(({ reader }) => reader),
      ...(normed ? [numbersReader(gain, columns)] : []),
    ],
    outputs: all,
  });
  const expected = all.map((each, i) => wanted(i) ? each : null);
  // Root, division and gain are rounded.
  const multiplied = normed ? all[results] : x;
  const errors = matrices.map((each) => productErrors(each, multiplied, tokens, normed ? 4 : 0));
  let allowed: Float64Array[];
  if (epilogue === "glu") {
    const [act, gate, up] = all;
    allowed = [
      // |silu'| < 1.1; the exponential, two sums, division and product are rounded.
      Float64Array.from(act, (y, i) =>
        1.1 * errors[0][i] * (Math.abs(up[i]) + errors[1][i]) +
        Math.abs(activate(SILU, gate[i])) * errors[1][i] + 8 * HALF_ULP * Math.abs(y)),
      ...errors,
    ];
  } else if (epilogue === "residual") {
    allowed = [errors[0].map((each, i) => each + HALF_ULP * Math.abs(all[0][i])), errors[0]];
  } else {
    allowed = errors;
  }
  for (let i = results; i < all.length; i++) {
    allowed.push(Float64Array.from(all[i], (each) => 4 * HALF_ULP * Math.abs(each)));
  }
  return { outputs, expected, allowed: allowed.map((each, i) => wanted(i) ? each : null) };
}

/** The worst error as a part of what is allowed. */
export function judge({ outputs, expected, allowed }: Results, what: string): number {
  let worst = 0;
  outputs.forEach((output, o) => {
    output?.forEach((value, i) => {
      // The twin's own result is rounded once.
      const most = allowed[o]![i] + HALF_ULP * Math.abs(expected[o]![i]) + 2 ** -126;
      const error = Math.abs(value - expected[o]![i]);
      worst = Math.max(worst, error / most);
      assert.ok(
        error <= most,
        `${what}: output ${o}[${i}] is ${value}, not ${expected[o]![i]}: allowed ${most}`,
      );
    });
  });
  return worst;
}

export function made(packing: Packing, rows: number, columns: number, kind: Kind = "real"): Matrix {
  const noise = new Noise(`${packing.name} ${rows} ${columns} ${kind}`);
  return matrix(packing, randomBlocks(packing, rows * columns, noise, kind), rows, columns);
}

export function columnsOf({ blockSize }: Packing): number[] {
  if (blockSize === 1) return [1, 3, 7, 8, 64, 65, 130, 576];
  return blockSize === 32 ? [32, 64, 96, 576, 1056] : [256, 768];
}

/** Forgets all that was put into memory. */
export function clearRoom(): void {
  free = FIRST;
}

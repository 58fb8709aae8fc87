/** Mistakes of engines, as faults put them together. */
import { dequantize } from "../../../../engine/gguf/dequantize.ts";
import type { Making, Mistakes, Place, Shape, Weight } from "../../engines/engine_mistakes.ts";
import type { FaultModel } from "../../models/fault_models.ts";

/** An outcome changed. */
export function made(
  point: string,
  change: (x: Float32Array, pass: Making) => Float32Array,
): Mistakes {
  return { made: (each, numbers, pass) => each === point ? change(numbers, pass) : numbers };
}

/** An outcome changed in the passes after the prompt's. */
export function madeDecoding(
  point: string,
  change: (x: Float32Array, pass: Making) => Float32Array,
): Mistakes {
  return made(point, (x, pass) => pass.start > 0 ? change(x, pass) : x);
}

/** Each number of an outcome changed. */
export function each(point: string, change: (value: number) => number): Mistakes {
  return made(point, (x) => x.map(change));
}

/** A weight read wrongly. */
export function weight(
  name: string,
  change: (data: Float32Array, rows: number, columns: number) => Float32Array,
): Mistakes {
  return {
    weight: (each, right) =>
      each === name ? { ...right, data: change(right.data, right.rows, right.columns) } : right,
  };
}

/** A weight times a factor. */
export function times(name: string, factor: number): Mistakes {
  return weight(name, (data) => data.map((w) => w * factor));
}

/** The bytes of a weight taken for others. */
export function misread(
  name: string,
  change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>,
): Mistakes {
  return {
    weight(each, right) {
      if (each !== name) return right;
      const { type, bytes } = right.stored!;
      return { ...right, data: dequantize(type, change(bytes.slice())) };
    },
  };
}

/** One weight of a block in another's place. */
export function instead(names: Readonly<Record<string, string | undefined>>): Mistakes {
  return { weight: (name, right) => Object.hasOwn(names, name) ? names[name] : right };
}

/** A weight of the file in another's place, by its full name. */
export function fromFile({ engine }: FaultModel, name: string, full: string): Mistakes {
  return {
    weight: (each, right): Weight => each === name ? engine.weights.get(full)! : right,
  };
}

/** Weights of other blocks: those that stand in a block's place. */
export function fromBlocks({ engine }: FaultModel, other: (layer: number) => number): Mistakes {
  return {
    weight: (name, right, layer) =>
      layer === undefined ? right : engine.weights.get(`blk.${other(layer)}.${name}`)!,
  };
}

/** Rows of a weight in another order: in row r stands row `from(r, rows)`; zeros where that is none. */
export function rows(name: string, from: (row: number, rows: number) => number): Mistakes {
  return weight(name, (data, count, columns) => rowsFrom(data, count, columns, from));
}

/** Rows of a matrix in another order. */
export function rowsFrom(
  data: Float32Array,
  count: number,
  columns: number,
  from: (row: number, rows: number) => number,
): Float32Array {
  return data.map((_, i) =>
    data[from(Math.floor(i / columns), count) * columns + i % columns] ?? 0
  );
}

/** Columns of a weight in another order: in column c stands column `from(c, columns)`. */
export function columns(name: string, from: (column: number, columns: number) => number): Mistakes {
  return weight(
    name,
    (data, _, columns) => data.map((_, i) => data[i - i % columns + from(i % columns, columns)]),
  );
}

/** Some numbers of a weight zero. */
export function zeroed(
  name: string,
  isZero: (row: number, column: number, rows: number, columns: number) => boolean,
): Mistakes {
  return weight(
    name,
    (data, rows, columns) =>
      data.map((w, i) => isZero(Math.floor(i / columns), i % columns, rows, columns) ? 0 : w),
  );
}

/** Attention that sees other keys. */
export function sees(visible: (place: Place) => boolean): Mistakes {
  return { sees: visible };
}

/** Scores with something in place of those of some keys. */
export function floored(
  { heads }: Shape,
  floor: (score: number, place: Place) => number,
): Mistakes {
  return made("attn_scores", (x, { start, count }) => {
    const slots = start + count;
    return x.map((score, i) => {
      const row = Math.floor(i / slots);
      const [head, query] = [Math.floor(row / count) % heads, start + row % count];
      return floor(score, { head, query, key: i % slots, start });
    });
  });
}

/** Scores with minus infinity at keys that a query does not see, as many engines show them. */
export function masked(shape: Shape): Mistakes {
  return floored(shape, (score, { query, key }) => key > query ? -Infinity : score);
}

/** A cache changed, slot by slot: what stands in a slot of a pass. */
export function slots(
  { kvHeads, headWidth }: Shape,
  cache: "cache_k" | "cache_v",
  from: (slot: number, pass: Making) => number | undefined,
): Mistakes {
  const width = kvHeads * headWidth;
  return made(cache, (x, pass) =>
    x.map((_, i) => {
      const slot = from(Math.floor(i / width), pass);
      return slot === undefined ? 0 : x[slot * width + i % width] ?? 0;
    }));
}

/** A number of so many bits of mantissa after its first one, rounded to even. */
export function toBits(value: number, bits: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - bits);
  const quotient = value / unit;
  const low = Math.floor(quotient);
  const isUp = quotient - low > 0.5 || quotient - low === 0.5 && low % 2 !== 0;
  return (isUp ? low + 1 : low) * unit;
}

/** The upper half of a 32-bit float. */
export const bf16 = (value: number) => toBits(value, 7);

/** An 8-bit float of 4 bits of exponent and 3 of mantissa (OCP E4M3), as far as its range goes. */
export function e4m3(value: number): number {
  const size = Math.abs(value);
  // Below the smallest normal number steps are equal: adding it rounds to them, to even.
  const rounded = size < 2 ** -6 ? toBits(size + 2 ** -6, 3) - 2 ** -6 : toBits(size, 3);
  return Math.sign(value) * Math.min(448, rounded);
}

/** A row as 8-bit integers of one scale. */
export function int8(row: Float32Array): Float32Array {
  const scale = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / 127;
  return scale === 0 ? row : row.map((value) => Math.round(value / scale) * scale);
}

/** A change of each row of a matrix. */
export function byRow(
  x: Float32Array,
  rows: number,
  change: (row: Float32Array) => Float32Array,
): Float32Array {
  const out = new Float32Array(x.length);
  const width = x.length / rows;
  for (let at = 0; at < x.length; at += width) out.set(change(x.subarray(at, at + width)), at);
  return out;
}

/** GELU's approximation by tanh. */
export const geluTanh = (x: number) =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** SiLU. */
export const silu = (x: number) => x / (1 + Math.exp(-x));

/** Weights of Hugging Face's as converters to GGUF write them: of some families other numbers, or the same in another order. */
import type { HuggingFace } from "../../engine/model/family.ts";
import type { SafetensorsTensor } from "./safetensors.ts";

/** A tensor in GGUF's order, slowest axis first. */
export type Converted = Pick<SafetensorsTensor, "shape" | "read">;

type Read = NonNullable<SafetensorsTensor["read"]>;

/**
 * A tensor as the converter writes it.
 *
 * @param name GGUF's: `blk.0.attn_qkv.weight`
 * @param heads H; undefined where the config does not say it
 */
export function converted(
  name: string,
  { shape, read }: SafetensorsTensor,
  { normOffset = 0, transposed = false, qkvByHeads = false }: HuggingFace = {},
  heads?: number,
  width?: number,
): Converted {
  if (read === undefined) return { shape, read };
  if (normOffset !== 0 && name.endsWith("norm.weight")) {
    const added: Read = async (...place) => (await read(...place)).map((one) => one + normOffset);
    return { shape, read: added };
  }
  if (transposed && shape.length === 2 && name.startsWith("blk.")) {
    const [columns, rows] = shape;
    return { shape: [rows, columns], read: transposing(read, columns, rows) };
  }
  const isFused = /attn_qkv\.(weight|bias)$/.test(name);
  if (qkvByHeads && isFused && heads !== undefined && width !== undefined) {
    const columns = shape[1] ?? 1;
    return { shape, read: inOrder(read, columns, byKind(heads, width / heads, shape[0])) };
  }
  return { shape, read };
}

/**
 * Which row of a file with q, k and v of each key head together is a row of all queries, then keys, then values.
 *
 * @param rows (H + 2 Hkv) · d
 */
function byKind(heads: number, headWidth: number, rows: number): (row: number) => number {
  const kvHeads = (rows / headWidth - heads) / 2;
  const group = heads / kvHeads;
  return (row) => {
    const head = Math.floor(row / headWidth);
    const [kvHead, place] = head < heads
      ? [Math.floor(head / group), head % group]
      : [(head - heads) % kvHeads, group + Math.floor((head - heads) / kvHeads)];
    return (kvHead * (group + 2) + place) * headWidth + row % headWidth;
  };
}

/** Reads rows in another order; `stored` says which of the file's rows one is. Neighbours are read at once. */
function inOrder(read: Read, columns: number, stored: (row: number) => number): Read {
  return async (first, count) => {
    const out = new Float32Array(count);
    for (let at = 0; at < count;) {
      const row = Math.floor((first + at) / columns);
      const column = (first + at) % columns;
      let length = columns - column;
      for (let next = row + 1; length < count - at; next++) {
        if (stored(next) !== stored(row) + next - row) break;
        length += columns;
      }
      length = Math.min(length, count - at);
      out.set(await read(stored(row) * columns + column, length), at);
      at += length;
    }
    return out;
  };
}

/**
 * Reads a matrix [rows, columns] of a file that has it as [columns, rows]. The whole of it is read for a piece, and kept as long as
 * there is room.
 */
function transposing(read: Read, columns: number, rows: number): Read {
  let kept: WeakRef<Float32Array> | undefined;
  return async (first, count) => {
    const whole = kept?.deref() ?? await read(0, columns * rows);
    kept = new WeakRef(whole);
    return Float32Array.from({ length: count }, (_, i) => {
      const row = Math.floor((first + i) / columns);
      return whole[(first + i) % columns * rows + row];
    });
  };
}

/** Blocks of quantized types with seeded random bits. */
import type { GgmlType } from "../../../engine/gguf/types.ts";

/** Whole blocks; half floats in them are finite, about 2⁻⁸ to 2⁻⁵, of either sign. */
export function randomBlocks(type: GgmlType, count: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  const bytes = Uint8Array.from({ length: count * type.blockBytes }, next);
  for (let at = 0; at < bytes.length; at += type.blockBytes) {
    for (const [offset, width, fields] of type.wide) {
      if (width !== 2) continue; // the fifth bits of Q5_0 and Q5_1
      for (let field = 0; field < fields; field++) {
        const high = at + offset + 2 * field + 1;
        bytes[high] = bytes[high] & 0x80 | 0x1c + (bytes[high] & 0x07);
      }
    }
  }
  return bytes;
}

/** Pixels with few colours as a PNG, as small as it gets: a quarter of what libraries write, which know no palettes. */
import { Buffer } from "node:buffer";
import { constants, crc32, deflateSync } from "node:zlib";
import type { Indexed } from "./palette.ts";

/** Format: https://www.w3.org/TR/png-3/ */
export function indexedPng({ colors, indices }: Indexed, width: number): Uint8Array<ArrayBuffer> {
  const height = indices.length / width;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8); // 8 bits a pixel, of a palette
  // Each line begins with its filter: none, since areas of one colour are smallest so.
  const lines = new Uint8Array(height * (1 + width));
  for (let y = 0; y < height; y++) {
    lines.set(indices.subarray(y * width, (y + 1) * width), y * (1 + width) + 1);
  }
  return Uint8Array.from(Buffer.concat([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", header),
    chunk("PLTE", colors),
    chunk("IDAT", deflateSync(lines, { level: constants.Z_BEST_COMPRESSION })),
    chunk("IEND", new Uint8Array()),
  ]));
}

function chunk(type: string, data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(type, 4, "latin1");
  bytes.set(data, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}

/** A small PNG writer: for matrices that stand in a picture as images, and for the picture. */
import { Buffer } from "node:buffer";
import { constants, crc32, deflateSync } from "node:zlib";

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** The format's numbers for colours with and without alpha. */
const COLOR_TYPE = { 3: 2, 4: 6 };

/**
 * Pixels as a PNG. Without alpha, if none needs it; without filters, since areas of one colour are smallest so.
 *
 * @param rgba [height, width, 4]
 */
export function encodePng(
  rgba: Uint8Array,
  width: number,
  height: number,
): Uint8Array<ArrayBuffer> {
  const channels = rgba.every((value, i) => i % 4 !== 3 || value === 255) ? 3 : 4;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, COLOR_TYPE[channels]], 8); // 8 bits a channel
  const lines = new Uint8Array(height * (1 + channels * width)); // each begins with its filter: none
  let to = 0;
  for (let from = 0; from < rgba.length; from += 4) {
    if (from % (4 * width) === 0) to++;
    for (let channel = 0; channel < channels; channel++) lines[to++] = rgba[from + channel];
  }
  return Uint8Array.from(Buffer.concat([
    SIGNATURE,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(lines, { level: constants.Z_BEST_COMPRESSION })),
    chunk("IEND", new Uint8Array()),
  ]));
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

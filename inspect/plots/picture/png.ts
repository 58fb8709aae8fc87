/** A small PNG writer: for matrices that stand in a picture as images, and for the picture. */
import { Buffer } from "node:buffer";
import { constants, crc32, deflateSync } from "node:zlib";
import type { Indexed } from "./palette.ts";

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** Pixels [height, width, 4] of red, green, blue, alpha as a PNG. */
export function rgbaPng(rgba: Uint8Array, width: number): Uint8Array<ArrayBuffer> {
  return png({
    pixels: rgba,
    width,
    channels: 4,
    colorType: 6,
    before: [],
    level: constants.Z_DEFAULT_COMPRESSION,
  });
}

/** Pixels with few colours as a PNG, as small as it gets. */
export function indexedPng({ colors, indices }: Indexed, width: number): Uint8Array<ArrayBuffer> {
  const before = [chunk("PLTE", colors)];
  return png({
    pixels: indices,
    width,
    channels: 1,
    colorType: 3,
    before,
    level: constants.Z_BEST_COMPRESSION,
  });
}

/** Format: https://www.w3.org/TR/png-3/ */
function png({ pixels, width, channels, colorType, before, level }: {
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly channels: number;
  /** The format's name for what the channels are. */
  readonly colorType: number;
  /** Chunks in front of the pixels. */
  readonly before: readonly Uint8Array[];
  /** How hard to look for what repeats. */
  readonly level: number;
}): Uint8Array<ArrayBuffer> {
  const length = channels * width;
  const height = pixels.length / length;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, colorType], 8); // 8 bits a channel
  // Each line begins with its filter: none, since areas of one colour are smallest so.
  const lines = new Uint8Array(height * (1 + length));
  for (let y = 0; y < height; y++) {
    lines.set(pixels.subarray(y * length, (y + 1) * length), y * (1 + length) + 1);
  }
  return Uint8Array.from(Buffer.concat([
    SIGNATURE,
    chunk("IHDR", header),
    ...before,
    chunk("IDAT", deflateSync(lines, { level })),
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

/** Few colours for a picture: charts have few, and so are half as large as files. */

/** Colours of a picture, and which of them each pixel has. */
export interface Indexed {
  /** [colours, 3] */
  readonly colors: Uint8Array;
  /** [height, width] */
  readonly indices: Uint8Array;
}

/** Most colours that a byte can name. */
const MOST = 256;
/** So many of them are the most frequent ones: those of backgrounds, letters and lines, which stay exact. */
const FREQUENT = 32;
/** Farthest that a pixel's colour may move, as a distance of (red, green, blue): what nobody sees at a letter's edge. */
const FARTHEST = 24;

/**
 * A picture with at most 256 colours: the most frequent ones, then always the one that is farthest from all chosen before, so that
 * rare colours stay too. Undefined where a pixel's colour would change visibly.
 *
 * @param rgba opaque pixels
 */
export function indexed(rgba: Uint8Array): Indexed | undefined {
  const pixels = new Int32Array(rgba.buffer, rgba.byteOffset, rgba.length / 4);
  const runs = runsOf(pixels);
  const counts = new Map<number, number>();
  for (const { pixel, start, end } of runs) {
    counts.set(pixel, (counts.get(pixel) ?? 0) + end - start);
  }
  const all = [...counts].sort(([a, m], [b, n]) => n - m || a - b).map(([pixel]) => pixel);
  const channels = [0, 8, 16].map((bits) => Uint8Array.from(all, (pixel) => pixel >>> bits));
  const distances = new Float64Array(all.length).fill(Infinity); // squared, to the nearest chosen one
  const nearest = new Uint8Array(all.length);
  const chosen: number[] = [];
  while (chosen.length < Math.min(MOST, all.length)) {
    const next = chosen.length < FREQUENT ? chosen.length : farthest(distances);
    for (let i = 0; i < all.length; i++) {
      let distance = 0;
      for (const channel of channels) distance += (channel[i] - channel[next]) ** 2;
      if (distance >= distances[i]) continue;
      distances[i] = distance;
      nearest[i] = chosen.length;
    }
    chosen.push(next);
  }
  if (distances[farthest(distances)] > FARTHEST ** 2) return undefined;
  const index = new Map(all.map((pixel, i) => [pixel, nearest[i]]));
  const indices = new Uint8Array(pixels.length);
  for (const { pixel, start, end } of runs) indices.fill(index.get(pixel)!, start, end);
  return {
    colors: Uint8Array.from(chosen.flatMap((i) => channels.map((channel) => channel[i]))),
    indices,
  };
}

/** Neighbours of one colour: far fewer than pixels. */
function runsOf(pixels: Int32Array): { pixel: number; start: number; end: number }[] {
  const runs = [];
  for (let start = 0, end = 0; start < pixels.length; start = end) {
    const pixel = pixels[start];
    while (pixels[end] === pixel) end++;
    runs.push({ pixel, start, end });
  }
  return runs;
}

function farthest(distances: Float64Array): number {
  let most = 0;
  for (let i = 1; i < distances.length; i++) if (distances[i] > distances[most]) most = i;
  return most;
}

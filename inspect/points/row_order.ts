/**
 * The two orders of a head's numbers under RoPE. A rotated pair is either two neighbours, 2i and 2i + 1 (`adjacent`: GGUF
 * files of the llama family), or i and i + width / 2 (`half`: Hugging Face, TransformerLens). llama.cpp's converter permutes
 * the rows of the Q and K matrices from the one to the other, and with them the numbers of q and k.
 */

/** Numbers of heads, or of anything that is ordered like them: the rows of their matrix by index. */
type Numbers = Float32Array | Float64Array | Int32Array;

/**
 * Reorders heads from adjacent pairs to halves.
 *
 * @param data any number of heads, one behind another: [..., headWidth]
 * @param ropeWidth numbers of each head that RoPE turns, from its start; the others stay where they are
 * @returns a new array of the same shape
 */
export function toHalf<A extends Numbers>(
  data: A,
  headWidth: number,
  ropeWidth: number = headWidth,
): A {
  return reorder(data, headWidth, ropeWidth, (out, adjacent, half) => out[half] = data[adjacent]);
}

/** Reorders heads from halves to adjacent pairs: undoes {@linkcode toHalf}. */
export function toAdjacent<A extends Numbers>(
  data: A,
  headWidth: number,
  ropeWidth: number = headWidth,
): A {
  return reorder(data, headWidth, ropeWidth, (out, adjacent, half) => out[adjacent] = data[half]);
}

function reorder<A extends Numbers>(
  data: A,
  headWidth: number,
  ropeWidth: number,
  move: (out: A, adjacent: number, half: number) => void,
): A {
  if (ropeWidth % 2 !== 0 || ropeWidth > headWidth || data.length % headWidth !== 0) {
    throw new RangeError(
      `Cannot reorder ${data.length} numbers as heads of ${headWidth}, ${ropeWidth} of them rotated`,
    );
  }
  const out = data.slice() as A;
  for (let head = 0; head < data.length; head += headWidth) {
    for (let i = 0; i < ropeWidth; i++) {
      move(out, head + i, head + (i % 2) * ropeWidth / 2 + (i >> 1));
    }
  }
  return out;
}

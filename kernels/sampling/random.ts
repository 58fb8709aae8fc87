/** Rotations of the eight rounds that Threefry-2x32 repeats (table 2 of the paper below). */
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24];
const ROUNDS = 20;
/** Skein's key schedule parity, cut to 32 bits. */
const PARITY = 0x1bd11bda;

/**
 * Threefry-2x32 with 20 rounds: a random function from two 32-bit words and a key of two to two
 * words. It has no state and needs nothing but 32-bit additions, rotations and exclusive ors, so
 * that WGSL computes the same bits.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * @returns two unsigned 32-bit words
 */
export function threefry2x32(
  counter: readonly [number, number],
  key: readonly [number, number],
): [number, number] {
  const schedule = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
  let x = counter[0] + schedule[0] | 0;
  let y = counter[1] + schedule[1] | 0;
  for (let round = 0; round < ROUNDS; round++) {
    const left = ROTATIONS[round % 8];
    x = x + y | 0;
    y = (y << left | y >>> (32 - left)) ^ x;
    if (round % 4 === 3) {
      const injection = (round + 1) / 4;
      x = x + schedule[injection % 3] | 0;
      y = y + schedule[(injection + 1) % 3] + injection | 0;
    }
  }
  return [x >>> 0, y >>> 0];
}

/**
 * A number from [0, 1) that depends on nothing but its arguments: the draw of one step is the same
 * whatever was drawn before it. It is a multiple of 2^-24, and so exact in 32-bit floats.
 *
 * @param seed integer from 0 to 2^53 - 1
 * @param step unsigned 32-bit number of the draw
 * @param stream unsigned 32-bit number that keeps draws of one step apart (of sequences in a batch)
 */
export function uniform(seed: number, step: number, stream = 0): number {
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const;
  return (threefry2x32([step, stream], key)[0] >>> 8) / 2 ** 24;
}

/** Blocks of quantized types as other packers write them. */

/** Q4_0 and its like: quants beside each other share a byte, instead of those 16 apart. */
export function nibblesBeside(bytes: Uint8Array, blockBytes = 18, at = 2): void {
  for (let block = at; block < bytes.length; block += blockBytes) {
    const stored = bytes.slice(block, block + 16);
    const quant = (i: number) => i < 16 ? stored[i] & 15 : stored[i - 16] >> 4;
    for (let i = 0; i < 16; i++) bytes[block + i] = quant(2 * i) | quant(2 * i + 1) << 4;
  }
}

/** Q4_0: quants are two's complements, without the offset 8. */
export function twosComplements(bytes: Uint8Array): void {
  for (let block = 2; block < bytes.length; block += 18) {
    for (let i = 0; i < 16; i++) bytes[block + i] ^= 0x88;
  }
}

/** Q8_0: quants are unsigned, 128 too much. */
export function unsigned(bytes: Uint8Array): void {
  for (let block = 2; block < bytes.length; block += 34) {
    for (let i = 0; i < 32; i++) bytes[block + i] ^= 0x80;
  }
}

/** Any type that begins with its scale: the two bytes of the scale exchanged. */
export function swappedScales(bytes: Uint8Array, blockBytes: number): void {
  for (let block = 0; block < bytes.length; block += blockBytes) {
    [bytes[block], bytes[block + 1]] = [bytes[block + 1], bytes[block]];
  }
}

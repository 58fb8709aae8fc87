/** Numbers into ggml's blocks, as `quantize_row_*_ref` of ggml-quants.c does it. */

/** Quantizers by type. */
export const QUANTIZERS: Readonly<Record<string, (numbers: Float32Array) => Uint8Array>> = {
  F32: (numbers) => new Uint8Array(numbers.slice().buffer),
  F16: (numbers) => new Uint8Array(Float16Array.from(numbers).buffer),
  BF16: (numbers) => new Uint8Array(Uint16Array.from(numbers, bf16).buffer),
  Q8_0: (numbers) =>
    blocks(numbers, 34, (x, view) => {
      const d = Math.max(...x.map(Math.abs)) / 127;
      view.setFloat16(0, d, true);
      x.forEach((value, i) => view.setInt8(2 + i, d === 0 ? 0 : Math.round(value / d)));
    }),
  Q4_0: (numbers) =>
    blocks(numbers, 18, (x, view) => {
      const d = x.reduce((max, value) => Math.abs(value) > Math.abs(max) ? value : max, 0) / -8;
      const quants = Array.from(x, (value) => Math.min(15, Math.floor(d ? value / d + 8.5 : 8)));
      view.setFloat16(0, d, true);
      for (let i = 0; i < 16; i++) view.setUint8(2 + i, quants[i] | quants[i + 16] << 4);
    }),
};

/** The upper half of a 32-bit float, rounded to even. */
function bf16(value: number): number {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  return (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16;
}

function blocks(
  numbers: Float32Array,
  bytes: number,
  write: (x: Float32Array, view: DataView) => void,
): Uint8Array {
  const out = new Uint8Array(numbers.length / 32 * bytes);
  for (let block = 0; block < numbers.length / 32; block++) {
    const view = new DataView(out.buffer, block * bytes, bytes);
    write(numbers.subarray(32 * block, 32 * block + 32), view);
  }
  return out;
}

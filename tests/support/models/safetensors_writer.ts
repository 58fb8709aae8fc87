import { QUANTIZERS } from "./quantize.ts";

/** A tensor to write: row-major numbers in 32 bits. */
export interface SafetensorsInput {
  readonly name: string;
  readonly dtype: "F32" | "F16" | "BF16";
  /** Slowest axis first. */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A safetensors file in memory, for tests. */
export function writeSafetensors(tensors: readonly SafetensorsInput[]): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  const parts = tensors.map(({ dtype, data }) => QUANTIZERS[dtype](data));
  let at = 0;
  tensors.forEach(({ name, dtype, shape }, i) => {
    header[name] = { dtype, shape, data_offsets: [at, at += parts[i].length] };
  });
  return withHeader(JSON.stringify(header), parts);
}

/** The same with any header. */
export function withHeader(
  header: string,
  parts: readonly Uint8Array[],
  length?: bigint,
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  const all = [prefix, text, ...parts];
  const bytes = new Uint8Array(all.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of all) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

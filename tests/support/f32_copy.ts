import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { writeGguf, type WriterTensor, type WriterValue } from "./gguf_writer.ts";

/** A copy of a model with every tensor as F32, as GGUF. */
export async function f32Copy(file: GgufFile): Promise<Uint8Array<ArrayBuffer>> {
  const tensors: WriterTensor[] = [];
  for (const tensor of file.tensors.values()) {
    const values = dequantize(tensor.type, await file.readTensor(tensor)).slice();
    const data = new Uint8Array(values.buffer);
    tensors.push({ name: tensor.name, type: "F32", shape: tensor.shape, data });
  }
  // The reader gives plain numbers; llama.cpp insists on floats where the format says so.
  const metadata = [...file.metadata].map(([key, value]) =>
    [key, /freq_base|epsilon|factor/.test(key) ? { type: "f32", value } : value] as const
  );
  return writeGguf({
    metadata: Object.fromEntries(metadata) as Record<string, WriterValue>,
    tensors,
  });
}

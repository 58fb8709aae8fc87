import type { Config } from "./config.ts";
import { dequantize } from "../gguf/dequantize.ts";
import type { GgufFile } from "../gguf/reader.ts";

/** The file's frequency factors [ropeWidth / 2] (Llama 3.1 and later), where it has them. */
export async function ropeFactors(
  file: GgufFile,
  config: Config,
): Promise<Float32Array | undefined> {
  const tensor = file.tensors.get("rope_freqs.weight");
  if (!config.ropeFactors || !tensor) return undefined;
  return dequantize(tensor.type, await file.readTensor(tensor));
}

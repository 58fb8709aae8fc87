/** Files that take some of their tensors from another file of the same model: one layer quantized, the rest not. */
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { alteredFile, type NewTensorData, wholeTensor } from "./altered_file.ts";

/**
 * A file with some of its tensors taken from another one. Both stay open and are closed by their owners.
 *
 * @param takes whether the tensor of this name is the other file's
 */
export function mixedFile(
  file: GgufFile,
  other: GgufFile,
  takes: (name: string) => boolean,
): GgufFile {
  const tensors = new Map<string, NewTensorData>();
  for (const tensor of other.tensors.values()) {
    if (file.tensors.has(tensor.name) && takes(tensor.name)) {
      tensors.set(tensor.name, wholeTensor(other, tensor));
    }
  }
  return alteredFile(file, { tensors });
}

/** Types of a file's tensors that the engine does not run yet. */
export function typesThatDoNotRun(file: GgufFile): string[] {
  const types = [...file.tensors.values()].map(({ type }) => type.name);
  return [...new Set(types)].filter((type) => !PACKINGS.has(type));
}

/** Files with a fault undone. */
import type { GgufFile, TensorInfo } from "../engine/gguf/reader.ts";
import type { NewGguf } from "../engine/gguf/writer.ts";
import { type Alteration, alteredFile } from "./altered_file.ts";

/** Bytes of a tensor that are read at a time. */
const PIECE = 16 * 2 ** 20;

/** What a file holds when some of it is replaced: one file, whatever parts it came in; other tensors keep their types and bytes. */
export function mendedContent(file: GgufFile, alteration: Alteration): NewGguf {
  const altered = alteredFile(file, alteration);
  const metadata = new Map(altered.metadata);
  for (const key of metadata.keys()) if (key.startsWith("split.")) metadata.delete(key);
  const tensors = [...altered.tensors.values()].map((tensor) => ({
    ...tensor,
    bytes: () => pieces(altered, tensor),
  }));
  return { metadata, metadataTypes: altered.metadataTypes, tensors };
}

async function* pieces(file: GgufFile, tensor: TensorInfo): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < tensor.bytes; at += PIECE) {
    yield await file.readTensor(tensor, at, Math.min(PIECE, tensor.bytes - at));
  }
}

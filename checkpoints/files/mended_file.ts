/** Files with a fault undone. */
import type { GgufFile, TensorInfo } from "../../engine/gguf/reader.ts";
import type { NewGguf } from "../../engine/gguf/writer.ts";
import { resolve } from "node:path";
import { statOf } from "../../models/cache.ts";
import { partPaths } from "../../models/identity.ts";
import type { FoundModel } from "../../models/mod.ts";
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

/** Whether a path is that of a model's own file, or of a part of it, which is read while another one is written. */
export async function isItself({ path }: FoundModel, out: string): Promise<boolean> {
  if (path === undefined) return false;
  const target = await fileAt(out);
  const parts = await Promise.all(partPaths(path).map(fileAt));
  return parts.some(({ real, inode }) =>
    real === target.real || (inode !== undefined && inode === target.inode)
  );
}

/** A file by its path, and by its inode, which a hard link to it shares. */
async function fileAt(path: string): Promise<{ real: string; inode?: string }> {
  const found = await statOf(path);
  if (!found) return { real: resolve(path) };
  const inode = found.ino ? `${found.dev} ${found.ino}` : undefined;
  return { real: await Deno.realPath(path), inode };
}

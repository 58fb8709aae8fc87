/** Files with a fault undone, or put in. */
import { resolve } from "node:path";
import type { Loaded } from "../../inspect/run/loading.ts";
import type { WorkOptions } from "../../inspect/work.ts";
import { statOf } from "../../models/cache.ts";
import { partPaths } from "../../models/identity.ts";
import type { FoundModel } from "../../models/mod.ts";
import { type Alteration, alteredFile } from "./altered_file.ts";
import { piecesOf, withoutSplit, writeChecked } from "./f32_copy.ts";

/**
 * Writes what a file is when some of it is replaced: one file, whatever parts it came in; other tensors keep their types and bytes.
 *
 * @throws {ModelError} when it cannot be written
 */
export async function writeAltered(
  { file, found: { name } }: Pick<Loaded, "file" | "found">,
  alteration: Alteration,
  path: string,
  { signal, onProgress }: WorkOptions,
): Promise<void> {
  const altered = alteredFile(file, alteration);
  const { metadataTypes } = altered;
  const metadata = withoutSplit(altered.metadata);
  const tensors = [...altered.tensors.values()].map((tensor) => ({
    ...tensor,
    bytes: () => piecesOf(altered, tensor, 16 * 2 ** 20),
  }));
  await writeChecked(name, path, { metadata, metadataTypes, tensors }, {
    signal,
    onProgress: (done, total = done) => onProgress?.(done, total, `writing ${path}`),
  });
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

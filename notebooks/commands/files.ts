/** Files that are there whole or not at all. */
import { dirname } from "node:path";

/** Writes a file by a rename, as another process may read it or write the same; makes its folder. */
export async function writeWhole(path: string, content: string): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const unfinished = `${path}.${Deno.pid}.tmp`;
  await Deno.writeTextFile(unfinished, content);
  await Deno.rename(unfinished, path);
}

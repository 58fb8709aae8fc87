/** Folders for large files that do not outlive their use. */
import { join } from "node:path";
import { acquireLock } from "../../models/cache.ts";

const PREFIX = "scratch-";

/** A folder of one's own, which goes when it is disposed of, or else when the next one is made. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

/** Makes a folder within another one, and removes those whose owners died without removing them. */
export async function makeScratch(parent: string): Promise<Scratch> {
  await Deno.mkdir(parent, { recursive: true });
  for await (const { name } of Deno.readDir(parent)) {
    if (name.startsWith(PREFIX)) await removeAbandoned(join(parent, name));
  }
  const path = await Deno.makeTempDir({ dir: parent, prefix: PREFIX });
  const lock = await acquireLock(join(path, "lock"));
  return {
    path,
    async [Symbol.asyncDispose]() {
      lock[Symbol.dispose]();
      await Deno.remove(path, { recursive: true });
    },
  };
}

async function removeAbandoned(path: string): Promise<void> {
  try {
    // The owner's lock went with it; a living one's is not waited for.
    using _lock = await acquireLock(join(path, "lock"), { signal: AbortSignal.abort() });
  } catch {
    return;
  }
  await Deno.remove(path, { recursive: true }).catch(() => {});
}

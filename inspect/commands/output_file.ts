/** A file that a command writes: refused before the work begins, and there only when it is whole. */
import { dirname } from "node:path";

/** A file on its way: `FILE.partial` until it is whole. */
export interface OutputFile extends AsyncDisposable {
  /** Writes all of it and gives it its name; what had that name before is gone. Returns its bytes. */
  write(text: string): Promise<number>;
}

/**
 * Opens a file for output, so that a path that cannot be written is known before a model runs.
 *
 * @throws {Error} one line that names the path and says what is wrong
 */
export async function openOutput(path: string): Promise<OutputFile> {
  const found = await Deno.stat(path).catch(() => undefined);
  if (found?.isDirectory) {
    throw new Error(`cannot write ${path}: it is a folder; name a file in it`);
  }
  const partial = `${path}.partial`;
  await Deno.writeTextFile(partial, "").catch((error) => {
    throw new Error(`cannot write ${path}: ${reason(error, path)}`, { cause: error });
  });
  return {
    async write(text) {
      const bytes = new TextEncoder().encode(text);
      await Deno.writeFile(partial, bytes);
      await Deno.rename(partial, path);
      return bytes.length;
    },
    async [Symbol.asyncDispose]() {
      await Deno.remove(partial).catch(() => {}); // it has its name, or the folder is gone
    },
  };
}

function reason(error: unknown, path: string): string {
  if (error instanceof Deno.errors.NotFound) {
    return `there is no folder ${dirname(path)}; make it first`;
  }
  if (error instanceof Deno.errors.NotADirectory) return `${dirname(path)} is no folder`;
  if (error instanceof Deno.errors.PermissionDenied) return "no permission to write there";
  return error instanceof Error ? error.message : `${error}`;
}

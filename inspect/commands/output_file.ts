/** A file that a command writes: refused before the work begins, and there only when it is whole. */
import { dirname } from "node:path";
import { type OutputError, WholeFile } from "../tables/output.ts";

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
  const file = await WholeFile.create(path).catch((error: OutputError) => {
    throw new Error(`cannot write ${path}: ${reason(error.reason, path)}`, { cause: error });
  });
  return {
    async write(text) {
      await file.write([new TextEncoder().encode(text)]);
      await file.finish();
      return file.bytes;
    },
    [Symbol.asyncDispose]: () => file.discard(), // nothing is left to take away once it has its name
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

/** Small files that remember what was found out about a device. Without them it is found out again. */
import { isGranted } from "../../base/permission.ts";

/** The file's text; undefined where it cannot be read. */
export async function readCacheFile(path: string | undefined): Promise<string | undefined> {
  if (path === undefined || !isGranted({ name: "read", path })) return undefined;
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    ignoreFileError(error);
    return undefined;
  }
}

/** Writes the file as a whole: other processes see what was there before, or this. Says whether it could. */
export async function writeCacheFile(path: string | undefined, text: string): Promise<boolean> {
  if (!mayWrite(path)) return false;
  const part = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.mkdir(folderOf(path), { recursive: true });
    await Deno.writeTextFile(part, text);
    await Deno.rename(part, path);
    return true;
  } catch (error) {
    ignoreFileError(error);
    await Deno.remove(part).catch(() => {});
    return false;
  }
}

/** What a remembered result depends on, in 16 hexadecimal digits: the beginning of its SHA-256. */
export async function digestOf(facts: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(facts));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

/** Whether there is a path, and nobody would have to be asked whether it may be written. */
export function mayWrite(path: string | undefined): path is string {
  if (path === undefined) return false;
  // Renaming reads as well.
  const names = ["read", "write"] as const;
  return names.every((name) => isGranted({ name, path: folderOf(path) }));
}

function folderOf(path: string): string {
  return path.replace(/[/\\][^/\\]*$/, "") || ".";
}

/** Not being able to remember is no reason to fail. */
function ignoreFileError(error: unknown): void {
  const { errors } = Deno;
  const isExpected = error instanceof errors.NotFound || error instanceof errors.PermissionDenied ||
    error instanceof errors.NotADirectory || error instanceof errors.IsADirectory ||
    error instanceof errors.FilesystemLoop || (error instanceof Error && "code" in error);
  if (!isExpected) throw error;
}

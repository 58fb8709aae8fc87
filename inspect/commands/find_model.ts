import { type GgufFile, openGguf, openGgufFile } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { findModel, type FoundModel } from "../../models/mod.ts";
import { createProgress } from "./progress.ts";

/** How a command looks for a model. */
export interface FindModelOptions {
  /** Shows no progress: for `--json`. */
  readonly quiet?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Finds a model by name or path; one that is known but not there is pulled, with progress shown.
 *
 * @throws {UnknownModelError | PullError} with a line that says what to do
 */
export async function findOrPull(
  nameOrPath: string,
  options: FindModelOptions = {},
): Promise<FoundModel> {
  const { quiet, signal } = options;
  const progress = createProgress(`pulling ${nameOrPath}`, { quiet });
  try {
    return await findModel(nameOrPath, {
      signal,
      onProgress: progress.update,
      onWait: () => quiet || console.error(`waiting for another process to pull ${nameOrPath}`),
    });
  } finally {
    progress.finish();
  }
}

/**
 * Opens the GGUF of a model that was found; the caller closes it.
 *
 * @throws {GgufError} for anything that is not a whole, consistent GGUF file
 */
export async function openFound(found: FoundModel): Promise<GgufFile> {
  return found.path === undefined
    ? await openGguf(bytesSource(found.name, found.bytes))
    : await openGgufFile(found.path);
}

import { findModel, type FoundModel } from "../../models/mod.ts";
import { createLoadProgress } from "./progress.ts";

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
  const progress = createLoadProgress(nameOrPath, { quiet });
  return await findModel(nameOrPath, {
    signal,
    onProgress: (done, total) => progress.onProgress("pull", done, total),
    onWait: progress.onWait,
  }).finally(progress.finish);
}

/** `--tune` and `--no-tune`. */
import type { TuneMode } from "../../engine/webgpu/tuning/tuning.ts";
import { flag, UsageError } from "./args.ts";

/** The two options of commands that run a model. */
export const TUNE_OPTIONS = {
  tune: flag("time the candidates of each product on this GPU anew, and remember the fastest"),
  "no-tune": flag("run products with the built-in settings"),
};

/**
 * How products are tuned, as the options say.
 *
 * @throws {UsageError} when both are given
 */
export function tuneMode(
  { tune, "no-tune": never }: { readonly tune: boolean; readonly "no-tune": boolean },
): TuneMode {
  if (tune && never) throw new UsageError("give either --tune or --no-tune");
  return tune ? "now" : never ? "never" : "auto";
}

/** Copies of models with a known fault put in: to try a diagnosis on. */
import type { Model } from "../../../inspect/run/model.ts";
import type { WorkOptions } from "../../../inspect/work.ts";
import { isItself, writeAltered } from "../../files/mended_file.ts";
import { openModel } from "../../files/model_argument.ts";
import { layerUndos, undosOf } from "./undos.ts";

/** Which fault is put in. */
export interface BreakOptions extends WorkOptions {
  /** Its name: `qk-permuted`, `transposed`, `gate-up-swapped`, `norm-offset`, `rope-base`, `epsilon`, `bos-missing`, … */
  readonly cause: string;
  /** The only block that gets it; default all. */
  readonly layer?: number;
}

/** A copy that was broken. */
export interface BrokenCopy {
  /** Where it lies. */
  readonly path: string;
  /** The fault's name. */
  readonly cause: string;
  /** What was done, in one line. */
  readonly detail: string;
}

/**
 * Writes a copy of a right model with a known fault in it, as a bad converter makes them: undoing a fault that is not there puts the
 * opposite one in.
 *
 * ```ts
 * import { breakModel, diagnose } from "../../../mod.ts";
 * const path = `${await Deno.makeTempDir()}/broken.gguf`;
 * await breakModel("tiny", path, { cause: "gate-up-swapped" });
 * console.log((await diagnose(path)).found?.cause);
 * ```
 *
 * @param model a loaded one, or its name or path
 * @param path of the copy
 * @throws {RangeError} for a fault that cannot be put in, a layer that is not there, or the path of the model itself
 * @throws {ModelError} when the copy cannot be written
 * @throws {UnknownModelError | PullError | GgufError | DisposedError}
 */
export async function breakModel(
  model: Model | string,
  path: string,
  options: BreakOptions,
): Promise<BrokenCopy> {
  const { cause, layer } = options;
  using loaded = await openModel(model, options);
  const { file, found, engine: { config } } = loaded;
  if (await isItself(found, path)) {
    throw new RangeError(`Cannot break ${path}: it is the model itself`);
  }
  if (layer !== undefined && !(Number.isInteger(layer) && layer >= 0 && layer < config.layers)) {
    throw new RangeError(`Cannot break layer ${layer}: the model has 0 to ${config.layers - 1}`);
  }
  const faults = layer === undefined ? undosOf(file, config) : layerUndos(file, config, layer);
  const sameCause = faults.filter((each) => each.cause === cause);
  // Converters leave rows in the order that the file's RoPE does not ask for.
  const wrongOrder = config.ropes[0]?.style === "adjacent" ? /to halves$/ : /to adjacent pairs$/;
  const fault = sameCause.find(({ detail }) => wrongOrder.test(detail)) ?? sameCause.at(0);
  if (!fault) {
    const known = [...new Set(faults.map((each) => each.cause))].join(", ");
    throw new RangeError(`Cannot put in ${JSON.stringify(cause)}: one of ${known}`);
  }
  await writeAltered(loaded, fault.alteration, path, options);
  return { path, cause, detail: fault.detail };
}

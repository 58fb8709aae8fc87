/** Quantized copies of models, made by llama.cpp's own quantizer. */
import { dirname, join } from "node:path";
import { checkIsModel } from "../../engine/model/hyperparameters.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Model } from "../../inspect/run/model.ts";
import { openFound } from "../../inspect/run/loading.ts";
import { longWork, type WorkOptions } from "../../inspect/work.ts";
import { laminaHome } from "../../models/cache.ts";
import { type Identity, identityOf } from "../../models/identity.ts";
import { findModel, type FoundModel } from "../../models/mod.ts";
import { guarded } from "../../models/part_file.ts";
import { contentName, f32Copy, hasChanged, madeOnce } from "../files/f32_copy.ts";
import { isItself } from "../files/mended_file.ts";
import { LlamaCppClient } from "../references/llamacpp/client.ts";
import { llamaCppLibrary } from "../references/llamacpp/library.ts";
import { modelOnDisk } from "../references/mod.ts";

/** A way to quantize a whole file: `Q4_K_M` mixes types of tensors. Those that need an importance matrix are left out. */
export type QuantizationType =
  | ("F32" | "F16" | "BF16" | "Q8_0" | "Q6_K")
  | ("Q5_1" | "Q5_K_M" | "Q5_K_S" | "Q5_0")
  | ("Q4_1" | "Q4_K_M" | "Q4_K_S" | "Q4_0" | "IQ4_NL" | "IQ4_XS")
  | ("Q3_K_L" | "Q3_K_M" | "Q3_K_S" | "Q2_K");

/** llama.cpp's numbers of them (`enum llama_ftype`). */
const FILE_TYPES: Readonly<Record<QuantizationType, number>> = {
  ...{ F32: 0, F16: 1, BF16: 32, Q8_0: 7, Q6_K: 18 },
  ...{ Q5_1: 9, Q5_K_M: 17, Q5_K_S: 16, Q5_0: 8 },
  ...{ Q4_1: 3, Q4_K_M: 15, Q4_K_S: 14, Q4_0: 2, IQ4_NL: 25, IQ4_XS: 30 },
  ...{ Q3_K_L: 13, Q3_K_M: 12, Q3_K_S: 11, Q2_K: 10 },
};

/** All of them, from the largest files to the smallest. */
export const QUANTIZATION_TYPES: readonly QuantizationType[] = Object.keys(
  FILE_TYPES,
) as QuantizationType[];

/** Where a quantized copy goes. */
export interface QuantizeModelOptions extends WorkOptions {
  /** Its path; default a place in Lamina's cache, where it is made only once for each content of a file. */
  readonly out?: string;
}

/**
 * Writes a quantized copy of a model with llama.cpp's own `llama_model_quantize`, in a process of its own. A model that is quantized
 * already is quantized from 32-bit floats of its weights. Tensors whose rows do not fit a type's blocks get another one, as
 * llama.cpp chooses it.
 *
 * @param model a loaded one, or its name or path
 * @returns the copy's path
 * @throws {RangeError} for an unknown type, and for the model's own path
 * @throws {ReferenceFailure} when llama.cpp cannot be had or fails
 * @throws {UnknownModelError | PullError | GgufError | ModelError | DisposedError}
 */
export async function quantizeModel(
  model: Model | string,
  type: QuantizationType,
  options: QuantizeModelOptions = {},
): Promise<string> {
  return await longWork("Quantizing", options, async (options) => {
    const { signal, onProgress } = options;
    if (!Object.hasOwn(FILE_TYPES, type)) {
      throw new RangeError(
        `Cannot quantize to ${JSON.stringify(type)}; there are ${QUANTIZATION_TYPES.join(", ")}`,
      );
    }
    const found = typeof model === "string"
      ? await findModel(model, {
        signal,
        onProgress: (done, total = done) => onProgress?.(done, total, `pulling ${model}`),
      })
      : model.loaded.found;
    const identity = typeof model === "string" ? await identityOf(found) : model.loaded.identity;
    const file = await openFound(found);
    try {
      if (!await identity.holds()) throw hasChanged(found);
      checkIsModel(file);
      const path = options.out ?? join(
        laminaHome(Deno.env.get),
        "quantized",
        `${await contentName(found, identity, signal)}-${type}.gguf`,
      );
      if (await isItself(found, path)) {
        throw new RangeError(`Cannot quantize ${path}: it is the model itself`);
      }
      await guarded(found.name, path, () => Deno.mkdir(dirname(path), { recursive: true }));
      const make = () => write({ found, file, identity }, type, path, options);
      await (options.out !== undefined ? make() : madeOnce(found, path, signal, make));
      return path;
    } finally {
      file.close();
    }
  });
}

async function write(
  { found, file, identity }: { found: FoundModel; file: GgufFile; identity: Identity },
  type: QuantizationType,
  path: string,
  { signal, onProgress }: WorkOptions,
): Promise<void> {
  const say = (what: string) => onProgress?.(0, 1, what);
  const library = await llamaCppLibrary({
    signal,
    onFetch: (name) => say(`fetching ${name} with npm`),
  });
  const isPlain = [...file.tensors.values()].every(({ type }) => type.blockSize === 1);
  const source = isPlain ? found : {
    name: found.name,
    path: await f32Copy(found, {
      signal,
      onSpace: () => say(`writing a 32-bit copy of ${found.name}`),
    }),
  };
  await using disk = await modelOnDisk(source);
  const partial = `${path}.partial`;
  try {
    await new LlamaCppClient(library, {}).quantize(
      { from: disk.path, to: partial },
      FILE_TYPES[type],
      {
        signal,
        onProgress: (done, total) => onProgress?.(done, total, `${found.name} to ${type}`),
      },
    );
    if (!await identity.holds()) throw hasChanged(found);
    await guarded(found.name, path, () => Deno.rename(partial, path));
  } finally {
    await Deno.remove(partial).catch(() => {});
  }
}

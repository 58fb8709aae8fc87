/** References by the names that people type. */
import { join } from "node:path";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { partPaths } from "../../models/identity.ts";
import type { FoundModel } from "../../models/mod.ts";
import { formatBytes } from "../../inspect/format.ts";
import type { Loaded } from "../../inspect/run/loading.ts";
import type { WorkOptions } from "../../inspect/work.ts";
import { hasChanged } from "../files/f32_copy.ts";
import type { Provenance, Reference } from "./reference.ts";
import { llamaCppReference } from "./llamacpp/reference.ts";
import { oracleReference } from "./oracle.ts";
import { pyTorchReference, type PyTorchType } from "./pytorch/reference.ts";

/** What a reference runs, and how. */
export interface OpenReferenceOptions {
  /** The model that is compared; it stays the caller's. */
  readonly file: GgufFile;
  /** As it was found. */
  readonly model: FoundModel;
  /** Where it lies on the disk: other engines read it themselves. */
  readonly path: string;
  /** Runs llama.cpp on the file as people run it, instead of on an F32 copy: with its roundings. */
  readonly asIs?: boolean;
  /** How the oracle builds RoPE's angles; default `exact`. */
  readonly rope?: Provenance["rope"];
  /** Milliseconds for which another process may be silent before it counts as hanging. */
  readonly timeout?: number;
  /** Called with a line before something that takes long. */
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** The references that there are; {@linkcode openReference} takes each of them. */
export const REFERENCES = [
  "llama.cpp",
  "llama.cpp:vulkan",
  "pytorch",
  "pytorch:bf16",
  "pytorch:f16",
  "hf:DIR",
  "oracle",
] as const;

/** Whether this is the name of a reference: one of {@linkcode REFERENCES}, DIR being a folder's path. */
export function isReference(spec: string): boolean {
  return REFERENCES.some((name) => name === spec && name !== "hf:DIR") || /^hf:./s.test(spec);
}

/**
 * Opens a reference: `llama.cpp` or its build for Vulkan, `llama.cpp:vulkan`; `pytorch`, on the same file, in 32-bit floats or in those
 * of `pytorch:bf16` and `pytorch:f16`, or `hf:DIR`, on a folder with the original's config.json and safetensors; the 64-bit `oracle`.
 *
 * @throws {ReferenceFailure} when it cannot be opened
 * @throws {RangeError} for another name
 */
export async function openReference(
  spec: string,
  options: OpenReferenceOptions,
): Promise<Reference> {
  if (!isReference(spec)) {
    throw new RangeError(
      `No reference ${JSON.stringify(spec)}; there are ${REFERENCES.join(", ")}`,
    );
  }
  const { file, model, path, asIs = false, rope, onProgress } = options;
  if (asIs && !spec.startsWith("llama.cpp")) {
    throw new RangeError(`Only llama.cpp runs a file as it is; ${spec} dequantizes it`);
  }
  switch (spec) {
    case "oracle":
      return oracleReference(file, { rope });
    case "pytorch":
    case "pytorch:bf16":
    case "pytorch:f16": {
      const type = spec === "pytorch" ? "f32" : spec.slice("pytorch:".length) as PyTorchType;
      return await pyTorchReference({ ...options, weights: { gguf: path }, type });
    }
    case "llama.cpp":
    case "llama.cpp:vulkan":
      return await llamaCppReference({
        ...options,
        vulkan: spec.endsWith(":vulkan"),
        onProgress: undefined,
        onFetch: (name) => onProgress?.(`fetching ${name} with npm`),
        onSpace: (bytes, path) =>
          onProgress?.(`writing a 32-bit copy of ${model.name}: ${formatBytes(bytes)}, ${path}`),
      });
    default:
      return await pyTorchReference({ ...options, weights: { folder: spec.slice("hf:".length) } });
  }
}

/** How another engine is opened. */
export interface EngineOptions extends WorkOptions {
  /** Runs llama.cpp on the file as people run it, instead of on an F32 copy of its weights: with its roundings. */
  readonly asIs?: boolean;
  /** Seconds that its process may be silent; default 300. */
  readonly timeout?: number;
}

/**
 * Opens a reference on a model that was found; it is closed with `open`.
 *
 * @throws {ModelError} when it is not the file any more that was loaded
 * @throws {ReferenceFailure | RangeError} as {@linkcode openReference}
 */
export async function openEngine(
  spec: string,
  { found, file, identity }: Pick<Loaded, "found" | "file"> & Partial<Pick<Loaded, "identity">>,
  { timeout, onProgress, ...options }: EngineOptions,
  open: AsyncDisposableStack,
): Promise<Reference> {
  if (identity && !await identity.holds()) throw hasChanged(found);
  const { path } = open.use(await modelOnDisk(found));
  const reference = await openReference(spec, {
    ...{ file, model: found, path, asIs: options.asIs, signal: options.signal },
    timeout: timeout === undefined ? undefined : timeout * 1000,
    onProgress: (line) => onProgress?.(0, 1, line),
  });
  open.defer(() => reference.close());
  return reference;
}

/** A model as a file, as other engines want it: the first part of a split one; the embedded one is written to a temporary folder for as long as it is needed. */
export async function modelOnDisk(found: FoundModel): Promise<{ path: string } & AsyncDisposable> {
  if (found.path !== undefined) {
    return { path: partPaths(found.path)[0], [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const folder = await Deno.makeTempDir({ prefix: "lamina-" });
  const path = join(folder, `${found.name}.gguf`);
  await Deno.writeFile(path, found.bytes);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

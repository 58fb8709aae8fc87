/** What is seen of the layout of llama.cpp's structures, against llama.h and ggml.h at v0.5.0. */
import { LLAMA_CPP_RELEASE } from "./library.ts";

/** Why llama.cpp did not do what it should: one line. */
export class LlamaCppError extends Error {}

/** What is seen of a library's structures. */
export interface LayoutFacts {
  /** `llama_version()`. */
  readonly version: string;
  /** `ggml_tensor_overhead()`: the sizes of an object's header (32) and of a tensor. */
  readonly tensorOverhead: number;
  readonly modelParams: Uint8Array;
  readonly contextParams: Uint8Array;
  readonly quantizeParams: Uint8Array;
}

/**
 * Checks that a library has the structures that are used here: its version, the size of a tensor, and the values that llama.cpp
 * puts into every field of its parameter structures.
 *
 * @throws {LlamaCppError} that names what is different
 */
export function checkLayout(facts: LayoutFacts): void {
  const release = facts.version.replace(/^v?/, "v").replace(/-dev$/, "");
  if (release !== LLAMA_CPP_RELEASE) {
    throw new LlamaCppError(
      `its library is version ${facts.version}, and this needs ${LLAMA_CPP_RELEASE}`,
    );
  }
  const different = (what: string) =>
    new LlamaCppError(`its library's ${what} has another layout than ${LLAMA_CPP_RELEASE}`);
  if (facts.tensorOverhead !== 32 + 336) throw different("ggml_tensor");
  if (!matches(facts.modelParams, DEFAULT_MODEL_PARAMS)) throw different("llama_model_params");
  if (!matches(facts.contextParams, DEFAULT_CONTEXT_PARAMS)) {
    throw different("llama_context_params");
  }
  if (!matches(facts.quantizeParams, DEFAULT_QUANTIZE_PARAMS)) {
    throw different("llama_model_quantize_params");
  }
}

type Field = readonly [offset: number, type: "i32" | "f32" | "u8" | "u64", value: number];

/** `llama_model_default_params()`. */
const DEFAULT_MODEL_PARAMS: readonly Field[] = [
  ...[0, 8, 40, 48, 56, 64].map((at): Field => [at, "u64", 0]), // devices … kv_overrides
  ...[-1, 1, -1, 1, 0].map((value, i): Field => [16 + 4 * i, "i32", value]), // n_gpu_layers … main_gpu
  ...[0, 0, 1, 0, 0, 0].map((value, i): Field => [72 + i, "u8", value]), // vocab_only … load_mtp
];

/** `llama_context_default_params()`. */
const DEFAULT_CONTEXT_PARAMS: readonly Field[] = [
  // n_ctx … flash_attn_type
  ...[512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, -1, -1, -1, -1]
    .map((value, i): Field => [4 * i, "i32", value]),
  ...[0, 0, -1, -1, -1, -1].map((value, i): Field => [56 + 4 * i, "f32", value]), // RoPE, YaRN
  [80, "i32", 0], // yarn_orig_ctx
  [84, "f32", -1], // defrag_thold
  ...[88, 96, 112, 120, 136, 144, 152].map((at): Field => [at, "u64", 0]), // callbacks, samplers, ctx_other
  ...[104, 108].map((at): Field => [at, "i32", 1]), // type_k, type_v
  ...[0, 1, 1, 1, 1, 0].map((value, i): Field => [128 + i, "u8", value]), // embeddings … kv_unified
];

/** `llama_model_quantize_default_params()`. */
const DEFAULT_QUANTIZE_PARAMS: readonly Field[] = [
  ...[0, 7, 43, 43].map((value, i): Field => [4 * i, "i32", value]), // nthread, ftype, output and embedding type
  ...[0, 1, 0, 0, 0, 0].map((value, i): Field => [16 + i, "u8", value]), // allow_requantize … dry_run
  ...[24, 32, 40, 48].map((at): Field => [at, "u64", 0]), // imatrix … prune_layers
  [56, "u64", 2 ** 33], // max_buf_size
];

function matches(struct: Uint8Array, fields: readonly Field[]): boolean {
  const view = new DataView(struct.buffer, struct.byteOffset, struct.byteLength);
  return fields.every(([offset, type, value]) => {
    if (type === "i32") return view.getInt32(offset, true) === value;
    if (type === "f32") return view.getFloat32(offset, true) === value;
    if (type === "u8") return view.getUint8(offset) === value;
    return view.getBigUint64(offset, true) === BigInt(value);
  });
}

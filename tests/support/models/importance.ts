/** Quantized copies by an importance matrix: llama.cpp's quantizer told which columns of a weight matter. */
import { openModel } from "../../../checkpoints/files/model_argument.ts";
import { ownRun } from "../../../checkpoints/parity/lamina.ts";
import type { QuantizationType } from "../../../checkpoints/quantization/quantize.ts";
import { LlamaCppError } from "../../../checkpoints/references/llamacpp/layout.ts";
import type { LlamaCppLibrary } from "../../../checkpoints/references/llamacpp/library.ts";
import { layerOf } from "../../../base/layer_names.ts";
import { llamaCpp } from "../engines/llamacpp_library.ts";

/** `llama_model_quantize_params`, checked by layout.ts. */
const PARAMS = { struct: Array(8).fill("u64") } as unknown as { readonly struct: ["u64"] };
const FTYPE_AT = 4;
const IMATRIX_AT = 24;

/** llama.cpp's numbers of types (`enum llama_ftype`). */
const FILE_TYPES: Partial<Record<QuantizationType, number>> = {
  ...{ Q4_0: 2, Q4_1: 3, Q5_0: 8, Q5_1: 9, Q2_K: 10, Q3_K_M: 12 },
  ...{ Q4_K_M: 15, Q5_K_M: 17, Q6_K: 18 },
};

/** Types whose quantizers an importance matrix guides. */
export const GUIDED = Object.keys(FILE_TYPES) as readonly QuantizationType[];

/** What each weight of a block, and the output, is multiplied by. */
const INPUTS: Readonly<Record<string, string>> = {
  ...{ attn_q: "attn_norm", attn_k: "attn_norm", attn_v: "attn_norm", attn_output: "head_out" },
  ...{ ffn_gate: "ffn_norm", ffn_up: "ffn_norm", ffn_down: "ffn_act", output: "output_norm" },
};

/** The mean squares of what each weight's columns are multiplied by in a pass over some ids: an importance matrix as llama.cpp makes it. */
export async function importanceOf(
  path: string,
  ids: readonly number[],
): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  using model = await openModel(path);
  const points = new Map<string, string>();
  for (const name of model.file.tensors.keys()) {
    const [, block = "", kind] = /^(blk\.\d+\.)?(\w+)\.weight$/.exec(name) ?? [];
    if (kind in INPUTS) points.set(name, block + INPUTS[kind]);
  }
  const request = { ids, generate: 0, steps: [0], points: [...new Set(points.values())] };
  const { passes: [{ tensors }] } = await ownRun(model.engine, request, "exact");
  return new Map([...points].map(([name, point]) => {
    const { data } = tensors.get(point)!;
    const columns = model.file.tensors.get(name)!.shape[0];
    // The output's norm may be of the last rows alone; a layer's is of all.
    const rows = data.length / columns;
    if (layerOf(point) !== undefined && rows !== ids.length) throw new Error(`${point}: ${rows}`);
    const means = new Float32Array(columns);
    for (const [i, value] of data.entries()) means[i % columns] += value * value / rows;
    return [name, means];
  }));
}

/**
 * Writes a copy that llama.cpp's quantizer makes by an importance matrix.
 *
 * @throws {LlamaCppError} when it cannot
 */
export function quantizeByImportance(
  library: LlamaCppLibrary,
  from: string,
  to: string,
  type: QuantizationType,
  importance: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
): void {
  llamaCpp(library);
  const { symbols } = Deno.dlopen(library.llama, {
    llama_model_quantize_default_params: { parameters: [], result: PARAMS },
    llama_model_quantize: { parameters: ["buffer", "buffer", "buffer"], result: "u32" },
  });
  const addressOf = (bytes: Uint8Array<ArrayBuffer> | Float32Array<ArrayBuffer>) =>
    BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  // `llama_model_imatrix_data`: name, data, size; one without a name ends the list.
  const names = [...importance.keys()].map(text);
  const list = new BigUint64Array(3 * (importance.size + 1));
  [...importance.values()].forEach((data, i) =>
    list.set([addressOf(names[i]), addressOf(data), BigInt(data.length)], 3 * i)
  );
  const params = symbols.llama_model_quantize_default_params() as Uint8Array<ArrayBuffer>;
  const view = new DataView(params.buffer, params.byteOffset);
  view.setInt32(FTYPE_AT, FILE_TYPES[type]!, true);
  view.setBigUint64(IMATRIX_AT, addressOf(new Uint8Array(list.buffer)), true);
  const code = symbols.llama_model_quantize(text(from), text(to), params);
  if (code !== 0) throw new LlamaCppError(`it cannot quantize ${from} by importance`);
}

function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${value}\0`);
}

/**
 * llama.cpp through Deno's FFI, observed, to make fixtures. Struct layouts are those of llama.cpp v0.5.0 (npm
 * `@node-llama-cpp/<platform>` 3.22.1).
 */

const MODEL_PARAMS = { struct: Array(10).fill("u64") } as unknown as { struct: ["u64"] }; // 80 bytes
const CONTEXT_PARAMS = { struct: Array(20).fill("u64") } as unknown as { struct: ["u64"] }; // 160
const BATCH = { struct: Array(7).fill("u64") } as unknown as { struct: ["u64"] };

/** A tensor of llama.cpp's graph. */
export interface GraphTensor {
  /** Row-major: the reverse of ggml's order, without leading ones. */
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/**
 * Runs one pass over a prompt and gives all its f32 tensors by name, in the order of computation where several have the same.
 * One CPU thread, flash attention off, F32 cache, logits for every row.
 *
 * @param folder where libllama.v0.5.0.so lies
 * @param path of a GGUF file
 */
export function observeLlamaCpp(
  folder: string,
  path: string,
  ids: readonly number[],
): Map<string, GraphTensor[]> {
  const loader = Deno.dlopen(`${folder}/libggml.v0.5.0.so`, {
    ggml_backend_load_all_from_path: { parameters: ["buffer"], result: "void" },
  }).symbols;
  const ggml = Deno.dlopen(`${folder}/libggml-base.so`, {
    ggml_backend_tensor_get: {
      parameters: ["pointer", "buffer", "usize", "usize"],
      result: "void",
    },
    ggml_nbytes: { parameters: ["pointer"], result: "usize" },
  }).symbols;
  const llama = Deno.dlopen(`${folder}/libllama.v0.5.0.so`, {
    llama_backend_init: { parameters: [], result: "void" },
    llama_log_set: { parameters: ["pointer", "pointer"], result: "void" },
    llama_model_default_params: { parameters: [], result: MODEL_PARAMS },
    llama_context_default_params: { parameters: [], result: CONTEXT_PARAMS },
    llama_model_load_from_file: { parameters: ["buffer", MODEL_PARAMS], result: "pointer" },
    llama_init_from_model: { parameters: ["pointer", CONTEXT_PARAMS], result: "pointer" },
    llama_decode: { parameters: ["pointer", BATCH], result: "i32" },
  }).symbols;

  const seen = new Map<string, GraphTensor[]>();
  const observer = new Deno.UnsafeCallback(
    { parameters: ["pointer", "bool", "pointer"], result: "bool" },
    (pointer, ask) => {
      if (ask) return true;
      // struct ggml_tensor: type at 0 (0 is F32), ne at 16, nb at 48, name at 256.
      const view = new Deno.UnsafePointerView(pointer!);
      if (view.getInt32(0) !== 0) return true;
      const name = view.getCString(256);
      const sizes = [3, 2, 1, 0].map((i) => Number(view.getBigInt64(16 + 8 * i)));
      const strides = [3, 2, 1, 0].map((i) => Number(view.getBigUint64(48 + 8 * i)));
      const bytes = new Uint8Array(Number(ggml.ggml_nbytes(pointer)));
      ggml.ggml_backend_tensor_get(pointer, bytes, 0n, BigInt(bytes.length));
      const data = gather(new DataView(bytes.buffer), sizes, strides);
      const shape = sizes.slice(sizes.findIndex((size) => size > 1));
      seen.set(name, [...(seen.get(name) ?? []), { shape, data }]);
      return true;
    },
  );
  const quiet = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "void" },
    () => {},
  );

  const text = (value: string) => new TextEncoder().encode(`${value}\0`);
  const address = (pointer: Deno.PointerValue) => BigInt(Deno.UnsafePointer.value(pointer));
  loader.ggml_backend_load_all_from_path(text(folder));
  llama.llama_log_set(quiet.pointer, null);
  llama.llama_backend_init();
  const modelParams = llama.llama_model_default_params() as Uint8Array<ArrayBuffer>;
  const model = llama.llama_model_load_from_file(text(path), modelParams);
  if (model === null) throw new Error(`llama.cpp cannot load ${path}`);
  const params = llama.llama_context_default_params() as Uint8Array<ArrayBuffer>;
  const view = new DataView(params.buffer, params.byteOffset);
  for (const at of [0, 4, 8]) view.setUint32(at, Math.max(512, ids.length), true); // n_ctx, n_batch, n_ubatch
  for (const at of [28, 32]) view.setInt32(at, 1, true); // threads
  view.setInt32(52, 0, true); // flash attention: off
  view.setBigUint64(88, address(observer.pointer), true); // cb_eval
  for (const at of [104, 108]) view.setInt32(at, 0, true); // type_k, type_v: F32
  const context = llama.llama_init_from_model(model, params);
  if (context === null) throw new Error("llama.cpp cannot make a context");

  const arrays = { // named, so that they live as long as C points to them
    ids: Int32Array.from(ids),
    positions: Int32Array.from(ids.keys()),
    counts: new Int32Array(ids.length).fill(1),
    sequence: new Int32Array(1),
    sequences: new BigUint64Array(ids.length),
    logits: new Int8Array(ids.length).fill(1),
  };
  const addressOf = (array: keyof typeof arrays) =>
    address(Deno.UnsafePointer.of(arrays[array] as BufferSource as Uint8Array<ArrayBuffer>));
  arrays.sequences.fill(addressOf("sequence"));
  const batch = new DataView(new ArrayBuffer(56));
  batch.setInt32(0, ids.length, true);
  batch.setBigUint64(8, addressOf("ids"), true);
  batch.setBigUint64(24, addressOf("positions"), true);
  batch.setBigUint64(32, addressOf("counts"), true);
  batch.setBigUint64(40, addressOf("sequences"), true);
  batch.setBigUint64(48, addressOf("logits"), true);
  if (llama.llama_decode(context, new Uint8Array(batch.buffer)) !== 0) throw new Error("decode");
  return seen;
}

/** The numbers of a (possibly permuted) view, row-major; four sizes, strides in bytes. */
function gather(view: DataView, sizes: number[], strides: number[]): Float32Array<ArrayBuffer> {
  const [a, b, c, d] = sizes;
  const data = new Float32Array(a * b * c * d);
  let to = 0;
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      for (let k = 0; k < c; k++) {
        let from = i * strides[0] + j * strides[1] + k * strides[2];
        for (let l = 0; l < d; l++, from += strides[3]) data[to++] = view.getFloat32(from, true);
      }
    }
  }
  return data;
}

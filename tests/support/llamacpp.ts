/**
 * llama.cpp through Deno's FFI, observed: its own tensors, to compare with and to make fixtures. Struct layouts are those of
 * llama.cpp v0.5.0 (npm `@node-llama-cpp/<platform>` 3.22.1).
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

/** The f32 tensors of a pass by name; of several with one name, in the order of computation. */
export type Graph = Map<string, GraphTensor[]>;

type Libraries = ReturnType<typeof openLibraries>;

function openLibraries(folder: string) {
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
    llama_model_free: { parameters: ["pointer"], result: "void" },
    llama_init_from_model: { parameters: ["pointer", CONTEXT_PARAMS], result: "pointer" },
    llama_free: { parameters: ["pointer"], result: "void" },
    llama_decode: { parameters: ["pointer", BATCH], result: "i32" },
  }).symbols;
  const quiet = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "void" },
    () => {},
  );
  loader.ggml_backend_load_all_from_path(cString(folder));
  llama.llama_log_set(quiet.pointer, null);
  llama.llama_backend_init();
  return { ggml, llama };
}

/** Libraries are loaded once in a process. */
const opened = new Map<string, Libraries>();

/**
 * A model in llama.cpp, run pass by pass with its tensors in sight. One CPU thread, flash attention off, F32 cache, logits for
 * every row.
 */
export class LlamaCpp implements Disposable {
  readonly #libraries: Libraries;
  readonly #model: Deno.PointerObject;
  readonly #context: Deno.PointerObject;
  readonly #callback;
  /** Tensors whose numbers are wanted, and where they go. */
  #wanted: (name: string) => boolean = () => false;
  #seen: Graph = new Map();
  #position = 0;

  /**
   * @param folder where libllama.v0.5.0.so lies
   * @param path of a GGUF file
   * @param capacity positions of all passes together
   */
  constructor(folder: string, path: string, capacity = 512) {
    if (!opened.has(folder)) opened.set(folder, openLibraries(folder));
    this.#libraries = opened.get(folder)!;
    const { llama } = this.#libraries;
    const modelParams = llama.llama_model_default_params() as Uint8Array<ArrayBuffer>;
    const model = llama.llama_model_load_from_file(cString(path), modelParams);
    if (model === null) throw new Error(`llama.cpp cannot load ${path}`);
    this.#model = model;
    this.#callback = new Deno.UnsafeCallback(
      { parameters: ["pointer", "bool", "pointer"], result: "bool" },
      (tensor, ask) => this.#observe(tensor!, ask),
    );
    const params = llama.llama_context_default_params() as Uint8Array<ArrayBuffer>;
    const view = new DataView(params.buffer, params.byteOffset);
    for (const at of [0, 4, 8]) view.setUint32(at, Math.max(512, capacity), true); // n_ctx, n_batch, n_ubatch
    for (const at of [28, 32]) view.setInt32(at, 1, true); // threads
    view.setInt32(52, 0, true); // flash attention: off
    view.setBigUint64(88, address(this.#callback.pointer), true); // cb_eval
    for (const at of [104, 108]) view.setInt32(at, 0, true); // type_k, type_v: F32
    const context = llama.llama_init_from_model(model, params);
    if (context === null) throw new Error("llama.cpp cannot make a context");
    this.#context = context;
  }

  /** Runs ids at the positions after those of the passes before. */
  pass(ids: readonly number[], wanted: (name: string) => boolean = () => true): Graph {
    this.#wanted = wanted;
    this.#seen = new Map();
    const arrays = { // named, so that they live as long as C points to them
      ids: Int32Array.from(ids),
      positions: Int32Array.from(ids, (_, i) => this.#position + i),
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
    const { llama } = this.#libraries;
    const failed = llama.llama_decode(this.#context, new Uint8Array(batch.buffer));
    if (failed !== 0) throw new Error(`llama_decode answered ${failed}`);
    this.#position += ids.length;
    return this.#seen;
  }

  #observe(pointer: Deno.PointerObject, ask: boolean): boolean {
    const { ggml } = this.#libraries;
    // struct ggml_tensor: type at 0 (0 is F32), ne at 16, nb at 48, name at 256.
    const view = new Deno.UnsafePointerView(pointer);
    const name = view.getCString(256);
    if (view.getInt32(0) !== 0 || !this.#wanted(name)) return !ask;
    if (ask) return true;
    const sizes = [3, 2, 1, 0].map((i) => Number(view.getBigInt64(16 + 8 * i)));
    const strides = [3, 2, 1, 0].map((i) => Number(view.getBigUint64(48 + 8 * i)));
    const bytes = new Uint8Array(Number(ggml.ggml_nbytes(pointer)));
    ggml.ggml_backend_tensor_get(pointer, bytes, 0n, BigInt(bytes.length));
    const data = gather(bytes, sizes, strides);
    const shape = sizes.slice(sizes.findIndex((size) => size > 1));
    this.#seen.set(name, [...this.#seen.get(name) ?? [], { shape, data }]);
    return true;
  }

  [Symbol.dispose](): void {
    this.#libraries.llama.llama_free(this.#context);
    this.#libraries.llama.llama_model_free(this.#model);
    this.#callback.close();
  }
}

/** Runs one pass over a prompt and gives all its f32 tensors. */
export function observeLlamaCpp(folder: string, path: string, ids: readonly number[]): Graph {
  using llama = new LlamaCpp(folder, path, ids.length);
  return llama.pass(ids);
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function address(pointer: Deno.PointerValue): bigint {
  return BigInt(Deno.UnsafePointer.value(pointer));
}

/** The numbers of a (possibly permuted) view, row-major; four sizes, strides in bytes. */
function gather(bytes: Uint8Array<ArrayBuffer>, sizes: number[], strides: number[]) {
  const [a, b, c, d] = sizes;
  const dense = [b * c * d * 4, c * d * 4, d * 4, 4].every((stride, i) =>
    sizes[i] === 1 || strides[i] === stride
  );
  if (dense) return new Float32Array(bytes.buffer);
  const view = new DataView(bytes.buffer);
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

/**
 * llama.cpp's C interface through Deno's FFI. Layouts of structures are those of llama.h and ggml.h at v0.5.0; what can be seen of
 * them (layout.ts) is checked when the libraries are opened.
 */
import { checkLayout, LlamaCppError } from "./layout.ts";
import { LLAMA_CPP_RELEASE, type LlamaCppLibrary } from "./library.ts";
import type { Candidates, SampledWith } from "../reference.ts";
import type { GraphNode, GraphTensor, GraphValue } from "./points.ts";

/** A structure is passed by its size; what is in it is written at byte offsets. */
const bytes = (count: number) =>
  ({ struct: Array(count / 8).fill("u64") }) as unknown as { readonly struct: ["u64"] };

const MODEL_PARAMS = bytes(80);
const CONTEXT_PARAMS = bytes(160);
const BATCH = bytes(56);
const QUANTIZE_PARAMS = bytes(64);

const LOG = { parameters: ["i32", "pointer", "pointer"], result: "void" } as const;
/** `llama_progress_callback`: the part that is loaded; whether to go on. */
const LOADING = { parameters: ["f32", "pointer"], result: "bool" } as const;
/** `ggml_backend_sched_eval_callback`: a tensor; whether it is asked if this one is wanted; whether it is, or to go on. */
const OBSERVE = { parameters: ["pointer", "bool", "pointer"], result: "bool" } as const;

const BASE_SYMBOLS = {
  ggml_tensor_overhead: { parameters: [], result: "usize" },
  ggml_op_name: { parameters: ["i32"], result: "pointer" },
  ggml_nbytes: { parameters: ["pointer"], result: "usize" },
  ggml_backend_tensor_get: {
    parameters: ["pointer", "buffer", "usize", "usize"],
    result: "void",
  },
  ggml_backend_dev_description: { parameters: ["pointer"], result: "pointer" },
  ggml_backend_dev_type: { parameters: ["pointer"], result: "i32" },
} as const;

const GGML_SYMBOLS = {
  ggml_backend_load_all_from_path: { parameters: ["buffer"], result: "void" },
  ggml_backend_dev_count: { parameters: [], result: "usize" },
  ggml_backend_dev_get: { parameters: ["usize"], result: "pointer" },
} as const;

const LLAMA_SYMBOLS = {
  llama_version: { parameters: [], result: "pointer" },
  llama_backend_init: { parameters: [], result: "void" },
  llama_log_set: { parameters: ["function", "pointer"], result: "void" },
  llama_model_default_params: { parameters: [], result: MODEL_PARAMS },
  llama_context_default_params: { parameters: [], result: CONTEXT_PARAMS },
  llama_model_load_from_file: { parameters: ["buffer", MODEL_PARAMS], result: "pointer" },
  llama_init_from_model: { parameters: ["pointer", CONTEXT_PARAMS], result: "pointer" },
  llama_model_get_vocab: { parameters: ["pointer"], result: "pointer" },
  llama_vocab_n_tokens: { parameters: ["pointer"], result: "i32" },
  llama_vocab_get_add_bos: { parameters: ["pointer"], result: "bool" },
  llama_vocab_get_add_eos: { parameters: ["pointer"], result: "bool" },
  llama_vocab_is_eog: { parameters: ["pointer", "i32"], result: "bool" },
  llama_tokenize: {
    parameters: ["pointer", "buffer", "i32", "buffer", "i32", "bool", "bool"],
    result: "i32",
  },
  llama_decode: { parameters: ["pointer", BATCH], result: "i32" },
  llama_model_quantize_default_params: { parameters: [], result: QUANTIZE_PARAMS },
  llama_model_quantize: { parameters: ["buffer", "buffer", "buffer"], result: "u32" },
  llama_get_memory: { parameters: ["pointer"], result: "pointer" },
  llama_memory_clear: { parameters: ["pointer", "bool"], result: "void" },
  llama_set_n_threads: { parameters: ["pointer", "i32", "i32"], result: "void" },
  llama_get_logits_ith: { parameters: ["pointer", "i32"], result: "pointer" },
  llama_sampler_init_top_k: { parameters: ["i32"], result: "pointer" },
  llama_sampler_init_top_p: { parameters: ["f32", "usize"], result: "pointer" },
  llama_sampler_init_min_p: { parameters: ["f32", "usize"], result: "pointer" },
  llama_sampler_init_temp: { parameters: ["f32"], result: "pointer" },
  llama_sampler_init_dist: { parameters: ["u32"], result: "pointer" },
  llama_sampler_apply: { parameters: ["pointer", "buffer"], result: "void" },
  llama_sampler_free: { parameters: ["pointer"], result: "void" },
} as const;

/** A tensor of the graph, while it is looked at. */
export interface LlamaTensor extends GraphNode {
  /** In ggml's order, four of them. */
  readonly sizes: readonly number[];
  /** In bytes. */
  readonly strides: readonly number[];
  /** Its numbers, with what lies between them; undefined where they are neither F32 nor I32. */
  read(): Float32Array<ArrayBuffer> | undefined;
  /** What is said of a softmax; its mask read. */
  softmax(): GraphValue["softmax"];
}

/** Looks on while a pass is computed. */
export interface Observer {
  /** Whether the numbers of a tensor that is about to be computed are wanted. */
  wants(tensor: LlamaTensor): boolean;
  /** Takes one that was wanted. */
  take(tensor: LlamaTensor): void;
}

/** A model that is loaded, with a context. */
export interface LlamaContext {
  /** V */
  readonly vocabSize: number;
  /**
   * Runs the next positions, logits for each.
   *
   * @param input ids, or rows of D numbers each
   * @returns the last row's logits, valid until the next pass
   */
  pass(input: readonly number[] | Float32Array<ArrayBuffer>, positions: number): Float32Array;
  /** Forgets all positions. */
  clear(): void;
  /** Threads of the passes that follow. */
  setThreads(threads: number): void;
}

/** How a model is run. */
export interface ContextOptions {
  readonly threads: number;
  /** Positions of the longest pass. */
  readonly longestPass: number;
  /** Positions in all. */
  readonly positions: number;
  readonly observer?: Observer;
  /**
   * As people run it, in place of exact and whole: KV cache in F16, logits of the last row only, and without an observer flash
   * attention where llama.cpp likes it.
   */
  readonly asUsual?: boolean;
}

/** How a model is loaded. */
export interface LoadOptions {
  /** Whether all layers go to the GPU; else nothing does. */
  readonly gpu: boolean;
  readonly vocabularyOnly?: boolean;
  /** Called now and then while it is loaded. */
  readonly onProgress?: () => void;
}

/** A model, loaded by {@linkcode openLlamaCpp}. */
export interface LlamaModel {
  readonly vocabulary: LlamaVocabulary;
  /** Only of a model that is more than its vocabulary. */
  context(options: ContextOptions): LlamaContext;
}

/** What a model's ids mean. */
export interface LlamaVocabulary {
  /** V */
  readonly size: number;
  /** Whether a text begins with BOS and ends with EOS. */
  readonly addBos: boolean;
  readonly addEos: boolean;
  /** Whether nothing comes after an id. */
  endsGeneration(id: number): boolean;
  /** Ids of a text: special tokens are parsed, BOS and EOS as the file says; or, `plain`, neither. */
  tokenize(text: string, options?: { readonly plain?: boolean }): number[];
}

/** An open llama.cpp. Nothing closes it: it lives as long as its process. */
export interface LlamaCpp {
  /** `v0.5.0`. */
  readonly release: string;
  /** Names of what it computes on, the GPUs first. */
  readonly devices: readonly { readonly gpu: boolean; readonly description: string }[];
  load(path: string, options: LoadOptions): LlamaModel;
  /** What its samplers leave of logits [V], in its usual order of them. */
  sample(logits: Float32Array, options: SampledWith): Candidates;
  /** Writes a quantized copy of a GGUF file. */
  quantize(from: string, to: string, options: QuantizeOptions): void;
}

/** How a file is quantized. */
export interface QuantizeOptions {
  /** `enum llama_ftype` */
  readonly fileType: number;
  readonly threads: number;
  /** Told before each tensor. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Opens llama.cpp's libraries.
 *
 * @throws {LlamaCppError} when they cannot be opened or have other layouts
 */
export function openLlamaCpp(files: LlamaCppLibrary): LlamaCpp {
  const base = open(files.base, BASE_SYMBOLS);
  const ggml = open(files.ggml, GGML_SYMBOLS);
  const llama = open(files.llama, LLAMA_SYMBOLS);
  checkLayout({
    version: textAt(llama.llama_version()),
    tensorOverhead: Number(base.ggml_tensor_overhead()),
    modelParams: llama.llama_model_default_params(),
    contextParams: llama.llama_context_default_params(),
    quantizeParams: llama.llama_model_quantize_default_params(),
  });

  // What llama.cpp says about errors, for ours.
  let said = "";
  let onInfo: ((line: string) => void) | undefined;
  const log = new Deno.UnsafeCallback(LOG, (level, text) => {
    if (level === 2 && text !== null) onInfo?.(textAt(text)); // GGML_LOG_LEVEL_INFO
    if (level === 4 && text !== null) said ||= textAt(text).trim().split("\n")[0]; // GGML_LOG_LEVEL_ERROR
  });
  llama.llama_log_set(log.pointer, null);
  ggml.ggml_backend_load_all_from_path(cText(files.folder));
  llama.llama_backend_init();

  function failed(what: string): LlamaCppError {
    return new LlamaCppError(said === "" ? what : `${what}: ${said}`);
  }

  return {
    release: LLAMA_CPP_RELEASE,
    devices: Array.from({ length: Number(ggml.ggml_backend_dev_count()) }, (_, i) => {
      const device = ggml.ggml_backend_dev_get(BigInt(i));
      const type = base.ggml_backend_dev_type(device); // 1 a GPU, 2 one that is part of the processor
      const description = textAt(base.ggml_backend_dev_description(device));
      return { gpu: type === 1 || type === 2, description };
    }).sort((a, b) => Number(b.gpu) - Number(a.gpu)),

    quantize(from, to, { fileType, threads, onProgress }) {
      const params = llama.llama_model_quantize_default_params();
      const view = viewOf(params);
      view.setInt32(0, threads, true);
      view.setInt32(4, fileType, true);
      // `[   1/  48] token_embd.weight …`
      onInfo = (line) => {
        const [, number, total] = line.match(/^\[ *(\d+)\/ *(\d+)\]/) ?? [];
        if (number !== undefined) onProgress?.(Number(number) - 1, Number(total));
      };
      const code = llama.llama_model_quantize(
        cText(from),
        cText(to),
        params as Uint8Array<ArrayBuffer>,
      );
      onInfo = undefined;
      if (code !== 0) throw failed(`it cannot quantize ${from}`);
    },

    sample(logits, { topK, topP, minP, temperature }) {
      // `llama_token_data`: id, logit, p; `llama_token_data_array`: data, size, selected, sorted.
      const data = new DataView(new ArrayBuffer(12 * logits.length));
      for (const [id, logit] of logits.entries()) {
        data.setInt32(12 * id, id, true);
        data.setFloat32(12 * id + 4, logit, true);
      }
      const array = new Uint8Array(32);
      const view = viewOf(array);
      view.setBigUint64(0, addressOf(data as ArrayBufferView<ArrayBuffer>), true);
      view.setBigUint64(8, BigInt(logits.length), true);
      view.setBigInt64(16, -1n, true);
      for (
        const sampler of [
          llama.llama_sampler_init_top_k(topK),
          llama.llama_sampler_init_top_p(topP, 1n),
          llama.llama_sampler_init_min_p(minP, 1n),
          llama.llama_sampler_init_temp(temperature),
          // It gives the candidates their probabilities; what it draws does not matter.
          llama.llama_sampler_init_dist(1),
        ]
      ) {
        llama.llama_sampler_apply(sampler, array);
        llama.llama_sampler_free(sampler);
      }
      const count = Number(view.getBigUint64(8, true));
      const left = new Deno.UnsafePointerView(
        Deno.UnsafePointer.create(view.getBigUint64(0, true))!,
      );
      const places = Array.from({ length: count }, (_, i) => 12 * i);
      return {
        ids: places.map((at) => left.getInt32(at)),
        probabilities: places.map((at) => left.getFloat32(at + 8)),
      };
    },

    load(path, { gpu, vocabularyOnly = false, onProgress }) {
      const params = llama.llama_model_default_params();
      const view = viewOf(params);
      if (!gpu) view.setBigUint64(0, addressOf(NO_DEVICES), true);
      view.setInt32(16, gpu ? 999 : 0, true); // n_gpu_layers
      const loading = new Deno.UnsafeCallback(LOADING, () => {
        onProgress?.();
        return true;
      });
      view.setBigUint64(48, BigInt(Deno.UnsafePointer.value(loading.pointer)), true);
      view.setUint8(72, vocabularyOnly ? 1 : 0);
      const model = llama.llama_model_load_from_file(cText(path), params);
      if (model === null) throw failed(`it cannot load ${path}`);
      const vocabulary = llama.llama_model_get_vocab(model);

      const vocabSize = llama.llama_vocab_n_tokens(vocabulary);

      return {
        vocabulary: {
          size: vocabSize,
          addBos: llama.llama_vocab_get_add_bos(vocabulary),
          addEos: llama.llama_vocab_get_add_eos(vocabulary),
          endsGeneration: (id) => llama.llama_vocab_is_eog(vocabulary, id),
          tokenize(text, { plain = false } = {}) {
            const given = new TextEncoder().encode(text);
            // A space may become the three bytes of its mark, each a token.
            const ids = new Int32Array(3 * given.length + 16);
            const count = llama.llama_tokenize(
              vocabulary,
              given.length === 0 ? new Uint8Array(1) : given,
              given.length,
              ids,
              ids.length,
              !plain,
              !plain,
            );
            if (count < 0) throw failed("it cannot tokenize the text");
            return [...ids.subarray(0, count)];
          },
        },

        context({ threads, longestPass, positions, observer, asUsual = false }) {
          const params = llama.llama_context_default_params();
          const view = viewOf(params);
          view.setUint32(0, positions, true); // n_ctx
          view.setUint32(4, longestPass, true); // n_batch
          view.setUint32(8, longestPass, true); // n_ubatch
          view.setInt32(28, threads, true); // n_threads
          view.setInt32(32, threads, true); // n_threads_batch
          // Flash attention is off where somebody looks on, else there are no scores.
          if (!asUsual || observer) view.setInt32(52, 0, true); // flash_attn_type
          if (!asUsual) {
            view.setInt32(104, 0, true); // type_k: F32
            view.setInt32(108, 0, true); // type_v
          }
          if (observer) {
            const observe = new Deno.UnsafeCallback(OBSERVE, (pointer, asks) => {
              const tensor = tensorAt(pointer!);
              if (asks) return observer.wants(tensor);
              observer.take(tensor);
              return true;
            });
            view.setBigUint64(88, BigInt(Deno.UnsafePointer.value(observe.pointer)), true);
          }
          const context = llama.llama_init_from_model(model, params);
          if (context === null) throw failed("it cannot make a context");
          let start = 0;
          let batch: Batch; // out here, so that no collector takes what llama.cpp reads
          return {
            vocabSize,
            pass(input, count) {
              batch = new Batch(input, start, count, asUsual);
              const code = llama.llama_decode(context, batch.struct);
              if (code !== 0) throw failed(`it cannot run positions from ${start} on (${code})`);
              start += count;
              const logits = llama.llama_get_logits_ith(context, -1);
              if (logits === null) throw failed("it gave no logits");
              return new Float32Array(
                Deno.UnsafePointerView.getArrayBuffer(logits, vocabSize * 4),
              );
            },
            clear() {
              llama.llama_memory_clear(llama.llama_get_memory(context), false);
              start = 0;
            },
            setThreads: (count) => llama.llama_set_n_threads(context, count, count),
          };
        },
      };
    },
  };

  function tensorAt(pointer: Deno.PointerObject): LlamaTensor {
    // struct ggml_tensor: type at 0, ne at 16, nb at 48, op at 80, its parameters at 84, src at 152 (ten of them), name at 256.
    const view = new Deno.UnsafePointerView(pointer);
    const sources = () =>
      Array.from({ length: 10 }, (_, i) => view.getPointer(152 + 8 * i)).filter((each) =>
        each !== null
      );
    const four = (at: number) => [0, 8, 16, 24].map((i) => Number(view.getBigInt64(at + i)));
    return {
      get name() {
        return view.getCString(256);
      },
      get operation() {
        return textAt(base.ggml_op_name(view.getInt32(80)));
      },
      get inputs() {
        return sources().map((source) => new Deno.UnsafePointerView(source).getCString(256));
      },
      get sizes() {
        return four(16);
      },
      get strides() {
        return four(48);
      },
      read() {
        const type = view.getInt32(0);
        if (type !== F32 && type !== I32) return undefined;
        const bytes = new ArrayBuffer(Number(base.ggml_nbytes(pointer)));
        base.ggml_backend_tensor_get(pointer, new Uint8Array(bytes), 0n, BigInt(bytes.byteLength));
        return type === F32 ? new Float32Array(bytes) : Float32Array.from(new Int32Array(bytes));
      },
      softmax() {
        const mask = sources().at(1);
        return {
          scale: view.getFloat32(84),
          maxBias: view.getFloat32(88),
          mask: mask && valuesOf(tensorAt(mask)),
        };
      },
    };
  }
}

/** A tensor's numbers as they lie; undefined where they are neither F32 nor I32. */
export function valuesOf(tensor: LlamaTensor): GraphTensor | undefined {
  const data = tensor.read();
  const strides = tensor.strides.map((bytes) => bytes / 4);
  return data && { sizes: tensor.sizes, strides, data };
}

/** A node with its numbers; undefined where they are neither F32 nor I32. */
export function graphValue(tensor: LlamaTensor): GraphValue | undefined {
  const { name, operation, inputs } = tensor;
  const values = valuesOf(tensor);
  return values && {
    ...{ name, operation, inputs, ...values },
    ...(operation === "SOFT_MAX" ? { softmax: tensor.softmax() } : {}),
  };
}

/** `enum ggml_type` */
const [F32, I32] = [0, 26];

/** A list of devices that ends at once. */
const NO_DEVICES = new BigUint64Array(1);

/** A `llama_batch` of one sequence. */
class Batch {
  readonly struct = new Uint8Array(56);
  /** What C points to. */
  readonly kept: readonly ArrayBufferView[];

  constructor(
    input: readonly number[] | Float32Array<ArrayBuffer>,
    start: number,
    count: number,
    lastOnly = false,
  ) {
    const sequence = new Int32Array(1);
    const own = input instanceof Float32Array ? input : Int32Array.from(input);
    const positions = Int32Array.from({ length: count }, (_, i) => start + i);
    const counts = new Int32Array(count).fill(1);
    const sequences = new BigUint64Array(count).fill(addressOf(sequence));
    const logits = new Int8Array(count).fill(1, lastOnly ? count - 1 : 0);
    this.kept = [sequence, own, positions, counts, sequences, logits];
    const view = viewOf(this.struct);
    view.setInt32(0, count, true);
    view.setBigUint64(own instanceof Float32Array ? 16 : 8, addressOf(own), true); // embd or token
    view.setBigUint64(24, addressOf(positions), true);
    view.setBigUint64(32, addressOf(counts), true);
    view.setBigUint64(40, addressOf(sequences), true);
    view.setBigUint64(48, addressOf(logits), true);
  }
}

function open<Symbols extends Deno.ForeignLibraryInterface>(
  path: string,
  symbols: Symbols,
): Deno.StaticForeignLibraryInterface<Symbols> {
  try {
    return Deno.dlopen(path, symbols).symbols;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : error;
    throw new LlamaCppError(`its library cannot be opened: ${reason}`);
  }
}

function viewOf(struct: Uint8Array): DataView {
  return new DataView(struct.buffer, struct.byteOffset, struct.byteLength);
}

function addressOf(array: ArrayBufferView<ArrayBuffer>): bigint {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(array)));
}

function cText(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function textAt(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}

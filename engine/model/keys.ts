/** A model file's metadata, read key by key; what is wrong there is said in one line. */
import { GgufError, quoted } from "../gguf/error.ts";
import type { GgufFile, MetadataValue } from "../gguf/reader.ts";

/** What is read of a file. */
export type ConfigSource = Pick<GgufFile, "name" | "metadata" | "tensors">;

/** How files write a key of an architecture: the numbers of xIELU without its name. */
export function fullKey(architecture: string, key: string): string {
  return /^xielu\./.test(key) ? key : `${architecture}.${key}`;
}

/** Reads the metadata of one architecture and words what is wrong with it. */
export class Keys {
  readonly file: ConfigSource;
  readonly architecture: string;
  /** Keys that were asked for. */
  readonly asked = new Set<string>();

  constructor(file: ConfigSource, architecture: string) {
    this.file = file;
    this.architecture = architecture;
  }

  /** The value of `<architecture>.<key>`, as the file has it. */
  get(key: string): MetadataValue | undefined {
    this.asked.add(key);
    return this.file.metadata.get(this.#full(key));
  }

  /** Whether the file has a tensor of that name; of blocks, the first has it. */
  has(tensor: string): boolean {
    return this.file.tensors.has(tensor) || this.file.tensors.has(`blk.0.${tensor}`);
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
    const list = this.#perLayer(key, value, layers);
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

  /** Finite numbers, one for each layer; a single one holds for all. */
  reals(key: string, layers: number): number[] {
    const value = this.get(key);
    if (value === undefined) throw this.#missing(key);
    const list = typeof value === "object"
      ? this.#perLayer(key, value, layers)
      : Array<MetadataValue>(layers).fill(value);
    return list.map((each) => {
      if (typeof each === "number" && Number.isFinite(each)) return each;
      throw this.error(key, `${shown(each)} in a layer, which makes no sense there`);
    });
  }

  /** Yes or no. */
  flag(key: string, otherwise: boolean): boolean {
    const value = this.get(key) ?? otherwise;
    if (typeof value !== "boolean") {
      throw this.error(key, `${shown(value)} instead of true or false`);
    }
    return value;
  }

  /** Yes or no for each layer, where the file says it so; undefined where the key is a number or missing. */
  flags(key: string, layers: number): boolean[] | undefined {
    const value = this.get(key);
    if (value === undefined || typeof value !== "object") return undefined;
    return this.#perLayer(key, value, layers).map(Boolean);
  }

  /** `general.name`, or the file's name. */
  modelName(): string {
    const name = this.file.metadata.get("general.name");
    return typeof name === "string" && name !== "" ? name : this.file.name;
  }

  /** One line about a key. */
  error(key: string, problem: string): GgufError {
    return new GgufError(`${this.#full(key)} is ${problem}`, { file: this.file.name });
  }

  #full(key: string): string {
    return fullKey(this.architecture, key);
  }

  #perLayer(key: string, value: object, layers: number): MetadataValue[] {
    const list = Array.from<MetadataValue>(value as ArrayLike<MetadataValue>);
    if (list.length === layers) return list;
    throw this.error(key, `a list of ${list.length} numbers for ${layers} layers`);
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
      `the metadata key ${this.#full(key)} is missing; convert the model again`,
      { file: this.file.name },
    );
  }
}

/** A value for people. */
export function shown(value: MetadataValue): string {
  if (typeof value === "object") return "a list";
  return typeof value === "string" ? quoted(value) : String(value);
}

/** `manifest.json`: what a folder of somebody's own engine's tensors says about itself. README.md describes it. */
import { isObject, parseForeignJson } from "../../../models/foreign_json.ts";
import type { ActivationType, Provenance } from "../reference.ts";

/** A tensor of a pass. */
export interface ManifestTensor {
  /** Name of its file in the folder. */
  readonly file: string;
  /** Row-major: slowest axis first. What the file itself says without it. */
  readonly shape?: readonly number[];
  /** What each axis counts, and in which order they are; the point's own without it. `batch` for a leading 1. */
  readonly axes?: readonly string[];
  /** Absolute positions of its rows, where not all of the pass are there. */
  readonly positions?: readonly number[];
}

/** One pass. */
export interface ManifestPass {
  /** 0 for the prompt, n for the pass that ran the n-th generated token. */
  readonly step: number;
  /** Absolute position of its first row. */
  readonly start: number;
  readonly ids: readonly number[];
  /** By point, or by another engine's name for it. */
  readonly tensors: Readonly<Record<string, ManifestTensor>>;
}

/** A whole manifest. */
export interface Manifest {
  readonly format: "lamina-engine-tensors";
  readonly version: 1;
  /** Which model it ran, for people. */
  readonly model: string;
  /** The engine's name; that of the folder without it. */
  readonly engine?: string;
  readonly engine_version?: string;
  /** Where it ran: `CPU`. */
  readonly device?: string;
  /** Order of a head's numbers in q, k and their like. Without it, names of Hugging Face and TransformerLens mean halves. */
  readonly rope?: "adjacent" | "half";
  /** How it builds RoPE's angles; default `exact`. */
  readonly angles?: Provenance["rope"];
  /** Type of its activations; default `f32`. */
  readonly activations?: ActivationType;
  /** What was written: the text of the ids, or with `template_text` the one message of a conversation. */
  readonly prompt?: string;
  /** What the engine's chat template made of the prompt: the text of the ids. */
  readonly template_text?: string;
  readonly prompt_ids: readonly number[];
  /** None for a log of ids. */
  readonly passes: readonly ManifestPass[];
  /** Its own greedy choices: the first follows the prompt. */
  readonly ids?: readonly number[];
}

/** The name of the file in its folder. */
export const MANIFEST = "manifest.json";

/**
 * Understands a manifest.
 *
 * @throws {TypeError} one line that says what is wrong at which key
 */
export function parseManifest(json: string | Uint8Array): Manifest {
  let root: unknown;
  try {
    root = parseForeignJson(json);
  } catch (error) {
    throw new TypeError(`not JSON: ${(error as Error).message}`);
  }
  const manifest = new Fields(root, "");
  const format = manifest.text("format");
  if (format !== "lamina-engine-tensors") throw new TypeError(`format is ${quoted(format)}`);
  const version = manifest.count("version");
  if (version !== 1) throw new TypeError(`version is ${version}; this Lamina reads version 1`);
  // Files say their own type, so that this one is only checked.
  manifest.word("dtype", ["f32", "f16", "f64"]);
  return {
    format,
    version,
    model: manifest.text("model"),
    engine: manifest.optional("engine", (key) => manifest.text(key)),
    engine_version: manifest.optional("engine_version", (key) => manifest.text(key)),
    device: manifest.optional("device", (key) => manifest.text(key)),
    rope: manifest.word("rope", ["adjacent", "half"]),
    angles: manifest.word("angles", ["exact", "ggml", "f32"]),
    activations: manifest.word("activations", ["f32", "f16", "bf16", "q8"]),
    prompt: manifest.optional("prompt", (key) => manifest.text(key)),
    template_text: manifest.optional("template_text", (key) => manifest.text(key)),
    prompt_ids: manifest.counts("prompt_ids"),
    ids: manifest.optional("ids", (key) => manifest.counts(key)),
    passes: manifest.optional("passes", (key) => manifest.list(key).map(parsePass)) ?? [],
  };
}

function parsePass(pass: Fields): ManifestPass {
  const [step, start, ids] = [pass.count("step"), pass.count("start"), pass.counts("ids")];
  if (ids.length === 0) throw new TypeError(`${pass.path("ids")} is empty`);
  const tensors = pass.entries("tensors").map(([name, tensor]): [string, ManifestTensor] => [name, {
    file: tensor.text("file"),
    shape: tensor.optional("shape", (key) => tensor.counts(key)),
    axes: tensor.optional("axes", (key) => tensor.texts(key)),
    positions: tensor.optional("positions", (key) => tensor.counts(key)),
  }]);
  for (const [name, { positions }] of tensors) {
    if (positions?.some((position) => position < start || position >= start + ids.length)) {
      throw new TypeError(`${pass.path(`tensors.${name}.positions`)} leave the pass`);
    }
  }
  return { step, start, ids, tensors: Object.fromEntries(tensors) };
}

/** An object of the manifest, and where it stands. */
class Fields {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #at: string;

  constructor(value: unknown, at: string) {
    if (!isObject(value)) throw new TypeError(`${at || "the whole"} is no object`);
    this.#fields = value;
    this.#at = at;
  }

  path(key: string): string {
    return this.#at ? `${this.#at}.${key}` : key;
  }

  optional<T>(key: string, read: (key: string) => T): T | undefined {
    return this.#value(key) === undefined ? undefined : read(key);
  }

  text(key: string): string {
    const value = this.#value(key);
    return typeof value === "string" && value !== "" ? value : this.#fail(key, "a text");
  }

  texts(key: string): readonly string[] {
    const value = this.#value(key);
    const valid = Array.isArray(value) && value.every((each) => typeof each === "string");
    return valid ? value : this.#fail(key, "a list of texts");
  }

  /** One of a few words, or nothing. */
  word<const Word extends string>(key: string, words: readonly Word[]): Word | undefined {
    const value = this.#value(key);
    if (value === undefined) return undefined;
    return words.find((word) => word === value) ?? this.#fail(key, `one of ${words.join(", ")}`);
  }

  count(key: string): number {
    const value = this.#value(key);
    return isCount(value) ? value : this.#fail(key, "a whole number from 0 on");
  }

  counts(key: string): readonly number[] {
    const value = this.#value(key);
    const valid = Array.isArray(value) && value.every(isCount);
    return valid ? value : this.#fail(key, "a list of whole numbers from 0 on");
  }

  list(key: string): Fields[] {
    const value = this.#value(key);
    if (!Array.isArray(value)) return this.#fail(key, "a list");
    return value.map((each, i) => new Fields(each, `${this.path(key)}[${i}]`));
  }

  entries(key: string): [string, Fields][] {
    const value = this.#value(key);
    if (!isObject(value)) return this.#fail(key, "an object");
    return Object.entries(value).map(([name, each]) => [
      name,
      new Fields(each, `${this.path(key)}.${name}`),
    ]);
  }

  #value(key: string): unknown {
    // null is how Python says that there is none.
    return Object.hasOwn(this.#fields, key) ? this.#fields[key] ?? undefined : undefined;
  }

  #fail(key: string, what: string): never {
    const value = this.#value(key);
    const found = value === undefined ? "is missing" : `is ${quoted(value)}`;
    throw new TypeError(`${this.path(key)} ${found}; it must be ${what}`);
  }
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function quoted(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

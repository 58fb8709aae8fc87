/** Two files of weights against each other, without a forward pass: what is missing, what is wrong, and in which way. */
import { CAUSES } from "../../diagnosis/causes.ts";
import { commonBand } from "./bands.ts";
import { type BlockError, similarity } from "./similarity.ts";
import { beginsLike, type Candidate, findingOf, isInBand } from "./finding.ts";
import type { Finding, Suspect } from "./suspect.ts";
import { diffMetadata, headLayout, type MetadataDifference, modelSizes } from "./metadata.ts";
import { inOtherOrder, type Numbers, numbersOf } from "./numbers.ts";
import { ggufName, isOtherSense, isRotary } from "../tensor_names.ts";
import { apartAs, countOf, type Weight, type WeightFile } from "../weight_file.ts";

export type { BlockError } from "./similarity.ts";
export type { DiffCause, Finding } from "./suspect.ts";
export type { MetadataDifference } from "./metadata.ts";

/** How a file has a tensor. */
export interface StoredAs {
  readonly name: string;
  readonly type: string;
  /** Slowest axis first: [rows, columns]. */
  readonly shape: readonly number[];
}

/** One tensor. */
export interface TensorDiff {
  /** GGUF's name where it is known. */
  readonly name: string;
  /** Undefined in the file that does not have it. */
  readonly a?: StoredAs;
  readonly b?: StoredAs;
  /** Σ(b − a)² / Σa²; undefined where it was not compared. */
  readonly nmse?: number;
  /** What the NMSE may be, and the type that has it so large. */
  readonly band?: { readonly nmse: number; readonly type: string };
  /** The worst block; undefined where none is off. */
  readonly worst?: BlockError;
  /** What is wrong with it; undefined where nothing is. */
  readonly finding?: Finding;
  /** Why it was not compared. */
  readonly skipped?: string;
}

/** What two files differ in. */
export interface ModelDiff {
  readonly a: string;
  readonly b: string;
  /** Nothing was found that matters; what was skipped is not counted. */
  readonly passed: boolean;
  /** All tensors, in A's order, then B's own. */
  readonly tensors: readonly TensorDiff[];
  readonly metadata: readonly MetadataDifference[];
}

/** What is told while it goes on. */
export interface DiffOptions {
  readonly signal?: AbortSignal;
  /** Numbers compared so far, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

interface Pair {
  readonly a: Weight;
  readonly b: Weight;
  /** Other names are a fault. */
  readonly renamed?: string;
}

/**
 * Compares every tensor of B with A's of the same name: A is what B should be. Hugging Face's names are GGUF's under another name,
 * and their Q and K have another row order; both are no fault.
 *
 * @throws what reading the files throws, and the signal's reason
 */
export async function diffModels(
  a: WeightFile,
  b: WeightFile,
  options: DiffOptions = {},
): Promise<ModelDiff> {
  return await new Differ(a, b, options).run();
}

/**
 * Compares one tensor of B with A's of the same name, as {@linkcode diffModels} does; undefined where one of the files has none.
 *
 * @param name GGUF's
 * @throws what reading the files throws, and the signal's reason
 */
export async function diffTensor(
  a: WeightFile,
  b: WeightFile,
  name: string,
  options: Pick<DiffOptions, "signal"> = {},
): Promise<TensorDiff | undefined> {
  return await new Differ(a, b, options).one(name);
}

class Differ {
  readonly #a: WeightFile;
  readonly #b: WeightFile;
  readonly #options: DiffOptions;
  readonly #heads: ReturnType<typeof headLayout>;
  readonly #sizes: ReturnType<typeof modelSizes>;
  readonly #results = new Map<string, TensorDiff>();
  readonly #suspects = new Map<string, Suspect>();
  readonly #candidates = new Map<string, Candidate>();

  constructor(a: WeightFile, b: WeightFile, options: DiffOptions) {
    this.#a = a;
    this.#b = b;
    this.#options = options;
    this.#heads = headLayout(a) ?? headLayout(b);
    this.#sizes = modelSizes(a) ?? modelSizes(b);
  }

  async run(): Promise<ModelDiff> {
    const pairs = await this.#pairs();
    for (const { a, b } of pairs) this.#add(a, b);
    const total = pairs.reduce((sum, { a }) => sum + countOf(a), 0);
    let done = 0;
    for (const pair of pairs) {
      this.#results.set(pair.a.name, await this.#compare(pair));
      done += countOf(pair.a);
      this.#options.onProgress?.(done, total);
    }
    for (const suspect of this.#suspects.values()) await this.#explain(suspect);
    const { signal } = this.#options;
    signal?.throwIfAborted();
    const tensors = [...this.#ordered()];
    const metadata = diffMetadata(this.#a, this.#b);
    const passed = tensors.every(({ finding }) => !finding) &&
      metadata.every(({ matters }) => !matters);
    return { a: this.#a.name, b: this.#b.name, passed, tensors, metadata };
  }

  /** One tensor, with those that it may be exchanged with. */
  async one(name: string): Promise<TensorDiff | undefined> {
    const { pairs } = this.#namesakes();
    for (const { a, b } of pairs) this.#add(a, b);
    const wanted = pairs.filter(({ a }) =>
      a.name === name || a.name === CAUSES["gate-up-swapped"].undo(name)
    );
    for (const pair of wanted) this.#results.set(pair.a.name, await this.#compare(pair));
    const suspect = this.#suspects.get(name);
    if (suspect) await this.#explain(suspect);
    return this.#results.get(name);
  }

  /** Tensors of the same name, and those that only one file has. */
  #namesakes(): { pairs: Pair[]; onlyA: Weight[]; onlyB: Map<string, Weight> } {
    const pairs: Pair[] = [];
    const onlyA: Weight[] = [];
    const onlyB = new Map(apartAs(this.#b, this.#a).map((weight) => [weight.name, weight]));
    for (const a of apartAs(this.#a, this.#b)) {
      const b = onlyB.get(a.name);
      onlyB.delete(a.name);
      if (b) pairs.push({ a, b, renamed: this.#foreignName(b) });
      else onlyA.push(a);
    }
    return { pairs, onlyA, onlyB };
  }

  /** Tensors with the same name, then those that have the same numbers under another one. */
  async #pairs(): Promise<Pair[]> {
    const { pairs, onlyA, onlyB } = this.#namesakes();
    for (const a of onlyA) {
      const b = await this.#sameNumbers(a, onlyB.values());
      if (b) {
        onlyB.delete(b.name);
        pairs.push({ a, b, renamed: b.stored });
      } else await this.#alone(a, "a");
    }
    for (const b of onlyB.values()) await this.#alone(b, "b");
    return pairs;
  }

  /** A name that engines do not look for in such a file. */
  #foreignName(b: Weight): string | undefined {
    return this.#b.format === "GGUF" && ggufName(b.stored, this.#b.family) ? b.stored : undefined;
  }

  async #sameNumbers(a: Weight, others: Iterable<Weight>): Promise<Weight | undefined> {
    for (const b of others) {
      const common = commonBand(a.type, b.type);
      if (!common || `${a.shape}` !== `${b.shape}`) continue;
      const numbers = this.#numbers(a, b);
      if (!numbers || !await beginsLike(numbers.a, numbers.b, common.band)) continue;
      const blockSize = Math.max(a.blockSize, b.blockSize);
      const { signal } = this.#options;
      const found = await similarity(numbers.a, numbers.b, common.band, blockSize, signal);
      if (isInBand(found, common.band)) return b;
    }
  }

  /** A tensor that only one file has. */
  async #alone(weight: Weight, file: "a" | "b"): Promise<void> {
    const { name } = weight;
    const stored = storedAs(weight);
    const other = file === "a" ? this.#b : this.#a;
    if (isOtherSense(name) && other.format === "GGUF") {
      const skipped = "no part of the language model; converters put it into an mmproj file";
      this.#results.set(name, { name, [file]: stored, skipped });
      return;
    }
    const finding = await this.#absence(weight, file);
    this.#results.set(name, { name, [file]: stored, finding });
  }

  async #absence(weight: Weight, file: "a" | "b"): Promise<Finding | undefined> {
    const other = file === "a" ? this.#b : this.#a;
    // Hugging Face computes these from the config; converters write them down.
    if (weight.name === "rope_freqs.weight" && other.format === "safetensors") return undefined;
    const where = other === this.#b ? "B" : "A";
    if (weight.name === "output.weight") {
      const embedding = other.weights.get("token_embd.weight");
      if (embedding && await this.#sameNumbers(weight, [embedding])) return undefined;
      if (embedding) {
        const detail = `${where} uses its embedding as output matrix, which has other numbers`;
        return { cause: "output-tied", detail };
      }
    }
    return { cause: file === "a" ? "missing" : "extra", detail: `not in ${where}` };
  }

  /** Both tensors in A's row order; undefined where that or their types cannot be read. */
  #numbers(a: Weight, b: Weight): { a: Numbers; b: Numbers } | undefined {
    const [numbersA, numbersB] = [numbersOf(a), numbersOf(b)];
    if (!numbersA || !numbersB) return undefined;
    if (!isRotary(a.name) || this.#a.rope === this.#b.rope) return { a: numbersA, b: numbersB };
    const ordered = this.#heads && inOtherOrder(numbersB, this.#a.rope, this.#heads);
    return ordered && { a: numbersA, b: ordered };
  }

  /** A tensor whose numbers another one may have. */
  #add(a: Weight, b: Weight): void {
    const numbers = this.#numbers(a, b);
    if (numbers && commonBand(a.type, b.type)) {
      this.#candidates.set(a.name, { name: a.name, a: numbers.a });
    }
  }

  async #compare({ a, b, renamed }: Pair): Promise<TensorDiff> {
    const { name } = a;
    const result: TensorDiff = {
      name,
      a: storedAs(a),
      b: storedAs(b),
      finding: renamed === undefined
        ? undefined
        : { cause: "renamed", detail: `B calls it ${renamed}` },
    };
    const common = commonBand(a.type, b.type);
    const numbers = this.#numbers(a, b);
    if (!common || !numbers) return { ...result, skipped: this.#unread(a, b) };
    const { type, band } = common;
    const blockSize = Math.max(a.blockSize, b.blockSize);
    const suspect = { name, ...numbers, band, blockSize };
    if (withoutOnes(a.shape) !== withoutOnes(b.shape)) {
      this.#suspects.set(name, suspect);
      return result;
    }
    const { signal } = this.#options;
    const found = await similarity(numbers.a, numbers.b, band, blockSize, signal);
    if (!isInBand(found, band)) this.#suspects.set(name, { ...suspect, found });
    const { nmse, worst } = found;
    return {
      ...result,
      nmse,
      band: { nmse: band.tensor, type },
      worst: worst.nmse > 0 ? worst : undefined,
    };
  }

  #unread(a: Weight, b: Weight): string {
    const types = [a, b].filter(({ read }) => !read).map(({ type }) => type);
    if (types.length > 0) return `${[...new Set(types)].join(" and ")} cannot be read yet`;
    return "the width of its heads is not known: no config.json beside it";
  }

  async #explain(suspect: Suspect): Promise<void> {
    const { name, a } = suspect;
    const others = [...this.#candidates.values()].filter((other) =>
      other.a.rows === a.rows && other.a.columns === a.columns
    ).map((other) => ({ ...other, b: this.#suspects.get(other.name)?.b }));
    const known = { heads: isRotary(name) ? this.#heads : undefined, sizes: this.#sizes };
    const finding = await findingOf(suspect, others, known, this.#options.signal);
    this.#results.set(name, { ...this.#results.get(name)!, finding });
  }

  *#ordered(): Generator<TensorDiff> {
    for (const { weights } of [this.#a, this.#b]) {
      for (const name of weights.keys()) {
        const result = this.#results.get(name);
        this.#results.delete(name);
        if (result) yield result;
      }
    }
  }
}

function storedAs({ stored: name, type, shape }: Weight): StoredAs {
  return { name, type, shape };
}

/** GGUF leaves ones at the end of its shapes, the slowest axes, out. */
function withoutOnes(shape: readonly number[]): string {
  return shape.join(" x ").replace(/^(1 x )+/, "");
}

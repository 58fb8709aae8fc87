/** The weights of two files that a comparison runs, as far as they are not the same. */
import type { GgufFile, TensorInfo } from "../../../engine/gguf/reader.ts";
import {
  bothRows,
  isKnown,
  readRows,
  type WeightRounding,
  weightRounding,
} from "./weight_rounding.ts";

/** How a weight of one file is in the other one. */
export type WeightPair =
  /** All numbers are the same; or nothing is known of them, and they should be. */
  | { readonly kind: "same" }
  /** The same type and other numbers. */
  | { readonly kind: "other bytes"; readonly largest: number }
  /** Other types, or the same that was rounded from other numbers. */
  | { readonly kind: "rounded"; readonly rounding: WeightRounding };

const SAME: WeightPair = { kind: "same" };
/** Bytes of what is known of weights, about, that are kept for the next pass. */
const MOST_KEPT = 384 * 2 ** 20;

/** Compares weights of two files when they are asked for, and keeps what it found as far as there is room. */
export class OtherWeights {
  /** Whether one of those that were asked for has other numbers in the other file. */
  differ = false;
  readonly #files: readonly [GgufFile, GgufFile];
  readonly #pairs = new Map<string, WeightPair>();
  #kept = 0;

  constructor(ours: GgufFile, theirs: GgufFile) {
    this.#files = [ours, theirs];
  }

  /** How a weight is in both files. */
  async of(name: string): Promise<WeightPair> {
    const known = this.#pairs.get(name);
    if (known) return known;
    const pair = await this.#compare(name);
    this.differ ||= pair.kind !== "same";
    this.#keep(name, pair);
    return pair;
  }

  /** Ours less theirs of one row of a weight that both files have. */
  async rowDifference(name: string, row: number): Promise<Float64Array> {
    const [ours, theirs] = await Promise.all(
      this.#files.map((file) => readRows(file, file.tensors.get(name)!, row, 1)),
    );
    return Float64Array.from(ours, (value, i) => value - theirs[i]);
  }

  async #compare(name: string): Promise<WeightPair> {
    const [a, b] = this.#files.map(({ tensors }) => tensors.get(name));
    if (!a || !b || `${a.shape}` !== `${b.shape}` || !isKnown(a) || !isKnown(b)) return SAME;
    if (a.type === b.type) return await this.#bytes(a, b);
    const rounding = await weightRounding(this.#files, [a, b]);
    return rounding ? { kind: "rounded", rounding } : SAME;
  }

  /** The largest difference of numbers as a part of the largest one around it. */
  async #bytes(a: TensorInfo, b: TensorInfo): Promise<WeightPair> {
    let largest = 0;
    for await (const { ours, theirs } of bothRows(this.#files, [a, b])) {
      for (let from = 0; from < ours.length; from += RUN) {
        let [size, error] = [0, 0];
        for (let i = from; i < Math.min(from + RUN, ours.length); i++) {
          size = Math.max(size, Math.abs(theirs[i]));
          error = Math.max(error, Math.abs(ours[i] - theirs[i]));
        }
        if (error > 0 || error !== error) largest = Math.max(largest, error / size);
      }
    }
    return largest === 0 ? SAME : { kind: "other bytes", largest };
  }

  /** The oldest go first: a pass begins where they are needed last. */
  #keep(name: string, pair: WeightPair): void {
    this.#pairs.set(name, pair);
    this.#kept += sizeOf(pair);
    for (const [oldest, each] of this.#pairs) {
      if (this.#kept <= MOST_KEPT || oldest === name) break;
      if (each.kind !== "rounded") continue;
      this.#pairs.delete(oldest);
      this.#kept -= sizeOf(each);
    }
  }
}

/** Numbers whose largest says how large a difference is. */
const RUN = 32;

function sizeOf(pair: WeightPair): number {
  return pair.kind === "rounded" ? pair.rounding.variances.byteLength : 0;
}

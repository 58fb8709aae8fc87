/** What the parts of a pass have in common: what it is given, and products that are points. */
import type { GgufFile } from "../gguf/reader.ts";
import type { Config } from "../model/config.ts";
import { addBias } from "./math.ts";
import type { RopeKind } from "./rope.ts";
import { biasOf, product } from "./tensors.ts";

/** Keys and values of the positions so far, as attention reads them, per layer [S, Hkv, d]. */
export interface Past {
  /** S. */
  length: number;
  readonly keys: Float64Array[];
  readonly values: Float64Array[];
}

/** A pass: of which model, over which ids, and what is to be kept of it. */
export interface Pass {
  readonly file: GgufFile;
  readonly config: Config;
  readonly ids: readonly number[];
  /** What came before; the pass extends it. */
  readonly past: Past;
  readonly rope: RopeKind;
  /** Positions that the session has room for: LongRoPE's choice of factors. */
  readonly capacity: number;
  /** Logits of every position or of the last one. */
  readonly rows: "all" | "last";
  /** Is given every point. */
  keep(name: string, shape: readonly number[], data: Float64Array): void;
}

/** Gives a point to whoever wants it, and hands on its numbers. */
export function point(
  { keep }: Pass,
  name: string,
  shape: readonly number[],
  data: Float64Array,
): Float64Array {
  keep(name, shape, data);
  return data;
}

/** x · Wᵀ, plus the bias if the file has one: [T, columns] to `shape`, whose first size is T. */
export async function linear(
  pass: Pass,
  name: string,
  tensor: string,
  x: Float64Array,
  shape: readonly number[],
): Promise<Float64Array> {
  const { file, config } = pass;
  const out = await product(file, config, tensor, x);
  const bias = await biasOf(file, config, tensor);
  if (!bias) return point(pass, name, shape, out);
  point(pass, `${name}_product`, shape, out);
  return point(pass, name, shape, addBias(out, bias));
}

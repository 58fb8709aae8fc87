/**
 * The arbiter: the whole forward pass once more, as plain functions in 64-bit floats. It shares
 * with the rest only the reading of files; it imports neither plan nor kernels, so that no mistake
 * can be in both. Slow on purpose: whoever is farther from it is wrong.
 */
import type { GgufFile } from "../gguf/reader.ts";
import { readHyperparameters, type ReadOptions } from "../model/hyperparameters.ts";
import { argmax } from "./math.ts";
import { forwardPass, noPast } from "./pass.ts";
import type { RopeKind } from "./rope.ts";

/** A named tensor of the pass, row-major. */
export interface OraclePoint {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What {@linkcode oracle} is asked for. */
export interface OracleOptions extends ReadOptions {
  /** RoPE's angles in 64 bits, or with ggml's or PyTorch's rounding for comparisons with them; "exact". */
  readonly ropeTable?: RopeKind;
  /**
   * Positions that the session has room for which the pass is compared with; as many as there are ids here, those to be generated
   * included. Models with LongRoPE take their long factors where it is more than the length that they first had, for all positions and
   * however few of them are used, as llama.cpp does; others do not depend on it.
   */
  readonly capacity?: number;
  /** Which points to keep, by name (`blk.0.attn_probs`); none. */
  readonly points?: (name: string) => boolean;
  /** Logits of every position or of the last one; "last". */
  readonly rows?: "all" | "last";
}

/** Logits and points of one pass. */
export interface OracleResult {
  /** One array of V logits per row asked for. */
  readonly logits: Float64Array[];
  /** The points that were kept. Keys that a query cannot see have score −∞ and probability 0. */
  readonly points: Map<string, OraclePoint>;
}

/**
 * Runs a model over token ids, from position 0 on, without a cache.
 *
 * @throws {RangeError} for no ids, one outside the vocabulary, or more positions than the model has learned rows for
 * @throws {GgufError} when the file is no supported model
 */
export async function oracle(
  file: GgufFile,
  ids: readonly number[],
  options: OracleOptions = {},
): Promise<OracleResult> {
  const points = new Map<string, OraclePoint>();
  const wanted = options.points ?? (() => false);
  const logits = await forwardPass({
    file,
    config: readHyperparameters(file, { like: options.like }),
    ids,
    past: noPast(),
    rope: options.ropeTable ?? "exact",
    capacity: options.capacity ?? ids.length,
    rows: options.rows ?? "last",
    keep(name, shape, data) {
      if (wanted(name)) points.set(name, { shape, data });
    },
  });
  return { logits, points };
}

/** Ids chosen greedily, with how sure each choice was. */
export interface OracleGreedy {
  readonly ids: number[];
  /** Best minus second-best logit at each step. */
  readonly margins: number[];
}

/**
 * Generates `count` ids, each the one with the largest logit (of equal ones the lowest id), keeping
 * the keys and values of past positions.
 *
 * @throws as {@linkcode oracle}
 */
export async function oracleGreedy(
  file: GgufFile,
  ids: readonly number[],
  count: number,
  options: Pick<OracleOptions, "ropeTable" | "capacity" | "like"> = {},
): Promise<OracleGreedy> {
  const { ropeTable: rope = "exact", capacity = ids.length + count, like } = options;
  const config = readHyperparameters(file, { like });
  const past = noPast();
  const result: OracleGreedy = { ids: [], margins: [] };
  let next = ids;
  while (result.ids.length < count) {
    const [logits] = await forwardPass({
      ...{ file, config, ids: next, past, rope, capacity },
      rows: "last",
      keep() {},
    });
    const best = argmax(logits);
    const others = logits.with(best, -Infinity);
    result.ids.push(best);
    result.margins.push(logits[best] - others[argmax(others)]);
    next = [best];
  }
  return result;
}

/** The verdicts of checkpoints.md: how far a value may be from the reference's. */
import type { HostTensor } from "../../engine/backend.ts";
import { isVisible, type PassPlace } from "./reference_points.ts";

/** Tolerance by kind of point. */
export const TOLERANCES: Readonly<Record<string, number>> = {
  token_embd: 0,
  attn_norm_rms: 1e-5,
  attn_norm_pre: 1e-5,
  attn_norm: 1e-5,
  q: 1e-4,
  k: 1e-4,
  v: 1e-4,
  q_rope: 1e-5,
  k_rope: 1e-5,
  cache_k: 1e-5,
  cache_v: 1e-5,
  attn_scores: 1e-4,
  attn_probs: 1e-4,
  head_out: 1e-4,
  head_result: 1e-4,
  attn_out: 1e-4,
  ffn_inp: 1e-4,
  ffn_norm_rms: 1e-5,
  ffn_norm_pre: 1e-5,
  ffn_norm: 1e-5,
  ffn_gate: 1e-4,
  ffn_up: 1e-4,
  ffn_act: 1e-4,
  ffn_out: 1e-4,
  out: 1e-4,
  last_rows: 1e-4,
  output_norm_rms: 1e-5,
  output_norm_pre: 1e-5,
  output_norm: 1e-5,
  logits: 1e-3,
  probs: 1e-6,
  argmax: 0,
};

/** A point's name without its block. */
export function kindOf(point: string): string {
  return point.replace(/^blk\.\d+\./, "");
}

/** The element of a point that is worst off. */
export interface Worst {
  /** Its difference in units of what is allowed: above 1 it fails. */
  readonly ratio: number;
  readonly index: number;
  readonly found: number;
  readonly expected: number;
  readonly allowed: number;
}

/**
 * Compares a value with the reference's: |a − b| ≤ tolerance + 1e-5 · m, where m is the largest magnitude in the reference's
 * row (of attention: of the visible keys); a tolerance of 0 wants the same numbers.
 *
 * @param slack what is allowed wherever the row allows less
 */
export function worst(
  point: string,
  found: HostTensor,
  reference: HostTensor,
  { start, tokens }: PassPlace,
  options: { readonly tolerance?: number; readonly slack?: number } = {},
): Worst {
  const kind = kindOf(point);
  const { tolerance = TOLERANCES[kind], slack = 0 } = options;
  if (tolerance === undefined) throw new Error(`no tolerance for ${point}`);
  if (found.data.length !== reference.data.length) {
    throw new Error(`${point}: ${found.shape} against ${reference.shape}`);
  }
  const width = reference.shape.at(-1)!;
  const attention = kind === "attn_scores" || kind === "attn_probs";
  let most: Worst = { ratio: 0, index: 0, found: NaN, expected: NaN, allowed: 0 };
  for (let first = 0; first < reference.data.length; first += width) {
    const row = first / width % tokens;
    let magnitude = 0;
    for (let i = 0; i < width && !(attention && !isVisible(row, i, start)); i++) {
      magnitude = Math.max(magnitude, Math.abs(reference.data[first + i]));
    }
    const allowed = tolerance === 0 ? 0 : Math.max(tolerance + 1e-5 * magnitude, slack);
    for (let index = first; index < first + width; index++) {
      const [value, expected] = [found.data[index], reference.data[index]];
      if (value === expected) continue;
      const difference = Math.abs(value - expected);
      const ratio = Number.isNaN(difference) ? Infinity : difference / allowed;
      if (ratio > most.ratio) most = { ratio, index, found: value, expected, allowed };
    }
  }
  return most;
}

/** A failure in one line. */
export function failureText(point: string, { index, found, expected, allowed }: Worst): string {
  return `${point}[${index}]: ${found}, llama.cpp ${expected}, allowed ${allowed}`;
}

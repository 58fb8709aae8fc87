/** Colours of attention, and what figures say about them. */
import type { Colorscale, Heatmap } from "../drawing/figure.ts";
import type { Pooling } from "../drawing/pool.ts";
import { DIVERGING, SEQUENTIAL } from "../drawing/theme.ts";
import type { AttentionKind } from "./source.ts";

/** Colours change faster near 0, where most weights of a long text lie. */
const WEIGHTS: Colorscale = SEQUENTIAL.map(([place, color]) =>
  [Number((place ** 1.7).toFixed(3)), color] as const
);

/** One scale for all maps of a figure. */
export function scaleOf(
  kind: AttentionKind,
  maps: readonly Float32Array[],
): Pick<Heatmap, "colorscale" | "zmin" | "zmax" | "colorbar"> {
  const title = { text: kind === "attn_probs" ? "weight" : "score", side: "top" } as const;
  const colorbar = { thickness: 11, title };
  if (kind === "attn_probs") return { colorscale: WEIGHTS, zmin: 0, zmax: 1, colorbar };
  let most = 0;
  for (const map of maps) for (const value of map) most = Math.max(most, Math.abs(value) || 0);
  return { colorscale: DIVERGING, zmin: -most || -1, zmax: most || 1, colorbar };
}

/**
 * Says how cells were pooled, and what shows each number.
 *
 * @param instead how to see them
 */
export function pooledNote(
  { size }: Pooling,
  kind: AttentionKind,
  instead = "full: true",
): string | undefined {
  if (size === 1) return undefined;
  const what = kind === "attn_probs" ? "weights" : "scores";
  return `pooled: a cell is the largest of ${size} × ${size} ${what}; ${instead} shows each`;
}

/** Says that there are numbers that no colour shows. */
export function notFiniteNote(count: number): string | undefined {
  return count === 0 ? undefined : `${count} NaN or infinite numbers are left empty`;
}

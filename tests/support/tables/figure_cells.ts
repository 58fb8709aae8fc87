/** The cells of heatmaps, for tests of figures. */
import type { Figure } from "../../../mod.ts";
import type { Heatmap } from "../../../inspect/figures/drawing/figure.ts";
import { short, unpacked } from "../../../inspect/figures/drawing/numbers.ts";

export const heatmap = ({ data: [map] }: Figure) => map as Heatmap;
/** A heatmap's numbers [rows][columns]; null where it is empty. */
export function cells(figure: Figure): (number | null)[][] {
  const { z } = heatmap(figure);
  if (!("bdata" in z)) return z.map((row) => [...row]);
  const [rows, columns] = z.shape!.split(", ").map(Number);
  const values = Array.from(unpacked(z));
  return Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns));
}

/** A matrix of a table's numbers, as figures write them. */
export function grid(
  rows: number,
  columns: number,
  value: (row: number, column: number) => number,
) {
  return Array.from(
    { length: rows },
    (_, row) => Array.from({ length: columns }, (_, column) => short(value(row, column))),
  );
}

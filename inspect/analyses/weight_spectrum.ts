/** Singular values of weights: how many directions a matrix really uses. */
import { layerOf } from "../../base/layer_names.ts";
import { EVD, Matrix } from "npm:ml-matrix@6.15.1";
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import { glob } from "../points/glob.ts";
import { analysisTable, type Row } from "./analysis_table.ts";

/** What {@linkcode weightSpectrum} is asked for. */
export interface SpectrumOptions {
  /** Ends the analysis between two weights; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Weights that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

const SCHEMA = { tensor: "utf8", layer: "int32", rank: "int32", value: "float64" } as const;

/**
 * Singular values of matrices, the largest first (`rank` from 0): square roots of the eigenvalues of W Wᵀ (or Wᵀ W, the smaller one) in
 * 64-bit floats, so that values below 10⁻⁷ of the largest are noise. A matrix of 256 × 512 takes 0.6 s, one of 576 × 1536 about 5 s.
 *
 * @param pattern names of weights: `blk.*.attn_q.weight`
 * @throws {RangeError} when no matrix fits
 */
export async function weightSpectrum(
  model: Model,
  pattern: string,
  options: SpectrumOptions = {},
): Promise<Table> {
  const { signal, onProgress } = options;
  const fits = glob(pattern);
  const names = [...(await model.tensorTable()).getChild("name")!] as string[];
  const shapes = [...(await model.tensorTable()).getChild("shape")!] as string[];
  const matrices = names.filter((name, i) => fits(name) && JSON.parse(shapes[i]).length > 1);
  if (matrices.length === 0) {
    throw new RangeError(
      `No matrix fits ${JSON.stringify(pattern)}: model.tensorTable() lists the weights`,
    );
  }
  const rows: Row<typeof SCHEMA>[] = [];
  for (const [done, tensor] of matrices.entries()) {
    signal?.throwIfAborted();
    const layer = layerOf(tensor) ?? null;
    const values = singularValues(await model.weight(tensor));
    values.forEach((value, rank) => rows.push({ tensor, layer, rank, value }));
    onProgress?.(done + 1, matrices.length);
    // Listeners (of Ctrl-C, of a notebook's Stop) and bars get their turn.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return analysisTable("weight_spectrum", SCHEMA, rows, {
    meaning: "singular values of weights, the largest first",
    model: model.name,
  });
}

function singularValues({ shape: [rows, columns], data }: {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}): number[] {
  const matrix = Matrix.from1DArray(rows, columns, data);
  const gram = rows <= columns ? matrix.mmul(matrix.transpose()) : matrix.transpose().mmul(matrix);
  return new EVD(gram, { assumeSymmetric: true }).realEigenvalues
    .map((square) => Math.sqrt(Math.max(0, square)))
    .sort((a, b) => b - a);
}

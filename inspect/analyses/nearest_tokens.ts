/** Which tokens a direction of the residual stream stands for. */
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import { TensorView } from "../tensor/tensor.ts";
import { pieceOf } from "../run/vocabulary.ts";
import { dot, largest } from "./numbers.ts";
import { analysisTable, type Row } from "./analysis_table.ts";
import { forEachRow, outputNormed, outputWeight } from "./unembedding.ts";

/** How tokens are compared with a direction. */
export interface NearestOptions {
  /** Tokens; 10. */
  readonly top?: number;
  /** What they are ordered by; "cosine". */
  readonly by?: "cosine" | "dot";
  /**
   * The tokens' vectors: `output`, rows of the output matrix times the final norm's weight (what the direction makes likelier),
   * or `embedding`, rows of the embedding (what it is like). Default: "output".
   */
  readonly space?: "output" | "embedding";
}

const SCHEMA = {
  rank: "int32",
  token_id: "int32",
  token: "utf8",
  cosine: "float64",
  dot: "float64",
} as const;

/**
 * The tokens whose vectors are most like a direction [D], or have the largest dot product with it: with `space: "output"` the
 * rise of the token's logit per unit of the direction, but for the final norm's scale. Negate the direction for the opposite.
 *
 * @throws {RangeError} for a direction that is not of the model's width
 */
export async function nearestTokens(
  model: Model,
  direction: ArrayLike<number> | TensorView,
  options: NearestOptions = {},
): Promise<Table> {
  const { top = 10, by = "cosine", space = "output" } = options;
  const { width: columns, vocabSize: rows } = model.config;
  const vector = Float64Array.from(
    direction instanceof TensorView ? direction.toFloat32Array() : direction,
  );
  if (vector.length !== columns) {
    throw new RangeError(
      `Cannot compare a direction of ${vector.length} numbers with tokens: the model's width is ${columns}`,
    );
  }
  const name = space === "output" ? outputWeight(model) : "token_embd.weight";
  const asMeant: (row: Float32Array, out: Float64Array) => ArrayLike<number> = space === "output"
    ? await outputNormed(model)
    : (row) => row;
  const room = new Float64Array(columns);
  const length = Math.sqrt(dot(vector, vector));
  const found = { dot: new Float64Array(rows), cosine: new Float64Array(rows) };
  await forEachRow(model, { name, rows, columns }, (row, id) => {
    let product = 0;
    let square = 0;
    const meant = asMeant(row, room);
    for (let i = 0; i < columns; i++) {
      const value = meant[i];
      product += value * vector[i];
      square += value * value;
    }
    found.dot[id] = product;
    found.cosine[id] = square === 0 ? 0 : product / (length * Math.sqrt(square));
  });
  const text = pieceOf(model);
  const table: Row<typeof SCHEMA>[] = largest(found[by], top).map((id, rank) => ({
    rank,
    token_id: id,
    token: text(id),
    cosine: found.cosine[id],
    dot: found.dot[id],
  }));
  return analysisTable("nearest_tokens", SCHEMA, table, {
    meaning: "tokens that a direction of the residual stream stands for",
    by,
    space,
  });
}

/** From the residual stream to the vocabulary: the end of a forward pass, by the device or by its weights. */
import type { Session } from "../../engine/backend.ts";
import type { Model } from "../run/model.ts";

/** Numbers of a weight that are dequantized at a time. */
const CHUNK = 2 ** 20;

/** Runs rows of a residual stream through the model's own final norm and output matrix, on its device. */
export class Unembedding {
  readonly #session: Session;
  readonly #width: number;
  readonly #end: string;

  /** For about that many rows at a time; more of them take several passes. */
  constructor(model: Model, rows: number) {
    const { engine, config } = model;
    this.#session = engine.session({ capacity: Math.max(1, Math.min(rows, engine.maxTokens)) });
    this.#width = config.width;
    this.#end = `blk.${config.layers - 1}.out`;
  }

  /** The logits [V] of each row of a residual stream [n, D], whatever layer and position it comes from. */
  async *logits(residual: Float32Array): AsyncGenerator<Float32Array> {
    const count = residual.length / this.#width;
    for (let at = 0; at < count; at += this.#session.maxTokens) {
      const rows = Math.min(this.#session.maxTokens, count - at);
      this.#session.rewind(0);
      const tensors = await this.#session.pass({
        // Only their number matters: nothing that reads them runs.
        ids: new Array(rows).fill(0),
        rows,
        given: new Map([
          [this.#end, residual.subarray(at * this.#width, (at + rows) * this.#width)],
        ]),
      });
      const { data, shape: [, vocabulary] } = tensors.get("logits")!;
      for (let row = 0; row < rows; row++) {
        yield data.subarray(row * vocabulary, (row + 1) * vocabulary);
      }
    }
  }

  /** Frees the session. */
  [Symbol.dispose](): void {
    this.#session.dispose();
  }
}

/** The weight whose rows are the tokens' output vectors. */
export function outputWeight(model: Model): string {
  return model.config.tiedOutput ? "token_embd.weight" : "output.weight";
}

/**
 * A token's output vector times the final norm's weight: the dot product with a residual stream, divided by its root mean
 * square, is the token's logit.
 */
export async function logitDirection(model: Model, id: number): Promise<Float64Array> {
  const scale = await model.weightRows("output_norm.weight");
  const row = await model.weightRows(outputWeight(model), { first: id, count: 1 });
  return Float64Array.from(row, (value, i) => value * scale[i]);
}

/** Visits a matrix row by row, a few megabytes at a time. The row is a view: it does not last. */
export async function forEachRow(
  model: Model,
  weight: { readonly name: string; readonly rows: number; readonly columns: number },
  visit: (row: Float32Array, index: number) => void,
): Promise<void> {
  const step = Math.max(1, Math.floor(CHUNK / weight.columns));
  for (let first = 0; first < weight.rows; first += step) {
    const count = Math.min(step, weight.rows - first);
    const rows = await model.weightRows(weight.name, { first, count });
    for (let i = 0; i < count; i++) {
      visit(rows.subarray(i * weight.columns, (i + 1) * weight.columns), first + i);
    }
  }
}

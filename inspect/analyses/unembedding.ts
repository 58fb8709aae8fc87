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

/** How a token's logit depends on the last residual stream x [D]: direction · x / (what the final norm divides by) + constant. */
export interface LogitDirection {
  /** [D] */
  readonly direction: Float64Array;
  /** From the biases of the final norm and of the output; 0 of most models. */
  readonly constant: number;
}

/**
 * A token's output vector times the final norm's weight, and times the model's own factor on logits. Where the final norm
 * takes off the mean (LayerNorm), so does the direction. Of models that cap their logits it is of those before the cap.
 */
export async function logitDirection(model: Model, id: number): Promise<LogitDirection> {
  const { logitScale, outputNorm, optional } = model.config;
  const row = await model.weightRows(outputWeight(model), { first: id, count: 1 });
  const scaled = await outputNormed(model);
  const direction = scaled(row).map((value) => value * logitScale);
  const bias = optional.has(`${outputNorm}.bias`)
    ? await model.weightRows(`${outputNorm}.bias`)
    : undefined;
  const own = optional.has("output.bias") ? (await model.weightRows("output.bias"))[id] : 0;
  const constant = own + (bias ? row.reduce((sum, value, i) => sum + value * bias[i], 0) : 0);
  return { direction, constant: constant * logitScale };
}

/**
 * Puts the final norm's weight into an output vector [D], and its mean off where the norm takes one off. Many vectors one after the other
 * may share the memory of what is made of them.
 */
export async function outputNormed(
  model: Model,
): Promise<(row: ArrayLike<number>, out?: Float64Array) => Float64Array> {
  const { normKind, outputNorm, optional } = model.config;
  const gain = optional.has(`${outputNorm}.weight`)
    ? await model.weightRows(`${outputNorm}.weight`)
    : undefined;
  return (row, out = new Float64Array(row.length)) => {
    let sum = 0;
    for (let i = 0; i < row.length; i++) sum += out[i] = row[i] * (gain ? gain[i] : 1);
    if (normKind === "layer") { for (let i = 0; i < row.length; i++) out[i] -= sum / row.length; }
    return out;
  };
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

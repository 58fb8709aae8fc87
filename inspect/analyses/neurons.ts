/** Neurons of the FFNs: which ones are active, and what they say. */
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import type { Run } from "../run/run.ts";
import { type NearestOptions, nearestTokens } from "./nearest_tokens.ts";
import { largest } from "./numbers.ts";
import {
  analysisTable,
  capturedPoints,
  capturedRows,
  placesOf,
  type Row,
  SEQUENCE,
  TOKEN,
} from "./analysis_table.ts";
import { forEachRow } from "./unembedding.ts";

const SCHEMA = {
  ...SEQUENCE,
  layer: "int32",
  neuron: "int32",
  ...TOKEN,
  rank: "int32",
  value: "float64",
} as const;

/**
 * At each captured position, the neurons of all captured layers with the largest activations (`ffn_act`), by magnitude: a gated
 * FFN's may be negative. `rank` counts from 0. The run must have captured `blk.*.ffn_act`.
 *
 * @throws {NotCapturedError}
 */
export function topNeurons(run: Run, options: { readonly top?: number } = {}): Table {
  const { top = 10 } = options;
  const points = capturedPoints(run, ["ffn_act"]);
  const rows: Row<typeof SCHEMA>[] = [];
  for (const sequence of run.sequences.keys()) {
    const place = placesOf(run, sequence);
    const best = new Map<number, { layer: number; neuron: number; value: number }[]>();
    for (const { name, layer } of points) {
      for (const { position, vector } of capturedRows(run, name, sequence)) {
        const here = largest(vector.map(Math.abs), top)
          .map((neuron) => ({ layer, neuron, value: vector[neuron] }));
        const all = [...best.get(position) ?? [], ...here];
        all.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
        best.set(position, all.slice(0, top));
      }
    }
    for (const [position, neurons] of best) {
      neurons.forEach((neuron, rank) => rows.push({ ...place(position), ...neuron, rank }));
    }
  }
  return analysisTable("top_neurons", SCHEMA, rows, {
    meaning: "the neurons with the largest activations at each position",
    model: run.meta.model,
  });
}

/** A neuron of a layer's FFN. */
export interface Neuron {
  /** From 0. */
  readonly layer: number;
  /** Its place in `ffn_act`, from 0. */
  readonly neuron: number;
}

/**
 * The tokens that a neuron makes likelier by itself: its column of the down-projection, against the output matrix, by the rise of
 * the logit per unit of activation (but for the final norm's scale). Options as in {@linkcode nearestTokens}.
 *
 * @throws {RangeError} for a neuron that is not there
 */
export async function neuronTokens(
  model: Model,
  neuron: Neuron,
  options: NearestOptions = {},
): Promise<Table> {
  return await nearestTokens(model, await neuronDirection(model, neuron), {
    by: "dot",
    ...options,
  });
}

/**
 * What a neuron writes to the residual stream per unit of activation: its column of the down-projection [D].
 *
 * @throws {RangeError} for a neuron that is not there
 */
export async function neuronDirection(
  model: Model,
  { layer, neuron }: Neuron,
): Promise<Float32Array> {
  const { width: rows, ffnWidth: columns, layers } = model.config;
  const inside = (index: number, size: number) =>
    Number.isInteger(index) && index >= 0 && index < size;
  if (!inside(layer, layers) || !inside(neuron, columns)) {
    throw new RangeError(
      `No neuron ${neuron} in layer ${layer}: the model has ${layers} layers of ${columns} neurons`,
    );
  }
  const direction = new Float32Array(rows);
  const name = `blk.${layer}.ffn_down.weight`;
  await forEachRow(model, { name, rows, columns }, (row, i) => direction[i] = row[neuron]);
  return direction;
}

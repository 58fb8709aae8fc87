/** What quantization costs: the same model in several types, compared in its weights, its activations and its predictions. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { analysisTable, type Row } from "../../inspect/analyses/analysis_table.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import { previewBundle } from "../../inspect/tables/html.ts";
import { previewText } from "../../inspect/tables/preview.ts";
import type { Model } from "../../inspect/run/model.ts";
import type { Prompt } from "../../inspect/run/prompt.ts";
import { longWork } from "../../inspect/work.ts";
import {
  doesNotRun,
  type Ground,
  groundOf,
  LADDER,
  type LadderOptions,
  openQuantized,
  type Outcome,
  predictionRows,
  PREDICTIONS,
  runMixed,
  summaryOf,
} from "./ladder_runs.ts";
import { typesThatDoNotRun } from "../files/mixed_file.ts";
import { numbersOf } from "../files/diff/numbers.ts";
import { similarity } from "../files/diff/similarity.ts";
import { openModel } from "../files/model_argument.ts";
import { ggufWeights } from "../files/weight_file.ts";

const TYPES = {
  type: "utf8",
  runs: "bool",
  file_bytes: "float64",
  bits_per_weight: "float64",
  weight_error: "float64",
  kl: "float64",
  kl_max: "float64",
  same_top: "float64",
  loss: "float64",
  perplexity: "float64",
  note: "utf8",
} as const;

const WEIGHTS = {
  type: "utf8",
  tensor: "utf8",
  layer: "int32",
  kind: "utf8",
  stored_as: "utf8",
  numbers: "float64",
  bits_per_weight: "float64",
  error: "float64",
  largest_error: "float64",
} as const;

const ACTIVATIONS = {
  type: "utf8",
  layer: "int32",
  point: "utf8",
  position: "int32",
  token_id: "int32",
  token: "utf8",
  error: "float64",
} as const;

/** No weight is judged here. */
const ANYTHING = { tensor: Infinity, block: Infinity, scale: Infinity };

/** The four tables of a ladder; they join on `type`. Shows its first one. */
export class QuantizationLadder {
  readonly #tables: Readonly<Record<"types" | "weights" | "activations" | "predictions", Table>>;

  /** Use {@linkcode quantizationLadder}. */
  constructor(
    tables: Readonly<Record<"types" | "weights" | "activations" | "predictions", Table>>,
  ) {
    this.#tables = tables;
  }

  /**
   * A row per type: bytes of the file, bits per weight, `weight_error` (of all tensors together), `kl` (mean and largest
   * Kullback–Leibler divergence of the model's own predictions from it, in nats), `same_top` (share of positions with the same likeliest
   * token), `loss` (nats per token of the text) and `perplexity`. A type that the engine does not run has `runs: false`, a
   * `note`, and nulls; the model as it is is the row `base`.
   */
  table(): Table {
    return this.#tables.types;
  }

  /**
   * A row per type and tensor: the type that llama.cpp stored it as, and `error`, the RMS of the difference to the model's own weights
   * relative to their RMS; `largest_error` is absolute.
   */
  weights(): Table {
    return this.#tables.weights;
  }

  /** A row per type, layer and position: `error`, the length of the difference of the residual stream after the block (`token_embd`: layer −1) relative to its length. */
  activations(): Table {
    return this.#tables.activations;
  }

  /**
   * A row per type and position: `kl` of the predictions after it, the token's own `surprisal` with this type and in the model as it
   * is (null for the first), and the likeliest next token of both with its probability.
   */
  predictions(): Table {
    return this.#tables.predictions;
  }

  /** What a notebook cell shows: the table of types. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return previewBundle(this.table().preview());
  }

  /** What `console.log` shows. */
  [Symbol.for("Deno.customInspect")](): string {
    return previewText(this.table().preview());
  }
}

/**
 * Quantizes a model to each type with llama.cpp's own quantizer (once: the copies stay in Lamina's cache) and compares each with the
 * model as it is.
 *
 * @param model a loaded one, or its name or path; best in F16 or F32
 * @param text that is foretold, as a text or token ids; two tokens or more
 * @throws {RangeError} for an unknown type
 * @throws {ReferenceFailure} when llama.cpp cannot be had or fails
 * @throws {UnknownModelError | PullError | GgufError | ModelError | PromptError | DisposedError}
 */
export async function quantizationLadder(
  model: Model | string,
  text: Prompt,
  options: LadderOptions = {},
): Promise<QuantizationLadder> {
  return await longWork("Comparing quantizations", options, async (options) => {
    const { types = LADDER, signal, onProgress } = options;
    using loaded = await openModel(model, options);
    const ground = await groundOf(loaded, text, signal);
    const rows = {
      types: [] as Row<typeof TYPES>[],
      weights: [] as Row<typeof WEIGHTS>[],
      activations: [] as Row<typeof ACTIVATIONS>[],
      predictions: [] as Row<typeof PREDICTIONS>[],
    };
    rows.types.push(typeRow("base", loaded.file, 0, predictionRows("base", ground, ground.base)));
    for (const [i, type] of types.entries()) {
      onProgress?.(2 * i, 2 * types.length, `quantizing to ${type}`);
      using quantized = await openQuantized(model, type, signal);
      const { file } = quantized;
      const weights = await compareWeights(type, loaded.file, file, signal);
      rows.weights.push(...weights.rows);
      onProgress?.(2 * i + 1, 2 * types.length, `running ${type}`);
      if (typesThatDoNotRun(file).length > 0) {
        rows.types.push(typeRow(type, file, weights.error, []));
        continue;
      }
      const outcome = await runMixed(ground, file, () => true);
      const predictions = predictionRows(type, ground, outcome);
      rows.types.push(typeRow(type, file, weights.error, predictions));
      rows.activations.push(...activationRows(type, ground, outcome));
      rows.predictions.push(...predictions);
    }
    const notes = { model: loaded.found.name, tokens: ground.ids.length };
    return new QuantizationLadder({
      types: analysisTable("quantization_ladder", TYPES, rows.types, {
        meaning: "what each type costs, against the model as it is",
        ...notes,
      }),
      weights: analysisTable("weight_errors", WEIGHTS, rows.weights, {
        meaning: "RMS of what quantization changes in each tensor, relative to it",
        ...notes,
      }),
      activations: analysisTable("activation_errors", ACTIVATIONS, rows.activations, {
        meaning: "what quantization changes in the residual stream, relative to its length",
        ...notes,
      }),
      predictions: analysisTable("predictions", PREDICTIONS, rows.predictions, {
        meaning: "what quantization changes in the predictions after each position, in nats",
        ...notes,
      }),
    });
  });
}

function typeRow(
  type: string,
  file: GgufFile,
  weightError: number | null,
  predictions: readonly Row<typeof PREDICTIONS>[],
): Row<typeof TYPES> {
  const tensors = [...file.tensors.values()];
  const numbers = tensors.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const wrong = typesThatDoNotRun(file);
  const runs = wrong.length === 0;
  const none = { kl: null, kl_max: null, same_top: null, loss: null, perplexity: null };
  return {
    type,
    runs,
    file_bytes: file.size,
    bits_per_weight: tensors.reduce((sum, { bytes }) => sum + 8 * bytes, 0) / numbers,
    weight_error: weightError,
    ...(runs ? summaryOf(predictions) : none),
    note: runs ? null : doesNotRun(wrong),
  };
}

/** Each tensor of a copy against the model's own, and all of them together; null where a type cannot be read or something is no number. */
async function compareWeights(
  type: string,
  base: GgufFile,
  copy: GgufFile,
  signal?: AbortSignal,
): Promise<{ rows: Row<typeof WEIGHTS>[]; error: number | null }> {
  const [originals, copies] = [ggufWeights(base).weights, ggufWeights(copy).weights];
  const rows: Row<typeof WEIGHTS>[] = [];
  const all = { error: 0, weight: 0 };
  for (const { name, type: storedAs, bytes, shape } of copy.tensors.values()) {
    const [a, b] = [originals, copies].map((weights) => weights.get(name))
      .map((weight) => weight && numbersOf(weight));
    const numbers = sizeOf(shape);
    const alike = a && b && await similarity(a, b, ANYTHING, 1, signal);
    const found = alike?.nonFinite ? undefined : alike;
    all.error += found?.squares ?? NaN;
    all.weight += found?.weight ?? NaN;
    rows.push({
      type,
      tensor: name,
      layer: layerOf(name) ?? null,
      kind: kindOf(name),
      stored_as: storedAs.name,
      numbers,
      bits_per_weight: 8 * bytes / numbers,
      error: found ? Math.sqrt(found.nmse) : null,
      largest_error: found?.largest ?? null,
    });
  }
  return { rows, error: Number.isNaN(all.error) ? null : relative(all) };
}

/** √(Σ error² / Σ weight²) */
function relative({ error, weight }: { readonly error: number; readonly weight: number }): number {
  return error === 0 ? 0 : Math.sqrt(error / weight);
}

/** How far the residual stream is from the model's own, at each layer and position. */
function activationRows(
  type: string,
  { ids, token, base }: Ground,
  { streams }: Outcome,
): Row<typeof ACTIVATIONS>[] {
  return [...streams].flatMap(([point, own]) => {
    const original = base.streams.get(point)!;
    const width = own.length / ids.length;
    return ids.map((id, position) => {
      const sums = { error: 0, weight: 0 };
      for (let i = position * width; i < (position + 1) * width; i++) {
        sums.error += (own[i] - original[i]) ** 2;
        sums.weight += original[i] ** 2;
      }
      const layer = layerOf(point) ?? -1;
      return {
        type,
        layer,
        point,
        position,
        token_id: id,
        token: token(id),
        error: relative(sums),
      };
    });
  });
}

/** Which layer's quantization hurts. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { analysisTable, type Row } from "../../inspect/analyses/analysis_table.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import type { Model } from "../../inspect/run/model.ts";
import type { Prompt } from "../../inspect/run/prompt.ts";
import { longWork } from "../../inspect/work.ts";
import {
  doesNotRun,
  groundOf,
  LADDER,
  type LadderOptions,
  openQuantized,
  predictionRows,
  runMixed,
  summaryOf,
} from "./ladder_runs.ts";
import { typesThatDoNotRun } from "../files/mixed_file.ts";
import { openModel } from "../files/model_argument.ts";

/** How the layers of one quantized copy are mixed with the model's own. */
export interface SensitivityOptions extends LadderOptions {
  /** What is exchanged at a time: one block, or one kind of tensor in all blocks; default `layer`. */
  readonly by?: "layer" | "kind";
}

const SENSITIVITY = {
  type: "utf8",
  part: "utf8",
  layer: "int32",
  mode: "utf8",
  kl: "float64",
  kl_all: "float64",
  share: "float64",
  loss: "float64",
  note: "utf8",
} as const;

/**
 * Which layer's quantization hurts, as an Arrow table: for each type and part (`layer`: a block, or what lies outside of
 * blocks; `kind`: one kind of tensor in all blocks) the Kullback–Leibler divergence of the model's own predictions from those of a
 * mixture. `mode` is `only`, the model with this part quantized and nothing else, or `restored`, the quantized copy with the model's own weights
 * in this part. `share` is of `kl_all`, the divergence with everything quantized: of `only` what this part causes alone,
 * of `restored` what goes when it is restored.
 *
 * @param model a loaded one, or its name or path
 * @param text that is foretold
 * @throws {RangeError} for an unknown type
 * @throws {ReferenceFailure} when llama.cpp cannot be had or fails
 * @throws {UnknownModelError | PullError | GgufError | ModelError | PromptError | DisposedError}
 */
export async function layerSensitivity(
  model: Model | string,
  text: Prompt,
  options: SensitivityOptions = {},
): Promise<Table> {
  return await longWork("Exchanging layers", options, async (options) => {
    const { types = LADDER, by = "layer", signal, onProgress } = options;
    using loaded = await openModel(model, options);
    const ground = await groundOf(loaded, text, signal);
    const partOf = (tensor: string) =>
      layerOf(tensor) === undefined
        ? "outside"
        : by === "layer"
        ? `blk.${layerOf(tensor)}`
        : kindOf(tensor).replace(/\.(weight|bias)$/, "");
    const matrices = [...loaded.file.tensors.values()].filter(({ shape }) => shape.length > 1);
    const parts = [...new Set(matrices.map(({ name }) => partOf(name)))];
    const total = types.length * (1 + 2 * parts.length);
    let done = 0;
    const rows: Row<typeof SENSITIVITY>[] = [];
    for (const type of types) {
      using quantized = await openQuantized(model, type, signal);
      const { file } = quantized;
      const wrong = typesThatDoNotRun(file);
      if (wrong.length > 0) {
        const nothing = { part: null, layer: null, mode: null, share: null, loss: null };
        rows.push({ type, ...nothing, kl: null, kl_all: null, note: doesNotRun(wrong) });
        done += 1 + 2 * parts.length;
        continue;
      }
      const measure = async (what: string, takes: (name: string) => boolean) => {
        onProgress?.(done++, total, `${type}: ${what}`);
        return summaryOf(predictionRows(type, ground, await runMixed(ground, file, takes)));
      };
      const all = await measure("everything", () => true);
      for (const part of parts) {
        const inPart = (name: string) => partOf(name) === part;
        for (const mode of ["only", "restored"] as const) {
          const found = await measure(
            `${mode} ${part}`,
            mode === "only" ? inPart : (name) => !inPart(name),
          );
          const share = found.kl / all.kl;
          rows.push({
            type,
            part,
            layer: layerOf(`${part}.`) ?? null,
            mode,
            kl: found.kl,
            kl_all: all.kl,
            share: all.kl > 0 ? (mode === "only" ? share : 1 - share) : null,
            loss: found.loss,
            note: null,
          });
        }
      }
    }
    return analysisTable("layer_sensitivity", SENSITIVITY, rows, {
      meaning: "divergence from the model's own predictions with one part quantized, or restored",
      model: loaded.found.name,
      tokens: ground.ids.length,
    });
  });
}

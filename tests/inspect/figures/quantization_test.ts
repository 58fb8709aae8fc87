/** Figures of quantizations: the ladder, errors of activations and weights, which layer hurts. */
import assert from "node:assert/strict";
import {
  layerSensitivityBars,
  quantizationDivergence,
  quantizationErrorMap,
  quantizationLayerErrors,
  quantizationWeightErrors,
} from "../../../mod.ts";
import type { Row } from "../../../inspect/analyses/analysis_table.ts";
import type { Bar, Heatmap } from "../../../inspect/figures/drawing/figure.ts";
import { short } from "../../../inspect/figures/drawing/numbers.ts";
import { named, scatters, tableOf } from "../../support/tables/figure_tables.ts";

const TYPES = {
  type: "utf8",
  runs: "bool",
  bits_per_weight: "float64",
  kl: "float64",
  kl_max: "float64",
  perplexity: "float64",
  note: "utf8",
} as const;

Deno.test("the ladder: divergence and perplexity by bits per weight; no divergence has a place; what did not run is named", () => {
  const row = (type: string, bits: number, kl: number | null): Row<typeof TYPES> => ({
    type,
    runs: kl !== null,
    bits_per_weight: bits,
    kl,
    kl_max: kl === null ? null : 5 * kl,
    perplexity: kl === null ? null : 20 + kl,
    note: kl === null ? "IQ4_XS does not run here yet" : null,
  });
  const table = tableOf("quantization_ladder", TYPES, [
    row("base", 16, 0),
    row("F16", 16, 0),
    row("Q4_0", 4.5, 0.02),
    row("IQ4_XS", 4.25, null),
  ], { tokens: "38" });
  const figure = quantizationDivergence(table);
  const [mean] = named(figure, "mean divergence");
  assert.deepEqual(mean.x, [16, 4.5]);
  const [none, some] = mean.y as number[];
  assert.ok(none > 0 && none < 0.02 && some === 0.02);
  assert.deepEqual(named(figure, "largest divergence")[0].y, [none, 0.1]);
  assert.deepEqual(named(figure, "perplexity")[0].y, [20, 20.02]);
  const words = figure.layout.annotations!.map(({ text }) => text);
  assert.ok(["F16", "Q4_0", "the model as it is"].every((word) => words.includes(word)));
  assert.match(figure.caption, /38 tokens · IQ4_XS does not run here yet$/);
  const dead = tableOf("quantization_ladder", TYPES, [row("IQ4_XS", 4.25, null)]);
  assert.throws(() => quantizationDivergence(dead), /none of its types runs here$/);
});

const ACTIVATIONS = {
  type: "utf8",
  layer: "int32",
  position: "int32",
  token: "utf8",
  error: "float64",
} as const;

Deno.test("errors of activations: means over positions as lines; one type by layer and position", () => {
  const error = (type: string, layer: number, position: number) =>
    type === "F16" ? 0 : (layer + 2) * (position + 1) / 100;
  const table = tableOf(
    "activation_errors",
    ACTIVATIONS,
    ["F16", "Q4_0"].flatMap((type) =>
      [-1, 0, 1].flatMap((layer) =>
        [0, 1, 2].map((position) => ({
          ...{ type, layer, position, token: ` ${position}` },
          error: error(type, layer, position),
        }))
      )
    ),
  );
  const [exact, coarse] = scatters(quantizationLayerErrors(table));
  assert.deepEqual(coarse.x, [-1, 0, 1]);
  assert.deepEqual(coarse.y, [0.02, 0.04, 0.06]);
  assert.equal(new Set(exact.y as number[]).size, 1);
  const map = quantizationErrorMap(table).data[0] as Heatmap;
  assert.deepEqual(
    map.z,
    [-1, 0, 1].map((layer) =>
      [0, 1, 2].map((position) => short(Math.log10(error("Q4_0", layer, position))))
    ),
  );
  const none = quantizationErrorMap(table, { type: "F16" });
  assert.ok(((none.data[0] as Heatmap).z as (number | null)[][]).flat().every((z) => z === null));
  assert.match(none.caption, /empty: no error at all/);
  assert.throws(
    () => quantizationErrorMap(table, { type: "Q2_K" }),
    new RangeError("Cannot draw type Q2_K: the table has F16, Q4_0"),
  );
});

const WEIGHTS = {
  type: "utf8",
  tensor: "utf8",
  layer: "int32",
  kind: "utf8",
  stored_as: "utf8",
  error: "float64",
} as const;

Deno.test("errors of weights: types by tensors; what no type changes is left out and counted", () => {
  const row = (type: string, tensor: string, error: number | null): Row<typeof WEIGHTS> => {
    const [, layer, kind = tensor] = tensor.match(/^blk\.(\d+)\.(.+)$/) ?? [];
    const own = layer === undefined ? null : Number(layer);
    return { type, tensor, layer: own, kind, stored_as: "Q6_K", error };
  };
  const table = tableOf("weight_errors", WEIGHTS, [
    row("Q4_0", "blk.0.attn_q.weight", 0.1),
    row("Q4_0", "blk.0.attn_norm.weight", 0),
    row("Q4_0", "output.weight", 0.01),
    row("Q4_0", "blk.1.attn_q.weight", 0.001),
    row("Q2_K", "blk.0.attn_q.weight", 1),
    row("Q2_K", "output.weight", 0),
    row("IQ1_S", "output.weight", null),
  ]);
  const figure = quantizationWeightErrors(table);
  const map = figure.data[0] as Heatmap;
  assert.deepEqual(figure.layout.xaxis!.ticktext, [
    "blk.0.attn_q.weight",
    "blk.1.attn_q.weight",
    "output.weight",
  ]);
  assert.deepEqual(map.z, [[-1, -3, -2], [0, null, null]]);
  assert.match((map.customdata as string[][])[0][2], /stored as Q6_K/);
  assert.match(figure.caption, /tensors that no type changes are left out: 1/);
  assert.match(figure.caption, /left empty: IQ1_S/);
});

const SENSITIVITY = {
  type: "utf8",
  part: "utf8",
  layer: "int32",
  mode: "utf8",
  kl: "float64",
  kl_all: "float64",
  share: "float64",
  note: "utf8",
} as const;

Deno.test("which layer hurts: both shares of each part, what lies outside of blocks last", () => {
  const parts = ["outside", "blk.0", "blk.1"];
  const share = (part: string, mode: string) =>
    (parts.indexOf(part) + 1) / (mode === "only" ? 10 : -5);
  const rows = parts.flatMap((part) =>
    ["only", "restored"].map((mode): Row<typeof SENSITIVITY> => ({
      ...{ type: "Q4_0", part, layer: null, mode, kl: 0.01, kl_all: 0.1, note: null },
      share: share(part, mode),
    }))
  );
  const [only, restored] = layerSensitivityBars(tableOf("layer_sensitivity", SENSITIVITY, rows))
    .data as Bar[];
  const order = ["blk.0", "blk.1", "outside"];
  assert.deepEqual(only.y, order.map((part) => short(share(part, "only"))));
  assert.deepEqual(restored.y, order.map((part) => short(share(part, "restored"))));
  assert.equal(restored.yaxis, "y2");
  const dead = rows.slice(0, 1).map((row) => ({ ...row, share: null, note: "does not run" }));
  assert.throws(
    () => layerSensitivityBars(tableOf("layer_sensitivity", SENSITIVITY, dead)),
    RangeError,
  );
});

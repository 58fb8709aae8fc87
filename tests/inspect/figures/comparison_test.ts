/** Figures of comparisons: errors against their tolerances, three sides, a tensor twice, what quantization costs. */
import assert from "node:assert/strict";
import {
  type Figure,
  layerSensitivityBars,
  type PairedTensors,
  parity,
  parityErrors,
  quantizationDivergence,
  quantizationErrorMap,
  quantizationLayerErrors,
  quantizationWeightErrors,
  type Table,
  tensorPairMap,
  threeWayScatter,
} from "../../../mod.ts";
import { analysisTable, type Row, type Schema } from "../../../inspect/analyses/rows.ts";
import type { Bar, Heatmap, Scatter } from "../../../inspect/figures/drawing/figure.ts";
import { logAxis } from "../../../inspect/figures/drawing/log_axis.ts";
import { short, unpacked } from "../../../inspect/figures/drawing/numbers.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { tableRows } from "../../support/table_rows.ts";

const PARITY = {
  case: "utf8",
  step: "int32",
  layer: "int32",
  point: "utf8",
  kind: "utf8",
  verdict: "utf8",
  rms: "float64",
  error: "float64",
  tolerance: "float64",
  share: "float64",
  head: "int32",
  position: "int32",
  index: "int32",
  ours: "float64",
  reference: "float64",
  oracle_rms: "float64",
  oracle_ratio: "float64",
  passed: "bool",
} as const;

/** A row of a comparison whose worst number is off by an error. */
function compared(
  point: string,
  verdict: "local" | "cumulative",
  error: number,
  more: Partial<Row<typeof PARITY>> = {},
): Row<typeof PARITY> {
  const [, layer, kind] = point.match(/^blk\.(\d+)\.(.+)$/) ?? [];
  return {
    case: "prompt",
    step: 0,
    layer: layer === undefined ? null : Number(layer),
    point,
    kind: kind ?? point,
    verdict,
    rms: error / 3,
    error,
    tolerance: 1e-4,
    share: error / 1e-4,
    head: null,
    position: 2,
    index: 5,
    ours: 1 + error,
    reference: 1,
    oracle_rms: null,
    oracle_ratio: null,
    passed: error <= 1e-4,
    ...more,
  };
}

function tableOf<S extends Schema>(
  name: string,
  schema: S,
  rows: readonly Row<S>[],
  notes: Record<string, string> = {},
): Table {
  return analysisTable(name, schema, rows, { meaning: "", model: "tiny", ...notes });
}

const parityTable = (rows: readonly Row<typeof PARITY>[]) =>
  tableOf("parity", PARITY, rows, { reference: "llama.cpp" });

const scatters = ({ data }: Figure) => data as Scatter[];
const named = (figure: Figure, name: string) =>
  scatters(figure).filter((each) => each.name === name);

const GOOD = [
  compared("token_embd", "local", 0),
  compared("blk.0.q", "local", 1e-6),
  compared("blk.0.q", "cumulative", 2e-6),
  compared("blk.0.out", "local", 3e-6),
  compared("blk.1.q", "local", 1e-6),
  compared("blk.1.q", "local", 5e-6, { step: 1 }),
  compared("blk.1.out", "local", 2e-6),
  compared("logits", "local", 4e-6),
];

Deno.test("a logarithmic axis has places for 0 and infinity, beyond all others", () => {
  const { place, axis } = logAxis([0, 3e-7, 2e-4, Infinity], [1]);
  assert.equal(place(3e-7), 3e-7);
  assert.ok(place(0) < 1e-7 && place(Infinity) > 1);
  assert.ok(Number.isNaN(place(NaN)));
  assert.deepEqual([axis.ticktext!.at(0), axis.ticktext!.at(-1)], ["0", "∞"]);
  for (const value of [0, 3e-7, 1, Infinity]) {
    const power = Math.log10(place(value));
    assert.ok(power > axis.range![0] && power < axis.range![1], `${value}`);
  }
  const plain = logAxis([1e-3, 1e-1]).axis.ticktext!;
  assert.ok(!plain.includes("0") && !plain.includes("∞"));
});

Deno.test("parity: shares of the tolerance, in the order of the pass; of several passes the worst", () => {
  const figure = parityErrors(parityTable(GOOD));
  const [local] = named(figure, "one operation (local)");
  const byX = (local.x as number[]).map((x, i) => [x, (local.y as number[])[i]] as const)
    .sort(([a], [b]) => a - b);
  assert.deepEqual(byX.slice(1).map(([, y]) => y), [0.01, 0.03, 0.05, 0.02, 0.04]);
  assert.ok(byX[0][1] < 0.01 && byX[0][1] > 0, "none is below the smallest");
  const [cumulative] = named(figure, "the run up to there (cumulative)");
  assert.deepEqual(cumulative.y, [0.02]);
  assert.equal(cumulative.x[0 as never], byX[1][0], "a point has one place");
  const worst = (local.customdata as string[]).find((text) => text.includes("generated token 1"))!;
  assert.match(
    worst,
    /blk\.1\.q.*local: 0\.0500 of what is allowed<br>error 0\.00000500, tolerance/,
  );
  const line = figure.layout.shapes!.find(({ y0, y1, yref }) => yref === "y" && y0 === y1)!;
  assert.equal(line.y0, 1, "the tolerance");
  assert.match(figure.caption, /tiny: error against llama\.cpp: all 6 points are within/);
  assert.match(figure.caption, /blk\.1\.q takes most of it, 5 %/);
  assert.equal(named(figure, "outside of its tolerance").length, 0);
  assert.equal(figure.layout.yaxis2, undefined, "no oracle, no panel");
});

Deno.test("parity: what is beyond its tolerance stands out, the first is named; NaN is beyond all", () => {
  const figure = parityErrors(parityTable([
    ...GOOD,
    compared("blk.0.k", "local", 1e-3),
    compared("blk.1.k", "cumulative", NaN, { share: null, passed: false }),
  ]));
  const beyond = named(figure, "outside of its tolerance");
  assert.deepEqual(beyond.map(({ y }) => (y as number[]).length).sort(), [1, 1]);
  assert.ok(beyond.some(({ y }) => (y as number[])[0] === 10));
  assert.ok(beyond.some(({ y }) => (y as number[])[0] > 10), "NaN has the place of infinity");
  assert.ok(figure.layout.annotations!.some(({ text }) => text === "first: blk.0.k"));
  assert.match(figure.caption, /2 of 8 points are outside/);
});

Deno.test("parity: one layer, pass or prompt; the oracle's panel has both sides", () => {
  const rows = GOOD.map((row) =>
    row.layer === 0 ? { ...row, oracle_rms: 4e-7, oracle_ratio: 2 } : row
  );
  const figure = parityErrors(parityTable(rows));
  const [ours] = named(figure, "ours to the oracle");
  const [theirs] = named(figure, "llama.cpp to the oracle");
  assert.deepEqual(ours.y, [4e-7, 4e-7]);
  assert.deepEqual(theirs.y, [2e-7, 2e-7]);
  assert.equal(ours.yaxis, "y2");
  const alone = parityErrors(parityTable(rows.map((row) => ({ ...row, oracle_ratio: null }))));
  assert.deepEqual(scatters(alone).filter(({ yaxis }) => yaxis === "y2").length, 1);
  const layer = parityErrors(parityTable(rows), { layer: 1 });
  assert.deepEqual(layer.layout.xaxis!.ticktext, ["q", "out"]);
  const step = parityErrors(parityTable(rows), { step: 1 });
  assert.match(step.caption, /all 1 points/);
  assert.throws(
    () => parityErrors(parityTable(rows), { layer: 7 }),
    new RangeError("Cannot draw layer 7: the table has 0, 1"),
  );
  assert.throws(() => parityErrors(parityTable(rows), { case: "mine" }), /the table has prompt$/);
});

Deno.test("a real comparison: its table and its worst tensor", async () => {
  const report = await parity("tiny", "The raven said", {
    ...{ reference: "oracle", layers: [1, 2], generate: 1 },
  });
  const rows = tableRows(report.table());
  const figure = parityErrors(report.table());
  const all = scatters(figure).filter(({ yaxis }) => yaxis !== "y2");
  const points = new Set(rows.map(({ point, verdict }) => `${point} ${verdict}`));
  assert.equal(all.reduce((sum, { x }) => sum + (x as number[]).length, 0), points.size);
  for (const { y, customdata } of all) {
    for (const [i, hover] of (customdata as string[]).entries()) {
      const [, point, verdict] = hover.match(/^<b>(.+)<\/b>, (\w+):/)!;
      const shares = rows.filter((row) => row.point === point && row.verdict === verdict)
        .map(({ share }) => Number(share));
      const share = Math.max(...shares);
      assert.ok(
        share === 0 ? (y as number[])[i] < 1e-2 : (y as number[])[i] === short(share),
        hover,
      );
    }
  }
  const pair = await report.worst();
  const { caption, data } = tensorPairMap(pair);
  assert.ok(caption.startsWith(`tiny · ${pair.point}`), caption);
  assert.deepEqual(data.map(({ name }) => name), ["ours", "oracle", "ours − oracle"]);
  assert.ok((await figure.svg()).startsWith("<svg"));
});

const THREE = {
  point: "utf8",
  head: "int32",
  position: "int32",
  token: "utf8",
  index: "int32",
  ours: "float64",
  reference: "float64",
  oracle: "float64",
} as const;

/** Numbers with errors of both sides. */
function threeTable(errors: readonly (readonly [ours: number, reference: number | null])[]): Table {
  return tableOf(
    "three_way",
    THREE,
    errors.map(([ours, reference], index) => ({
      point: index % 2 === 0 ? "blk.0.q" : "blk.0.k",
      head: 1,
      position: 3,
      token: " a",
      index,
      ours: 1 + ours,
      reference: reference === null ? null : 1 + reference,
      oracle: 1,
    })),
    { reference: "llama.cpp" },
  );
}

Deno.test("three sides: each number's two errors, a series per point", () => {
  const figure = threeWayScatter(threeTable([
    [2 ** -20, -(2 ** -21)],
    [0, 2 ** -22],
    [2 ** -19, 2 ** -18],
    [2 ** -20, null],
  ]));
  const [q, k] = scatters(figure);
  assert.deepEqual([q.name, k.name], ["blk.0.q", "blk.0.k"]);
  assert.deepEqual(q.y, [short(2 ** -20), short(2 ** -19)]);
  assert.deepEqual(q.x, [short(-(2 ** -21)), short(2 ** -18)]);
  assert.deepEqual([k.x, k.y], [[short(2 ** -22)], [0]]);
  assert.match((q.customdata as string[])[0], /^blk\.0\.q, head 1<br>"·a" \(3\), index 0<br>/);
  assert.match(figure.caption, /3 numbers: ours is farther in 33 %, llama\.cpp in 67 %/);
  assert.match(figure.caption, /1 that llama\.cpp does not show are left out/);
  const { xaxis, yaxis } = figure.layout;
  assert.deepEqual(xaxis!.range, yaxis!.range);
  assert.ok(xaxis!.range![1] > 2 ** -18 && xaxis!.range![0] === -xaxis!.range![1]);
  assert.throws(() => threeWayScatter(threeTable([[1, null]])), /shows none of the table's points/);
});

Deno.test("three sides: many numbers are counted, none is lost", () => {
  const random = new Random(7);
  const errors = Array.from({ length: 5000 }, () => [random.normal(), random.normal()] as const);
  const [map] = threeWayScatter(threeTable(errors)).data as Heatmap[];
  assert.equal(map.type, "heatmap");
  const counts = map.customdata as number[][];
  assert.equal(counts.flat().reduce((a, b) => a + b), 5000);
  const [lower, upper] = map.y!.slice(-30, -28);
  const above = errors.filter(([ours]) => ours > (lower + upper) / 2).length;
  assert.ok(above > 0);
  assert.equal(counts.slice(-29).flat().reduce((a, b) => a + b), above, "ours goes upwards");
  (map.z as (number | null)[][]).forEach((row, i) =>
    row.forEach((value, j) =>
      assert.equal(value, counts[i][j] === 0 ? null : short(Math.log10(counts[i][j])))
    )
  );
});

/** A matrix on two sides. */
function pairOf(rows: number, columns: number, worst: readonly [number, number]): PairedTensors {
  const random = new Random(3);
  const reference = Float32Array.from({ length: rows * columns }, () => random.normal());
  const ours = reference.map((value, i) =>
    i === worst[0] * columns + worst[1] ? value + 0.5 : value + 2 ** -20
  );
  reference[1] = ours[1] = NaN;
  const axis = (axis: string, count: number) => {
    const places = Array.from({ length: count }, (_, i) => i);
    return { axis, places, labels: places.map((place) => axis === "position" ? " a" : `${place}`) };
  };
  return {
    model: "tiny",
    point: "blk.1.q",
    head: 3,
    verdict: "local",
    rows: axis("position", rows),
    columns: axis("feature", columns),
    ours,
    reference,
    difference: ours.map((value, i) => value - reference[i]),
    referenceName: "llama.cpp",
    worst: {
      row: worst[0],
      column: worst[1],
      ours: 1,
      reference: 0.5,
      error: 0.5,
      tolerance: 1e-4,
    },
  };
}

const numbersOf = ({ z }: Heatmap) => Array.from(unpacked(z as Parameters<typeof unpacked>[0]));

Deno.test("a tensor twice: both sides on one scale, the difference on its own, the worst place framed", () => {
  for (const [rows, columns] of [[20, 32], [12, 256]]) {
    const pair = pairOf(rows, columns, [4, 9]);
    const figure = tensorPairMap(pair);
    const maps = figure.data as Heatmap[];
    assert.equal(maps.length, 3);
    assert.deepEqual(numbersOf(maps[0]), Array.from(pair.ours));
    assert.deepEqual(numbersOf(maps[1]), Array.from(pair.reference));
    assert.deepEqual(numbersOf(maps[2]), Array.from(pair.difference));
    assert.deepEqual([maps[0].zmin, maps[0].zmax], [maps[1].zmin, maps[1].zmax]);
    assert.equal(maps[2].zmin, -maps[2].zmax);
    assert.equal(maps[2].zmax, 0.5);
    assert.match(figure.caption, /^tiny · blk\.1\.q, head 3: .*off by 0\.5, allowed 1\.0e-4/);
    const { shapes = [] } = figure.layout;
    assert.equal(shapes.length, 3);
    shapes.forEach(({ x0, x1, y0, y1 }, i) => {
      assert.ok(Math.abs((x0 + x1) / 2 - maps[i].x![9]) < 1e-9);
      assert.ok(Math.abs((y0 + y1) / 2 - maps[i].y![4]) < 1e-9);
    });
    const { xaxis, yaxis } = figure.layout;
    for (const { x, y } of maps) {
      assert.ok(x![0] >= xaxis!.range![0] && x!.at(-1)! <= xaxis!.range![1]);
      assert.ok(y![0] >= yaxis!.range![1] && y!.at(-1)! <= yaxis!.range![0]);
    }
  }
});

Deno.test("a tensor twice: a few outliers leave colours to the others, with a note; no sign, no second colour", () => {
  const pair = pairOf(20, 32, [4, 9]);
  const outlier = { ...pair, ours: Float32Array.from(pair.ours, (x, i) => i === 40 ? 1000 : x) };
  const figure = tensorPairMap(outlier);
  const [map] = figure.data as Heatmap[];
  assert.ok(map.zmax < 5 && map.zmin === -map.zmax);
  assert.ok(numbersOf(map).includes(1000), "the number itself is there");
  assert.match(figure.caption, /the strongest colour stands for [\d.]+ and more, up to 1000/);
  assert.doesNotMatch(tensorPairMap(pair).caption, /strongest colour/);
  const positive = (values: ArrayLike<number>) => Array.from(values, Math.abs);
  const unsigned = tensorPairMap({
    ...pair,
    ours: positive(pair.ours),
    reference: positive(pair.reference),
  });
  assert.equal((unsigned.data[0] as Heatmap).zmin, 0);
  assert.notDeepEqual((unsigned.data[0] as Heatmap).colorscale, map.colorscale);
});

Deno.test("a tensor twice: a large one is pooled with a note, and keeps the largest difference; full shows all", () => {
  const pair = pairOf(40, 2000, [17, 1234]);
  const figure = tensorPairMap(pair);
  const [, , difference] = figure.data as Heatmap[];
  const numbers = numbersOf(difference);
  assert.ok(numbers.length < 40 * 400);
  assert.equal(Math.max(...numbers), pair.difference[17 * 2000 + 1234]);
  assert.match(figure.caption, /pooled/);
  const full = tensorPairMap(pair, { full: true });
  assert.equal(numbersOf(full.data[0] as Heatmap).length, 40 * 2000);
  assert.doesNotMatch(full.caption, /pooled/);
});

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

Deno.test("a missing column: one line that names it and what gives such a table", () => {
  const other = analysisTable("mine", { type: "utf8" }, [{ type: "Q4_0" }], { meaning: "" });
  const figures: [(table: Table) => Figure, RegExp][] = [
    [parityErrors, /has no column case, step, .*, passed; give that of parity\(\)/],
    [threeWayScatter, /ours, reference, oracle; give that of threeWay\(\)$/],
    [quantizationDivergence, /perplexity, note; give that of quantizationLadder\(\)$/],
    [quantizationLayerErrors, /token, error; give that of .*ladder\.activations\(\)$/],
    [quantizationErrorMap, /token, error; give that of .*ladder\.activations\(\)$/],
    [quantizationWeightErrors, /stored_as, error; give that of .*ladder\.weights\(\)$/],
    [layerSensitivityBars, /share, note; give that of layerSensitivity\(\)$/],
  ];
  for (const [figure, message] of figures) {
    assert.throws(() => figure(other), { name: "TypeError", message });
  }
});

/** Figures of parity and quantization: each number stands where the table has it, what failed is seen, what does not run is named. */
import assert from "node:assert/strict";
import {
  bars,
  type Figure,
  layerSensitivityBars,
  parity,
  parityErrors,
  quantizationDivergence,
  quantizationErrorMap,
  quantizationLayerErrors,
  quantizationWeightErrors,
  type Table,
  tensorPairMap,
  threeWayScatter,
} from "../mod.ts";
import { analysisTable } from "../inspect/analyses/rows.ts";
import type { Bar, Heatmap, Scatter } from "../inspect/plots/figure.ts";
import { logAxis } from "../inspect/plots/log_axis.ts";
import { short, unpacked } from "../inspect/plots/numbers.ts";
import { Random } from "./support/random.ts";
import { tableRows } from "./support/table_rows.ts";

type Dots = Scatter & { x: number[]; y: number[]; customdata: string[] };

const dots = ({ data }: Figure) => data as Dots[];
const heat = ({ data: [map] }: Figure) => map as Heatmap & { z: (number | null)[][] };

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

/** A comparison whose errors are given: [layer, kind, verdict, share, step]. */
function compared(
  rows: readonly [number | null, string, "local" | "cumulative", number, number?][],
  oracle: { readonly rms: number | null; readonly ratio: number | null } = {
    rms: null,
    ratio: null,
  },
): Table {
  const table = rows.map(([layer, kind, verdict, share, step = 0]) => ({
    ...{ case: "prompt", step, layer, kind, verdict, share },
    point: layer === null ? kind : `blk.${layer}.${kind}`,
    ...{ rms: share * 1e-5, error: share * 1e-4, tolerance: 1e-4 },
    ...{ head: kind === "q" ? 3 : null, position: 5, index: 7, ours: 1, reference: 2 },
    ...{ oracle_rms: oracle.rms, oracle_ratio: oracle.ratio },
    passed: share <= 1,
  }));
  return analysisTable("parity", PARITY, table, {
    ...{ meaning: "compared", model: "m<1>", reference: "other" },
  });
}

Deno.test("each point has the share of its tolerance, in the order of the pass, and a place for 0", () => {
  const figure = parityErrors(compared([
    [null, "token_embd", "local", 0],
    [0, "q", "local", 0.01],
    [0, "q", "cumulative", 0.02],
    [0, "out", "local", 0.004],
    [1, "q", "local", 0.03],
    [1, "out", "local", 0.5],
    [1, "out", "local", 0.25, 1],
    [null, "logits", "cumulative", 0.125],
  ]));
  const [cumulative, local] = dots(figure);
  assert.deepEqual([figure.data.length, cumulative.name], [2, "the run up to there (cumulative)"]);
  assert.deepEqual(cumulative.y, [0.02, 0.125]);
  // The worst of the passes; 0 has a place below all others, with a tick that says so.
  assert.deepEqual(local.y.slice(1), [0.01, 0.004, 0.03, 0.5]);
  const { tickvals, ticktext, type, range } = figure.layout.yaxis!;
  assert.equal(type, "log");
  assert.equal(ticktext![0], "0");
  assert.ok(local.y[0] < 0.004 && Math.abs(local.y[0] / tickvals![0] - 1) < 1e-3);
  assert.ok(Math.log10(local.y[0]) > range![0]);
  // Forwards: embedding, layer 0, layer 1, logits.
  const places = [local.x[0], local.x[1], local.x[2], local.x[3], local.x[4], cumulative.x[1]];
  assert.deepEqual(places, places.toSorted((a, b) => a - b));
  assert.equal(local.x[1], cumulative.x[0]);
  assert.match(figure.caption, /^m<1>: error against other: /);
  assert.match(
    figure.caption,
    /all 6 points are within .*; blk\.1\.out takes most of it, 50 %.*2 passes/,
  );
  const line = figure.layout.shapes!.find(({ yref, y0 }) => yref === "y" && y0 === 1)!;
  assert.deepEqual([line.y1, line.xref, line.x1], [1, "paper", 1]);
  assert.match(local.customdata[1], /^<b>blk\.0\.q<\/b>, local: 0\.0100 of what is allowed/);
  assert.match(
    local.customdata[1],
    /worst at head 3, position 5, index 7: ours 1\.000000, other 2/,
  );
  assert.match(local.customdata[2], /worst at position 5/);
});

Deno.test("what failed is orange and the first one named, a NaN too", () => {
  const figure = parityErrors(compared([
    [0, "q", "local", 0.01],
    [1, "q", "local", 0.2],
    [1, "out", "local", 40],
    [2, "q", "cumulative", NaN],
  ]));
  const failed = dots(figure).filter(({ name }) => name === "outside of its tolerance");
  assert.deepEqual(failed.map(({ x }) => x.length), [1, 1]);
  assert.equal(failed.filter(({ showlegend }) => showlegend !== false).length, 1);
  const [nan, local] = failed;
  assert.deepEqual(local.y, [40]);
  assert.ok(nan.y[0] > 40);
  assert.equal(figure.layout.yaxis!.ticktext!.at(-1), "∞");
  assert.ok(figure.layout.annotations!.some(({ text }) => text === "first: blk.1.out"));
  assert.match(figure.caption, /2 of 4 points are outside/);
});

Deno.test("where the oracle ran, both sides' distances to it stand below", () => {
  const rows = [[0, "q", "local", 0.1], [1, "q", "cumulative", 0.2]] as const;
  const figure = parityErrors(compared(rows.map((row) => [...row]), { rms: 6e-7, ratio: 1.5 }));
  const [theirs, ours] = dots(figure).filter(({ yaxis }) => yaxis === "y2");
  assert.deepEqual([theirs.name, ours.name], ["other to the oracle", "ours to the oracle"]);
  assert.deepEqual(ours.y, [6e-7, 6e-7]);
  assert.deepEqual(theirs.y, [4e-7, 4e-7]);
  const alone = parityErrors(compared(rows.map((row) => [...row]), { rms: 6e-7, ratio: null }));
  assert.deepEqual(dots(alone).filter(({ yaxis }) => yaxis === "y2").map(({ x }) => x.length), [2]);
});

Deno.test("one layer names its points; a layer, case or step that is not there is an error", () => {
  const table = compared([[0, "q", "local", 0.1], [0, "out", "local", 0.2], [
    3,
    "q",
    "local",
    0.3,
    8,
  ]]);
  const { layout, data } = parityErrors(table, { layer: 0 });
  assert.deepEqual(layout.xaxis!.ticktext, ["q", "out"]);
  assert.deepEqual((data[0] as Dots).y, [0.1, 0.2]);
  assert.deepEqual((parityErrors(table, { step: 8 }).data[0] as Dots).y, [0.3]);
  assert.throws(
    () => parityErrors(table, { layer: 1 }),
    /^RangeError: Cannot draw layer 1: the table has 0, 3$/,
  );
  assert.throws(() => parityErrors(table, { step: 2 }), /step 2: the table has 0, 8$/);
  assert.throws(() => parityErrors(table, { case: "long prompt" }), /the table has prompt$/);
});

Deno.test("a real comparison: its table and its worst tensor", async () => {
  const report = await parity("tiny", "The raven said", {
    ...{ reference: "oracle", layers: [1, 2], generate: 1 },
  });
  const rows = tableRows(report.table());
  const figure = parityErrors(report.table());
  const all = dots(figure).filter(({ yaxis }) => yaxis !== "y2");
  const points = new Set(rows.map(({ point, verdict }) => `${point} ${verdict}`));
  assert.equal(all.reduce((sum, { x }) => sum + x.length, 0), points.size);
  for (const { y, customdata } of all) {
    for (const [i, hover] of customdata.entries()) {
      const [, point, verdict] = hover.match(/^<b>(.+)<\/b>, (\w+):/)!;
      const shares = rows.filter((row) => row.point === point && row.verdict === verdict)
        .map(({ share }) => Number(share));
      const share = Math.max(...shares);
      assert.ok(share === 0 ? y[i] < 1e-2 : y[i] === short(share), hover);
    }
  }
  const pair = await report.worst();
  const { caption, data } = tensorPairMap(pair);
  assert.ok(caption.startsWith(`tiny · ${pair.point}`), caption);
  assert.deepEqual(data.map(({ name }) => name), ["ours", "oracle", "ours − oracle"]);
  assert.ok((await figure.svg()).startsWith("<svg"));
});

const SIDES = {
  point: "utf8",
  head: "int32",
  position: "int32",
  token: "utf8",
  index: "int32",
  ours: "float64",
  reference: "float64",
  oracle: "float64",
} as const;

function threeSides(count: number, points = ["blk.0.out"]): Table {
  const random = new Random(8);
  const rows = Array.from({ length: count }, (_, i) => ({
    ...{ point: points[i % points.length], head: null, position: i % 9, token: " a\n", index: i },
    ...{ oracle: 2, ours: 2 + random.normal(2e-6) },
    reference: i % 10 === 3 ? null : 2 + random.normal(1e-6),
  }));
  return analysisTable("three_way", SIDES, rows, {
    ...{ meaning: "three", model: "tiny", reference: "other" },
  });
}

Deno.test("three sides: our error up, the reference's to the right, on one scale; who is farther is counted", () => {
  const table = threeSides(200, ["blk.0.out", "blk.1.out"]);
  const rows = tableRows(table).filter(({ reference }) => reference !== null);
  const figure = threeWayScatter(table);
  for (const [i, { name, x, y, customdata }] of dots(figure).entries()) {
    assert.equal(name, `blk.${i}.out`);
    const own = rows.filter(({ point }) => point === name);
    assert.deepEqual(x, own.map(({ reference, oracle }) => short(reference - oracle)));
    assert.deepEqual(y, own.map(({ ours, oracle }) => short(ours - oracle)));
    assert.match(customdata[0], /"·a⏎" \(\d\), index \d+<br>exact 2\.000000$/);
  }
  const { xaxis, yaxis, shapes } = figure.layout;
  assert.deepEqual(xaxis!.range, yaxis!.range);
  assert.equal(-xaxis!.range![0], xaxis!.range![1]);
  assert.deepEqual(shapes!.map(({ y0, y1 }) => Math.sign(y1 - y0)), [1, -1]);
  const farther = rows.filter(({ ours, reference }) =>
    Math.abs(ours - 2) > Math.abs(reference - 2)
  );
  const share = Math.round(100 * farther.length / rows.length);
  assert.match(figure.caption, new RegExp(`180 numbers: ours is farther in ${share} %`));
  assert.match(figure.caption, /20 that other does not show are left out/);
});

Deno.test("three sides of many numbers are counted, each one", () => {
  const { data: [map], caption } = threeWayScatter(threeSides(20_000));
  const counts = (map as Heatmap).customdata as number[][];
  assert.equal(counts.flat().reduce((sum, count) => sum + count, 0), 18_000);
  const { z } = map as Heatmap & { z: (number | null)[][] };
  counts.forEach((row, i) =>
    row.forEach((count, j) => assert.equal(z[i][j], count === 0 ? null : short(Math.log10(count))))
  );
  // Ours is made twice as wrong: the cloud is higher than wide.
  const spread = (sums: number[]) => {
    const total = sums.reduce((a, b) => a + b, 0);
    const middle = (sums.length - 1) / 2;
    return Math.sqrt(sums.reduce((sum, n, i) => sum + n * (i - middle) ** 2, 0) / total);
  };
  const up = spread(counts.map((row) => row.reduce((a, b) => a + b, 0)));
  const across = spread(counts[0].map((_, j) => counts.reduce((sum, row) => sum + row[j], 0)));
  assert.ok(Math.abs(up / across - 2) < 0.1, `${up / across}`);
  assert.ok(JSON.stringify(map).length < 150_000);
  assert.match(caption, /darker: more numbers/);
  const none = analysisTable("three_way", SIDES, [{
    ...{ point: "blk.0.out", head: null, position: 0, token: "", index: 0 },
    ...{ ours: 1, reference: null, oracle: 1 },
  }], { meaning: "", reference: "other" });
  assert.throws(
    () => threeWayScatter(none),
    /^RangeError: .*other shows none of the table's points/,
  );
});

function pairOf(rows: number, columns: number, worst: readonly [number, number]) {
  const random = new Random(9);
  const reference = Float32Array.from({ length: rows * columns }, () => random.normal());
  const ours = reference.map((value) => value + random.normal(1e-6));
  const at = worst[0] * columns + worst[1];
  ours[at] = reference[at] + 0.5;
  ours[1] = reference[1] = NaN;
  const axis = (name: string, count: number, label: (i: number) => string, from = 0) => ({
    axis: name,
    places: Array.from({ length: count }, (_, i) => from + i),
    labels: Array.from({ length: count }, (_, i) => label(from + i)),
  });
  return {
    ...{ model: "tiny", point: "blk.2.q", head: 1, verdict: "local", referenceName: "other" },
    rows: axis("position", rows, (i) => ` t${i}\n`, 4),
    columns: axis("feature", columns, String),
    ...{ ours, reference, difference: ours.map((value, i) => value - reference[i]) },
    worst: {
      ...{ row: worst[0], column: worst[1], ours: ours[at], reference: reference[at] },
      ...{ error: 0.5, tolerance: 1e-4 },
    },
  };
}

Deno.test("a tensor twice and its difference: the two on one scale, all centred, the worst framed", () => {
  for (const [rows, columns] of [[5, 40], [12, 6]] as const) {
    const pair = pairOf(rows, columns, [3, 4]);
    const figure = tensorPairMap(pair);
    const maps = figure.data as Heatmap[];
    const wanted = [pair.ours, pair.reference, pair.difference];
    for (const [i, { z, zmin, zmax, x, y }] of maps.entries()) {
      assert.ok("bdata" in z);
      assert.equal(z.shape, `${rows}, ${columns}`);
      assert.deepEqual(unpacked(z), wanted[i]);
      assert.equal(-zmin, zmax);
      const { x0, x1, y0, y1 } = figure.layout.shapes![i];
      assert.ok(Math.abs((x0 + x1) / 2 - x![4]) < 1e-9 && Math.abs((y0 + y1) / 2 - y![3]) < 1e-9);
      // The hover's names are at each map's own places.
      const hovers = (axis: "xaxis" | "yaxis", place: number) =>
        figure.layout[axis]!.ticktext![figure.layout[axis]!.tickvals!.indexOf(place)];
      assert.equal(hovers("xaxis", x![4]), "4");
      assert.equal(hovers("yaxis", y![3]), '"·t7⏎" (7)');
    }
    assert.equal(maps[0].zmax, maps[1].zmax);
    assert.ok(Math.abs(maps[2].zmax - 0.5) < 1e-5);
    assert.match(figure.caption, /^tiny · blk\.2\.q, head 1: ours and other’s: one operation/);
    assert.match(figure.caption, /off by 0\.50, allowed 1\.0e-4$/);
  }
});

Deno.test("a big pair is pooled, keeps its worst number and says so; full has all", () => {
  const pair = pairOf(20, 1000, [11, 613]);
  const figure = tensorPairMap(pair);
  const [, , { z }] = figure.data as Heatmap[];
  assert.ok("bdata" in z);
  assert.equal(z.shape, "20, 334");
  const values = Array.from(unpacked(z));
  const place = values.reduce((best, value, i) => value > values[best] ? i : best, 0);
  assert.deepEqual([Math.floor(place / 334), place % 334], [11, 204]);
  assert.ok(Math.abs(values[place] - 0.5) < 1e-5);
  assert.match(figure.caption, /pooled: .* of 1 × 3; full: true shows each/);
  assert.equal(figure.layout.xaxis!.ticktext![1], "3 … 5");
  const full = tensorPairMap(pair, { full: true });
  assert.deepEqual(unpacked((full.data[0] as Heatmap).z as never), pair.ours);
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

const ran = (type: string, bits: number, kl: number, most: number, perplexity: number) => ({
  ...{ type, runs: true, bits_per_weight: bits, kl, kl_max: most, perplexity, note: null },
});
const DID_NOT_RUN = {
  ...{ type: "IQ4_NL", runs: false, bits_per_weight: 4.7, kl: null, kl_max: null },
  ...{ perplexity: null, note: "IQ4_NL does not run here yet" },
};
const LADDER = analysisTable("quantization_ladder", TYPES, [
  ran("base", 16, 0, 0, 100),
  ran("F16", 16, 0, 0, 100),
  ran("Q8_0", 8.5, 1e-4, 2e-3, 100.5),
  ran("Q4_K_M", 4.8, 0.01, 0.2, 104),
  ran("Q4_0", 4.7, 0.011, 0.3, 105),
  DID_NOT_RUN,
], { meaning: "what each type costs", model: "tiny", tokens: 38 });

Deno.test("the ladder: divergence and perplexity against bits, each type named beside its points, what does not run in words", () => {
  const figure = quantizationDivergence(LADDER);
  const [largest, mean, perplexity] = dots(figure);
  assert.deepEqual(mean.x, [16, 8.5, 4.8, 4.7]);
  assert.deepEqual(mean.y.slice(1), [1e-4, 0.01, 0.011]);
  assert.deepEqual(largest.y.slice(1), [2e-3, 0.2, 0.3]);
  assert.deepEqual(perplexity.y, [100, 100.5, 104, 105]);
  // No divergence at all has a place, too.
  assert.ok(mean.y[0] < 1e-4 && figure.layout.yaxis!.ticktext![0] === "0");
  const names = figure.layout.annotations!.filter(({ text }) => /^[FQ]\d/.test(text));
  assert.deepEqual(
    names.map(({ text }) => text),
    [1, 2].flatMap(() => ["F16", "Q8_0", "Q4_K_M", "Q4_0"]),
  );
  assert.match(figure.caption, /^tiny: .*text of 38 tokens · IQ4_NL does not run here yet$/);
  const [base] = figure.layout.shapes!;
  assert.deepEqual([base.y0, base.y1, base.yref], [100, 100, "y2"]);
  // Names of neighbours do not lie over one another.
  const [a, b] = names.slice(2, 4);
  assert.notDeepEqual([a.xanchor, a.yanchor], [b.xanchor, b.yanchor]);
  const nothing = analysisTable("quantization_ladder", TYPES, [DID_NOT_RUN], { meaning: "" });
  assert.throws(
    () => quantizationDivergence(nothing),
    /^RangeError: .*none of its types runs here$/,
  );
});

const ACTIVATIONS = analysisTable(
  "activation_errors",
  { type: "utf8", layer: "int32", position: "int32", token: "utf8", error: "float64" },
  ["F16", "Q4_0"].flatMap((type) =>
    [-1, 0, 1].flatMap((layer) =>
      [0, 1].map((position) => ({
        ...{ type, layer, position, token: position === 0 ? "<s>" : " a" },
        error: type === "F16" ? 0 : 0.01 * (layer + 2) * (position + 1),
      }))
    )
  ),
  { meaning: "errors", model: "tiny" },
);

Deno.test("errors of layers are means over the text; by position they are a map of one type", () => {
  const [f16, q4] = dots(quantizationLayerErrors(ACTIVATIONS));
  assert.deepEqual([f16.name, q4.name, q4.x], ["F16", "Q4_0", [-1, 0, 1]]);
  assert.deepEqual(q4.y, [0.015, 0.03, 0.045]);
  assert.ok(f16.y.every((place) => place! < 0.01));
  const figure = quantizationErrorMap(ACTIVATIONS);
  assert.deepEqual(
    heat(figure).z,
    [1, 2, 3].map((n) => [0.01 * n, 0.02 * n].map((x) => short(Math.log10(x)))),
  );
  assert.match(figure.caption, /^tiny: error of the residual stream with Q4_0/);
  const exact = quantizationErrorMap(ACTIVATIONS, { type: "F16" });
  assert.ok(heat(exact).z.flat().every((value) => value === null));
  assert.match(exact.caption, /empty: no error at all/);
  assert.throws(
    () => quantizationErrorMap(ACTIVATIONS, { type: "Q1" }),
    /type Q1: the table has F16, Q4_0$/,
  );
});

Deno.test("errors of weights: types by tensors; what nothing changes is left out, what is not read is named", () => {
  const schema = {
    type: "utf8",
    tensor: "utf8",
    layer: "int32",
    kind: "utf8",
    stored_as: "utf8",
    error: "float64",
  } as const;
  const tensors = [
    ["blk.1.attn_q.weight", 1, 0.02],
    ["output.weight", null, 0.1],
    ["blk.0.attn_q.weight", 0, 0.04],
    ["blk.0.attn_norm.weight", 0, 0],
  ] as const;
  const rows = ["Q8_0", "IQ4_NL"].flatMap((type) =>
    tensors.map(([tensor, layer, error]) => ({
      ...{ type, tensor, layer, kind: tensor.replace(/^blk\.\d\./, ""), stored_as: type },
      error: type === "IQ4_NL" && layer === 0 && error > 0 ? null : error,
    }))
  );
  const figure = quantizationWeightErrors(
    analysisTable("weight_errors", schema, rows, { meaning: "errors", model: "tiny" }),
  );
  const { z, customdata } = heat(figure);
  const logs = [0.04, 0.02, 0.1].map((error) => short(Math.log10(error)));
  assert.deepEqual(z, [logs, [null, logs[1], logs[2]]]);
  const below = figure.layout.annotations!.filter(({ xref }) => xref === "x");
  assert.deepEqual(below.map(({ text }) => text), ["attn_q 0", "attn_q 1", "output"]);
  assert.equal((customdata as string[][])[0][2], "error 0.100, stored as Q8_0");
  assert.match(figure.caption, /that no type changes are left out: 1 .* left empty: IQ4_NL$/);
});

Deno.test("which layer hurts: shares alone and restored, a bar per type and part", () => {
  const schema = {
    type: "utf8",
    part: "utf8",
    mode: "utf8",
    kl: "float64",
    kl_all: "float64",
    share: "float64",
    note: "utf8",
  } as const;
  const rows = ["Q4_0", "Q2_K"].flatMap((type, t) =>
    ["outside", "blk.0", "blk.1"].flatMap((part, p) =>
      (["only", "restored"] as const).map((mode, m) => ({
        ...{ type, part, mode, kl: 0.1, kl_all: 0.5 * (t + 1), note: null },
        share: p === 1 && m === 1 ? -0.05 : 0.1 * (1 + t + p + 3 * m),
      }))
    )
  );
  const missing = { type: "IQ4_NL", part: null, mode: null, kl: null, kl_all: null, share: null };
  const figure = layerSensitivityBars(analysisTable("layer_sensitivity", schema, [
    ...rows,
    { ...missing, note: "IQ4_NL does not run here yet" },
  ], { meaning: "", model: "tiny" }));
  const all = figure.data as (Bar & { y: number[] })[];
  assert.deepEqual(all.map(({ name, yaxis }) => [name, yaxis]), [
    ["Q4_0", "y"],
    ["Q2_K", "y"],
    ["Q4_0", "y2"],
    ["Q2_K", "y2"],
  ]);
  for (const [i, { y }] of all.entries()) {
    const own = (part: string) =>
      rows.find((row) =>
        row.part === part && row.type === all[i].name && row.mode === (i < 2 ? "only" : "restored")
      )!.share;
    assert.deepEqual(y, ["blk.0", "blk.1", "outside"].map((part) => short(own(part))));
  }
  assert.deepEqual(figure.layout.xaxis2!.ticktext, ["0", "1", "outside"]);
  assert.match(figure.caption, /Q4_0 0\.50 nats, Q2_K 1\.0 nats · IQ4_NL does not run here yet$/);
});

Deno.test("logarithmic axes: every power of few, some of many, places for 0 and infinity only where they are", () => {
  const few = logAxis([1e-3, 0.5]).axis;
  assert.deepEqual(few.ticktext, ["10<sup>−3</sup>", "10<sup>−2</sup>", "10<sup>−1</sup>", "1"]);
  const many = logAxis([1e-30, 0, Infinity, 1e5, NaN]);
  assert.ok(many.axis.ticktext!.length <= 13);
  assert.deepEqual([many.axis.ticktext![0], many.axis.ticktext!.at(-1)], ["0", "∞"]);
  assert.ok(many.place(0) < 1e-30 && many.place(Infinity) > 1e5 && many.place(7) === 7);
  for (const value of [1e-30, 1e5, many.place(0), many.place(Infinity)]) {
    assert.ok(Math.log10(value) > many.axis.range![0] && Math.log10(value) < many.axis.range![1]);
  }
});

Deno.test("named numbers are bars from the top down", () => {
  const { data: [bar], layout } = bars([{ name: "a<b", value: 2 }, { name: "c", value: -1 }], {
    title: "numbers",
    unit: "nats",
  });
  assert.deepEqual([(bar as Bar).x, (bar as Bar).y], [[-1, 2], ["c", "a&lt;b"]]);
  assert.equal(layout.xaxis!.title!.text, "nats");
  assert.throws(() => bars([], { title: "", unit: "" }), /there are no numbers/);
});

Deno.test("all of them have a picture; another table is refused in one line", async () => {
  const figures = [
    quantizationDivergence(LADDER),
    quantizationLayerErrors(ACTIVATIONS),
    quantizationErrorMap(ACTIVATIONS),
    threeWayScatter(threeSides(50)),
    threeWayScatter(threeSides(5000)),
    tensorPairMap(pairOf(5, 40, [3, 4])),
  ];
  for (const figure of figures) assert.ok((await figure.svg()).includes(figure.layout.title!.text));
  const cases: readonly [() => unknown, RegExp][] = [
    [
      () => parityErrors(LADDER),
      /table quantization_ladder has no column case, .*report\.table\(\)$/,
    ],
    [() => threeWayScatter(LADDER), /no column point, .*; give that of threeWay\(\)$/],
    [() => quantizationDivergence(ACTIVATIONS), /no column runs, .*quantizationLadder\(\)$/],
    [() => quantizationLayerErrors(LADDER), /no column layer, .*ladder\.activations\(\)$/],
    [() => quantizationErrorMap(LADDER), /ladder\.activations\(\)$/],
    [() => quantizationWeightErrors(LADDER), /no column tensor, .*ladder\.weights\(\)$/],
    [() => layerSensitivityBars(LADDER), /no column part, .*; give that of layerSensitivity\(\)$/],
  ];
  for (const [draw, message] of cases) {
    assert.throws(draw, (error) => {
      assert.ok(error instanceof TypeError, `${error}`);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  }
});

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
import { analysisTable, type Row } from "../../../inspect/analyses/analysis_table.ts";
import type { Heatmap } from "../../../inspect/figures/drawing/figure.ts";
import { logAxis } from "../../../inspect/figures/drawing/log_axis.ts";
import { short, unpacked } from "../../../inspect/figures/drawing/numbers.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { tableRows } from "../../support/tables/table_rows.ts";
import { named, scatters, tableOf } from "../../support/tables/figure_tables.ts";

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

const parityTable = (rows: readonly Row<typeof PARITY>[]) =>
  tableOf("parity", PARITY, rows, { reference: "llama.cpp" });

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

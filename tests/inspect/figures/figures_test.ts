/** Figures of runs and analyses: the numbers in them are the tables', what is missing is a gap, labels show what cannot be seen. */
import assert from "node:assert/strict";
import {
  attributionBars,
  attributionMap,
  bars,
  directLogitAttribution,
  type Figure,
  histogram,
  loadModel,
  logitLens,
  logitLensLines,
  logitLensMap,
  neuronActivations,
  NotCapturedError,
  patchingMap,
  patchingSweep,
  residualNormLines,
  residualNormMap,
  residualNorms,
  surprisal,
  surprisalText,
  type Table,
  tensorMap,
  TensorView,
  tokenProbabilities,
  topTokens,
  weightSpectra,
  weightSpectrum,
} from "../../../mod.ts";
import { analysisTable } from "../../../inspect/analyses/analysis_table.ts";
import type { Bar, Scatter } from "../../../inspect/figures/drawing/figure.ts";
import { short } from "../../../inspect/figures/drawing/numbers.ts";
import { colourOf } from "../../../inspect/figures/coloured_text.ts";
import { SEQUENTIAL } from "../../../inspect/figures/drawing/theme.ts";
import { tokenHtml, tokenLabel } from "../../../inspect/figures/drawing/tokens.ts";
import { tableRows } from "../../support/tables/table_rows.ts";
import { cells, grid, heatmap } from "../../support/tables/figure_cells.ts";

const TEXT = 'Once upon a time there was a raven.\nThe raven said "a raven".';
const LAYERS = 5;
const HEADS = 8;

const model = await loadModel("tiny");
Deno.test.afterAll(() => model.dispose());
const run = await model.run(TEXT, {
  capture: ["token_embd", "blk.*.out", "blk.*.ffn_inp", "blk.*.ffn_act", "logits"],
});
const N = run.ids.length;

const hovers = run.tokens().map((token, i) => `"${tokenHtml(token, 24)}" (${i})`);
const layerNames = ["emb.", "0", "1", "2", "3", "4"];

Deno.test("tokens as labels: what cannot be seen is shown, what is long is cut, HTML is text", () => {
  assert.equal(tokenLabel(" a\tb\n\r"), "·a⇥b⏎⇤");
  assert.equal(tokenLabel("\u200b\u0007"), "\\x200b\\x7");
  assert.equal(tokenLabel("abcdefghijklmnopqrstuvwxyz", 10), "abcdef…xyz");
  assert.equal(tokenLabel("漢".repeat(12), 4), "漢漢…漢");
  assert.equal(tokenHtml("<b>&"), "&lt;b&gt;&amp;");
});

Deno.test("logit lens: probability and word of the likeliest token in each cell, the next ones in the hover", async () => {
  const table = await logitLens(model, run, { top: 3 });
  const rows = tableRows(table);
  const at = (layer: number, position: number, rank = 0) =>
    rows.find((row) => row.layer === layer - 1 && row.position === position && row.rank === rank)!;
  const figure = logitLensMap(table);
  assert.deepEqual(cells(figure), grid(LAYERS + 1, N, (i, j) => at(i, j).value));
  const { text, customdata, zmin, zmax } = heatmap(figure);
  assert.deepEqual(
    text,
    cells(figure).map((row, i) => row.map((_, j) => tokenHtml(at(i, j).predicted, 9))),
  );
  assert.deepEqual([zmin, zmax], [0, 1]);
  const hover = (customdata as string[][])[5][4].split("<br>");
  assert.equal(hover.length, 3);
  hover.forEach((line, rank) =>
    assert.ok(line.startsWith(`${tokenHtml(at(5, 4, rank).predicted, 24)} `), line)
  );
  assert.deepEqual(figure.layout.yaxis?.ticktext, layerNames);
  assert.deepEqual(figure.layout.xaxis?.ticktext, hovers);
  assert.ok(figure.layout.yaxis!.range![0] < figure.layout.yaxis!.range![1], "layers go upwards");
  assert.match(figure.caption, /^tiny: logit lens/);
  assert.ok(!JSON.stringify(figure).includes("NaN"));
});

Deno.test("logit lens: one of several sequences, and one that is not there", async () => {
  const table = await logitLens(
    model,
    await model.run(["Once upon", "The raven said"], {
      capture: ["blk.*.out"],
    }),
    { top: 1 },
  );
  const second = tableRows(table).filter(({ sequence }) => sequence === 1);
  const figure = logitLensMap(table, { sequence: 1 });
  assert.equal(cells(figure)[0].length, second.length / LAYERS);
  assert.equal(cells(figure).at(-1)!.at(-1), short(second.at(-1)!.value));
  assert.match(figure.caption, /sequence 1/);
  assert.throws(
    () => logitLensMap(table, { sequence: 2 }),
    new RangeError("Cannot draw sequence 2: the table has 0, 1"),
  );
});

Deno.test("chosen tokens over layers: probabilities with ranks, at a position", async () => {
  const table = await tokenProbabilities(model, run, { tokens: [run.ids[3], run.ids[5]] });
  const rows = tableRows(table);
  for (const position of [undefined, 3]) {
    const figure = logitLensLines(table, { position });
    assert.equal(figure.data.length, 2);
    for (const line of figure.data as Scatter[]) {
      const own = rows.filter((row) =>
        row.position === (position ?? N - 1) && tokenHtml(row.predicted) === line.name
      );
      assert.deepEqual(line.x, [-1, 0, 1, 2, 3, 4]);
      assert.deepEqual(line.y, own.map(({ value }) => short(value)));
      assert.deepEqual(line.customdata, own.map(({ rank }) => rank + 1));
    }
  }
  assert.throws(() => logitLensLines(table, { position: N }), /^RangeError: Cannot draw position/);
});

Deno.test("attribution: each head and FFN has its cell, bars are the largest parts and together the logit", async () => {
  const table = await directLogitAttribution(model, TEXT, { token: run.top(1)[0].id });
  const rows = tableRows(table);
  const figure = attributionMap(table);
  const expected = grid(
    LAYERS,
    HEADS + 1,
    (layer, column) =>
      rows.find((row) =>
        row.layer === layer &&
        (column === HEADS ? row.component === "ffn" : row.head === column)
      )!.value,
  );
  assert.deepEqual(cells(figure), expected);
  const { zmin, zmax } = heatmap(figure);
  assert.equal(zmin, -zmax, "zero is in the middle");
  assert.ok(Math.abs(zmax - Math.max(...expected.flat().map((x) => Math.abs(x!)))) < 1e-3);
  assert.equal(figure.layout.xaxis!.ticktext!.at(-1), "FFN");

  const [bar] = attributionBars(table, { top: 6 }).data as Bar[];
  const [sizes, names] = [bar.x as number[], bar.y as string[]];
  const largest = rows.map(({ value }) => Math.abs(value)).sort((a, b) => b - a).slice(0, 6);
  assert.deepEqual(sizes.slice(1).map((x) => Math.abs(x)).reverse(), largest.map(short));
  assert.equal(names[0], `${rows.length - 6} others`);
  const total = rows.reduce((sum, { value }) => sum + value, 0);
  assert.ok(Math.abs(sizes.reduce((a, b) => a + b) - total) < 1e-2);
  assert.ok(Math.abs(total - run.top(1)[0].logit) < 1e-3);
  const all = attributionBars(table, { top: 1000 }).data as Bar[];
  assert.equal((all[0].x as number[]).length, rows.length, "nothing is left for a bar of others");
  assert.throws(() => attributionBars(table, { top: 0 }), RangeError);
});

Deno.test("patching: what each place restores; both tokens where the prompts differ; empty where a sweep was stopped", async () => {
  const pair = { clean: "Once upon a time there", corrupted: "Once upon a day there" };
  const stop = new AbortController();
  const options = { metric: [run.ids[3], run.ids[4]] as const, layers: [0, 2, 4] };
  const table = await patchingSweep(model, pair, options);
  const rows = tableRows(table);
  const figure = patchingMap(table);
  const positions = [...new Set(rows.map(({ position }) => position))].sort((a, b) => a - b);
  const layers = [...new Set(rows.map(({ layer }) => layer))].sort((a, b) => a - b);
  const at = (i: number, j: number) =>
    rows.find((row) => row.layer === layers[i] && row.position === positions[j])!;
  assert.deepEqual(cells(figure), grid(layers.length, positions.length, (i, j) => at(i, j).value));
  const differing = rows.find(({ token, clean_token }) => token !== clean_token)!;
  const column = positions.indexOf(differing.position);
  assert.equal(
    figure.layout.xaxis!.ticktext![column],
    `"${tokenHtml(differing.clean_token)}" → "${
      tokenHtml(differing.token)
    }" (${differing.position})`,
  );

  const half = await patchingSweep(model, pair, {
    ...options,
    signal: stop.signal,
    onProgress: (done) => done > 2 && stop.abort(),
  });
  const stopped = patchingMap(half);
  assert.ok(half.numRows < table.numRows);
  assert.equal(cells(stopped).flat().filter((each) => each !== null).length, half.numRows);
  assert.match(stopped.caption, /stopped before the end/);
});

Deno.test("patching heads at several positions: one must be chosen", async () => {
  const pair = { clean: "Once upon a time there", corrupted: "Once upon a day there" };
  const table = await patchingSweep(model, pair, {
    metric: [run.ids[3], run.ids[4]],
    point: "head_out",
    over: ["head", "position"],
    positions: [3, 4],
    layers: [1],
  });
  const rows = tableRows(table).filter(({ position }) => position === 4);
  const figure = patchingMap(table, { position: 4 });
  assert.deepEqual(cells(figure), [
    Array.from({ length: HEADS }, (_, head) => short(rows.find((row) => row.head === head)!.value)),
  ]);
  assert.match(figure.caption, /position 4/);
  assert.throws(() => patchingMap(table), /choose one with position \(3, 4\)$/);
  assert.throws(() => patchingMap(table, { position: 0 }), /the sweep has 3, 4$/);
});

Deno.test("likeliest tokens: a run's top, and a step of the slider for each generated token", async () => {
  const figure = topTokens(run, { top: 4 });
  const [bar] = figure.data as Bar[];
  const top = run.top(4).toReversed();
  assert.deepEqual(bar.x, top.map(({ probability }) => short(probability)));
  assert.deepEqual(
    figure.layout.yaxis?.ticktext,
    run.top(4).toReversed().map(({ token }) => tokenHtml(token)),
  );
  assert.equal(figure.layout.sliders, undefined);

  const generation = model.generate("The raven said", { capture: ["logits"], maxTokens: 5 });
  for await (const _ of generation);
  const many = topTokens(generation.run, { top: 4 });
  const { steps } = many.layout.sliders![0];
  assert.deepEqual(steps.map(({ label }) => label), ["1", "2", "3", "4", "5"]);
  const { ids, promptLength } = generation.run.sequences[0];
  steps.forEach(({ args: [data, layout] }, i) => {
    const { x: [x], customdata: [names], "marker.color": [colours] } = data as Record<
      string,
      string[][]
    >;
    const logits = generation.run.tensor("logits").at({ position: promptLength - 1 + i });
    const powers = Array.from(logits.toFloat32Array(), Math.exp);
    const sum = powers.reduce((a, b) => a + b);
    const best = powers.sort((a, b) => b - a).slice(0, 4).map((power) => short(power / sum));
    assert.deepEqual(x, best.reverse());
    const chosen = names.findIndex((name) => name.endsWith(`(token ${ids[promptLength + i]})`));
    if (chosen >= 0) assert.notEqual(colours[chosen], colours[(chosen + 1) % 4]);
    assert.ok("yaxis.ticktext" in (layout as object));
  });
  const [first] = many.data as Bar[];
  assert.deepEqual(
    first.x,
    (steps[0].args[0] as { x: number[][] }).x[0],
    "it begins with the first",
  );

  const bare = model.generate("The raven said", { capture: ["blk.0.out"], maxTokens: 2 });
  for await (const _ of bare);
  assert.throws(() => topTokens(bare.run), NotCapturedError);
  assert.throws(() => topTokens(run, { top: 0 }), RangeError);
  assert.throws(() => topTokens(run, { sequence: 3 }), RangeError);
});

Deno.test("surprisal: each token in the colour of its number, newlines begin a line, the first has none", () => {
  const rows = tableRows(surprisal(run));
  const figure = surprisalText(run);
  assert.deepEqual(surprisalText(surprisal(run)).toJSON(), figure.toJSON());
  const { annotations = [], shapes = [] } = figure.layout;
  assert.deepEqual(
    annotations.map(({ text }) => text),
    rows.map(({ token }) => tokenHtml(token, 40)),
  );
  assert.equal(shapes[0].fillcolor, "#ffffff");
  assert.deepEqual(
    shapes.slice(1).map(({ fillcolor }) => fillcolor),
    rows.slice(1).map((row) => colourOf(SEQUENTIAL, row.surprisal / 12)),
  );
  const newline = run.tokens().findIndex((token) => token.includes("\n"));
  assert.ok(annotations[newline + 1].y > annotations[newline].y);
  assert.equal(annotations[newline + 1].x < annotations[newline].x, true);
  for (const { x0, x1 } of shapes) assert.ok(x0 >= 0 && x1 <= figure.layout.xaxis!.range![1]);
  const known = rows.slice(1).map((row) => row.surprisal);
  const mean = known.reduce((a, b) => a + b) / known.length;
  assert.ok(figure.caption.includes(`mean ${mean.toFixed(2)} nats`), figure.caption);
});

Deno.test("a text that is too long for a figure is cut, and the figure says so", () => {
  const rows = Array.from({ length: 2300 }, (_, position) => ({
    position,
    token: " a",
    surprisal: position === 0 ? null : 1,
  }));
  const schema = { position: "int32", token: "utf8", surprisal: "float64" } as const;
  const figure = surprisalText(analysisTable("surprisal", schema, rows, { meaning: "" }));
  assert.equal(figure.layout.annotations?.length, 2000);
  assert.match(figure.caption, /the first 2000 of 2300 tokens/);
});

Deno.test("neurons: one as coloured text, several as rows", () => {
  const values = (neuron: number) =>
    run.tensor("blk.2.ffn_act").at({ feature: neuron }).toFloat32Array();
  const one = neuronActivations(run, { layer: 2, neuron: 7 });
  const { customdata } = one.data[1] as Scatter;
  assert.deepEqual(
    customdata,
    Array.from(values(7), (value, i) => `${hovers[i]}<br>activation: ${short(value)}`),
  );
  const several = neuronActivations(run, [{ layer: 2, neuron: 7 }, { layer: 2, neuron: 9 }]);
  assert.deepEqual(cells(several), [7, 9].map((neuron) => Array.from(values(neuron), short)));
  assert.deepEqual(several.layout.yaxis?.ticktext, ["2, 7", "2, 9"]);
  assert.throws(() => neuronActivations(run, []), RangeError);
  assert.throws(() => neuronActivations(run, { layer: 2, neuron: 100_000 }), RangeError);
});

Deno.test("residual norms: logarithms in the map, the median and the first position as lines", () => {
  const table = residualNorms(run);
  const rows = tableRows(table).filter(({ point }) => !point.endsWith("ffn_inp"));
  const at = (layer: number, position: number): number =>
    rows.find((row) => row.layer === layer - 1 && row.position === position)!.value;
  assert.deepEqual(
    cells(residualNormMap(table)),
    grid(LAYERS + 1, N, (layer, position) => Math.log10(at(layer, position))),
  );
  const lines = residualNormLines(table).data as Scatter[];
  const byName = (name: string) => lines.find((line) => line.name === name)!;
  const others = (layer: number) =>
    Array.from({ length: N - 1 }, (_, i) => at(layer, i + 1)).sort((a, b) => a - b);
  assert.deepEqual(byName("position 0").y, layerNames.map((_, layer) => short(at(layer, 0))));
  assert.deepEqual(
    byName("median").y,
    layerNames.map((_, layer) => short(others(layer)[Math.floor((N - 1) / 2)])),
  );
  assert.deepEqual(byName("range").y, layerNames.map((_, layer) => short(others(layer).at(-1)!)));
});

Deno.test("a histogram counts every number here, and says what lies far out or is no number", () => {
  const tensor = run.tensor("blk.2.ffn_act");
  const figure = histogram(tensor, { bins: 40, model: "tiny" });
  const [bar] = figure.data as Bar[];
  assert.equal(
    (bar.y as (number | null)[]).reduce<number>((sum, n) => sum + (n ?? 0), 0),
    tensor.size,
  );
  assert.equal((bar.x as number[]).length, 40);

  const values = new Float32Array(1_000_003).fill(1);
  values.forEach((_, i) => values[i] = i % 2);
  values.set([40, NaN, Infinity]);
  const large = histogram(new TensorView(values, [values.length], ["feature"]));
  const farthest = { values: tensor.toFloat32Array(), at: 0 };
  const mean = farthest.values.reduce((a, b) => a + b) / tensor.size;
  farthest.values.forEach((value, i) => {
    if (Math.abs(value - mean) > Math.abs(farthest.values[farthest.at] - mean)) farthest.at = i;
  });
  const [position, feature] = [Math.floor(farthest.at / 512), farthest.at % 512];
  assert.ok(figure.caption.endsWith(`at position ${position}, feature ${feature}`), figure.caption);
  assert.match(large.caption, /1,000,001 numbers/);
  assert.match(large.caption, /6 deviations out: 1, the farthest 40.0 at feature 0 /);
  assert.match(large.caption, /NaN or infinite, left out: 2$/);
  assert.ok(JSON.stringify(large).length < 20_000, "numbers do not travel");
  assert.throws(() => histogram(tensor, { bins: 0 }), RangeError);
  assert.throws(
    () => histogram(new TensorView(new Float32Array([NaN]), [1], ["feature"])),
    /it has no finite numbers$/,
  );
});

Deno.test("weight spectra: a line per layer; the squares add up to the weight's own", async () => {
  const table = await weightSpectrum(model, "blk.*.attn_k.weight");
  const lines = weightSpectra(table).data as Scatter[];
  assert.deepEqual(lines.map(({ name }) => name), [0, 1, 2, 3, 4].map((i) => `layer ${i}`));
  for (const [layer, { y }] of lines.entries()) {
    const { data } = await model.weight(`blk.${layer}.attn_k.weight`);
    const own = data.reduce((sum, x) => sum + x * x, 0);
    const squares = (y as number[]).reduce((sum, x) => sum + x * x, 0);
    assert.ok(Math.abs(squares / own - 1) < 1e-3, `${squares} ${own}`);
    assert.deepEqual(y, (y as number[]).toSorted((a, b) => b - a));
  }
});

Deno.test("spectra of many layers: in the order of layers, named by a colour bar instead of a legend", () => {
  const schema = { tensor: "utf8", layer: "int32", rank: "int32", value: "float64" } as const;
  const order = Array.from({ length: 13 }, (_, i) => (i * 5) % 13); // as files have them: any
  const rows = order.flatMap((layer) =>
    [2, 1].map((value, rank) => ({ tensor: `blk.${layer}.q.weight`, layer, rank, value }))
  );
  const table = (rows: Parameters<typeof analysisTable<typeof schema>>[2]) =>
    analysisTable("weight_spectrum", schema, rows, { meaning: "" });
  const figure = weightSpectra(table(rows));
  const names = (figure.data as Scatter[]).slice(0, 13).map(({ name }) => name);
  assert.deepEqual(names, Array.from({ length: 13 }, (_, layer) => `layer ${layer}`));
  const { marker } = figure.data[13] as Scatter;
  assert.deepEqual([marker?.cmin, marker?.cmax, marker?.showscale], [0, 12, true]);
  assert.equal(figure.layout.showlegend, false);
  const few = weightSpectra(table(rows.slice(0, 6)));
  assert.deepEqual([few.data.length, few.layout.showlegend], [3, true]);
});

Deno.test("any tensor of two axes is a map of exactly its numbers", () => {
  const tensor = run.tensor("blk.1.out");
  assert.deepEqual(cells(tensorMap(tensor)).flat(), Array.from(tensor.toFloat32Array()));
  assert.throws(() => tensorMap(run.tensor("blk.1.out").at({ position: 0 })), /a map has two axes/);
});

Deno.test("named numbers are bars from the top down", () => {
  const { data: [bar] } = bars([{ name: "<a>", value: 1 }, { name: "b", value: -2 }], {
    title: "t",
    unit: "u",
  });
  assert.deepEqual([(bar as Bar).y, (bar as Bar).x], [["b", "&lt;a&gt;"], [-2, 1]]);
  assert.throws(() => bars([], { title: "t", unit: "u" }), RangeError);
});

Deno.test("a missing column, an empty table: one line that names it", () => {
  const schema = { layer: "int32" } as const;
  const other = analysisTable("mine", schema, [{ layer: 1 }], { meaning: "" });
  const figures: [(table: Table) => Figure, string][] = [
    [logitLensMap, "position, token, rank, predicted, value; give that of logitLens()"],
    [logitLensLines, "predicted, value; give that of tokenProbabilities()"],
    [attributionMap, "head, component, value; give that of directLogitAttribution()"],
    [attributionBars, "head, component, value; give that of directLogitAttribution()"],
    [patchingMap, "clean_token, value; give that of patchingSweep()"],
    [surprisalText, "position, token, surprisal; give that of surprisal()"],
    [residualNormMap, "point, position, token, value; give that of residualNorms()"],
    [residualNormLines, "point, position, token, value; give that of residualNorms()"],
    [weightSpectra, "tensor, rank, value; give that of weightSpectrum()"],
  ];
  for (const [figure, end] of figures) {
    assert.throws(() => figure(other), (error: Error) => {
      assert.ok(error instanceof TypeError);
      assert.match(error.message, /^Cannot draw [^\n]*: the table mine has no column /);
      assert.ok(error.message.endsWith(end), error.message);
      return true;
    });
  }
  const lens = {
    layer: "int32",
    position: "int32",
    token: "utf8",
    rank: "int32",
    predicted: "utf8",
    value: "float64",
  } as const;
  assert.throws(
    () => logitLensMap(analysisTable("logit_lens", lens, [], { meaning: "" })),
    new RangeError("Cannot draw a logit lens: the table has no rows"),
  );
});

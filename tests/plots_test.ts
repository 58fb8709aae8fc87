/** Figures of what a model does: their numbers are the tables', what is missing stays empty, long texts stay small. */
import assert from "node:assert/strict";
import {
  attributionBars,
  attributionMap,
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
} from "../mod.ts";
import { analysisTable, type Row, type Schema } from "../inspect/analyses/rows.ts";
import type { Bar, Heatmap, Scatter } from "../inspect/plots/figure.ts";
import { short, unpacked } from "../inspect/plots/numbers.ts";
import { chosenPlaces, pooledBy } from "../inspect/plots/pool.ts";
import { tokenHtml, tokenLabel } from "../inspect/plots/tokens.ts";
import { Random } from "./support/random.ts";
import { tableRows } from "./support/table_rows.ts";

const TEXT = 'Once upon a time there was a raven.\nThe raven said "a raven".';
const model = await loadModel("tiny");
Deno.test.afterAll(() => model.dispose());
const run = await model.run(TEXT, {
  capture: ["token_embd", "blk.*.ffn_inp", "blk.*.out", "blk.*.ffn_act"],
});
const TOKENS = run.tokens();
const LAYERS = 5;

const heat = ({ data: [map] }: Figure) => map as Heatmap & { z: (number | null)[][] };
const scatters = ({ data }: Figure) => data as (Scatter & { x: number[]; y: number[] })[];
const bar = ({ data: [bar] }: Figure) => bar as Bar & { x: number[]; y: string[] };

/** Words beside an axis, in their order. */
function labels({ layout }: Figure, side: "left" | "below"): string[] {
  const ref = side === "below" ? "x" : "paper";
  return layout.annotations!.filter(({ xref }) => xref === ref).map(({ text }) => text);
}

/** A table with rows changed or left out. */
function changed(
  table: Table,
  schema: Schema,
  // deno-lint-ignore no-explicit-any -- a test knows its columns' types
  change: (row: any) => any[],
): Table {
  const rows = tableRows(table).flatMap(change) as Row<Schema>[];
  const notes = Object.fromEntries(table.schema.metadata) as Record<string, string>;
  const { table: name, meaning, ...rest } = notes;
  return analysisTable(name, schema, rows, { meaning, ...rest });
}

const LENS = {
  sequence: "int32",
  layer: "int32",
  position: "int32",
  token: "utf8",
  rank: "int32",
  predicted_id: "int32",
  predicted: "utf8",
  value: "float64",
} as const;

Deno.test("the lens has the likeliest token and its probability in each cell, the next ones in the hover", async () => {
  const table = await logitLens(model, run);
  const figure = logitLensMap(table);
  const map = heat(figure);
  assert.equal(map.z.length, LAYERS + 1);
  for (const row of tableRows(table)) {
    const [layer, position] = [Number(row.layer) + 1, Number(row.position)];
    const hover = (map.customdata as string[][])[layer][position].split("<br>")[Number(row.rank)];
    assert.ok(hover.startsWith(`${tokenHtml(row.predicted, 24)} `), hover);
    if (row.rank > 0) continue;
    assert.equal(map.z[layer][position], short(row.value));
    assert.equal(
      map.text![layer][position],
      tokenLabel(row.predicted, 9).replace("<", "&lt;").replace(">", "&gt;"),
    );
  }
  assert.deepEqual([map.zmin, map.zmax], [0, 1]);
  // Layer by layer upwards, tokens along the text.
  assert.deepEqual(figure.layout.yaxis!.range, [-0.5, LAYERS + 0.5]);
  assert.deepEqual(labels(figure, "left"), ["emb.", "0", "1", "2", "3", "4"]);
  assert.deepEqual(labels(figure, "below"), TOKENS.map((token) => tokenHtml(token, 12)));
  assert.ok(labels(figure, "below").includes("⏎") && labels(figure, "below").includes("·upon"));
  assert.equal(figure.layout.xaxis!.ticktext![2], `"${tokenHtml(TOKENS[2])}" (2)`);
  assert.match(figure.caption, /^tiny: logit lens/);
});

Deno.test("what a table does not have stays an empty cell", async () => {
  const table = changed(
    await logitLens(model, run),
    LENS,
    (row) => row.layer === 2 && row.position === 3 ? [] : [row],
  );
  const { z, hoverongaps } = heat(logitLensMap(table));
  assert.equal(z[3][3], null);
  assert.equal(hoverongaps, false);
  assert.equal(z.flat().filter((value) => value === null).length, 1);
});

Deno.test("probabilities over the layers are lines with ranks, at the last position or a named one", async () => {
  const tokens = [" a", " the"];
  const table = await tokenProbabilities(model, run, { tokens });
  for (const position of [undefined, 4]) {
    const figure = logitLensLines(table, { position });
    const lines = scatters(figure);
    assert.deepEqual(lines.map(({ name }) => name), ["·a", "·the"]);
    for (const [i, { x, y, customdata }] of lines.entries()) {
      assert.deepEqual(x, [-1, 0, 1, 2, 3, 4]);
      const own = tableRows(table).filter((row) =>
        row.position === (position ?? TOKENS.length - 1) && row.predicted === tokens[i]
      );
      assert.deepEqual(y, own.map(({ value }) => short(value)));
      assert.deepEqual(customdata, own.map(({ rank }) => Number(rank) + 1));
    }
    assert.equal(figure.layout.yaxis!.type, "log");
    assert.match(figure.caption, new RegExp(`after “.+” \\(${position ?? TOKENS.length - 1}\\)`));
  }
  assert.throws(() => logitLensLines(table, { position: 99 }), /position 99: the table has 0, 1/);
});

Deno.test("attribution: a cell per head and FFN; all bars together are the logit", async () => {
  const table = await directLogitAttribution(model, TEXT, { token: " the", against: " a" });
  const rows = tableRows(table);
  const map = heat(attributionMap(table));
  for (const { layer, head, component, value } of rows) {
    if (layer < 0 || !["head", "ffn"].includes(component)) continue;
    assert.equal(map.z[layer][component === "ffn" ? 8 : head], short(value));
  }
  assert.equal(-map.zmin, map.zmax);
  assert.match(attributionMap(table).caption, /“·the” against “·a”/);
  const total = rows.reduce((sum, { value }) => sum + value, 0);
  for (const top of [3, 100]) {
    const { x, y, marker } = bar(attributionBars(table, { top }));
    const sum = x.reduce((sum, value) => sum + value, 0);
    assert.ok(Math.abs(sum - total) < 1e-3 * Math.max(...x.map(Math.abs)), `${sum} ${total}`);
    assert.equal(y.length, top === 3 ? 4 : rows.length);
    assert.equal(y[0] === `${rows.length - 3} others`, top === 3);
    const largest = rows.toSorted((a, b) => Math.abs(b.value) - Math.abs(a.value))[0];
    assert.equal(x.at(-1), short(largest.value));
    const colours = marker!.color as string[];
    assert.deepEqual(new Set(x.flatMap((value, i) => value < 0 ? [colours[i]] : [])).size, 1);
  }
});

Deno.test("a sweep: by position with both tokens where they differ, by head at one position; what did not run is empty", async () => {
  const pair = {
    clean: "The raven said a word to the dog",
    corrupted: "The raven said a word to the cat",
  };
  const metric = [" a", " the"] as const;
  const table = await patchingSweep(model, pair, { metric, layers: [1, 3] });
  const figure = patchingMap(table);
  const { z } = heat(figure);
  const rows = tableRows(table);
  for (const { layer, position, value } of rows) {
    assert.equal(z[layer === 1 ? 0 : 1][position], short(value));
  }
  assert.deepEqual(labels(figure, "left"), ["1", "3"]);
  const differing = rows.filter((row) => row.layer === 1 && row.token !== row.clean_token);
  assert.ok(differing.length > 0);
  for (const { position, token, clean_token } of differing) {
    const label = `${tokenHtml(clean_token, 9)}→${tokenHtml(token, 9)}`;
    assert.equal(labels(figure, "below")[position], label);
    assert.ok(figure.layout.xaxis!.ticktext![position].includes("→"));
  }

  const heads = await patchingSweep(model, pair, {
    ...{ metric, layers: [2], point: "head_out", over: ["head", "position"], positions: [3, -1] },
  });
  const last = Number(tableRows(heads).at(-1)!.position);
  const byHead = heat(patchingMap(heads, { position: last }));
  for (const { head, position, value } of tableRows(heads)) {
    if (position === last) assert.equal(byHead.z[0][head], short(value));
  }
  assert.throws(
    () => patchingMap(heads),
    /2 positions at once: choose one with position \(3, \d+\)/,
  );
  assert.throws(() => patchingMap(heads, { position: 0 }), /position 0: the sweep has 3, /);

  const schema = {
    layer: "int32",
    head: "int32",
    position: "int32",
    token: "utf8",
    clean_token: "utf8",
    value: "float64",
  } as const;
  const stopped = changed(table, schema, (row) => row.layer === 3 && row.position > 1 ? [] : [row]);
  stopped.schema.metadata.set("complete", "false");
  const rest = patchingMap(stopped);
  assert.deepEqual(heat(rest).z[1].slice(2), heat(rest).z[1].slice(2).map(() => null));
  assert.match(rest.caption, /stopped before the end/);
});

Deno.test("the likeliest tokens are bars; of a generation each token's, with a slider and the choice in orange", async () => {
  const figure = topTokens(run, { top: 4 });
  const shown = bar(figure) as unknown as Scatter & { x: number[] };
  const wanted = run.top(4).toReversed();
  assert.deepEqual(shown.x, wanted.map(({ probability }) => short(probability)));
  assert.deepEqual(figure.layout.yaxis!.ticktext, wanted.map(({ token }) => tokenHtml(token)));
  assert.deepEqual(
    shown.customdata,
    wanted.map(({ id, token }) => `"${tokenHtml(token, 24)}" (token ${id})`),
  );
  assert.equal(figure.layout.sliders, undefined);

  const generation = model.generate("The raven said", { capture: ["logits"], maxTokens: 5 });
  for await (const _ of generation);
  const { ids, promptLength } = generation.run.sequences[0];
  const generated = topTokens(generation.run, { top: 3 });
  const [{ steps }] = generated.layout.sliders!;
  assert.deepEqual(steps.map(({ label }) => label), ["1", "2", "3", "4", "5"]);
  const logits = generation.run.tensor("logits").toArray() as number[][];
  for (const [i, { args, method }] of steps.entries()) {
    assert.equal(method, "update");
    const [data, layout] = args as [Record<string, unknown[][]>, Record<string, unknown>];
    const row = logits[logits.length - steps.length + i];
    const largest = Math.max(...row);
    const sum = row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
    const best = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 3).reverse();
    assert.deepEqual(
      data.x[0].map((value) => (value as number).toFixed(3)),
      best.map((id) => (Math.exp(row[id] - largest) / sum).toFixed(3)),
    );
    assert.deepEqual(
      layout["yaxis.ticktext"],
      best.map((id) => tokenHtml(generation.run.tokenText(id))),
    );
    // Greedy: the chosen one is the likeliest.
    const colours = data["marker.color"][0];
    assert.equal(ids[promptLength + i], best[2]);
    assert.deepEqual([colours[0] === colours[1], colours[1] === colours[2]], [true, false]);
  }
  const bare = model.generate("The raven said", { capture: ["blk.0.out"], maxTokens: 2 });
  for await (const _ of bare);
  assert.throws(() => topTokens(bare.run), NotCapturedError);
  assert.throws(() => topTokens(generation.run, { top: 0 }), /top 0: give an integer, 1 or more/);
});

Deno.test("surprisal colours the text; the first token has none; newlines break the line", () => {
  const table = surprisal(run);
  const figure = surprisalText(table);
  assert.deepEqual(surprisalText(run).toJSON(), figure.toJSON());
  const points = figure.data[1] as Scatter & { y: number[]; customdata: string[] };
  const rows = tableRows(table);
  for (const [i, { surprisal, token }] of rows.entries()) {
    const [name, value] = points.customdata[i].split("<br>");
    assert.equal(name, `"${tokenHtml(token, 24)}" (${i})`);
    assert.equal(value, `nats: ${surprisal === null ? "–" : short(surprisal)}`);
    assert.equal(figure.layout.annotations![i].text, tokenHtml(token, 40));
  }
  assert.equal(rows[0].surprisal, null);
  assert.equal(figure.layout.shapes![0].fillcolor, "#ffffff");
  const newline = TOKENS.indexOf("\n");
  assert.ok(points.y[newline + 1] > points.y[newline]);
  const known = rows.slice(1).map(({ surprisal }) => surprisal);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  assert.match(figure.caption, new RegExp(`mean ${mean.toFixed(2)} nats`));
});

Deno.test("neurons: one as coloured text, several as rows of a map", () => {
  const values = run.tensor("blk.2.ffn_act").toArray() as number[][];
  const one = neuronActivations(run, { layer: 2, neuron: 7 });
  const texts = (one.data[1] as Scatter).customdata as string[];
  texts.forEach((text, i) => assert.ok(text.endsWith(`activation: ${short(values[i][7])}`), text));
  assert.equal(one.caption, "tiny · layer 2: activation of neuron 7");
  const two = neuronActivations(run, [{ layer: 2, neuron: 7 }, { layer: 2, neuron: 30 }]);
  const { z } = heat(two);
  assert.deepEqual(z, [7, 30].map((neuron) => values.map((row) => short(row[neuron]))));
  assert.deepEqual(labels(two, "left"), ["2, 7", "2, 30"]);
  assert.throws(() => neuronActivations(run, []), /no neurons: name one or more/);
});

Deno.test("norms: a map of their logarithms, and lines of median, range and the first position", () => {
  const table = residualNorms(run);
  const rows = tableRows(table).filter(({ point }) => point === "token_embd" || /out$/.test(point));
  const map = heat(residualNormMap(table));
  for (const { layer, position, value } of rows) {
    assert.equal(map.z[layer + 1][position], short(Math.log10(value)));
    const hover = (map.customdata as string[][])[layer + 1][position];
    assert.equal(hover, `length ${value.toPrecision(4)}`);
  }
  const [smallest, range, median, first] = scatters(residualNormLines(table));
  for (let layer = -1; layer < LAYERS; layer++) {
    const all = rows.filter((row) => row.layer === layer);
    const others = all.filter(({ position }) => position > 0).map(({ value }) => value as number);
    assert.equal(smallest.y[layer + 1], short(Math.min(...others)));
    assert.equal(range.y[layer + 1], short(Math.max(...others)));
    assert.equal(
      median.y[layer + 1],
      short(others.sort((a, b) => a - b)[Math.floor(others.length / 2)]),
    );
    assert.equal(first.y[layer + 1], short(all.find(({ position }) => position === 0)!.value));
  }
  assert.equal(first.name, "position 0");
});

Deno.test("a histogram counts every finite number, and says how many are not", () => {
  const values = Float32Array.from([0, 1, 2, 3, 4, 4, NaN, Infinity]);
  const tensor = new TensorView(values, [8], ["feature"]);
  const { x, y, customdata } = histogram(tensor, { bins: 4, name: "<x>" }).data[0] as Bar;
  assert.deepEqual(x, [0.5, 1.5, 2.5, 3.5]);
  assert.deepEqual(y, [1, 1, 1, 3]);
  assert.deepEqual((customdata as string[])[3], "3.00 to 4.00");
  const { caption, layout } = histogram(tensor, { bins: 4, name: "<x>" });
  assert.match(layout.title!.text, /^&lt;x&gt;$/);
  assert.match(caption, /6 numbers, mean 2\.33.*2 are NaN or infinite/);
  const all = run.tensor("blk.2.ffn_act");
  const counts = (histogram(all).data[0] as Bar).y as (number | null)[];
  assert.equal(counts.reduce((sum: number, count) => sum + (count ?? 0), 0), all.size);
  const none = new TensorView(Float32Array.of(NaN), [1], ["feature"]);
  assert.throws(() => histogram(none), /no finite numbers/);
  assert.throws(() => histogram(all, { bins: 0 }), /0 bars: give an integer/);
});

Deno.test("a tensor of two axes is a map of all its numbers", () => {
  const tensor = run.tensor("blk.1.out");
  const figure = tensorMap(tensor, { tokens: TOKENS });
  const map = figure.data[0] as Heatmap;
  assert.ok("bdata" in map.z);
  assert.deepEqual(unpacked(map.z), tensor.toFloat32Array());
  assert.equal(map.z.shape, tensor.shape.join(", "));
  assert.equal(-map.zmin, map.zmax);
  assert.deepEqual(figure.layout.yaxis!.ticktext, TOKENS.map((token) => tokenHtml(token)));
  assert.throws(() => tensorMap(tensor.at({ position: 0 })), /a map has two axes/);
});

Deno.test("spectra are lines by rank, a line per weight", async () => {
  const table = await weightSpectrum(model, "blk.*.attn_k.weight");
  const lines = scatters(weightSpectra(table));
  assert.deepEqual(lines.map(({ name }) => name), [0, 1, 2, 3, 4].map((layer) => `layer ${layer}`));
  for (
    const { tensor, layer, rank, value } of tableRows(table).filter(({ rank }) => rank % 40 === 0)
  ) {
    assert.match(tensor, /attn_k/);
    assert.equal(lines[layer].y[lines[layer].x.indexOf(rank)], short(value));
  }
});

Deno.test("of numbers that share a cell the largest, or that of largest magnitude, is shown", () => {
  const random = new Random(5);
  const values = Array.from(
    { length: 7 },
    () => Float64Array.from({ length: 11 }, () => random.normal()),
  );
  values[0].fill(NaN, 0, 3);
  values[1].fill(Infinity, 0, 3);
  for (const by of ["largest", "magnitude"] as const) {
    const rank = (value: number) => by === "largest" ? value : Math.abs(value);
    const chosen = chosenPlaces(
      (row, column) => values[row][column],
      pooledBy(7, 2),
      pooledBy(11, 3),
      by,
    );
    assert.equal(chosen[0], -1);
    for (const [cell, place] of chosen.entries()) {
      const [row, column] = [2 * Math.floor(cell / 4), 3 * (cell % 4)];
      const all = values.slice(row, row + 2).flatMap((each) => [...each.slice(column, column + 3)])
        .filter(Number.isFinite);
      if (all.length === 0) continue;
      const shown = values[Math.floor(place / 11)][place % 11];
      assert.equal(rank(shown), Math.max(...all.map(rank)));
      assert.ok(all.includes(shown));
    }
  }
});

/** Layers × 2,000 positions with columns of several tables. */
function longRows(layers: number) {
  const random = new Random(6);
  return Array.from({ length: layers * 2000 }, (_, i) => ({
    layer: Math.floor(i / 2000),
    position: i % 2000,
    token: ` ${i % 2000}`,
    value: random.uniform(0, 1),
    ...{ sequence: 0, head: null, rank: 0, predicted_id: i % 97, predicted: `p${i % 97}` },
    ...{ clean_token: ` ${i % 2000}`, point: `blk.${Math.floor(i / 2000)}.out` },
  }));
}

Deno.test("maps of 2,000 tokens stay small: cells are pooled, with their hovers, and the figure says so", () => {
  const rows = longRows(6);
  const schema = { ...LENS, head: "int32", clean_token: "utf8", point: "utf8" } as const;
  const table = analysisTable("long", schema, rows, { meaning: "a long text" });
  const maps = {
    lens: logitLensMap(table),
    norms: residualNormMap(table),
    patching: patchingMap(table),
  };
  for (const [name, figure] of Object.entries(maps)) {
    const { z, text, customdata } = heat(figure);
    assert.deepEqual([z.length, z[0].length, text], [6, 286, undefined], name);
    assert.match(figure.caption, /pooled: a cell is the .* of 1 × 7/, name);
    assert.ok(JSON.stringify(figure).length < 400_000, name);
    assert.ok(figure.layout.width < 1100, name);
    assert.equal(figure.layout.xaxis!.ticktext![2], '"·14" (14) … "·20" (20)');
    for (const [layer, cell] of [[0, 0], [3, 100], [5, 285]]) {
      const from = 2000 * layer + 7 * cell;
      const own = rows.slice(from, Math.min(from + 7, 2000 * (layer + 1)));
      const best = own.reduce((a, b) => b.value > a.value ? b : a);
      const wanted = name === "norms" ? Math.log10(best.value) : best.value;
      assert.equal(z[layer][cell], short(wanted), name);
      if (name === "lens") {
        assert.ok((customdata as string[][])[layer][cell].startsWith(`${best.predicted} `));
      }
    }
  }
  assert.match(maps.lens.caption, /words are in the hover/);
  // All is there of a text that fits.
  const some = analysisTable("short", schema, rows.filter(({ position }) => position < 300), {
    meaning: "a text that fits",
  });
  assert.doesNotMatch(patchingMap(some).caption, /pooled/);
  assert.equal(heat(patchingMap(some)).z[0].length, 300);
});

Deno.test("of 2,000 tokens a coloured text has the first, and says so", () => {
  const schema = { position: "int32", token: "utf8", surprisal: "float64" } as const;
  const rows = Array.from({ length: 2003 }, (_, i) => ({
    position: i,
    token: ` ${i}`,
    surprisal: i === 0 ? null : 1,
  }));
  const figure = surprisalText(analysisTable("surprisal", schema, rows, { meaning: "" }));
  assert.equal(figure.layout.annotations!.length, 2000);
  assert.match(figure.caption, /mean 1\.00 nats · the first 2000 of 2003 tokens/);
});

Deno.test("another table, one without rows or without the sequence is refused in one line", async () => {
  const lens = await logitLens(model, run);
  const empty = changed(lens, LENS, () => []);
  const other = run.tokenTable();
  const cases: readonly [() => unknown, ErrorConstructor, RegExp][] = [
    [() => logitLensMap(other), TypeError, /no column layer, .*; give that of logitLens\(\)$/],
    [() => logitLensMap(empty), RangeError, /a logit lens: the table has no rows$/],
    [() => logitLensMap(lens, { sequence: 3 }), RangeError, /sequence 3: the table has 0$/],
    [() => logitLensLines(other), TypeError, /give that of tokenProbabilities\(\)$/],
    [() => attributionMap(lens), TypeError, /no column head, component; .*Attribution\(\)$/],
    [() => attributionBars(lens), TypeError, /no column head/],
    [() => patchingMap(lens), TypeError, /no column head, clean_token; give .*Sweep\(\)$/],
    [() => residualNormMap(lens), TypeError, /no column point; give that of residualNorms\(\)$/],
    [() => residualNormLines(other), TypeError, /residualNorms\(\)$/],
    [() => weightSpectra(lens), TypeError, /no column tensor; .*weightSpectrum\(\)$/],
    [() => surprisalText(lens), TypeError, /no column surprisal; give that of surprisal\(\)$/],
    [() => surprisalText(run, { sequence: 1 }), RangeError, /sequence 1: the table has 0$/],
  ];
  for (const [draw, type, message] of cases) {
    assert.throws(draw, (error) => {
      assert.ok(error instanceof type, `${error}`);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  }
});

/** Figures of attention: the numbers in them are the run's, what is pooled keeps its largest, and tables give the same figures. */
import assert from "node:assert/strict";
import {
  attentionLines,
  attentionMap,
  attentionOverview,
  attentionStatistics,
  type Figure,
  generationAttention,
  headScores,
  inductionScores,
  loadModel,
  NotCapturedError,
  readArrow,
  type Run,
  type Table,
  UnknownPointError,
  writeTable,
} from "../../../mod.ts";
import type { Heatmap, Scatter } from "../../../inspect/figures/drawing/figure.ts";
import type { PackedNumbers } from "../../../inspect/figures/drawing/numbers.ts";
import { unpacked } from "../../../inspect/figures/drawing/numbers.ts";
import { maxPool, pooledBy, pooling } from "../../../inspect/figures/drawing/pool.ts";
import { tokenHtml } from "../../../inspect/figures/drawing/tokens.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { tableRows } from "../../support/tables/table_rows.ts";
import { Folder } from "../../support/folder.ts";

const TEXT = 'Once upon a time there was a raven.\nThe raven said "a raven".';
const LAYERS = 5;
const HEADS = 8;
const CAPTURE = { capture: ["blk.*.attn_probs", "blk.*.attn_scores"] };

const model = await loadModel("tiny");
Deno.test.afterAll(() => model.dispose());
const run = await model.run(TEXT, CAPTURE);
const N = run.ids.length;
const generation = model.generate("The raven said", { ...CAPTURE, maxTokens: 9 });
for await (const _ of generation);

/** The numbers of a heatmap [rows][columns]; NaN where it is empty. */
function rowsOf({ z }: Pick<Heatmap, "z">): number[][] {
  if (!("bdata" in z)) return z.map((row) => Array.from(row, (value) => value ?? NaN));
  const [rows, columns] = z.shape!.split(", ").map(Number);
  const values = Array.from(unpacked(z));
  assert.equal(values.length, rows * columns);
  return Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns));
}

const maps = ({ data }: Figure) => data as Heatmap[];

/** Attention of a head as rows, NaN where a query does not see a key. */
function expected(of: Run, point: string, head: number): number[][] {
  return (of.tensor(point).at({ head }).toArray() as number[][]).map((row, query) =>
    row.map((value, key) => key <= query ? value : NaN)
  );
}

async function throughFile(table: Table): Promise<Table> {
  using folder = new Folder();
  await writeTable(folder.at("table.arrow"), table);
  return await readArrow(folder.at("table.arrow"));
}

Deno.test("a head's map is its tensor; what a query does not see is empty", () => {
  const figure = attentionMap(run, { layer: 3, head: 2 });
  assert.equal(figure.data.length, 1);
  assert.deepEqual(rowsOf(maps(figure)[0]), expected(run, "blk.3.attn_probs", 2));
  assert.equal(figure.caption, "tiny · layer 3 · head 2: attention");
  assert.equal(figure.layout.sliders, undefined);
  assert.deepEqual([maps(figure)[0].zmin, maps(figure)[0].zmax], [0, 1]);
  assert.deepEqual(attentionMap(run, { layer: 3, head: -6 }).toJSON(), figure.toJSON());
});

Deno.test("tokens stand on both axes, the hover names them with their positions", () => {
  const { data: [map], layout } = attentionMap(run, { layer: 3, head: 2 });
  const hovers = run.tokens().map((token, i) => `"${tokenHtml(token)}" (${i})`);
  for (const axis of [layout.xaxis!, layout.yaxis!]) {
    assert.deepEqual(axis.tickvals, [...hovers.keys()]);
    assert.deepEqual(axis.ticktext, hovers);
  }
  assert.equal((map as Heatmap).hovertemplate, "query %{y} → key %{x}: %{z:.4f}<extra></extra>");
  const labels = (side: string) =>
    layout.annotations!.filter(({ xref }) => xref === side).map(({ text }) => text);
  const tokens = run.tokens().map((token) => tokenHtml(token));
  assert.deepEqual(labels("x"), tokens);
  assert.deepEqual(labels("paper"), tokens);
  assert.ok(tokens.includes("⏎") && tokens.includes("·upon") && tokens.includes("&lt;s&gt;"));
  // Query 0 is at the top.
  assert.deepEqual(layout.yaxis!.range, [N - 0.5, -0.5]);
});

Deno.test("scores have a scale centred at zero", () => {
  const figure = attentionMap(run, { layer: 1, head: 0, kind: "attn_scores" });
  const [map] = maps(figure);
  assert.deepEqual(rowsOf(map), expected(run, "blk.1.attn_scores", 0));
  const most = Math.max(
    ...rowsOf(map).flat().filter((value) => !Number.isNaN(value)).map(Math.abs),
  );
  assert.deepEqual([map.zmin, map.zmax], [-most, most]);
  assert.match(figure.caption, /attention scores$/);
});

Deno.test("the heads of a layer stand side by side, none over another, on one scale", () => {
  const figure = attentionMap(run, { layer: 2 });
  assert.equal(figure.data.length, HEADS);
  const places = new Set<string>();
  for (const [head, map] of maps(figure).entries()) {
    assert.deepEqual(rowsOf(map), expected(run, "blk.2.attn_probs", head));
    assert.match(map.hovertemplate!, new RegExp(`^head ${head}<br>`));
    for (const x of map.x!) for (const y of map.y!) places.add(`${x} ${y}`);
    // Where the map lies, the axes have its tokens for the hover.
    const hoverAt = (axis: "xaxis" | "yaxis", place: number) =>
      figure.layout[axis]!.ticktext![figure.layout[axis]!.tickvals!.indexOf(place)];
    assert.match(hoverAt("xaxis", map.x![5])!, /\(5\)$/);
    assert.match(hoverAt("yaxis", map.y![7])!, /\(7\)$/);
  }
  assert.equal(places.size, HEADS * N * N);
  const names = figure.layout.annotations!.map(({ text }) => text).filter((t) => /^H\d/.test(t));
  assert.deepEqual(names, Array.from({ length: HEADS }, (_, head) => `H${head}`));
  assert.equal(attentionMap(run, { layer: 2, head: [1, 4] }).data.length, 2);
});

Deno.test("a slider goes through the layers", () => {
  for (const head of [undefined, 3]) {
    const figure = attentionMap(run, { head });
    const [{ steps }] = figure.layout.sliders!;
    assert.deepEqual(steps.map(({ label }) => label), ["0", "1", "2", "3", "4"]);
    for (const [layer, { method, args }] of steps.entries()) {
      assert.equal(method, "update");
      const [{ z }, title] = args as [{ z: PackedNumbers[] }, Record<string, string>];
      assert.equal(z.length, head === undefined ? HEADS : 1);
      for (const [i, each] of z.entries()) {
        const wanted = expected(run, `blk.${layer}.attn_probs`, head ?? i);
        assert.deepEqual(rowsOf({ z: each }), wanted);
      }
      assert.match(title["title.text"], new RegExp(`layer ${layer}`));
    }
    assert.deepEqual(maps(figure).map(({ z }) => z), (steps[0].args[0] as { z: unknown }).z);
  }
});

Deno.test("max pooling keeps the largest, misses nothing and says what it left out", () => {
  const random = new Random(4);
  const [rows, columns] = [23, 31];
  const matrix = Array.from({ length: rows }, (_, row) => {
    const first = random.integer(0, 4);
    const values = Float32Array.from({ length: row + 1 }, () => random.normal());
    return { first, values };
  });
  matrix[20].values[3] = NaN;
  matrix[21].values[4] = -Infinity;
  for (const size of [1, 2, 3, 5, 40]) {
    const [vertical, horizontal] = [pooledBy(rows, size), pooledBy(columns, size)];
    const { values, notFinite } = maxPool(matrix, vertical, horizontal);
    assert.equal(notFinite, 2);
    const wanted = new Float32Array(vertical.cells * horizontal.cells).fill(NaN);
    matrix.forEach(({ first, values }, row) =>
      values.forEach((value, i) => {
        const cell = Math.floor(row / size) * horizontal.cells + Math.floor((first + i) / size);
        if (Number.isFinite(value) && !(wanted[cell] > value)) wanted[cell] = value;
      })
    );
    assert.deepEqual(values, wanted);
  }
  assert.deepEqual(pooling(2000, 320), { places: 2000, size: 7, cells: 286 });
  assert.deepEqual(pooling(5, 320), { places: 5, size: 1, cells: 5 });
});

Deno.test("a long text is pooled and says so; all of it on request", async () => {
  const long = await model.run([Array.from({ length: 350 }, (_, i) => 300 + i % 91)], {
    capture: ["blk.4.attn_probs"],
  });
  const figure = attentionMap(long, { layer: 4, head: 6 });
  const pooled = rowsOf(maps(figure)[0]);
  const all = expected(long, "blk.4.attn_probs", 6);
  assert.equal(pooled.length, 175);
  for (const [row, cells] of pooled.entries()) {
    for (const [column, cell] of cells.entries()) {
      const four = [0, 1].flatMap((i) => [0, 1].map((j) => all[2 * row + i][2 * column + j]))
        .filter((value) => !Number.isNaN(value));
      assert.equal(cell, four.length === 0 ? NaN : Math.max(...four));
    }
  }
  assert.match(figure.caption, /largest of 2 × 2 weights; full: true shows each/);
  assert.match(figure.caption, /every \d+(th|rd|nd) cell is labelled/);
  assert.match(maps(figure)[0].hovertemplate!, /at most/);
  assert.match(figure.layout.xaxis!.ticktext![1], /\(2\) … .* \(3\)$/);
  assert.ok(figure.layout.annotations!.length < 2 * 175);

  const full = attentionMap(long, { layer: 4, head: 6, full: true });
  assert.deepEqual(rowsOf(maps(full)[0]), all);
  assert.doesNotMatch(full.caption, /pooled/);
});

Deno.test("a table gives the run's figure, also out of a file", async () => {
  const single = await throughFile(run.table("blk.3.attn_probs"));
  assert.deepEqual(
    attentionMap(single, { head: 2 }).toJSON(),
    attentionMap(run, { layer: 3, head: 2 }).toJSON(),
  );
  const all = await throughFile(run.tables("blk.*.attn_scores"));
  const scores = { kind: "attn_scores" } as const;
  assert.deepEqual(attentionMap(all).toJSON(), attentionMap(run, scores).toJSON());
  assert.deepEqual(attentionOverview(all).toJSON(), attentionOverview(run, scores).toJSON());
  const generated = await throughFile(generation.run.tables("blk.*.attn_probs"));
  const lines = { layer: 1, head: [0, 3] };
  assert.deepEqual(
    attentionLines(generated, lines).toJSON(),
    attentionLines(generation.run, lines).toJSON(),
  );
  assert.deepEqual(
    generationAttention(generated, lines).toJSON(),
    generationAttention(generation.run, lines).toJSON(),
  );
});

Deno.test("keys that are no rows of a table are named by the rows of their ids, else by the ids", async () => {
  const ids = run.ids;
  const last = await model.run([ids], { capture: ["blk.0.attn_probs"], positions: -1 });
  const figure = attentionMap(last.table("blk.0.attn_probs"), { head: 0 });
  const hovers = figure.layout.xaxis!.ticktext!;
  assert.equal(hovers.length, ids.length);
  assert.equal(hovers[1], `"id·${ids[1]}" (1)`);
  assert.equal(hovers.at(-1), figure.layout.yaxis!.ticktext![0]);
  assert.match(hovers.at(-1)!, new RegExp(`\\(${N - 1}\\)$`));
  // A run knows them all.
  assert.match(attentionMap(last, { head: 0 }).layout.xaxis!.ticktext![1], /Once/);
});

Deno.test("only some captured positions are the only rows; a step chooses its rows", async () => {
  const some = await model.run(TEXT, { capture: ["blk.0.attn_probs"], positions: [2, 5] });
  const rows = rowsOf(maps(attentionMap(some, { head: 1 }))[0]);
  const all = expected(run, "blk.0.attn_probs", 1);
  assert.deepEqual(rows, [2, 5].map((query) => all[query].slice(0, 6)));

  const { promptLength } = generation.run.sequences[0];
  const second = attentionMap(generation.run, { layer: 2, head: 1, step: 2 });
  assert.equal(rowsOf(maps(second)[0]).length, 1);
  assert.match(second.layout.yaxis!.ticktext![0], new RegExp(`\\(${promptLength + 1}\\)$`));
});

Deno.test("one of several sequences is chosen and named", async () => {
  const two = await model.run(["Once upon", TEXT], { capture: ["blk.0.attn_probs"] });
  const figure = attentionMap(two, { layer: 0, head: 0, sequence: -1 });
  assert.equal(figure.caption, "tiny · sequence 1 · layer 0 · head 0: attention");
  assert.deepEqual(rowsOf(maps(figure)[0]), expected(run, "blk.0.attn_probs", 0));
  assert.deepEqual(
    attentionMap(two.table("blk.0.attn_probs"), { head: 0, sequence: 1 }).toJSON(),
    figure.toJSON(),
  );
});

Deno.test("the overview has a map for each head of each layer in its place", () => {
  const figure = attentionOverview(run);
  const [map] = maps(figure);
  const all = rowsOf(map);
  const { xaxis, yaxis } = figure.layout;
  const at = (axis: typeof xaxis, pattern: RegExp) =>
    axis!.tickvals!.filter((_, i) => pattern.test(axis!.ticktext![i]));
  for (let layer = 0; layer < LAYERS; layer++) {
    for (let head = 0; head < HEADS; head++) {
      const columns = at(xaxis, new RegExp(`^head ${head},`));
      const rows = at(yaxis, new RegExp(`^layer ${layer},`));
      const found = rows.map((row) => columns.map((column) => all[row][column]));
      assert.deepEqual(found, expected(run, `blk.${layer}.attn_probs`, head));
    }
  }
  assert.equal(
    all.flat().filter((value) => !Number.isNaN(value)).length,
    LAYERS * HEADS * N * (N + 1) / 2,
  );
});

Deno.test("scores of heads are the table's", async () => {
  const statistics = attentionStatistics(run);
  const figure = headScores(run);
  assert.deepEqual(maps(figure).map(({ name }) => name), [
    "attention to the previous token",
    "attention to the first token",
    "attention to itself",
    "entropy in nats",
  ]);
  const columns = ["previous_token", "first_token", "self", "entropy"];
  for (const row of tableRows(statistics)) {
    for (const [i, column] of columns.entries()) {
      const value = rowsOf(maps(figure)[i])[Number(row.layer)][Number(row.head)];
      assert.ok(Math.abs(value - Number(row[column])) <= 5e-4 * value, column);
    }
  }
  const scores = await inductionScores(model, { length: 8, seeds: [0] });
  const induction = headScores(await throughFile(scores), { score: "induction" });
  assert.equal(induction.data.length, 1);
  assert.match(induction.caption, /^tiny: induction score, head by head/);
  assert.equal(maps(induction)[0].text![4].length, HEADS);
});

Deno.test("lines are the weights from the threshold on, and the legend says how much they are", () => {
  const figure = attentionLines(run, { layer: 3, head: [2, 5], threshold: 0.2 });
  for (const head of [2, 5]) {
    const weights = expected(run, "blk.3.attn_probs", head);
    const wanted = weights.flatMap((row, query) =>
      row.flatMap((weight, key) => weight >= 0.2 ? [{ query, key, weight }] : [])
    );
    const traces = (figure.data as Scatter[])
      .filter(({ legendgroup }) => legendgroup === `${head}`);
    const drawn = traces.filter(({ mode, hoverinfo }) => mode === "lines" && hoverinfo === "skip")
      .flatMap(({ x, y }) => {
        const [xs, ys] = [x, y] as number[][];
        return xs.flatMap((x, i) => x === 0 ? [`${ys[i]} ${ys[i + 1]}`] : []);
      });
    assert.deepEqual(drawn.sort(), wanted.map(({ query, key }) => `${query} ${key}`).sort());
    const points = traces.find(({ mode }) => mode === "markers")!;
    const texts = points.customdata as string[];
    for (const { query, key, weight } of wanted) {
      const [from, to] = [query, key].map((i) => `"${tokenHtml(run.tokens()[i])}" (${i})`);
      assert.ok(texts.includes(`head ${head}: ${from} → ${to}: ${weight.toFixed(4)}`));
    }
    const share = wanted.reduce((sum, { weight }) => sum + weight, 0) / N;
    const entry = traces.find(({ showlegend }) => showlegend)!;
    assert.equal(entry.name, `H${head}  ${Math.round(100 * share)} %`);
  }
  assert.match(figure.caption, /from a weight of 0.2 on/);
});

Deno.test("of many heads the first lines are seen; one query and no first token can be asked for", () => {
  const figure = attentionLines(run, { layer: 4 });
  const entries = (figure.data as Scatter[]).filter(({ showlegend }) => showlegend);
  assert.deepEqual(
    entries.map(({ visible }) => visible),
    Array.from({ length: HEADS }, (_, head) => head < 3 ? true : "legendonly"),
  );
  const one = attentionLines(run, { layer: 4, query: -2, firstToken: false, threshold: 0.01 });
  const ends = (one.data as Scatter[]).filter(({ hoverinfo }) => hoverinfo === "skip")
    .flatMap(({ x, y }) => (x as number[]).map((each, i) => ({ x: each, y: (y as number[])[i] })));
  assert.ok(ends.length > 0);
  assert.ok(ends.every(({ x, y }) => x === 0 ? y === N - 2 : y !== 0));
  assert.match(one.caption, new RegExp(`query ${N - 2}.*first token are left out`));
});

Deno.test("a generation's rows appear token by token", () => {
  const { ids, promptLength } = generation.run.sequences[0];
  const figure = generationAttention(generation.run, { layer: 2 });
  const all = expected(generation.run, "blk.2.attn_probs", 0).slice(promptLength - 1);
  assert.deepEqual(rowsOf(maps(figure)[0]), all);
  assert.equal(all.length, ids.length - promptLength); // the last token never ran
  const tokens = generation.run.tokens();
  const [{ steps, active }] = figure.layout.sliders!;
  assert.equal(active, all.length - 1);
  assert.deepEqual(
    steps.map(({ label }) => label),
    tokens.slice(promptLength).map((token) => token.replaceAll(" ", "·")),
  );
  assert.deepEqual(steps[2].args, [{
    "yaxis.range": [2.5, -0.5],
    "yaxis.domain": [1 - 3 / all.length, 1],
  }]);
  assert.match(
    figure.layout.yaxis!.ticktext![0],
    new RegExp(`\\(${promptLength - 1}\\), choosing .* \\(${promptLength}\\)`),
  );
  const [{ buttons }] = figure.layout.updatemenus!;
  assert.equal(buttons.length, HEADS);
  const [{ z }, title] = buttons[5].args as [{ z: PackedNumbers[] }, Record<string, string>];
  const fifth = expected(generation.run, "blk.2.attn_probs", 5).slice(promptLength - 1);
  assert.deepEqual(rowsOf({ z: z[0] }), fifth);
  assert.match(title["title.text"], /head 5/);
});

Deno.test("numbers that are not finite are left empty, and counted", async () => {
  const masked = await model.run("Once upon a time", {
    capture: ["blk.0.attn_scores"],
    edit: [["blk.0.attn_scores", ({ data }) => void data.fill(-Infinity, 0, 1)]],
  });
  const figure = attentionMap(masked, { layer: 0, head: 0 });
  assert.ok(Number.isNaN(rowsOf(maps(figure)[0])[0][0]));
  assert.ok(maps(figure)[0].zmax < 100);
  assert.match(figure.caption, /: 1 NaN or infinite numbers are left empty/);
});

Deno.test("what cannot be shown is said in one line", async () => {
  const bare = await model.run("Once upon a time");
  const table = run.table("blk.3.attn_probs");
  const other = await model.run("Once", { capture: ["blk.0.out"] });
  const cases: readonly [() => unknown, unknown, RegExp][] = [
    [() => attentionMap(bare), NotCapturedError, /capture: \["blk\.\*\.attn_probs"\]/],
    [() => attentionMap(bare, { layer: 2 }), NotCapturedError, /blk\.2\.attn_probs/],
    [() => attentionOverview(bare), NotCapturedError, /blk\.\*\.attn_probs/],
    [() => headScores(bare), NotCapturedError, /blk\.\*\.attn_probs/],
    [() => attentionMap(run, { layer: 9 }), UnknownPointError, /model of 5 layers/],
    [() => attentionMap(run, { layer: 1, head: 8 }), RangeError, /has 8 heads, 0 to 7$/],
    [() => attentionMap(run, { layer: 1, head: -9 }), RangeError, /8 heads, 0 to 7/],
    [() => attentionLines(run, { layer: 1, head: [0, 12] }), RangeError, /head 12.*8 heads/],
    [() => attentionLines(run, { layer: 1, query: 99 }), RangeError, /query 99/],
    [() => attentionMap(run, { sequence: 1 }), RangeError, /sequence 1: the run has 1/],
    [() => attentionMap(run, { step: 3 }), RangeError, /step 3/],
    [() => attentionMap(table, { layer: 4 }), RangeError, /layer 4: the table has layer 3 only/],
    [() => attentionMap(table, { sequence: 2 }), RangeError, /sequence 2/],
    [() => attentionMap(table, { kind: "attn_scores" }), TypeError, /attn_probs; give one of/],
    [() => attentionMap(other.table("blk.0.out")), TypeError, /a table of blk\.0\.out/],
    [() => generationAttention(run, { layer: 0 }), RangeError, /take a generation's run/],
    [() => headScores(run.tokenTable()), TypeError, /attentionStatistics or inductionScores/],
    [() => headScores(run, { score: "induction" }), RangeError, /the table has previous_token/],
  ];
  for (const [draw, type, message] of cases) {
    assert.throws(draw, (error) => {
      assert.ok(error instanceof (type as ErrorConstructor), `${error}`);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  }
});

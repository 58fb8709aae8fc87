/** Tables of captured points: rows, columns, values without a copy, long forms, previews. */
import assert from "node:assert/strict";
import type { Piece } from "../../../inspect/run/capture.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { glob } from "../../../inspect/points/glob.ts";
import {
  bool,
  type Columns,
  float32,
  float64,
  int32,
  int64,
  lists,
  LongTableError,
  PieceError,
  pointTable,
  rowsTable,
  type Table,
  tableColumns,
  tableVectors,
  tensorRowsTable,
  utf8,
  vectors,
} from "../../../inspect/tables/mod.ts";
import { META, piece, POINTS, TOKEN } from "../../support/tables/table_samples.ts";

/** Would reach the terminal. */
const ESCAPE = String.fromCharCode(27);

const { out, rms, q, cache, probs, logits } = POINTS;

/** A table's columns as plain arrays. */
function plain(table: Table) {
  return Object.fromEntries(
    Object.entries(tableColumns(table)).map(([name, values]) => [
      name,
      Array.from(
        values as ArrayLike<unknown>,
        (value) => value instanceof Float32Array ? [...value] : value,
      ),
    ]),
  );
}

Deno.test("tables: one row per vector, index columns first", () => {
  const table = pointTable(
    [q],
    [piece(q, [2, 2, 4], { sequence: 1, step: 5, start: 7 })],
    META,
    TOKEN,
  );
  assert.deepEqual(plain(table), {
    sequence: [1, 1, 1, 1],
    step: [5, 5, 5, 5],
    layer: [3, 3, 3, 3],
    head: [0, 1, 0, 1],
    position: [7, 7, 8, 8],
    token_id: [107, 107, 108, 108],
    token: [" t1.7", " t1.7", " t1.8", " t1.8"],
    value: [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]],
  });
  assert.deepEqual(Object.keys(plain(table)), table.schema.names);
});

Deno.test("tables: a column for each axis but the last, a layer where there is one", () => {
  const names = (point: typeof q, shape: number[]) =>
    pointTable([point], [piece(point, shape)], META, TOKEN).schema.names.join(" ");
  assert.equal(names(out, [2, 6]), "sequence step layer position token_id token value");
  assert.equal(names(logits, [2, 5]), "sequence step position token_id token value");
  assert.equal(
    names(cache, [2, 1, 4]),
    "sequence step layer kv_head slot position token_id token value",
  );
  assert.equal(
    names(probs, [2, 2, 2]),
    "sequence step layer head query token_id token key_start value",
  );
});

Deno.test("tables: rows of the cache are slots, of kept positions those", () => {
  const table = pointTable([cache], [piece(cache, [2, 1, 4], { positions: [3, 9] })], META, TOKEN);
  const { slot, position, kv_head, token_id } = plain(table);
  assert.deepEqual([slot, position, kv_head, token_id], [[3, 9], [3, 9], [0, 0], [103, 109]]);
});

Deno.test("tables: a root mean square is a vector of one number", () => {
  const table = pointTable([rms], [piece(rms, [3, 1])], META, TOKEN);
  assert.deepEqual(plain(table).value, [[0], [1], [2]]);
  assert.equal(table.preview().columns.at(-1)!.type, "float32[1]");
});

Deno.test("tables: attention has the visible keys only, in prompts and in generation", () => {
  const prompt = piece(probs, [2, 3, 3]);
  const step = piece(probs, [2, 1, 4], { step: 1, start: 3, first: 100 });
  const table = pointTable([probs], [prompt, step], META, TOKEN);
  const { head, query, key_start, token, value } = plain(table);
  assert.deepEqual(head, [0, 0, 0, 1, 1, 1, 0, 1]);
  assert.deepEqual(query, [0, 1, 2, 0, 1, 2, 3, 3]);
  assert.deepEqual(key_start, new Array(8).fill(0));
  assert.deepEqual(token!.slice(0, 3), [" t0.0", " t0.1", " t0.2"]);
  assert.deepEqual(value, [
    [0],
    [3, 4],
    [6, 7, 8],
    [9],
    [12, 13],
    [15, 16, 17],
    [100, 101, 102, 103],
    [104, 105, 106, 107],
  ]);
});

Deno.test("tables: kept queries keep their own keys", () => {
  const table = pointTable([probs], [piece(probs, [2, 2, 5], { positions: [1, 4] })], META, TOKEN);
  assert.deepEqual(plain(table).value, [
    [0, 1],
    [5, 6, 7, 8, 9],
    [10, 11],
    [15, 16, 17, 18, 19],
  ]);
});

Deno.test("tables: values lie over the captured buffers", () => {
  const cases: [typeof q, Piece][] = [
    [out, piece(out, [3, 6])],
    [q, piece(q, [3, 2, 4])],
    [cache, piece(cache, [3, 1, 4])],
    [rms, piece(rms, [3, 1])],
    [probs, piece(probs, [2, 1, 4], { start: 3 })], // one query that sees everything
  ];
  for (const [point, captured] of cases) {
    const table = pointTable([point], [captured], META, TOKEN);
    const rows = tableVectors(table);
    const width = captured.shape.at(-1)!;
    assert.equal(rows.length, captured.data.length / width);
    rows.forEach((row, i) => {
      assert.equal(row.buffer, captured.data.buffer, point.name);
      assert.equal(row.byteOffset, 4 * i * width);
      assert.equal(row.length, width);
    });
    for (const [i, row] of tableVectors(table.slice(1).slice(0, 1)).entries()) {
      assert.equal(row.buffer, captured.data.buffer);
      assert.deepEqual(row, rows[i + 1]);
    }
  }
});

Deno.test("tables: a buffer may be part of a larger one", () => {
  const large = new Float32Array(100).map((_, i) => i);
  const data = large.subarray(40, 52);
  const table = pointTable([out], [{ ...piece(out, [2, 6]), data }], META, TOKEN);
  assert.deepEqual(tableVectors(table).map((row) => row[0]), [40, 46]);
  assert.equal(tableVectors(table)[0].buffer, large.buffer);
});

Deno.test("tables: ragged batches and generation steps have no padding", () => {
  const pieces = [
    piece(out, [3, 6], { first: 0 }),
    piece(out, [1, 6], { sequence: 1, first: 100 }),
    piece(out, [1, 6], { step: 1, start: 3, first: 200 }),
    piece(out, [1, 6], { sequence: 1, step: 1, start: 1, first: 300 }),
  ];
  const { sequence, step, position, value, token } = plain(pointTable([out], pieces, META, TOKEN));
  assert.deepEqual(sequence, [0, 0, 0, 1, 0, 1]);
  assert.deepEqual(step, [0, 0, 0, 0, 1, 1]);
  assert.deepEqual(position, [0, 1, 2, 0, 3, 1]);
  assert.deepEqual(value!.map((row) => (row as number[])[0]), [0, 6, 12, 100, 200, 300]);
  assert.deepEqual(token!.at(-1), " t1.1");
});

Deno.test("tables: layers of one kind stack, others do not", () => {
  const next = { ...out, name: "blk.4.out", layer: 4 };
  const pieces = [piece(out, [2, 6]), piece(next, [2, 6], { first: 50 })];
  const table = pointTable([out, next], pieces, META, TOKEN);
  assert.deepEqual(plain(table).layer, [3, 3, 4, 4]);
  assert.equal(table.metadata.get("point"), "blk.*.out");
  assert.equal(table.metadata.get("layers"), "[3,4]");
  assert.throws(() => pointTable([out, q], [], META, TOKEN), PieceError);
  assert.throws(() => pointTable([out], pieces, META, TOKEN), /blk\.4\.out/);
  const wider: typeof out = { ...next, shape: ["T", 8] };
  assert.throws(() => pointTable([out, wider], [], META, TOKEN), /do not stack/);
});

Deno.test("tables: pieces that cannot be what they say are refused", () => {
  const good = piece(q, [2, 2, 4]);
  const wrong: [Partial<Piece>, RegExp][] = [
    [{ data: good.data.subarray(1) }, /15 numbers/],
    [{ data: new Float32Array(32) }, /32 numbers/],
    [{ shape: [2, 8] }, /shape is \[2,8\]/],
    [{ shape: [2, 4, 2] }, /that of the point \[T,2,4\]/],
    [{ shape: [1.5, 2, 4], data: new Float32Array(12) }, /shape/],
    [{ shape: [-2, 2, 4] }, /shape/],
    [{ positions: [1] }, /1 positions for 2 rows/],
    [{ positions: [-1, 2] }, /positions are -1,2/],
    [{ sequence: -1 }, /sequence is -1/],
    [{ step: 0.5 }, /step is 0.5/],
    [{ start: NaN }, /start is NaN/],
    [{ point: "blk.9.q" }, /blk\.9\.q/],
  ];
  for (const [change, message] of wrong) {
    assert.throws(
      () => pointTable([q], [{ ...good, ...change }], META, TOKEN),
      (error: unknown) => error instanceof PieceError && message.test(error.message),
      JSON.stringify(change),
    );
  }
  // A query that would see more keys than there are.
  const blind = piece(probs, [2, 2, 2], { start: 1 });
  assert.throws(() => pointTable([probs], [blind], META, TOKEN), /key 2 of 2/);
});

Deno.test("tables: the schema's metadata tells of the run", () => {
  const { metadata } = pointTable([q], [piece(q, [1, 2, 4])], META, TOKEN);
  assert.deepEqual(Object.fromEntries(metadata), {
    point: "blk.3.q",
    meaning: "meaning of blk.3.q",
    layers: "[3]",
    axes: '["position","head","feature"]',
    shape: '["T",2,4]',
    dtype: "f32",
    row_order: "adjacent",
    model: "sample",
    sha256: "ab".repeat(32),
    prompt: '["The cat <sat>"]',
    ids: "[[7,8,9,10]]",
    prompt_lengths: "[3]",
    device: "CPU backend",
    version: "1.2.3",
  });
  const alias = { ...META, rowOrder: "half" as const, alias: "blocks.3.attn.hook_q" };
  const asked = pointTable([q], [piece(q, [1, 2, 4])], alias, TOKEN).metadata;
  assert.equal(asked.get("row_order"), "half");
  assert.equal(asked.get("alias"), "blocks.3.attn.hook_q");
});

Deno.test("tables: a token that is not known is missing, not empty", () => {
  const table = pointTable(
    [out],
    [piece(out, [3, 6])],
    META,
    (_, position) => position === 1 ? undefined : { id: position, text: position === 0 ? "" : "b" },
  );
  const { token_id, token } = plain(table);
  assert.deepEqual(token_id, [0, null, 2]);
  assert.deepEqual(token, ["", null, "b"]);
});

Deno.test("tables: no pieces, no rows", () => {
  const table = pointTable([q], [], META, TOKEN);
  assert.equal(table.numRows, 0);
  assert.deepEqual(tableVectors(table), []);
  assert.match(table.preview().facts[0], /^0 rows$/);
});

Deno.test("rows: columns of all types come back as they went in", () => {
  const columns: Columns = {
    flag: bool([true, null, false]),
    small: int32([1, -(2 ** 31), null]),
    large: int64([2 ** 53 - 1, -1, 2n ** 62n]),
    single: float32([0.1, NaN, -Infinity]),
    double: float64([0.1, null, 3]),
    text: utf8(["ä😀", "", null]),
    words: lists("utf8", [["a", "b"], [], [" c"]]),
    numbers: lists("int32", [[1], [2, 3], []]),
    vector: vectors(Float32Array.of(1, 2, 3, 4, 5, 6), 2),
  };
  assert.deepEqual(plain(rowsTable("all", columns)), {
    flag: [true, null, false],
    small: [1, -(2 ** 31), null],
    large: [2n ** 53n - 1n, -1n, 2n ** 62n],
    single: [Math.fround(0.1), NaN, -Infinity],
    double: [0.1, null, 3],
    text: ["ä😀", "", null],
    words: [["a", "b"], [], [" c"]],
    numbers: [[1], [2, 3], []],
    vector: [[1, 2], [3, 4], [5, 6]],
  });
});

Deno.test("rows: typed arrays are taken without a copy", () => {
  const values = Int32Array.of(4, 5);
  const { n } = tableColumns(rowsTable("t", { n: int32(values) }));
  assert.equal((n as Int32Array).buffer, values.buffer);
});

Deno.test("rows: values that do not fit are refused", () => {
  const wrong: [Columns, RegExp][] = [
    [{ a: int32([1, 2]), b: int32([1]) }, /"b": 1 rows where a has 2/],
    [{ a: int32([1.5]) }, /row 0 is 1.5, which does not fit Int32/],
    [{ a: int32([2 ** 31]) }, /2147483648/],
    [{ a: int64([0.5]) }, /0.5/],
    [{ a: { ...utf8(["x", undefined]), nullable: false } }, /row 1 has no value/],
    [{ a: vectors(new Float32Array(5), 2) }, /2.5 rows/],
  ];
  for (const [columns, message] of wrong) assert.throws(() => rowsTable("t", columns), message);
});

Deno.test("weights: rows count from the first that was read", () => {
  const data = Float32Array.of(1, 2, 3, 4, 5, 6);
  const weight = { name: "blk.0.attn_q.weight", type: "Q4_1", shape: [100, 3], firstRow: 40 };
  const table = tensorRowsTable(weight, data, { model: "sample" });
  assert.deepEqual(plain(table), { row: [40, 41], value: [[1, 2, 3], [4, 5, 6]] });
  assert.equal(tableVectors(table)[1].buffer, data.buffer);
  assert.equal(table.metadata.get("tensor"), "blk.0.attn_q.weight");
  assert.throws(() => tensorRowsTable(weight, new Float32Array(4)), /rows/);
});

Deno.test("long form: a row per number, with its place", () => {
  const table = pointTable([q], [piece(q, [2, 2, 4])], META, TOKEN).long({
    head: 1,
    feature: [0, -1],
  });
  assert.deepEqual(plain(table), {
    sequence: [0, 0, 0, 0],
    step: [0, 0, 0, 0],
    layer: [3, 3, 3, 3],
    head: [1, 1, 1, 1],
    position: [0, 0, 1, 1],
    token_id: [100, 100, 101, 101],
    token: [" t0.0", " t0.0", " t0.1", " t0.1"],
    feature: [0, 3, 0, 3],
    value: [4, 7, 12, 15],
  });
});

Deno.test("long form: attention's places are keys; negative positions count from the prompt's end", () => {
  const table = pointTable([probs], [piece(probs, [2, 4, 4])], META, TOKEN);
  const last = plain(table.long({ query: -1, head: 0 })); // the prompt has 3 tokens
  assert.deepEqual(last.query, [2, 2, 2]);
  assert.deepEqual(last.key, [0, 1, 2]);
  assert.deepEqual(last.value, [8, 9, 10]);
  assert.deepEqual(plain(table.long({ head: -1, key: 3 })).value, [31]);
  assert.deepEqual(plain(table.long({ token: [" t0.1"], head: 0 })).value, [4, 5]);
  assert.equal(table.long().numRows, 2 * (1 + 2 + 3 + 4));
});

Deno.test("long form: refuses what is not there, and too much", () => {
  const table = pointTable([q], [piece(q, [2, 2, 4])], META, TOKEN);
  assert.throws(() => table.long({ haed: 1 }), /"haed".*sequence, step, layer, head, .*feature/);
  assert.throws(
    () => table.long({}, { maxRows: 15 }),
    (error: unknown) => error instanceof LongTableError && error.rows === 16,
  );
  assert.equal(table.long({}, { maxRows: 16 }).numRows, 16);
  assert.throws(() => rowsTable("t", { a: int32([1]) }).long(), /no vectors/);
});

Deno.test("preview: statistics leave NaN out and count it", () => {
  const data = Float32Array.of(3, -4, NaN, 0, 0, 0);
  const { statistics } = pointTable([out], [{ ...piece(out, [1, 6]), data }], META, TOKEN)
    .preview();
  assert.deepEqual(statistics, { count: 6, min: -4, max: 3, mean: -0.2, norm: 5, nan: 1 });
});

Deno.test("preview: Jupyter gets escaped HTML and a text, a terminal the text", () => {
  const point = { ...out, meaning: 'a < b & "c"' };
  const evil = () => ({ id: 1, text: `<script>alert('x')</script>\n${ESCAPE}[2J` });
  const table = pointTable([point], [piece(point, [20, 6])], META, evil);
  const display = Reflect.get(table, Symbol.for("Jupyter.display")).call(table);
  assert.deepEqual(Object.keys(display), ["text/html", "text/plain"]);
  const html: string = display["text/html"];
  assert.doesNotMatch(html, /<script|https?:|<style|\n/);
  assert.match(html, /&#60;script&#62;/);
  assert.match(html, /a &#60; b &#38; &#34;c&#34;/);
  assert.match(html, /12 more rows/);
  assert.equal(html.match(/<tr/g)!.length, 1 + 8);
  assert.ok(html.length < 30_000, `${html.length}`);
  const text = Deno.inspect(table);
  assert.equal(text, display["text/plain"]);
  assert.match(text, /^blk\.3\.out: a < b/);
  assert.match(text, /min 0 · max 119 · mean 59\.5/);
  assert.ok(!text.includes(ESCAPE) && !html.includes(ESCAPE));
  assert.equal(text.split("\n").length, 3 + 1 + 8 + 1);
  assert.match(Deno.inspect(table.slice(2, 4)), /2 rows/);
  assert.match(Deno.inspect(table.select(["token"])), /token/);
});

Deno.test("preview: NaN and infinities draw nothing wrong", () => {
  const data = Float32Array.of(NaN, Infinity, -Infinity, 1, -1, 0);
  const table = pointTable([out], [{ ...piece(out, [1, 6]), data }], META, TOKEN);
  const html: string = Reflect.get(table, Symbol.for("Jupyter.display")).call(table)["text/html"];
  assert.doesNotMatch(html, /[MHvh]-?(NaN|Infinity)/);
  assert.match(html, /color:#d33/);
});

Deno.test("tables: every point of a real run, in a prompt and in generation", async () => {
  using model = await loadModel("tiny", { backend: "cpu" });
  const capture = [
    "blk.{0,4}.*",
    "blk.1.head_result",
    "token_embd",
    "output_norm*",
    "logits",
    "probs",
  ];
  const run = await model.run(["Once upon a time", "The"], { capture });
  const generation = model.generate("Once upon", { capture, maxTokens: 4, ignoreEos: true });
  for await (const _ of generation);
  for (const made of [run, generation.run]) {
    assert.ok(made.captured.length > 40);
    for (const name of made.captured) {
      const table = made.table(name);
      const { sequence, step, value, position, query, token, ...columns } = tableColumns(table);
      const places = position ?? query;
      assert.equal(table.metadata.get("point"), name);
      const rows = tableVectors(table);
      const pieces = made.pieces(name);
      assert.equal(value.length, rows.length);
      assert.equal(new Set(Array.from(sequence as Int32Array)).size, made.sequences.length);
      assert.equal(Math.max(...(step as Int32Array)), Math.max(...pieces.map(({ step }) => step)));
      rows.forEach((_, row) => {
        const spoken = made.tokens((sequence as Int32Array)[row]);
        assert.equal(token[row], spoken[places[row] as number]);
      });
      const attention = columns.key_start !== undefined;
      if (!attention) {
        const all = pieces.flatMap(({ data }) => [...data]);
        assert.deepEqual(rows.flatMap((row) => [...row]), all, name);
        assert.ok(rows.every((row) => pieces.some(({ data }) => data.buffer === row.buffer)));
        continue;
      }
      rows.forEach((row, i) => {
        assert.equal(row.length, places[i] as number + 1);
        const dense = made.tensor(name, { sequence: (sequence as Int32Array)[i] })
          .at({ head: columns.head[i] as number, query: places[i] as number }).toFloat32Array();
        assert.deepEqual([...dense.subarray(0, row.length)], [...row]);
        if (glob("blk.*.attn_probs")(name)) {
          assert.ok(Math.abs(row.reduce((a, b) => a + b, 0) - 1) < 1e-5);
        }
      });
    }
    assert.equal(made.tables("blk.*.out").metadata.get("layers"), "[0,4]");
  }
});

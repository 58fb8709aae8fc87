/** What pyarrow, DuckDB and polars see in the files: vectors, tokens, metadata; also in a stream that was cut off. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Piece } from "../../../inspect/run/capture.ts";
import type { Point } from "../../../inspect/points/points.ts";
import {
  int32,
  int64,
  lists,
  pointTable,
  rowsTable,
  tableColumns,
  tableVectors,
  tensorRowsTable,
  utf8,
} from "../../../inspect/tables/mod.ts";
import { writeTable } from "../../../inspect/tables/files.ts";
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { notebookPython, run } from "../../support/engines/python_venv.ts";
import { META, piece, POINTS, TOKEN } from "../../support/tables/table_samples.ts";
import { Folder } from "../../support/folder.ts";

const venv = await notebookPython();

const { out, rms, q, cache, probs } = POINTS;
const SCRIPT = fileURLToPath(new URL("../../support/processes/read_tables.py", import.meta.url));

/** What read_tables.py tells of a file. */
interface Seen {
  readonly error: string | null;
  readonly arrow: {
    readonly rows: number;
    readonly names: string[];
    readonly types: string[];
    readonly metadata: Record<string, string>;
    readonly columns: Record<string, unknown[]>;
    readonly value?: (number | string)[][];
    readonly tensor?: { shape: number[]; names: string[]; zero_copy: boolean };
  };
  readonly duckdb: { type: string; token: string; rows: number; sum: number };
  readonly polars: { type: string; rows: number; sum: number };
}

function inPython(
  name: string,
  fn: (folder: string, see: () => Promise<Record<string, Seen>>) => Promise<void>,
) {
  Deno.test({
    name,
    ignore: venv === undefined,
    async fn() {
      using folder = new Folder();
      const { path } = folder;
      await fn(path, async () => JSON.parse(await run(venv!.python, [SCRIPT, path])));
    },
  });
}

/** Ragged batches and generation steps of each kind of point. */
const SAMPLES: [Point, Piece[]][] = [
  [out, [
    piece(out, [3, 6]),
    piece(out, [1, 6], { sequence: 1, first: 50 }),
    piece(out, [1, 6], { step: 1, start: 3, first: -7 }),
  ]],
  [rms, [piece(rms, [3, 1])]],
  [q, [piece(q, [3, 2, 4]), piece(q, [1, 2, 4], { step: 1, start: 3 })]],
  [cache, [piece(cache, [3, 1, 4])]],
  [probs, [piece(probs, [2, 3, 3]), piece(probs, [2, 1, 4], { step: 1, start: 3 })]],
];

for (const format of ["arrow", "parquet"] as const) {
  inPython(`python: every kind of point, in ${format} files`, async (folder, see) => {
    const tables = SAMPLES.map(([point, pieces]) => pointTable([point], pieces, META, TOKEN));
    const stack = { ...q, name: "blk.4.q", layer: 4 };
    const both = [piece(q, [2, 2, 4]), piece(stack, [2, 2, 4], { first: 16 })];
    tables.push(pointTable([q, stack], both, META, TOKEN));
    for (const [i, table] of tables.entries()) {
      await writeTable(join(folder, `${i}.${format}`), table);
    }
    const seen = await see();
    for (const [i, table] of tables.entries()) {
      const { arrow, duckdb, polars } = seen[`${i}.${format}`];
      const name = table.metadata.get("point");
      const { value: _, ...columns } = tableColumns(table);
      const values = tableVectors(table).map((row) => [...row]);
      assert.equal(arrow.rows, table.numRows);
      assert.deepEqual(arrow.names, table.schema.names);
      assert.deepEqual(arrow.metadata, Object.fromEntries(table.metadata), name);
      assert.deepEqual(
        arrow.columns,
        Object.fromEntries(
          Object.entries(columns).map(([key, of]) => [key, Array.from(of as ArrayLike<unknown>)]),
        ),
      );
      assert.equal(arrow.types[arrow.names.indexOf("token")], "string");
      assert.deepEqual(arrow.value, values, name);
      const sum = values.flat().reduce((a, b) => a + b, 0);
      const isList = table.metadata.get("axes")!.includes("key");
      const width = values[0].length;
      assert.deepEqual(
        arrow.tensor,
        isList ? undefined : { shape: [width], names: ["feature"], zero_copy: true },
      );
      // DuckDB's fixed arrays lose their length in Parquet, where they are lists.
      const type = isList || format === "parquet" ? "FLOAT[]" : `FLOAT[${width}]`;
      assert.deepEqual(duckdb, { type, token: "VARCHAR", rows: table.numRows, sum });
      assert.equal(polars.rows, table.numRows);
      assert.equal(polars.sum, sum);
      assert.match(polars.type, isList ? /^List\(Float32\)$/ : new RegExp(`Array.*${width}`));
    }
  });
}

inPython("python: plain tables and weights", async (folder, see) => {
  await writeTable(
    join(folder, "plain.arrow"),
    rowsTable("plain", {
      id: int32([1, null]),
      bytes: int64([2 ** 40, 2n ** 62n]),
      token: utf8([" ä😀", null]),
      aliases: lists("utf8", [["a", "b"], []]),
    }, META),
  );
  const weight = { name: "blk.0.attn_q.weight", type: "Q4_1", shape: [9, 3], firstRow: 4 };
  await writeTable(
    join(folder, "weight.arrow"),
    tensorRowsTable(weight, Float32Array.of(1, 2, 3, NaN, -Infinity, 6)),
  );
  const seen = await see();
  assert.deepEqual(seen["plain.arrow"].arrow.types, [
    "int32",
    "int64",
    "string",
    "list<item: string>",
  ]);
  assert.deepEqual(seen["plain.arrow"].arrow.columns, {
    id: [1, null],
    bytes: [2 ** 40, 2 ** 62],
    token: [" ä😀", null],
    aliases: [["a", "b"], []],
  });
  const { arrow } = seen["weight.arrow"];
  assert.deepEqual(arrow.columns.row, [4, 5]);
  assert.deepEqual(arrow.value, [[1, 2, 3], ["nan", "-inf", 6]]);
  assert.deepEqual(arrow.tensor, { shape: [3], names: ["column"], zero_copy: true });
});

inPython(
  "python: streams, whole and cut off, and what a sink makes of them",
  async (folder, see) => {
    const sink = new ArrowSink(folder);
    sink.begin({ meta: () => META, token: TOKEN });
    for (let step = 0; step < 3; step++) {
      await sink.write(out, piece(out, [2, 6], { step, start: 2 * step, first: 12 * step }));
      await sink.write(probs, piece(probs, [2, 1, step + 1], { step, start: step }));
    }
    const path = join(folder, "blk.3.out.arrow.stream");
    const bytes = Deno.readFileSync(path);
    Deno.writeFileSync(join(folder, "cut.stream"), bytes.subarray(0, bytes.length - 5));
    const during = await see();
    // Without an end mark: a reader that waits for more gets all that was written.
    assert.equal(during["blk.3.out.arrow.stream"].arrow.rows, 6);
    assert.equal(during["cut.stream"].arrow.rows, 4);
    assert.deepEqual(during["cut.stream"].arrow.columns.position, [0, 1, 2, 3]);
    assert.deepEqual(during["cut.stream"].arrow.value!.map((row) => row[0]), [0, 6, 12, 18]);
    assert.deepEqual(during["cut.stream"].arrow.tensor?.shape, [6]);
    await sink.finish();
    const after = await see();
    assert.equal(after["blk.3.out.arrow"].polars.rows, 6);
    assert.equal(after["blk.3.out.arrow"].duckdb.sum, 36 * 35 / 2);
    assert.deepEqual(after["blk.3.attn_probs.arrow"].arrow.value!.map(({ length }) => length), [
      1,
      1,
      2,
      2,
      3,
      3,
    ]);
  },
);

inPython("python: DuckDB reads vectors out of CSV files", async (folder, see) => {
  const table = pointTable([probs], [piece(probs, [2, 3, 3])], META, TOKEN);
  await writeTable(join(folder, "t.csv"), table);
  const sum = tableVectors(table).flatMap((row) => [...row]).reduce((a, b) => a + b, 0);
  assert.deepEqual((await see())["t.csv"].duckdb, [12 / 2, sum, " t0.0"]);
});

/** Tables in files: formats, streams that are cut off anywhere, sinks that fill the disk, are killed, or run for long. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  float32,
  float64,
  int32,
  lists,
  pointTable,
  rowsTable,
  type Table,
  tableColumns,
  tableVectors,
  utf8,
} from "../../../inspect/tables/mod.ts";
import { convertStream, readArrow, writeTable } from "../../../inspect/tables/files.ts";
import { OutputError } from "../../../inspect/tables/output.ts";
import type { SinkSource } from "../../../inspect/run/capture.ts";
import { ArrowSink, type SinkOptions } from "../../../inspect/tables/sink.ts";
import { ArrowFileError, streamLayout } from "../../../inspect/tables/stream_layout.ts";
import { Folder } from "../../support/folder.ts";
import { META, piece, POINTS, TOKEN } from "../../support/tables/table_samples.ts";

const { out, q, probs } = POINTS;
const SOURCE = { meta: () => META, token: TOKEN };

/** A sink that has been told of its run. */
function begun(sink: ArrowSink, source: SinkSource = SOURCE): ArrowSink {
  sink.begin(source);
  return sink;
}

function assertSame(a: Table, b: Table): void {
  assert.deepEqual(a.schema.names, b.schema.names);
  assert.deepEqual(new Map(a.metadata), new Map(b.metadata));
  const [x, y] = [tableColumns(a), tableColumns(b)];
  for (const name of a.schema.names as string[]) {
    assert.deepEqual(
      Array.from(x[name] as ArrayLike<unknown>),
      Array.from(y[name] as ArrayLike<unknown>),
    );
  }
}

Deno.test("arrow files: a table comes back as it was, its tag and metadata with it", async () => {
  using folder = new Folder();
  const table = pointTable(
    [q],
    [piece(q, [3, 2, 4]), piece(q, [1, 2, 4], { step: 1, start: 3 })],
    META,
    TOKEN,
  );
  const written = await writeTable(folder.at("q.arrow"), table);
  assert.deepEqual(written, {
    path: folder.at("q.arrow"),
    rows: 8,
    bytes: Deno.statSync(folder.at("q.arrow")).size,
  });
  const read = await readArrow(folder.at("q.arrow"));
  assertSame(read, table);
  assert.equal(read.batches.length, 2);
  const tag = read.schema.fields.at(-1)!.metadata;
  assert.equal(tag.get("ARROW:extension:name"), "arrow.fixed_shape_tensor");
  assert.deepEqual(JSON.parse(tag.get("ARROW:extension:metadata")!), {
    shape: [4],
    dim_names: ["feature"],
  });
  // Views of the bytes that were read, all in one buffer.
  assert.equal(new Set(tableVectors(read).map(({ buffer }) => buffer)).size, 1);
  assert.deepEqual(folder.names(), ["q.arrow"]);
});

Deno.test("arrow files: odd numbers of rows, missing values, empty tables", async () => {
  using folder = new Folder();
  const tables = [
    rowsTable("odd", {
      id: int32([1, null, 3]),
      token: utf8(["a", null, "😀"]),
      loss: float64([0.5, NaN, 1]),
      words: lists("utf8", [["a"], [], ["b", "c"]]),
    }),
    pointTable([probs], [piece(probs, [2, 3, 3])], META, TOKEN),
    pointTable([out], [], META, TOKEN),
  ];
  for (const table of tables) {
    await writeTable(folder.at("t.arrow"), table);
    assertSame(await readArrow(folder.at("t.arrow")), table);
  }
});

Deno.test("arrow files: the ending says the format, or an option does", async () => {
  using folder = new Folder();
  const table = rowsTable("t", { a: int32([1]) });
  await assert.rejects(writeTable(folder.at("t.txt"), table), /\.arrow, \.parquet or \.csv/);
  await writeTable(folder.at("t.txt"), table, { format: "csv" });
  assert.equal(Deno.readTextFileSync(folder.at("t.txt")), "a\r\n1\r\n");
});

Deno.test("csv: vectors in brackets, quotes doubled, floats with no more digits than they need", async () => {
  using folder = new Folder();
  const values = Float32Array.of(0.1, 1 / 3, 1e-45, 3.4028235e38, NaN, -Infinity, 16777216, -0);
  await writeTable(
    folder.at("t.csv"),
    rowsTable("t", {
      token: utf8([' "a",\n', null]),
      pair: { type: { vector: 4, axis: "feature" }, values },
      one: float32([0.1, 2]),
      two: float64([0.1, 2]),
    }),
  );
  const text = Deno.readTextFileSync(folder.at("t.csv"));
  assert.equal(
    text,
    'token,pair,one,two\r\n" ""a"",\n","[0.1, 0.33333334, 1.4013e-45, 3.4028235e+38]",0.1,0.1\r\n' +
      ',"[NaN, -Infinity, 16777216, 0]",2,2\r\n',
  );
  for (let i = 0; i < 2000; i++) {
    const value = new Float32Array(Uint32Array.of(Math.random() * 2 ** 32).buffer)[0];
    if (!Number.isFinite(value)) continue;
    await Promise.resolve();
    const { csvRows } = await import("../../../inspect/tables/csv.ts");
    assert.equal(Math.fround(Number(csvRows([Float32Array.of(value)], 1).trim())), value);
  }
});

Deno.test("streams: cut off anywhere, the whole batches are there", async () => {
  using folder = new Folder();
  const sink = begun(new ArrowSink(folder.path));
  const point = { ...out, shape: ["T" as const, 3] };
  const sizes: number[] = [];
  const path = folder.at("blk.3.out.arrow.stream");
  for (let i = 0; i < 4; i++) {
    await sink.write(point, piece(point, [2, 3], { step: i, start: 2 * i, first: 6 * i }));
    sizes.push(Deno.statSync(path).size);
  }
  await sink.close();
  const whole = Deno.readFileSync(path);
  assert.equal(whole.length, sizes[3] + 8);
  assert.equal((await readArrow(path)).numRows, 8);
  const cut = folder.at("cut");
  const header = sizes[0] - (sizes[1] - sizes[0]);
  for (let length = 0; length < whole.length; length += length > header - 9 ? 1 : 97) {
    Deno.writeFileSync(cut, whole.subarray(0, length));
    if (length < header) {
      await assert.rejects(readArrow(cut, { partial: true }), /no Arrow/, `${length}`);
      continue;
    }
    const rows = 2 * sizes.filter((size) => size <= length).length;
    await assert.rejects(readArrow(cut), new RegExp(`cut off after ${rows} rows`));
    const table = await readArrow(cut, { partial: true });
    assert.deepEqual(
      tableVectors(table).map((row) => row[0]),
      [0, 3, 6, 9, 12, 15, 18, 21].slice(0, rows),
    );
  }
  // What is left can become a file.
  Deno.writeFileSync(cut, whole.subarray(0, sizes[2] - 1));
  assert.equal((await convertStream(cut, folder.at("kept.arrow"))).rows, 4);
  assert.equal((await readArrow(folder.at("kept.arrow"))).numRows, 4);
});

Deno.test("arrow files: others and damaged ones are errors that name the file", async () => {
  using folder = new Folder();
  const path = folder.at("x.arrow");
  await writeTable(path, pointTable([out], [piece(out, [2, 6])], META, TOKEN));
  const bytes = Deno.readFileSync(path);
  const wrong: [Uint8Array, RegExp][] = [
    [new Uint8Array(0), /no Arrow file/],
    [
      new TextEncoder().encode("GGUF and so on and so on"),
      /no message of an Arrow stream at byte 0/,
    ],
    [bytes.subarray(0, bytes.length - 20), /damaged or unfinished/],
    [bytes.subarray(0, 40), /damaged or unfinished/],
    [Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127, 0, 0), /header of 2147483647 bytes/],
    [Uint8Array.of(255, 255, 255, 255, 8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9), /byte 0/],
  ];
  for (const [content, message] of wrong) {
    Deno.writeFileSync(path, content);
    await assert.rejects(
      readArrow(path),
      (error: unknown) =>
        error instanceof ArrowFileError && error.path === path && message.test(error.message),
      `${message}`,
    );
  }
});

async function sinkRun(folder: Folder, options: SinkOptions = {}) {
  let ids = [7, 8, 9];
  const source = { meta: () => ({ ...META, ids: [ids] }), token: TOKEN };
  const sink = begun(new ArrowSink(folder.path, options), source);
  await sink.write(out, piece(out, [3, 6]));
  await sink.write(probs, piece(probs, [2, 3, 3]));
  for (let step = 1; step < 4; step++) {
    ids = [...ids, 10 + step];
    const start = 2 + step;
    await sink.write(out, piece(out, [1, 6], { step, start }));
    await sink.write(probs, piece(probs, [2, 1, start + 1], { step, start }));
  }
  return sink;
}

Deno.test("sink: streams while it writes, files when it is finished", async () => {
  using folder = new Folder();
  const sink = await sinkRun(folder);
  assert.deepEqual(folder.names(), ["blk.3.attn_probs.arrow.stream", "blk.3.out.arrow.stream"]);
  assert.equal(sink.rows, 6 + 6 + 6);
  const stream = await readArrow(folder.at("blk.3.out.arrow.stream"), { partial: true });
  assert.equal(stream.numRows, 6);
  assert.equal(stream.metadata.get("ids"), "[[7,8,9]]");
  const files = await sink.finish();
  assert.deepEqual(files.map(({ point, rows }) => [point, rows]), [["blk.3.out", 6], [
    "blk.3.attn_probs",
    12,
  ]]);
  assert.deepEqual(folder.names(), ["blk.3.attn_probs.arrow", "blk.3.out.arrow"]);
  for (const { path, bytes } of files) assert.equal(Deno.statSync(path).size, bytes);
  const table = await readArrow(folder.at("blk.3.attn_probs.arrow"));
  assert.equal(table.metadata.get("ids"), "[[7,8,9,11,12,13]]");
  assert.deepEqual(
    tableVectors(table).map(({ length }) => length),
    [1, 2, 3, 1, 2, 3, 4, 4, 5, 5, 6, 6],
  );
  await assert.rejects(sink.write(out, piece(out, [1, 6])), /has finished/);
  await assert.rejects(sink.finish(), /has finished/);
});

Deno.test("sink: leaves ended streams when it is not finished, and does not write over them", async () => {
  using folder = new Folder();
  {
    await using sink = await sinkRun(folder);
    assert.equal(sink.folder, folder.path);
  }
  assert.equal((await readArrow(folder.at("blk.3.out.arrow.stream"))).numRows, 6);
  await assert.rejects(
    sinkRun(folder),
    (error: unknown) =>
      error instanceof OutputError && /out\.arrow\.stream: another run left it/.test(error.message),
  );
  assert.equal((await readArrow(folder.at("blk.3.out.arrow.stream"))).numRows, 6);
  await (await sinkRun(folder, { overwrite: true })).finish();
  assert.deepEqual(folder.names(), ["blk.3.attn_probs.arrow", "blk.3.out.arrow"]);
});

Deno.test("sink: csv at the end", async () => {
  using folder = new Folder();
  await (await sinkRun(folder, { format: "csv" })).finish();
  assert.deepEqual(folder.names(), ["blk.3.attn_probs.csv", "blk.3.out.csv"]);
  const [head, first] = Deno.readTextFileSync(folder.at("blk.3.out.csv")).split("\r\n");
  assert.equal(head, "sequence,step,layer,position,token_id,token,value");
  assert.equal(first, '0,0,3,0,100, t0.0,"[0, 1, 2, 3, 4, 5]"');
});

Deno.test("sink: pieces from several places at once arrive one after the other", async () => {
  using folder = new Folder();
  const sink = begun(new ArrowSink(folder.path));
  await Promise.all(
    Array.from(
      { length: 50 },
      (_, i) => sink.write(out, piece(out, [1, 6], { start: i, first: 6 * i })),
    ),
  );
  const [{ path }] = await sink.finish();
  assert.deepEqual(
    tableVectors(await readArrow(path)).map((row) => row[0]),
    Array.from({ length: 50 }, (_, i) => 6 * i),
  );
});

Deno.test("sink: more points than files may be open", async () => {
  using folder = new Folder();
  const points = Array.from(
    { length: 300 },
    (_, layer) => ({ ...out, name: `blk.${layer}.out`, layer }),
  );
  const sink = begun(new ArrowSink(folder.path));
  for (let step = 0; step < 2; step++) {
    for (const point of points) {
      await sink.write(point, piece(point, [1, 6], { step, start: step, first: point.layer }));
    }
  }
  const files = await sink.finish();
  assert.equal(files.length, 300);
  const table = await readArrow(folder.at("blk.299.out.arrow"));
  assert.deepEqual(tableVectors(table).map((row) => row[0]), [299, 299]);
});

Deno.test("sink: a wrong piece is refused and harms nothing", async () => {
  using folder = new Folder();
  const sink = begun(new ArrowSink(folder.path));
  await sink.write(out, piece(out, [2, 6]));
  await assert.rejects(
    sink.write(out, { ...piece(out, [2, 6]), data: new Float32Array(3) }),
    /3 numbers/,
  );
  await sink.write(out, piece(out, [1, 6], { start: 2 }));
  assert.equal((await sink.finish())[0].rows, 3);
});

Deno.test("sink: a thousand batches take no memory", async () => {
  using folder = new Folder();
  const sink = begun(new ArrowSink(folder.path));
  const point = { ...out, shape: ["T" as const, 4096] };
  const resident: number[] = [];
  for (let step = 0; step < 1000; step++) {
    await sink.write(point, piece(point, [8, 4096], { step, start: 8 * step })); // 128 kB
    if (step % 100 === 99) resident.push(Deno.memoryUsage().rss / 2 ** 20);
  }
  await sink.finish();
  const after = Deno.memoryUsage().rss / 2 ** 20;
  assert.ok(Deno.statSync(folder.at("blk.3.out.arrow")).size > 125 * 2 ** 20);
  // 125 MiB went through; half of that would not be flat.
  const growth = Math.max(...resident.slice(1), after) - resident[0];
  assert.ok(growth < 60, `grew by ${growth} MiB: ${resident.map(Math.round)}, ${after}`);
});

const PROCESS = fileURLToPath(
  new URL("../../support/processes/arrow_stream_process.ts", import.meta.url),
);

Deno.test("sink: killed at any moment, the stream is readable up to the last whole batch", async () => {
  for (let attempt = 0; attempt < 4; attempt++) {
    using folder = new Folder();
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-A", PROCESS, folder.path, "1000000", "500"],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    // Lines say how many rows are in the file.
    const reader = process.stdout.getReader();
    const first = await reader.read();
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 150));
    process.kill("SIGKILL");
    let said = new TextDecoder().decode(first.value);
    for (let more = await reader.read(); !more.done; more = await reader.read()) {
      said += new TextDecoder().decode(more.value);
    }
    await process.status;
    const reported = Number(said.split("\n").at(-2));
    const table = await readArrow(folder.at("blk.3.out.arrow.stream"), { partial: true });
    assert.ok(table.numRows >= reported && reported > 0, `${table.numRows} of ${reported}`);
    assert.equal(table.numRows % 500, 0);
    const rows = tableVectors(table);
    for (const i of [0, 1, rows.length >> 1, rows.length - 1]) {
      assert.equal(rows[i][0], Math.fround(64 * i));
    }
  }
});

Deno.test({
  name: "sink: a full disk is one clear error, and what was written stays readable",
  // A limit on the size of files stands for a full disk: writes stop in the middle of a batch.
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = new Folder();
    const { stdout } = await new Deno.Command("sh", {
      args: [
        "-c",
        'trap "" XFSZ; ulimit -f 2000; exec "$0" run -q -A --no-code-cache "$@"',
        Deno.execPath(),
        PROCESS,
        folder.path,
        "1000000",
        "500",
      ],
      stdout: "piped",
      stderr: "null",
    }).output();
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    const rows = Number(lines.at(-2));
    assert.ok(rows >= 500, lines.at(-1));
    assert.match(
      lines.at(-1)!,
      new RegExp(
        `^OutputError: Cannot write .*blk\\.3\\.out\\.arrow\\.stream: .*; its ${rows} rows before that stay readable`,
      ),
    );
    const path = folder.at("blk.3.out.arrow.stream");
    const table = await readArrow(path, { partial: true });
    assert.equal(table.numRows, rows);
    assert.equal(tableVectors(table)[rows - 1][0], Math.fround(64 * (rows - 1)));
    // Nothing of the batch that did not fit is left.
    const bytes = Deno.readFileSync(path);
    const layout = await streamLayout(
      path,
      bytes.length,
      (at, length) => Promise.resolve(bytes.subarray(at, at + length)),
    );
    assert.equal(layout.whole, bytes.length);
    assert.ok(bytes.length < 2000 * 512);
  },
});

Deno.test("arrow files: a folder that is not there is an error with the path", async () => {
  using folder = new Folder();
  const table = rowsTable("t", { a: int32([1]) });
  await assert.rejects(
    writeTable(folder.at("no/t.arrow"), table),
    (error: unknown) => error instanceof OutputError && error.path === folder.at("no/t.arrow"),
  );
  Deno.writeTextFileSync(folder.at("file"), "");
  const sink = begun(new ArrowSink(folder.at("file")));
  await assert.rejects(sink.write(out, piece(out, [1, 6])), OutputError);
});

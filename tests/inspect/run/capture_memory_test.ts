/** Captures through the real thing, in processes of their own: memory stays flat, and what is written survives. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadModel, type Model } from "../../../inspect/run/model.ts";
import type { Run } from "../../../inspect/run/run.ts";
import { tableVectors } from "../../../inspect/tables/mod.ts";
import { readArrow } from "../../../inspect/tables/files.ts";
import { concatenated } from "../../../inspect/tables/output.ts";
import { CAPTURED, PROMPT, promptOf, type Standing } from "../../support/tables/capture_samples.ts";
import { command, deno } from "../../support/command.ts";
import { Folder } from "../../support/folder.ts";

const PROCESS = fileURLToPath(
  new URL("../../support/processes/capture_process.ts", import.meta.url),
);
const MIB = 2 ** 20;

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  await use(folder.path);
}

type Line = Standing & { readonly error?: string };

function linesOf(output: Uint8Array): Line[] {
  return new TextDecoder().decode(output).split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

/** Runs a task in a process that collects before it measures. */
async function captureProcess(...args: (string | number)[]): Promise<Line[]> {
  const all = ["run", "-q", "-A", "--v8-flags=--expose-gc", PROCESS, ...args.map(String)];
  const { code, stdout, err } = await deno(all);
  assert.equal(code, 0, err);
  return linesOf(stdout);
}

const inMiB = (lines: readonly Line[], what: "device" | "rss" | "heap") =>
  lines.map((line) => Math.round(line[what] / MIB)).join(" ");

Deno.test("1,000 tokens captured through a sink: memory on the device and here stays flat", () =>
  inFolder(async (folder) => {
    const lines = await captureProcess("webgpu", "generate", folder, 1000, 100);
    assert.equal(lines.at(-1)!.done, 1000);
    let written = 0;
    for (const { name } of Deno.readDirSync(folder)) {
      assert.match(name, /^blk\.\d\.\w+\.arrow$/);
      written += Deno.statSync(join(folder, name)).size;
    }
    console.log(
      `${Math.round(written / MIB)} MiB written; MiB after each 100 tokens: device ${
        inMiB(lines, "device")
      }; heap ${inMiB(lines, "heap")}; resident ${inMiB(lines, "rss")}`,
    );
    assert.ok(written > 150 * MIB);
    // The first hundred tokens fill the pools. Attention rows, and the buffers that bring them here, grow with the context.
    const [early, ...later] = lines;
    for (const line of later) {
      assert.ok(line.device - early.device < 24 * MIB, `device ${inMiB(lines, "device")}`);
      assert.ok(line.heap - early.heap < 24 * MIB, `heap ${inMiB(lines, "heap")}`);
      // At the end the streams become files.
      const most = line === later.at(-1) ? 160 * MIB : 96 * MIB;
      assert.ok(line.rss - early.rss < most, `resident ${inMiB(lines, "rss")}`);
    }
    using model = await loadModel("tiny");
    const positions = model.tokenizer.encode(PROMPT).length + 999;
    const out = await readArrow(join(folder, "blk.4.out.arrow"));
    const probs = await readArrow(join(folder, "blk.4.attn_probs.arrow"));
    assert.deepEqual([out.numRows, probs.numRows], [positions, 8 * positions]);
    assert.equal(tableVectors(out).length, positions);
  }));

Deno.test("500 runs with captures leave memory where it was, on the device and here", async () => {
  const [before, after] = await captureProcess("webgpu", "runs", 500);
  console.log(
    `500 runs: device ${after.device - before.device} bytes more, heap ${
      ((after.heap - before.heap) / MIB).toFixed(1)
    } MiB, resident ${((after.rss - before.rss) / MIB).toFixed(1)} MiB`,
  );
  assert.equal(after.done, 500);
  assert.equal(after.device, before.device);
  // Each run captures half a megabyte.
  assert.ok(after.heap - before.heap < 8 * MIB, `${after.heap - before.heap}`);
  assert.ok(after.rss - before.rss < 64 * MIB, `${after.rss - before.rss}`);
});

/** The streams in a folder hold the beginnings of a run's tables, in whole batches; `check` is told their rows. */
async function assertStreams(folder: string, run: Run, check: (rows: number) => void) {
  let rows = 0;
  for (const { name } of Deno.readDirSync(folder)) {
    const point = name.match(/^(.+)\.arrow\.stream$/)?.[1];
    assert.ok(point, `${name} is no stream`);
    const table = await readArrow(join(folder, name), { partial: true });
    const expected = tableVectors(run.table(point));
    tableVectors(table).forEach((row, i) => assert.deepEqual(row, expected[i], `${point}[${i}]`));
    // A batch of attention has a row per head.
    assert.equal(table.numRows % (point.includes("attn") ? 8 : 1), 0, `${point}: whole batches`);
    rows += table.numRows;
  }
  check(rows);
}

/**
 * Runs a task under a limit on the size of files, in blocks of 512 bytes, which stands for a full disk: writes stop in the middle
 * of a batch. On the CPU, since software GPUs keep their memory in files.
 */
async function withFullDisk(blocks: number, ...task: (string | number)[]): Promise<Line[]> {
  const script = `trap "" XFSZ; ulimit -f ${blocks}; exec "$0" run -q -A --no-code-cache "$@"`;
  const args = [Deno.execPath(), PROCESS, "cpu", ...task.map(String)];
  const { stdout } = await command("sh", ["-c", script, ...args]);
  return linesOf(stdout);
}

/** The rows of each point that a generation captures. */
async function generated(model: Model, tokens: number): Promise<Run> {
  const options = { maxTokens: tokens, ignoreEos: true, capture: CAPTURED };
  const generation = model.generate(PROMPT, options);
  // deno-lint-ignore no-unused-vars -- only the run counts
  for await (const token of generation);
  return generation.run;
}

const FULL_DISKS = [
  {
    task: "run",
    // The first pass, of 128 positions, fits.
    lines: (folder: string) => withFullDisk(800, "run", folder, 200),
    whole: (model: Model) => model.run([promptOf(200)], { capture: CAPTURED }),
  },
  {
    task: "generate",
    lines: (folder: string) => withFullDisk(200, "generate", folder, 100, 10),
    whole: (model: Model) => generated(model, 100),
  },
];

for (const { task, lines, whole } of FULL_DISKS) {
  Deno.test({
    name:
      `${task} through a sink whose disk is full: one clear error, and what was written stays readable`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      inFolder(async (folder) => {
        const [{ rows }, { error }] = (await lines(folder)).slice(-2);
        assert.match(
          error!,
          /^OutputError: Cannot write .*\.arrow\.stream: .*; its \d+ rows before that stay readable: make room/,
        );
        using model = await loadModel("tiny", { backend: "cpu" });
        await assertStreams(folder, await whole(model), (found) => {
          assert.ok(found > 0);
          assert.equal(found, rows, "the sink's count");
        });
      }),
  });
}

Deno.test("a generation killed at any moment leaves streams that are readable up to the last whole batch", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const whole = await generated(model, 400);
  for (let attempt = 0; attempt < 3; attempt++) {
    await inFolder(async (folder) => {
      const process = new Deno.Command(Deno.execPath(), {
        args: ["run", "-q", "-A", PROCESS, "webgpu", "generate", folder, "400", "1"],
        stdout: "piped",
        stderr: "null",
      }).spawn();
      // A line per token says how many rows are in the files.
      const reader = process.stdout.getReader();
      let said = (await reader.read()).value!;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
      process.kill("SIGKILL");
      for (let more = await reader.read(); !more.done; more = await reader.read()) {
        said = concatenated([said, more.value]);
      }
      await process.status;
      const { rows } = linesOf(said).at(-1)!;
      await assertStreams(folder, whole, (found) => {
        assert.ok(found >= rows && rows > 0, `${found} of ${rows}`);
      });
    });
  }
});

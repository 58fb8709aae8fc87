/** `task bench`: how it counts, and that it runs; never how fast. */
import assert from "node:assert/strict";
import { benchText } from "../inspect/bench/report.ts";
import { alternate, ratios, spread } from "../inspect/bench/rounds.ts";
import { tableRows } from "./support/table_rows.ts";
import { readArrow } from "../inspect/tables/files.ts";
import denoJson from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);

Deno.test("rounds alternate, and the first one does not count", async () => {
  const order: string[] = [];
  const sample = (name: string) => () => {
    order.push(name);
    return Promise.resolve({ [name]: order.length });
  };
  const progress: string[] = [];
  const figures = await alternate([sample("a"), sample("b")], 2, {
    onProgress: (done, total) => progress.push(`${done}/${total}`),
  });
  assert.equal(order.join(""), "ababab");
  assert.deepEqual([...figures], [["a", [3, 5]], ["b", [4, 6]]]);
  assert.deepEqual(progress, ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
  await assert.rejects(alternate([sample("a")], 1, { signal: AbortSignal.abort() }));
});

Deno.test("medians, spread, and ratios round by round", () => {
  assert.deepEqual(spread([5, 1, 2]), { median: 2, low: 1, high: 5, rounds: 3 });
  assert.deepEqual(spread([4, 1, 2, 10]), { median: 3, low: 1, high: 10, rounds: 4 });
  assert.deepEqual(ratios([2, 9], [1, 3]), [2, 3]);
});

Deno.test("task bench gives its figures as text, as JSON and as a table", async () => {
  assert.match(denoJson.tasks.bench.command, /-P=bench inspect\/commands\/bench\.ts$/);
  const out = await Deno.makeTempDir({ prefix: "lamina-bench-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "--no-prompt", "-P=bench", "inspect/commands/bench.ts"]
        .concat("--rounds", "1", "--json", "--out", out),
      cwd: ROOT,
      stdin: "null",
    }).output();
    assert.equal(new TextDecoder().decode(stderr), "");
    assert.equal(code, 0);
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
    assert.equal(lines.length, 1);
    const report: Parameters<typeof benchText>[0] = JSON.parse(lines[0]);
    assert.deepEqual(report.rows.map(({ what }) => what), [
      "prompt of 128, residual streams + attention maps captured",
      "prompt of 128, everything captured",
      "decoding 32, residual streams + attention maps captured",
      "decoding 32, everything captured",
      "prefill, 32 tokens",
      "prefill, 128 tokens",
      "prefill, 512 tokens",
      "decode after 16 tokens",
      "decode after 512 tokens",
      "first token after 16 tokens",
      "load, again",
      "start to first token, once",
    ]);
    for (const { what, median, low, high } of report.rows) {
      assert.ok(median > 0 && low <= median && median <= high, what);
    }
    // 11 residual streams of 256 numbers and 40 maps, at 128 positions.
    assert.equal(report.rows[0].bytes, 4 * (11 * 128 * 256 + 40 * 128 * 128));
    assert.deepEqual(report.rows.flatMap(({ bar }) => bar ?? []), [1.3, 2, 1.3, 2]);

    const text = benchText(report);
    for (const { what } of report.rows) assert.ok(text.includes(what), what);
    assert.equal(text.split("\n")[0].split(" on ")[0], "tiny");

    const rows = tableRows(await readArrow(`${out}/bench.arrow`));
    assert.deepEqual(rows.map(({ what }) => what), report.rows.map(({ what }) => what));
    assert.deepEqual(rows.map(({ median }) => median), report.rows.map(({ median }) => median));
    assert.equal(rows.at(-1)!.bar, null);
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});

/** Strings from files on their way to a terminal, into HTML, XML and Markdown: they show, and do nothing else. */
import assert from "node:assert/strict";
import { CHECKPOINTS } from "../../checkpoints/parity/contract.ts";
import { diagnosisText } from "../../checkpoints/diagnosis/without_reference/report.ts";
import type { ParityResult } from "../../checkpoints/parity/comparison.ts";
import { type ProofHeader, writeProof } from "../../checkpoints/parity/reports/proof.ts";
import { coloured, junit, reportText } from "../../checkpoints/parity/reports/report.ts";
import { benchMarkdown, type BenchReport, benchText } from "../../inspect/bench/report.ts";
import { formatTable } from "../../inspect/format.ts";
import { createProgress, createStatus } from "../../inspect/commands/progress.ts";
import {
  escapeHtml,
  escapeMarkdown,
  escapePlotly,
  escapeXml,
  jsonLine,
  markdownCode,
  printable,
  printableLines,
} from "../../inspect/escape.ts";
import { rowsTable, utf8 } from "../../inspect/tables/mod.ts";
import { markdownHtml } from "../../notebooks/commands/page/markdown.ts";
import { Folder } from "../support/folder.ts";
import { writeGguf } from "../support/models/gguf_writer.ts";
import { runInTerminal, terminals } from "../support/terminal.ts";

/** A name that wants to be a line of the report, a heading, a script, a colour, and text that runs backwards. */
const HOSTILE = "ev\x1b[31mil\x9b2J\r\n 0  foundation  pass\n# all passed\n```\n" +
  "<script>alert(1)</script> \u202egnp.exe ![x](javascript:1) | \ud800\u0000 & \"'";

/** What a terminal would act on. */
// deno-lint-ignore no-control-regex
const ACTING = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800]/;

const RESULT: ParityResult = {
  provenance: {
    name: HOSTILE,
    version: HOSTILE,
    device: HOSTILE,
    weights: HOSTILE,
    rope: "exact",
  },
  passed: false,
  checkpoints: CHECKPOINTS.map((checkpoint, i) => ({
    checkpoint,
    status: (["pass", "fail", "skipped"] as const)[i % 3],
    why: i % 3 === 2 ? HOSTILE : undefined,
    failedChecks: i % 3 === 1
      ? [{ checkpoint: checkpoint.id, case: HOSTILE, what: HOSTILE, passed: false }]
      : [],
  })),
  rows: [],
  checks: [],
  absent: [],
  notes: [],
  choices: [],
  ratio: { median: 1, p95: 2, points: 3 },
};
const FIRST = {
  checkpoint: "2",
  point: HOSTILE,
  explanation: {
    cause: "unknown",
    explained: 0,
    before: NaN,
    after: NaN,
    detail: HOSTILE,
    look: "there",
  },
} as const;

Deno.test("a report for a terminal has its own lines only, whatever a manifest says", () => {
  const text = reportText(RESULT, FIRST);
  assert.doesNotMatch(text, ACTING);
  // Heading, checkpoints, ratio, first divergence with cause and look, and empty lines between them.
  assert.equal(text.split("\n").length, 1 + 1 + CHECKPOINTS.length + 2 + 4);
  assert.equal(coloured(text).split("\x1b[32mpass").length, 1 + 5);
  assert.ok(text.startsWith("with ev\\u001b[31mil\\u009b2J\\r\\n 0  foundation"));
});

const python = await terminals();

Deno.test("checkpoints.md has no heading, script, link or end of a block that is not its own", async () => {
  using folder = new Folder();
  const header: ProofHeader = {
    format: "lamina-proof",
    version: 1,
    type: "parity",
    run: "run",
    time: "2026-01-01T00:00:00.000Z",
    command: ["./denow", "task", "parity", HOSTILE],
    lamina: "1",
    deno: "2",
    system: "here",
    model: { name: HOSTILE, path: HOSTILE },
    device: HOSTILE,
    references: [RESULT.provenance],
    prompts: [{ name: "prompt", text: HOSTILE, ids: [1], generate: 0 }],
    seeds: [],
    passed: false,
  };
  const path = folder.at("bundle");
  await writeProof(path, header, [{ result: RESULT, first: FIRST, cases: [] }]);
  const html = markdownHtml(await Deno.readTextFile(`${path}/checkpoints.md`));
  assert.doesNotMatch(html, /<script|<a |<img/);
  assert.deepEqual([...html.matchAll(/<h(\d)>/g)].map(([, level]) => level), ["1", "2", "2"]);
  assert.equal(html.match(/<pre>/g)!.length, 2);
  assert.match(html, /Repeat it<\/h2>\s*<pre>/);
  assert.ok(html.trimEnd().endsWith("</pre>"));
});

Deno.test("a JUnit report is well-formed XML, whatever a manifest says", async () => {
  const xml = junit(HOSTILE, [{ result: RESULT }], [{ reference: HOSTILE, message: HOSTILE }]);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(xml, /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/);
  assert.ok(xml.isWellFormed());
  // Every tag is one of ours, with attributes that end where they should.
  const tag =
    /<\/?(?:testsuites|testsuite|testcase|skipped|failure|error)(?: [\w-]+="[^"<&]*(?:&#\d+;[^"<&]*)*")*\/?>/g;
  const rest = xml.replace(/^<\?xml [^>]*\?>/, "").replace(tag, "");
  assert.match(rest, /^\s*$/);
  assert.equal(xml.match(/<testcase /g)!.length, CHECKPOINTS.length + 1);
  if (python === undefined) return;
  using folder = new Folder();
  const path = folder.write("junit.xml", xml);
  const script = "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])";
  const { success } = await new Deno.Command("python3", { args: ["-c", script, path] }).output();
  assert.ok(success);
});

Deno.test("tables, previews, progress and other reports for a terminal only show", () => {
  const written: string[] = [];
  const options = { terminal: false, now: () => written.length * 1e5 + times++ * 1e5, write };
  let times = 0;
  function write(text: string): void {
    written.push(text);
  }
  const progress = createProgress(HOSTILE, options);
  progress.update(1, 2);
  progress.finish();
  const status = createStatus(options);
  status.update(HOSTILE);
  assert.ok(written.length >= 2);
  assert.ok(written.every((line) => line.split("\n").length === 2));
  const diagnosis = {
    loss: 1,
    foretells: true,
    alternatives: [],
    tied: [],
    improved: [],
    trials: [],
    undecidable: [],
    untried: [],
  };
  const bench: BenchReport = {
    model: HOSTILE,
    device: HOSTILE,
    version: "1",
    deno: "2",
    time: "now",
    rounds: 3,
    rows: [],
    peers: [{ name: HOSTILE, description: HOSTILE }],
    missing: [{ name: HOSTILE, problem: HOSTILE }],
  } as unknown as BenchReport;
  const table = formatTable([[HOSTILE, "x"], ["y", HOSTILE]], "lr");
  assert.equal(table.split("\n").length, 2);
  const preview = rowsTable("names", { name: utf8([HOSTILE]) }, {
    meaning: HOSTILE,
    model: HOSTILE,
    device: HOSTILE,
  });
  for (
    const text of [
      ...written,
      table,
      diagnosisText(HOSTILE, diagnosis, { layers: true, mended: HOSTILE }),
      benchText(bench),
      Deno.inspect(preview),
    ]
  ) {
    assert.doesNotMatch(text, ACTING);
    assert.doesNotMatch(text, /^# all passed/m);
  }
  assert.doesNotMatch(markdownHtml(benchMarkdown(bench)), /<script|<h1|<a |<img|<pre/);
});

Deno.test("escaping: what each place takes for itself, and what stays", () => {
  const plain = "naïve 日本語 👨‍👩‍👧 [x] 100 % C:\\dir";
  for (const same of [printable, printableLines, escapePlotly, escapeXml]) {
    assert.equal(same(plain), plain);
  }
  assert.equal(printable(printable(HOSTILE)), printable(HOSTILE));
  assert.equal(printableLines("a\n\tb\x1b\r"), "a\n\tb\\u001b\\r");
  assert.deepEqual(JSON.parse(jsonLine({ x: HOSTILE })), { x: HOSTILE });
  assert.doesNotMatch(jsonLine(HOSTILE), ACTING);
  assert.equal(
    escapeHtml(`<a href="x" title='y'>&`),
    "&#60;a href=&#34;x&#34; title=&#39;y&#39;&#62;&#38;",
  );
  assert.equal(escapePlotly("a<b>&'"), "a&lt;b&gt;&amp;'");
  assert.equal(
    escapeMarkdown("*a* _b_ <i> [x](y) | `c` ~~d~~ $e$ #"),
    "\\*a\\* \\_b\\_ \\<i\\> \\[x\\](y) \\| \\`c\\` \\~\\~d\\~\\~ \\$e\\$ \\#",
  );
  assert.equal(markdownCode("a\n````\nb", "sh"), "`````sh\na\n````\nb\n`````");
});

Deno.test({
  name: "an error about a hostile file is one line on a terminal, with --debug too",
  ignore: python === undefined,
  async fn() {
    using folder = new Folder();
    const architecture = "x\x1b[31m\u202ey";
    const name = "b\x1b[2Jad\u009b.gguf";
    const path = folder.write(
      name,
      writeGguf({ metadata: { "general.architecture": architecture }, tensors: [] }),
    );
    const command = new URL("../../checkpoints/commands/model.ts", import.meta.url).pathname;
    for (
      const args of [["tokenize", path, "x"], ["info", path], ["verify", `${path}x`], [
        "info",
        `${path}x`,
        "--debug",
      ]]
    ) {
      const { output } = await runInTerminal(
        [Deno.execPath(), "run", "-q", "-A", command, ...args],
        { env: { NO_COLOR: "1" } },
      );
      // A terminal's own line ends, and nothing else that acts. Reading may show progress, which clears its line.
      assert.doesNotMatch(
        output.replaceAll("\r\n", "\n").replaceAll("\r\x1b[K", ""),
        ACTING,
        args[0],
      );
    }
  },
});

/**
 * The thirteen checkpoints against live llama.cpp, in every layer, in prompts and while decoding; and the command around them. Skipped
 * where llama.cpp cannot be had.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { LONG_PROMPT } from "../../../checkpoints/parity/cases.ts";
import { CHECKPOINTS } from "../../../checkpoints/parity/contract.ts";
import { compareEngines, type ParityResult } from "../../../checkpoints/parity/comparison.ts";
import type { ParityCase } from "../../../checkpoints/parity/cases.ts";
import { verifyProof } from "../../../checkpoints/parity/reports/proof.ts";
import { reportText } from "../../../checkpoints/parity/reports/report.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { llamaCppReference } from "../../../checkpoints/references/llamacpp/reference.ts";
import { oracleReference } from "../../../checkpoints/references/oracle.ts";
import { load } from "../../../inspect/run/loading.ts";
import { findModel } from "../../../models/mod.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { Folder } from "../../support/folder.ts";
import type { WriterValue } from "../../support/models/gguf_writer.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { deno } from "../../support/command.ts";

const ignore = await llamaCppLibrary() === undefined;

/** A text of many tokens. */
const STORY = Array.from({ length: 9 }, (_, i) => `Part ${i + 1}. ${LONG_PROMPT}`).join(" ");

/** Compares a model with llama.cpp over prompts of some lengths. */
async function compare(
  name: string,
  lengths: readonly { readonly tokens: number; readonly generate: number }[],
): Promise<ParityResult> {
  const loaded = await load(name, { backend: "webgpu" });
  const reference = await llamaCppReference({ model: await findModel(name) });
  try {
    const all = createTokenizer(loaded.file.metadata).encode(STORY);
    const cases = lengths.map(({ tokens, generate }): ParityCase => {
      assert.ok(all.length >= tokens, `${all.length}`);
      return {
        name: `${tokens} tokens`,
        ids: all.slice(0, tokens),
        generate,
        oracle: tokens === 60,
      };
    });
    const oracle = oracleReference(loaded.file, { rope: "ggml" });
    return await compareEngines(loaded.engine, reference, cases, { oracle });
  } finally {
    await reference.close();
    loaded.release();
  }
}

/** Everything passed, in every layer, by every verdict, and nothing was left out. */
function assertParity(result: ParityResult, layers: number, passes: number): void {
  const report = reportText(result);
  assert.ok(result.passed, report);
  assert.deepEqual(
    result.checkpoints.map(({ status }) => status),
    CHECKPOINTS.map(() => "pass"),
    report,
  );
  const rows = (pattern: RegExp) => result.rows.filter(({ point }) => pattern.test(point));
  assert.equal(rows(/^blk\.\d+\.q_rope$/).length, layers * passes);
  assert.equal(rows(/^blk\.\d+\.cache_v$/).length, layers * passes);
  // The root mean squares are not shown: the oracle stands in where it runs.
  for (const { point, local, cumulative } of result.rows) {
    assert.ok(cumulative, point);
    assert.ok(local || /_rms$|^output_norm_pre$/.test(point), point);
  }
  for (const { ours, reference } of result.choices) assert.equal(ours.length, reference.length);
}

const WITH_DECODING = [
  { tokens: 2, generate: 64 },
  { tokens: 60, generate: 64 },
];

Deno.test({
  name: "tiny: all thirteen, prompts of 2, 60 and 500 tokens, generated tokens 1, 8 and 64",
  ignore,
  async fn() {
    const result = await compare("tiny", [...WITH_DECODING, { tokens: 500, generate: 64 }]);
    assertParity(result, 5, 12);
    assertRatio(result);
  },
});

Deno.test({
  name: "SmolLM2: all thirteen, prompts of 2 and 60 tokens, generated tokens 1, 8 and 64",
  ignore,
  async fn() {
    const result = await compare("smollm2-135m", WITH_DECODING);
    assertParity(result, 30, 8);
    assertRatio(result);
  },
});

Deno.test({
  name: "SmolLM2: all thirteen, a prompt of 500 tokens, generated token 1",
  ignore,
  async fn() {
    const result = await compare("smollm2-135m", [{ tokens: 500, generate: 1 }]);
    assertParity(result, 30, 2);
  },
});

Deno.test({
  name: "a Llama-2 shape with Llama 2's own vocabulary: 32 heads without grouping, F16",
  ignore,
  async fn() {
    using folder = new Folder();
    const path = folder.at("llama-2.gguf");
    const vocabulary = new URL("../../fixtures/vocab/ggml-vocab-llama-spm.gguf", import.meta.url);
    const { metadata } = await openGgufFile(vocabulary.pathname);
    const tokenizer = Object.fromEntries(
      [...metadata].filter(([key]) => key.startsWith("tokenizer.")),
    ) as Record<string, WriterValue>;
    const bytes = randomLlama({
      layers: 2,
      width: 512,
      heads: 32,
      ffnWidth: 1376,
      vocab: (metadata.get("tokenizer.ggml.tokens") as string[]).length,
      contextLength: 1024,
      type: "F16",
      metadata: tokenizer,
    });
    await Deno.writeFile(path, bytes);
    const result = await compare(path, [...WITH_DECODING, { tokens: 500, generate: 1 }]);
    assertParity(result, 2, 10);
    assertRatio(result);
    const loaded = await load(path);
    assert.deepEqual(createTokenizer(loaded.file.metadata).encode("Hello"), [1, 15043]);
    loaded.release();
  },
});

/** Our distance to the oracle as a ratio to llama.cpp's; printed with every run. */
function assertRatio({ ratio, provenance }: ParityResult): void {
  assert.ok(ratio && ratio.points > 100);
  const { median, p95 } = ratio;
  console.log(
    `RMS error to the oracle, ours to ${provenance.name}'s: median ${median.toFixed(2)}, ` +
      `95th percentile ${p95.toFixed(2)} (${provenance.weights})`,
  );
  assert.ok(median <= 2, `median ${median}`);
  assert.ok(p95 <= 6, `95th percentile ${p95}`);
}

function task(args: readonly string[], env: Record<string, string> = {}) {
  return deno(["task", "-q", "parity", ...args], { env });
}

Deno.test({
  name: "task parity: one line of JSON, a bundle that verifies, a JUnit report",
  ignore,
  async fn() {
    using folder = new Folder();
    const junit = folder.at("junit.xml");
    const { code, out, err } = await task(
      ["--json", "--determinism", "4", "--junit", junit, "--layers", "1-2", "Once upon a time"],
      { LAMINA_PROOF_DIR: folder.path, LAMINA_RUN_ID: "run-1" },
    );
    assert.equal(code, 0, err);
    assert.equal(out.trim().split("\n").length, 1);
    const report = JSON.parse(out);
    assert.equal(report.passed, true);
    assert.equal(report.first, null);
    assert.deepEqual(
      report.checkpoints.map(({ id }: { id: string }) => id),
      CHECKPOINTS.map(({ id }) => id),
    );
    assert.deepEqual([report.determinism.runs, report.determinism.equal], [4, true]);
    assert.equal(report.determinism.processes, 3);
    assert.equal(report.references[0].name, "llama.cpp");

    const bundle = join(folder.path, "parity", "run-1");
    assert.equal(report.proof, bundle);
    assert.deepEqual(await verifyProof(bundle), []);
    const markdown = await Deno.readTextFile(join(bundle, "checkpoints.md"));
    assert.match(markdown, /1B {2}RoPE +pass/);
    assert.match(markdown, /\.\/denow task parity .*--layers 1-2 'Once upon a time'/);
    assert.match(
      await Deno.readTextFile(junit),
      /<testsuite name="tiny with llama.cpp" tests="14"/,
    );

    // A bundle that was touched does not verify.
    await Deno.writeTextFile(join(bundle, "checkpoints.md"), markdown.replace("pass", "fail"));
    assert.deepEqual(await verifyProof(bundle), ["checkpoints.md was changed"]);
  },
});

Deno.test("task parity: a reference that is not there is one line, and the others go on", async () => {
  using folder = new Folder();
  const { code, out, err } = await task(
    ["--json", "--determinism", "0", "--reference", "hf:/nowhere,oracle", "--layers", "0", "Hello"],
    { LAMINA_PROOF_DIR: folder.path },
  );
  assert.equal(code, 0, err);
  const report = JSON.parse(out);
  assert.equal(report.failures.length, 1);
  assert.match(report.failures[0].message, /^PyTorch: /);
  assert.equal(report.references[0].name, "oracle");
});

Deno.test("task parity: wrong usage is one line and exit code 2", async () => {
  for (
    const [args, message] of [
      [["--reference", "llamacpp"], /no reference "llamacpp"; there are llama\.cpp/],
      [["--layers", "3-9"], /--layers must be like 0-3, below 5/],
      [["--prompt-ids", "1,2", "Hello"], /give either a PROMPT or --prompt-ids/],
    ] as const
  ) {
    const { code, out, err } = await task(args);
    assert.equal(code, 2, err);
    assert.equal(out, "");
    assert.match(err.trim().split("\n").at(-1)!, message);
  }
});

/**
 * Every family on a small model of its own, against live llama.cpp and the 64-bit oracle: the thirteen checkpoints in every layer, in
 * prompts of 2 and 200 tokens and while decoding, past the windows that a family has; greedy ids. Skipped where llama.cpp cannot be had.
 * `FAMILY=qwen2 ./denow test -A tests/families/families_test.ts` takes those whose name begins so.
 */
import assert from "node:assert/strict";
import { CHECKPOINTS } from "../../checkpoints/parity/contract.ts";
import { compareEngines, type ParityResult } from "../../checkpoints/parity/comparison.ts";
import { reportText } from "../../checkpoints/parity/reports/report.ts";
import { llamaCppReference } from "../../checkpoints/references/llamacpp/reference.ts";
import { oracleReference } from "../../checkpoints/references/oracle.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import { load } from "../../inspect/run/loading.ts";
import { findModel } from "../../models/mod.ts";
import { llamaCppLibrary } from "../support/engines/llamacpp_library.ts";
import { Folder } from "../support/folder.ts";
import { FAMILY_MODELS, writeFamilyModel } from "../support/models/family_models.ts";

const ignore = await llamaCppLibrary() === undefined;

/** After the prompt of 2 tokens 64, so that decoding leaves every window; after that of 200 the 32 whose ids are wanted. */
const CASES = [{ tokens: 2, steps: [0, 1, 8, 64] }, { tokens: 200, steps: [0, 1, 8, 32] }];

async function compare(name: string, { exact = true } = {}): Promise<ParityResult> {
  using folder = new Folder();
  const path = folder.at("model.gguf");
  await writeFamilyModel(name, path);
  const like = "llama.cpp";
  const loaded = await load(path, { backend: "cpu", like });
  const reference = await llamaCppReference({ model: await findModel(path), asIs: true });
  try {
    const { vocabSize } = loaded.engine.config;
    const cases = CASES.map(({ tokens, steps }) => ({
      name: `${tokens} tokens`,
      ids: Array.from({ length: tokens }, (_, i) => (7919 * (i + 1)) % vocabSize),
      ...{ generate: Math.max(...steps), steps, oracle: exact },
    }));
    const oracle = oracleReference(loaded.file, { rope: "ggml", like });
    return await compareEngines(loaded.engine, reference, cases, { oracle });
  } finally {
    await reference.close();
    loaded.release();
  }
}

for (const [name, { points }] of Object.entries(FAMILY_MODELS)) {
  if (!name.startsWith(Deno.env.get("FAMILY") ?? "")) continue;
  Deno.test({
    name: `${name}: all thirteen, greedy ids, and the oracle agrees`,
    ignore,
    async fn() {
      const result = await compare(name);
      const report = reportText(result);
      assert.ok(result.passed, report);
      // Where positions are known otherwise there is no RoPE to see.
      const turned = result.rows.some(({ point }) => point.endsWith("_rope"));
      assert.deepEqual(
        result.checkpoints.map(({ status }) => status),
        CHECKPOINTS.map(({ id }) => id === "1B" && !turned ? "skipped" : "pass"),
        report,
      );
      // So that a point which llama.cpp shows is not lost unseen. The oracle stands in for what it does not show.
      const shown = new Set(result.rows.filter(({ local }) => local).map(({ point }) => point));
      assert.ok(shown.size >= points, `${shown.size} points compared: ${[...shown].join(" ")}`);
      assert.ok(result.rows.every(({ cumulative }) => cumulative?.passed), report);
      for (const { ours, reference } of result.choices) {
        assert.ok(ours.length > 32);
        assert.deepEqual(ours, reference);
      }
      // Neither engine is the judge: ours is about as far from the oracle as llama.cpp is.
      const { median, p95 } = result.ratio!;
      assert.ok(median <= 2 && p95 <= 6, `RMS error to the oracle: ${median}, ${p95} times`);
    },
  });
}

Deno.test({
  name:
    "gemma2: without the oracle, what llama.cpp's GELU adds up to is nobody's fault, and that is said",
  ignore,
  async fn() {
    const result = await compare("gemma2", { exact: false });
    assert.ok(result.passed, reportText(result));
    assert.equal(result.notes.length, CASES.length);
    assert.match(
      result.notes[1],
      /^200 tokens: llama.cpp rounds ffn_act, .* each operation is judged/,
    );
  },
});

Deno.test("every family has a model that it is proven with", () => {
  const proven = new Set(Object.values(FAMILY_MODELS).map(({ shape }) => shape.architecture));
  assert.deepEqual([...proven].sort(), Object.keys(FAMILIES).sort());
});

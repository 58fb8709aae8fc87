/** A real model end to end: SmolLM2-135M against llama.cpp's golden ids and against the oracle. */
import assert from "node:assert/strict";
import { cpuEngine } from "../../engine/cpu/engine.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { openGgufFile } from "../../engine/gguf/reader.ts";
import { oracle, oracleGreedy } from "../../engine/oracle/oracle.ts";
import { openDevice, openProcessor } from "../../inspect/run/loading.ts";
import { loadModel } from "../../inspect/run/model.ts";
import { webgpuEngine } from "../../engine/webgpu/engine.ts";
import { findModel } from "../../models/mod.ts";
import golden from "../fixtures/smollm2-135m.json" with { type: "json" };

const NAME = "smollm2-135m";

/** A margin between the best two logits below which llama.cpp's own rounding may decide. */
const TIE = 1e-3;

Deno.test("SmolLM2: prompt ids and 64 greedy ids equal llama.cpp's", async (t) => {
  using model = await loadModel(NAME, { backend: "webgpu" });
  for (const run of golden.runs) {
    await t.step(JSON.stringify(run.prompt), async () => {
      const generation = model.generate(run.prompt, { maxTokens: 64, ignoreEos: true });
      assert.deepEqual(generation.promptIds, run.prompt_ids);
      for await (const _ of generation);
      const tie = run.margins.findIndex((margin) => margin < TIE);
      const compared = tie < 0 ? run.greedy_ids.length : tie;
      assert.deepEqual(generation.ids.slice(0, compared), run.greedy_ids.slice(0, compared));
    });
  }
});

Deno.test("SmolLM2: the device's logits are the oracle's within 1e-3, greedy ids equal", async () => {
  const found = await findModel(NAME);
  const file = await openGgufFile(found.path!);
  const config = readConfig(file);
  const device = await openDevice();
  const engine = await webgpuEngine(file, config, device);
  const ids = golden.runs[4].prompt_ids;
  const session = engine.session({ capacity: ids.length });
  try {
    const { data } = (await session.pass({ ids, rows: ids.length })).get("logits")!;
    const expected = (await oracle(file, ids, { rows: "all" })).logits;
    let worst = 0;
    expected.forEach((row, i) =>
      row.forEach((value, j) => worst = Math.max(worst, Math.abs(value - data[i * row.length + j])))
    );
    assert.ok(worst < 1e-3, `worst logit differs by ${worst}`);
    const greedy = await oracleGreedy(file, ids, 8);
    assert.deepEqual(greedy.ids, golden.runs[4].greedy_ids.slice(0, 8));
  } finally {
    session.dispose();
    engine.dispose();
    file.close();
  }
});

Deno.test("SmolLM2: the CPU backend gives the same first ids as the device", async () => {
  const found = await findModel(NAME);
  const file = await openGgufFile(found.path!);
  const engine = await cpuEngine(file, readConfig(file), openProcessor());
  const { prompt_ids, greedy_ids } = golden.runs[1];
  const session = engine.session({ capacity: prompt_ids.length + 2 });
  const first = await session.pass({ ids: prompt_ids, wanted: ["argmax"] });
  const second = await session.pass({ ids: "next", wanted: ["argmax"] });
  const ids = [first, second].map((values) => values.get("argmax")!.data[0]);
  assert.deepEqual(ids, greedy_ids.slice(0, 2));
  file.close();
});

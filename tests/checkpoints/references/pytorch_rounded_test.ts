/** PyTorch in 16-bit floats: right, and never accused; tests/fixtures/sweep_healthy.ts tries more models and prompts. */
import assert from "node:assert/strict";
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { Folder } from "../../support/folder.ts";
import { pyTorch } from "../../support/engines/python_venv.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const environment = await pyTorch();

for (const [type, least] of [["bf16", 1e-4], ["f16", 1e-5]] as const) {
  Deno.test({
    name: `PyTorch in ${type} on a random model of an odd shape passes, and rounds`,
    ignore: environment === undefined,
    async fn() {
      using folder = new Folder();
      const shape = { width: 144, heads: 9, kvHeads: 3, headWidth: 22, ffnWidth: 160, vocab: 197 };
      const path = folder.write("random.gguf", randomLlama(shape));
      const ids = Array.from({ length: 48 }, (_, i) => (31 * i) % 197);
      const report = await parity(path, ids, { reference: `pytorch:${type}`, generate: 8 });
      assert.equal(report.reference.activations, type);
      assert.match(report.reference.weights, new RegExp(`dequantized to ${type.toUpperCase()}$`));
      assert.ok(report.passed, `${report}`);
      const errors = report.result.rows.flatMap(({ local }) => local ? [local.maxRelative] : []);
      assert.ok(Math.max(...errors) > least, "it computes in 32 bits");
    },
  });
}

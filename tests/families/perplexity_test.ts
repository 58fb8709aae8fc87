/** Perplexity of a text is llama.cpp's, on the same 32-bit weights. Skipped where llama.cpp cannot be had. */
import assert from "node:assert/strict";
import { loadModel } from "../../mod.ts";
import { llamaCppReference } from "../../checkpoints/references/llamacpp/reference.ts";
import { findModel } from "../../models/mod.ts";
import { llamaCppLibrary } from "../support/engines/llamacpp_library.ts";

const ignore = await llamaCppLibrary() === undefined;

const TEXT =
  `The harbour had been quiet for years when the first of the new ferries came in. Nobody had
told the men who mended nets on the long wall, and so they stood up, one after the other, and watched it turn. It was
white, and much larger than the old one; it made less noise than a cart on the cobbles. A girl on the upper deck waved. By
the evening there were forty people on the quay, most of whom had not bought a fish there since the winter of the great
storm, and the baker, who had a sense for such things, sold everything that he had twice over. In the following weeks
prices rose, then fell again, and in spring a second line was opened to the islands in the north.`;

Deno.test({
  name: "SmolLM2's perplexity is llama.cpp's within 0.1 %",
  ignore,
  async fn() {
    const found = await findModel("smollm2-135m");
    using model = await loadModel("smollm2-135m", { backend: "cpu" });
    const ids = [...model.tokenizer.encode(TEXT)];
    assert.ok(ids.length > 120);
    const ours = (await model.run([ids])).loss();

    const reference = await llamaCppReference({ model: found });
    try {
      const points = ["logits"];
      const { passes: [pass] } = await reference.run({ ids, generate: 0, steps: [0], points });
      const { data, shape: [rows, vocabulary] } = pass.tensors.get("logits")!;
      assert.equal(rows, ids.length);
      let sum = 0;
      for (let row = 0; row + 1 < rows; row++) {
        const logits = Float64Array.from(
          data.subarray(row * vocabulary, (row + 1) * vocabulary),
        );
        const largest = logits.reduce((a, b) => Math.max(a, b));
        const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
        sum += largest + Math.log(total) - logits[ids[row + 1]];
      }
      const theirs = sum / (rows - 1);
      assert.ok(theirs > 1 && theirs < 5, `${theirs}`);
      const ratio = Math.exp(ours - theirs);
      assert.ok(Math.abs(ratio - 1) < 0.001, `${Math.exp(ours)}, llama.cpp's ${Math.exp(theirs)}`);
    } finally {
      await reference.close();
    }
  },
});

/** `task explain` on models of all families: words, formula, line and worked numbers for whatever their passes compute. */
import assert from "node:assert/strict";
import temml from "npm:temml@0.13.5";
import { pageContent } from "../../inspect/explain_page/data.ts";
import { Page } from "../../inspect/explain_page/page/numbers.js";
import { recompute } from "../../inspect/explain_page/page/recompute.js";
import { FORWARD, sourceOf } from "../../inspect/explain_page/source.ts";
import { textsOf } from "../../inspect/explain_page/texts/mod.ts";
import { PAPERS } from "../../inspect/explain_page/texts/papers.ts";
import { syntheticModel } from "../../checkpoints/files/synthetic_model.ts";
import { writeGguf } from "../../engine/gguf/writer.ts";
import { loadModel } from "../../mod.ts";
import { Folder } from "../support/folder.ts";
import { FAMILY_MODELS } from "../support/models/family_models.ts";

const PROMPT = "abc cab bca";

/** A small model of a family that can read: its vocabulary has all bytes. */
async function writeReader(name: string, path: string): Promise<void> {
  const shape = { ...FAMILY_MODELS[name].shape, vocabSize: 300 };
  await writeGguf(
    path,
    syntheticModel({ name, shape, type: "F32", seed: 15, vocabulary: "llama" }),
  );
}

/** The calls of the recorder that a line of `forward()` may be for an operation. */
const CALLS: Readonly<Record<string, RegExp>> = {
  linear: /\.(linear|project)\(/,
  rms: /[nN]orm\(|\.added\(/,
  center: /[nN]orm\(|\.added\(/,
  normalize: /[nN]orm\(|\.added\(/,
  scale_columns: /[nN]orm\(|\.added\(/,
  scale: /\.(scale|added)\(/,
  cap: /\.cap\(/,
  clamp: /\.project\(/,
  activate: /\.(activate|sigmoid)\(/,
  xielu: /\.activate\(/,
  glu: /\.glu\(/,
  add: /\.add\(/,
  combine: /\.combine\(/,
  linear_experts: /each\(/,
};

for (const name of Object.keys(FAMILY_MODELS)) {
  Deno.test(`explain: a page of ${name} has words, formula, line and numbers that agree for each step`, async () => {
    using folder = new Folder();
    const path = folder.at("model.gguf");
    await writeReader(name, path);
    using model = await loadModel(path, { backend: "cpu" });
    const { data, numbers } = await pageContent(model, PROMPT);
    const texts = textsOf(data.steps);
    const lines = new Map(FORWARD.map(({ number, text }) => [number, text]));
    const page = new Page(data, numbers);
    for (const step of data.steps) {
      const { title, formula, paper, what } = texts[step.kind];
      assert.ok(title && what && PAPERS[paper], step.name);
      assert.doesNotThrow(() => temml.renderToString(formula, { throwOnError: true }), step.name);
      const { line, inner } = sourceOf(step);
      const call = CALLS[step.operation];
      if (call) assert.match(lines.get(line)!, call, `${step.name} (${step.operation})`);
      if (inner) assert.ok(inner.length > 0, step.name);
      if (step.operation === "ids") continue;
      for (const position of data.positions) {
        const { value, captured, agree, why } = recompute(page, step, position, step.pick);
        assert.ok(agree, `${step.name} at ${position}: ${value} is not ${captured} (${why})`);
      }
    }
  });
}

/** The words of one kind of step of a model's page. */
async function wordsOf(name: string, kind: string) {
  using folder = new Folder();
  const path = folder.at("model.gguf");
  await writeReader(name, path);
  using model = await loadModel(path, { backend: "cpu" });
  const { data } = await pageContent(model, PROMPT);
  return textsOf(data.steps)[kind];
}

const families = new Set(Object.keys(FAMILY_MODELS));
for (
  const [name, kind, expected] of [
    ["gemma2", "attn_scores", /In 2 of 4 layers \(0, 2\).*last \d+ positions/],
    ["gemma2", "attn_scores", /beyond ±\d+/],
    ["gpt2", "attn_norm_rms", /standard deviation/],
    ["baichuan with ALiBi", "attn_scores", /ALiBi/],
    ["llama with experts", "ffn_expert_weights", /sum to 1/],
  ] as const
) {
  Deno.test({
    name: `explain: the words of ${kind} of ${name} say ${expected.source}`,
    ignore: !families.has(name),
    fn: async () => assert.match((await wordsOf(name, kind)).what, expected),
  });
}

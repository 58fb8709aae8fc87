/** Synthetic models: whole files that load, run and generate. */
import assert from "node:assert/strict";
import { RANDOM_TYPES } from "../../../checkpoints/files/random.ts";
import {
  type Shape,
  ShapeError,
  SHAPES,
  syntheticModel,
} from "../../../checkpoints/files/synthetic_model.ts";
import { ggufSize, writeGguf } from "../../../engine/gguf/writer.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { formatBytes } from "../../../inspect/format.ts";
import { Folder } from "../../support/folder.ts";
import { deno } from "../../support/command.ts";

const SMALL: Shape = {
  ...SHAPES["llama-2-7b"],
  ...{ layers: 3, width: 512, ffnWidth: 768, heads: 4, kvHeads: 2, headWidth: 64 },
  // So many that the output's rows come out of a pool.
  ...{ vocabSize: 3000, contextLength: 64 },
};

for (const type of RANDOM_TYPES) {
  Deno.test(`a synthetic model in ${type} loads, runs and generates`, async () => {
    using folder = new Folder();
    const path = folder.at("model.gguf");
    await writeGguf(path, syntheticModel({ name: "synthetic", shape: SMALL, type }));
    using model = await loadModel(path);
    const { config } = model;
    for (const [key, value] of Object.entries(SMALL)) {
      // Floats are F32 in the file.
      const expected = key === "normEpsilon" ? Math.fround(value as number) : value;
      const found = { ...config, ropeBase: config.ropes[0].base }[key as "width"];
      assert.equal(found, expected, key);
    }
    const run = await model.run([[1, 2, 3, 4, 5]], { capture: ["blk.*.out", "logits"] });
    // Values neither vanish nor grow, and positions differ.
    for (let layer = 0; layer < SMALL.layers; layer++) {
      const rms =
        Math.hypot(...run.tensor(`blk.${layer}.out`).at({ position: 4 }).toArray() as number[]) /
        Math.sqrt(SMALL.width);
      assert.ok(rms > 0.02 && rms < 10, `layer ${layer}: ${rms}`);
    }
    const logits = run.tensor("logits").at({ position: -1 }).toArray() as number[];
    assert.ok(logits.every(Number.isFinite));
    assert.ok(new Set(logits).size > 0.99 * logits.length, "no two rows are alike");
    const generation = model.generate([1, 2, 3], { maxTokens: 5, ignoreEos: true });
    // deno-lint-ignore no-unused-vars -- only the ids count
    for await (const token of generation);
    assert.equal(generation.ids.length, 5);
    // A standard deviation of 1/√columns.
    const weights = await model.weightRows("blk.1.ffn_down.weight");
    const mean = weights.reduce((sum, w) => sum + w, 0) / weights.length;
    const square = weights.reduce((sum, w) => sum + w * w, 0) / weights.length;
    const deviation = Math.sqrt(square) * Math.sqrt(SMALL.ffnWidth);
    assert.ok(Math.abs(deviation - 1) < 0.1, `${deviation}`);
    assert.ok(Math.abs(mean) * Math.sqrt(SMALL.ffnWidth) < 0.15, `${mean}`);
  });
}

Deno.test("a shape that cannot be is refused in words", () => {
  const refused = (shape: Partial<Shape>, message: RegExp) =>
    assert.throws(
      () => syntheticModel({ name: "x", shape: { ...SMALL, ...shape }, type: "Q4_0" }),
      (error) => error instanceof ShapeError && message.test(error.message),
    );
  refused({ width: 100 }, /rows of 100 numbers are no whole blocks of 32, as Q4_0 has/);
  refused({ kvHeads: 3 }, /3 key\/value heads do not divide 4 heads/);
  refused({ headWidth: 33 }, /even width/);
});

Deno.test("7B shapes have the sizes that they are known for", () => {
  const size = (type: "F16" | "Q4_0") =>
    formatBytes(ggufSize(syntheticModel({ name: "7b", shape: SHAPES["llama-2-7b"], type })));
  assert.equal(size("F16"), "13.5 GB");
  assert.equal(size("Q4_0"), "3.79 GB");
});

Deno.test("task model synth writes the same file for the same seed, and says what is wrong", async () => {
  using folder = new Folder();
  const command = [
    "run",
    "-q",
    "--no-prompt",
    "-P=model",
    "checkpoints/commands/model.ts",
    "synth",
  ];
  const synth = (...args: string[]) => deno([...command, ...args]);
  const path = (name: string) => folder.at(name);
  const small = ["smollm2-135m", "--layers", "1", "--vocab", "300", "--vocabulary", "llama"];
  const { code, out, err } = await synth(...small, "--json", "--out", path("a"));
  assert.deepEqual([code, err], [0, ""]);
  const facts = JSON.parse(out);
  assert.deepEqual([facts.layers, facts.vocabSize, facts.type], [1, 300, "Q4_0"]);
  const a = await Deno.readFile(path("a"));
  assert.equal(facts.bytes, a.length);
  await synth(...small, "--out", path("b"));
  assert.deepEqual(await Deno.readFile(path("b")), a);
  await synth(...small, "--seed", "1", "--out", path("c"));
  assert.notDeepEqual(await Deno.readFile(path("c")), a);

  using model = await loadModel(path("a"));
  assert.deepEqual(Array.from(model.tokenizer.encode("A")).slice(0, 1), [1]);

  const usage = async (message: RegExp, ...args: string[]) => {
    const { code, err } = await synth(...args);
    assert.equal(code, 2, err);
    assert.match(err, message);
    assert.equal(err.trimEnd().split("\n").length, 1);
  };
  await usage(/--out FILE/, "llama-2-7b");
  await usage(/unknown shape "llama-2-7"; did you mean llama-2-7b/, "llama-2-7", "--out=d");
  await usage(/no whole blocks of 32/, "llama-2-7b", "--width", "100", "--out", path("d"));
});

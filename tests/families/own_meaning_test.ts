/** What families were trained with where llama.cpp does otherwise, and what of a file says nothing. */
import assert from "node:assert/strict";
import { syntheticModel } from "../../checkpoints/files/synthetic_model.ts";
import type { Config } from "../../engine/model/config.ts";
import { llamaCppDoes, readHyperparameters } from "../../engine/model/hyperparameters.ts";
import { FAMILY_MODELS } from "../support/models/family_models.ts";

/** The model of a name without some keys, as it was trained and as llama.cpp has it. */
function both(name: string, without: readonly string[] = []) {
  const { metadata, tensors } = syntheticModel({
    name,
    shape: FAMILY_MODELS[name].shape,
    type: "F32",
  });
  const left = new Map([...metadata].filter(([key]) => !without.includes(key)));
  const nothing = { bytes: 0, offset: 0, source: 0 };
  const file = {
    name,
    metadata: left,
    tensors: new Map(tensors.map((tensor) => [tensor.name, { ...tensor, ...nothing }])),
  };
  const theirs: Config = readHyperparameters(file, { like: "llama.cpp" });
  return { own: readHyperparameters(file), theirs, does: llamaCppDoes(file) };
}

Deno.test("StarCoder 2 has a window that converters leave out, and llama.cpp with them", () => {
  const { own, theirs, does } = both("starcoder2", ["starcoder2.attention.sliding_window"]);
  assert.deepEqual(own.blocks.map(({ window }) => window), [4096, 4096, 4096, 4096]);
  assert.deepEqual(theirs.blocks.map(({ window }) => window), [0, 0, 0, 0]);
  assert.match(does!, /window/);
});

Deno.test("Falcon and MPT have GELU itself, GPT-2 its approximation", () => {
  for (const name of ["falcon", "mpt"]) {
    const { own, theirs, does } = both(name);
    assert.deepEqual([own.activation, theirs.activation], ["gelu", "gelu_tanh"]);
    assert.match(does!, /GELU/);
  }
  const { own, does } = both("gpt2");
  assert.deepEqual([own.activation, does], ["gelu_tanh", undefined]);
});

Deno.test("logits of old MiniCPM files are divided by the width's share of 256", () => {
  const { own, theirs, does } = both("minicpm without factors");
  assert.equal(own.logitScale, 256 / 84);
  assert.equal(theirs.logitScale, 84 / 256);
  assert.match(does!, /logits/);
  assert.deepEqual([own.embedding.scale, own.residualScale], [12, 1.4 / 2]);
  assert.equal(both("minicpm").does, undefined);
});

Deno.test("whether StableLM's halves are parallel is seen by their norms, not by the key", () => {
  assert.equal(both("stablelm").own.parallel, false);
  const names = Object.keys(FAMILY_MODELS).filter((name) => name.startsWith("stablelm with"));
  assert.ok(both(names[0]).own.parallel);
});

/** What files of a family may say, where no model of the proof says it: large models, refusals, what llama.cpp leaves out. */
import assert from "node:assert/strict";
import { type Shape, syntheticModel } from "../../checkpoints/files/synthetic_model.ts";
import type { Config } from "../../engine/model/config.ts";
import { llamaCppDoes, readHyperparameters } from "../../engine/model/hyperparameters.ts";
import type { ConfigSource } from "../../engine/model/keys.ts";
import { FAMILY_MODELS } from "../support/models/family_models.ts";

/** A family's model, changed. */
function source(name: string, change: Partial<Shape> = {}): ConfigSource {
  const { metadata, tensors } = syntheticModel({
    name,
    shape: { ...FAMILY_MODELS[name].shape, ...change },
    type: "F32",
  });
  const facts = { bytes: 0, offset: 0, source: 0 };
  return {
    name: "test.gguf",
    metadata: new Map(metadata),
    tensors: new Map(tensors.map((tensor) => [tensor.name, { ...tensor, ...facts }])),
  };
}

function config(name: string, change: Partial<Shape> = {}): Config {
  return readHyperparameters(source(name, change));
}

Deno.test("the largest Gemmas divide scores by the root of a head's share of the stream", () => {
  for (const [name, layers] of [["gemma2", 46], ["gemma3", 62]] as const) {
    assert.equal(config(name, { layers }).attentionScale, 1 / Math.sqrt(14));
    assert.equal(config(name).attentionScale, 1 / Math.sqrt(22));
  }
});

Deno.test("Gemma 2 has caps and a window where its file says nothing", () => {
  const { attentionCap, logitCap, blocks } = config("gemma2", { keys: {} });
  assert.deepEqual([attentionCap, logitCap], [50, 30]);
  assert.deepEqual(blocks.map(({ window }) => window), [4096, 0, 4096, 0]);
});

Deno.test("layers with a window may be listed, or be all but every nth", () => {
  const window = { "attention.sliding_window": ["u32", 24] } as const;
  const key = "attention.sliding_window_pattern";
  const windows = (keys: Shape["keys"]) =>
    config("gemma3", { layers: 4, keys: { ...window, ...keys } }).blocks.map(({ window }) =>
      window
    );
  assert.deepEqual(windows({ [key]: ["u32", 2] }), [24, 0, 24, 0]);
  assert.deepEqual(windows({ [key]: ["bool[]", [false, true, true, false]] }), [0, 24, 24, 0]);
});

Deno.test("Gemma 3's layers with a window have a base of their own, which is not scaled", () => {
  const { ropes, blocks } = config("gemma3");
  assert.deepEqual(ropes.map(({ base, scaling }) => [base, scaling.type]), [
    [1000000, "linear"],
    [10000, "none"],
  ]);
  assert.deepEqual(blocks.map(({ rope }) => rope!.base), [1e4, 1e4, 1e4, 1e4, 1e4, 1e6, 1e4]);
});

Deno.test("Phi 3 has the window that llama.cpp leaves out", () => {
  const file = source("phi3");
  const window = (like?: "llama.cpp") => readHyperparameters(file, { like }).blocks[0].window;
  assert.deepEqual([window(), window("llama.cpp")], [24, 0]);
  assert.match(llamaCppDoes(file)!, /leaves out the window of attention \(phi3\./);
  assert.equal(llamaCppDoes(source("phi3 with LongRoPE, long")), undefined);
});

Deno.test("what a family does not compute is refused with its key", () => {
  const refused = (name: string, change: Partial<Shape>, message: RegExp) =>
    assert.throws(() => config(name, change), { name: "GgufError", message });
  refused("baichuan", { layers: 4 }, /baichuan\.block_count is 4, and only models of 32 and 40/);
  const window = { keys: { "attention.sliding_window": ["u32", 24] } } as const;
  refused("exaone4", window, /exaone4\.attention\.sliding_window is 24: windows/);
  refused("qwen3", window, /qwen3\.attention\.sliding_window is 24: windows/);
  const predicting = { keys: { "nextn_predict_layers": ["u32", 1] } } as const;
  refused("glm4", predicting, /glm4\.nextn_predict_layers is 1: layers that predict/);
  const { shape } = FAMILY_MODELS["phi3 with LongRoPE, long"];
  const scaled = { ...shape.keys, "rope.scaling.factor": ["f32", 4] } as const;
  refused("phi3 with LongRoPE, long", { keys: scaled }, /phi3\.rope\.scaling\.factor is 4/);
  refused("apertus", { keys: {} }, /the metadata key xielu\.alpha_n is missing/);
  const experts = { keys: { expert_count: ["u32", 8] } } as const;
  refused("mistral3", experts, /mistral3\.expert_count is 8: mixtures of experts/);
});

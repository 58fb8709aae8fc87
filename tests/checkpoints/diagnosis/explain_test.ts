/** Why a point went wrong, where an engine shows only some of its tensors: the steps between are suspected too. */
import assert from "node:assert/strict";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import { ENGINE_FAULTS } from "../../support/faults/engine_faults.ts";
import { KNOWN_FAULTS } from "../../support/faults/engines/known.ts";
import type { EngineFault } from "../../support/faults/fault.ts";
import { type FaultModel, faultModels } from "../../support/models/fault_models.ts";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import type { RunOptions } from "../../support/engines/faulty_engine.ts";
import { Folder } from "../../support/folder.ts";
import { Random } from "../../../checkpoints/files/random.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random, large } = await faultModels(folder.path);
const LAYER = 1;

/** What engines show: the stream after each block, after each half of a block, or what each matrix makes. */
const SHOWN: Readonly<Record<string, RegExp>> = {
  "blk.*.out": /\.out$/,
  "the stream": /\.(ffn_inp|out)$/,
  "products": /\.(q|k|v|attn_out|ffn_gate|ffn_up|ffn_out|out)$/,
};

function runWith(model: FaultModel, fault: EngineFault, where: RunOptions["where"] = LAYER) {
  const { shape } = model.engine;
  const mistakes = fault.make({ model, shape, layer: LAYER, draw: new Random(5) });
  return model.engine.run(model.ids, 1, { mistakes, where });
}

/** Faults that show in what comes of them, whatever lies between; a weight's own damage only where it is measured. */
const SPARSE = [
  "rows of Q in the other RoPE order",
  "rows of K in the other RoPE order",
  "RoPE turns halves",
  "RoPE's base is a usual one",
  "positions divided by 4",
  "frequency factors ignored",
  "LayerNorm",
  "norm weights as 1 + w",
  "up goes through the activation",
  "gate's and up's weights exchanged",
  "GELU",
  "attention output transposed",
  "query head h reads key/value head h mod Hkv",
  "heads joined backwards",
  "no bias on Q",
  "no bias after attention",
  "V is turned",
  "no residual after attention",
  "the stream twice after the FFN",
  "a block of ffn_down dequantized wrongly",
];

for (const name of SPARSE) {
  Deno.test(`sparse: ${name}`, async () => {
    const fault = KNOWN_FAULTS[name];
    const run = runWith(random, fault);
    for (const [what, shown] of Object.entries(SHOWN)) {
      const from = `blk.${LAYER}.${fault.point}`;
      const { cause, explained: share, detail } = await explained(random, run, from, { shown });
      assert.equal(cause, fault.causes[0], `${what}: ${detail}`);
      assert.ok(share > 0.99, `${what}: ${share}`);
    }
  });
}

Deno.test("sparse: faults that no cause stands for get none", async (t) => {
  const faults = Object.values(ENGINE_FAULTS).flatMap((kind) => Object.entries(kind));
  const none = faults.filter(([, { causes: [cause, ...others], on = ["random"], where }]) =>
    cause === "unknown" && others.length === 0 && on.includes("random") && where === undefined
  );
  for (const [name, fault] of none) {
    await t.step(name, async () => {
      const run = runWith(random, fault);
      const shown = SHOWN["the stream"];
      const found = await explained(random, run, `blk.${LAYER}.${fault.point}`, { shown });
      assert.equal(found.cause, "unknown", found.detail);
      assert.equal(found.explained, 0);
      assert.ok(found.before > 0);
    });
  }
});

Deno.test("logits alone: what is set once for a model is found in all blocks", async (t) => {
  const faults: [Mistakes, Cause, RegExp][] = [
    [{ rope: () => ({ base: 5e5 }) }, "rope-base", /^500000 .*blk\.0\.q_rope to blk\.2\.k_rope/],
    [{ activation: (gate, up) => Math.max(0, gate) * up }, "activation", /^ReLU .*blk\.0\.ffn_act/],
    [{ turnsValues: "stored" }, "v-rotated", /blk\.0\..* to blk\.2\./],
  ];
  for (const [mistakes, cause, detail] of faults) {
    await t.step(cause, async () => {
      const run = random.engine.run(random.ids, 0, { mistakes, where: "blocks" });
      const found = await explained(random, run, "logits", { shown: /^logits$/ });
      assert.equal(found.cause, cause);
      assert.match(found.detail, detail);
    });
  }
});

Deno.test("what no cause explains is told as far as it can be", async () => {
  const shown = /./;
  const detail = async (kind: keyof typeof ENGINE_FAULTS, name: string) => {
    const fault = ENGINE_FAULTS[kind][name];
    const from = `blk.${LAYER}.${fault.point}`;
    return (await explained(random, runWith(random, fault), from, { shown })).detail;
  };
  assert.match(
    await detail("caps and clamps", "the stream clipped"),
    /numbers are cut at -0\.5 and 0\.5 there$/,
  );
});

Deno.test("a bias that the file does not have is seen in the difference", async () => {
  const draw = new Random(3);
  const bias = Float32Array.from({ length: random.engine.shape.width }, () => draw.normal());
  const mistakes: Mistakes = {
    made: (point, x) => point === "ffn_out" ? x.map((v, i) => v + bias[i % bias.length]) : x,
  };
  const run = random.engine.run(random.ids, 0, { mistakes, where: LAYER });
  for (const shown of [/./, SHOWN["blk.*.out"]]) {
    const found = await explained(random, run, `blk.${LAYER}.ffn_out`, { shown });
    assert.equal(found.cause, "bias-missing", found.detail);
  }
});

Deno.test("a number that leaves f16 in a step that is not shown", async () => {
  const run = runWith(large, KNOWN_FAULTS["the FFN's products in f16"]);
  const shown = SHOWN["the stream"];
  const found = await explained(large, run, `blk.${LAYER}.ffn_act`, { shown });
  assert.equal(found.point, `blk.${LAYER}.out`);
  assert.equal(found.cause, "f16-overflow");
  assert.match(found.detail, /^blk\.1\.ffn_act reaches \d/);
});

Deno.test("of long passes the rows that are wrong are looked at", async () => {
  const ids = Array.from({ length: 150 }, (_, i) => 3 + (i * 37) % 300);
  const wrong = (point: string, change: (numbers: Float32Array) => void): Mistakes => ({
    made(each, numbers) {
      if (each === point) change(numbers);
      return numbers;
    },
  });
  const { heads, headWidth, kvHeads } = random.engine.shape;
  for (const position of [2, 140]) {
    const at = position * heads * headWidth;
    const run = random.engine.run(ids, 0, {
      mistakes: wrong("q", (q) => q.fill(1, at, at + headWidth)),
      where: LAYER,
    });
    const from = `blk.${LAYER}.q`;
    const [seen, unseen] = await Promise.all(
      [position, 70].map((at) => explained(random, run, from, { shown: /./, position: at })),
    );
    assert.ok(seen.before > 0.01);
    assert.ok(unseen.before < 1e-6);
  }
  const slot = 140 * kvHeads * headWidth;
  const run = random.engine.run(ids, 0, {
    mistakes: wrong("cache_v", (cache) => cache.fill(NaN, slot, slot + 1)),
    where: LAYER,
  });
  const found = await explained(random, run, `blk.${LAYER}.cache_v`, { shown: /./, position: 140 });
  assert.equal(found.cause, "nan");
});

Deno.test("while decoding nothing is computed of a cache that is not shown", async () => {
  const fault = KNOWN_FAULTS["positions lag behind while decoding"];
  const run = runWith(random, fault);
  const from = `blk.${LAYER}.q_rope`;
  const shown = SHOWN["the stream"];
  const found = await explained(random, run, from, { shown, step: 1 });
  assert.equal(found.cause, "unknown");
  assert.match(found.detail, /blk\.1\.cache_k is not shown$/);
  const all = await explained(random, run, from, { shown: /(ffn_inp|out|cache_[kv])$/, step: 1 });
  assert.equal(all.cause, "position-offset", all.detail);
});

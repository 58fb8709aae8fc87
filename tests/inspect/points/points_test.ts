import assert from "node:assert/strict";
import type { Config, Rope } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { type Plan, planValues, resolveShape } from "../../../engine/plan/plan.ts";
import {
  asAsked,
  listPoints,
  type Point,
  resolvePoints,
  toAdjacent,
  toHalf,
  UnknownPointError,
} from "../../../inspect/points/points.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { Folder } from "../../support/folder.ts";
import { writeFamilyModel } from "../../support/models/family_models.ts";
import { randomFile, type RandomLlamaOptions } from "../../support/models/random_llama.ts";
import {
  BLOCK_POINTS,
  OUTER_POINTS,
  type PointRow,
  sized,
} from "../../support/tables/point_table.ts";

const SIZES = {
  layers: 12,
  width: 32,
  heads: 4,
  kvHeads: 2,
  headWidth: 8,
  ffnWidth: 48,
  vocab: 64,
};

async function model(
  options: RandomLlamaOptions = {},
): Promise<{ config: Config; plan: Plan; points: Point[] }> {
  const file = await randomFile({ ...SIZES, ...options });
  const config = readConfig(file);
  const plan = forward(config);
  return { config, plan, points: listPoints(config, plan) };
}

const LENGTHS = { T: 5, S: 7, R: 2 };

/** What the table says of a point, in these sizes: its shape and its axes. */
function row([, , axes, sizes]: PointRow): [number[], string] {
  return [sized(sizes, { ...LENGTHS, D: 32, F: 48, H: 4, Hkv: 2, d: 8, V: 64 }), axes];
}

Deno.test("every row of the table, in every layer, with its shape", async () => {
  const { points } = await model();
  const expected = new Map(OUTER_POINTS.map((each) => [each[0], row(each)]));
  for (let layer = 0; layer < SIZES.layers; layer++) {
    for (const each of BLOCK_POINTS) expected.set(`blk.${layer}.${each[0]}`, row(each));
  }
  assert.deepEqual(new Set(points.map(({ name }) => name)), new Set(expected.keys()));
  assert.equal(points.length, expected.size);
  for (const point of points) {
    const shape = resolveShape(point.shape, LENGTHS);
    assert.deepEqual([shape, point.axes.join(" ")], expected.get(point.name), point.name);
    assert.equal(
      point.name,
      point.layer === undefined ? point.kind : `blk.${point.layer}.${point.kind}`,
    );
    assert.ok(point.meaning.length > 5);
    assert.equal(point.onRequest, point.kind === "head_result");
    const rotary = ["q", "k", "q_rope", "k_rope", "cache_k"].includes(point.kind);
    assert.deepEqual(point.rope, rotary ? { order: "adjacent", width: 8 } : undefined);
  }
});

Deno.test("points are in the order of computation", async () => {
  const { plan, points } = await model();
  const order = [...planValues(plan).keys()];
  const places = points.map(({ name }) => order.indexOf(name));
  assert.deepEqual(places, places.toSorted((a, b) => a - b));
});

Deno.test("only the plan's own helpers are no points", async () => {
  const { plan, points } = await model({ biases: true });
  const names = new Set(points.map(({ name }) => name));
  const others = [...planValues(plan).keys()].filter((name) => !names.has(name));
  const kinds = new Set(others.map((name) => name.replace(/^blk\.\d+\./, "")));
  assert.deepEqual(
    [...kinds].sort(),
    ["argmax", "attn_out_product", "k_product", "last_rows", "q_product", "sample", "v_product"],
  );
});

Deno.test("what enters the first block has its names, whatever the stream begins with", async () => {
  const { config } = await model();
  for (
    const [embedding, start] of [
      [{}, "token_embd"],
      [{ scale: 3 }, "embd_scaled"],
      [{ positions: true }, "embd_sum"],
      [{ scale: 3, positions: true, norm: true }, "embd_norm"],
    ] as const
  ) {
    const own = { ...config, embedding: { ...config.embedding, ...embedding } };
    const points = listPoints(own, forward(own));
    for (
      const alias of [
        ...["blk.0.inp", "resid_pre.0", "blocks.0.hook_resid_pre"],
        ...["hidden_states[0]", "model.layers.0.input"],
      ]
    ) {
      assert.deepEqual(
        resolvePoints(points, [alias]).map(({ point }) => point.name),
        [start],
        alias,
      );
    }
    assert.equal(resolvePoints(points, ["resid_pre.1"])[0].point.name, "blk.0.out");
    assert.equal(new Set(points.flatMap(({ aliases }) => aliases)).size, aliasCount(points));
  }
});

Deno.test("a norm after attention is what attention adds; LayerNorm is shown as a whole", async () => {
  const { config } = await model();
  const after = { ...config, norms: { ...config.norms, attentionAfter: "post_attention_norm" } };
  const named = (own: Config, alias: string) =>
    resolvePoints(listPoints(own, forward(own)), [alias])[0].point.name;
  assert.equal(named(config, "blocks.1.hook_attn_out"), "blk.1.attn_out");
  assert.equal(named(after, "blocks.1.hook_attn_out"), "blk.1.attn_post_norm");
  assert.equal(named(after, "attn_out_post.1"), "blk.1.attn_post_norm");
  assert.equal(named(after, "attn_out.1"), "blk.1.attn_out");
  assert.equal(named(config, "blocks.1.ln1.hook_normalized"), "blk.1.attn_norm_pre");
  const layer = { ...config, normKind: "layer" } as const;
  assert.equal(named(layer, "blocks.1.ln1.hook_normalized"), "blk.1.attn_norm");
  assert.equal(named(layer, "blk.1.attn_norm_centered"), "blk.1.attn_norm_centered");
  const parallel = { ...config, parallel: true, norms: { attention: "attn_norm" } };
  assert.throws(() => named(parallel, "resid_mid.1"), UnknownPointError);
});

function aliasCount(points: readonly Point[]): number {
  return points.reduce((sum, { aliases }) => sum + aliases.length, 0);
}

Deno.test("no name or alias stands for two points", async () => {
  const { points } = await model();
  const names = points.flatMap(({ name, aliases }) => [name, ...aliases]);
  assert.equal(new Set(names).size, names.length);
  assert.ok(names.every((name) => !/[{}*]/.test(name)));
});

/** Canonical names that patterns find. */
function found(points: readonly Point[], ...patterns: string[]): string[] {
  return resolvePoints(points, patterns).map(({ point }) => point.name);
}

Deno.test("patterns select canonical names", async () => {
  const { points } = await model();
  const layers = Array.from({ length: SIZES.layers }, (_, layer) => layer);
  assert.deepEqual(found(points, "blk.*.attn_probs"), layers.map((l) => `blk.${l}.attn_probs`));
  assert.deepEqual(found(points, "blk.1.out"), ["blk.1.out"]);
  assert.deepEqual(found(points, "blk.1*.out"), ["blk.1.out", "blk.10.out", "blk.11.out"]);
  assert.deepEqual(found(points, "blk.9-11.out"), ["blk.9.out", "blk.10.out", "blk.11.out"]);
  assert.deepEqual(found(points, "blk.{0,10-11}.{q,v}"), [
    ...["blk.0.q", "blk.0.v", "blk.10.q", "blk.10.v", "blk.11.q", "blk.11.v"],
  ]);
  assert.deepEqual(found(points, "blk.3.*_rope"), ["blk.3.q_rope", "blk.3.k_rope"]);
  assert.deepEqual(found(points, "output_*"), [
    "output_norm_rms",
    "output_norm_pre",
    "output_norm",
  ]);
  const block = BLOCK_POINTS.map(([kind]) => `blk.3.${kind}`).filter((name) =>
    !name.endsWith("_result")
  );
  assert.deepEqual(found(points, "blk.3.*"), block);
  assert.equal(found(points, "blk.*").length, SIZES.layers * (BLOCK_POINTS.length - 1));
  assert.equal(
    found(points, "*").length,
    SIZES.layers * (BLOCK_POINTS.length - 1) + OUTER_POINTS.length,
  );
});

Deno.test("head_result comes only when it is named", async () => {
  const { points } = await model();
  assert.deepEqual(found(points, "blk.2.head_result"), ["blk.2.head_result"]);
  assert.equal(found(points, "blk.*.head_result").length, SIZES.layers);
  assert.deepEqual(found(points, "blk.2.{head_out,head_result}").length, 2);
  assert.deepEqual(found(points, "blk.2.head_*"), ["blk.2.head_out"]);
  assert.equal(found(points, "blocks.*.attn.hook_result").length, SIZES.layers);
  assert.ok(!found(points, "blocks.2.attn.hook_*").includes("blk.2.head_result"));
});

Deno.test("names come once, in the order of the patterns, as they were asked for", async () => {
  const { points } = await model();
  const names = ["logits", "blk.0.{q,k}", "blk.0.*rope", "blk.0.k", "lm_head", "Qcur-0"];
  const resolved = resolvePoints(points, names);
  assert.deepEqual(resolved.map(({ name }) => name), [
    ...["logits", "blk.0.q", "blk.0.k", "blk.0.q_rope", "blk.0.k_rope", "lm_head", "Qcur-0"],
  ]);
  assert.deepEqual(resolved.at(-2)!.point, resolved[0].point);
  assert.deepEqual(resolvePoints(points, []), []);
});

Deno.test("aliases resolve, in patterns too", async () => {
  const { points } = await model();
  const pairs: Record<string, string> = {
    "blk.0.inp": "token_embd",
    "blk.7.inp": "blk.6.out",
    "Qcur-3": "blk.3.q_rope",
    "Qcur-3#pre_rope": "blk.3.q",
    "norm-3": "blk.3.ffn_norm_pre",
    "norm-3#attn_norm": "blk.3.attn_norm_pre",
    "blocks.3.attn.hook_pattern": "blk.3.attn_probs",
    "blocks.3.hook_resid_pre": "blk.2.out",
    "blocks.3.ln1.hook_normalized": "blk.3.attn_norm_pre",
    "model.layers.3.self_attn.q_proj": "blk.3.q",
    "hidden_states[0]": "token_embd",
    "hidden_states[11]": "blk.10.out",
    "hidden_states[12]": "output_norm",
  };
  for (const [alias, name] of Object.entries(pairs)) {
    assert.deepEqual(found(points, alias), [name], alias);
  }
  assert.deepEqual(found(points, "blk.{0,1}.inp"), ["token_embd", "blk.0.out"]);
  assert.deepEqual(found(points, "Kcur-{0,1}"), ["blk.0.k_rope", "blk.1.k_rope"]);
  assert.equal(found(points, "Qcur-*").length, SIZES.layers); // not those with #
  assert.equal(found(points, "blocks.0-3.hook_resid_mid").length, 4);
  assert.deepEqual(found(points, "model.layers.2.self_attn.*_proj"), [
    ...["blk.2.q", "blk.2.k", "blk.2.v", "blk.2.attn_out"],
  ]);
});

Deno.test("an unknown name lists the nearest", async () => {
  const { points } = await model();
  const refused: [string, string][] = [
    ["blk.3.atn_probs", "blk.3.attn_probs"],
    ["blk.*.atn_probs", "blk.*.attn_probs"],
    ["blk.0-3.ffn_gat", "blk.*.ffn_gate"],
    ["blk.3.head_resul*", "blk.*.head_result"],
    ["blocks.3.attn.hook_patern", "blocks.3.attn.hook_pattern"],
    ["model.layers.3.mlp.act_fn", "model.layers.3.mlp"],
    ["logit", "logits"],
    ["blk.12.out", "blk.2.out"],
  ];
  for (const [asked, near] of refused) {
    assert.throws(() => resolvePoints(points, ["logits", asked]), (error) => {
      assert.ok(error instanceof UnknownPointError);
      assert.equal(error.point, asked);
      assert.ok(error.nearest.includes(near), `${asked}: ${error.nearest}`);
      assert.ok(error.message.includes(`"${asked}" in this model of 12 layers`), error.message);
      assert.ok(error.message.includes(near));
      return true;
    });
  }
  assert.throws(() => resolvePoints(points, ["zzzzzz"]), /points\(\) lists all/);
  assert.throws(() => resolvePoints(points, [""]), UnknownPointError);
  // Nothing of a name is taken for a regular expression.
  assert.throws(() => resolvePoints(points, ["blk.0.(out|q)"]), UnknownPointError);
  assert.throws(() => resolvePoints(points, ["logit."]), UnknownPointError);
});

function inHalves(config: Config): Config {
  const halves = (rope: Rope): Rope => ({ ...rope, style: "half" });
  const blocks = config.blocks.map((block) => ({ ...block, rope: halves(block.rope!) }));
  return { ...config, ropes: config.ropes.map(halves), blocks };
}

Deno.test("row order: halves for Hugging Face and TransformerLens, where the file has pairs", async () => {
  const { config, plan, points } = await model();
  const orders = (points: Point[]) =>
    resolvePoints(points, [
      ...["blk.0.q", "Qcur-0", "model.layers.0.self_attn.q_proj", "blocks.0.attn.hook_rot_k"],
      ...["blocks.0.attn.hook_v", "past_key_values.layers[0].keys"],
    ]).map(({ rowOrder }) => rowOrder);
  assert.deepEqual(orders(points), ["file", "file", "half", "half", "file", "half"]);
  // A file whose own order is halves needs no conversion.
  const halves = listPoints(inHalves(config), plan);
  assert.deepEqual(new Set(orders(halves)), new Set(["file"]));
  assert.equal(halves.find(({ kind }) => kind === "q")!.rope!.order, "half");
});

Deno.test("toHalf and toAdjacent move pairs, head by head, and leave what RoPE does not turn", () => {
  // Two heads of 6, of which 4 turn: pairs (a, A), (b, B).
  const adjacent = Float32Array.of(1, 10, 2, 20, 7, 8, 3, 30, 4, 40, 9, 5);
  const half = Float32Array.of(1, 2, 10, 20, 7, 8, 3, 4, 30, 40, 9, 5);
  assert.deepEqual(toHalf(adjacent, 6, 4), half);
  assert.deepEqual(toAdjacent(half, 6, 4), adjacent);
  assert.deepEqual(
    toHalf(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7), 8),
    Float32Array.of(0, 2, 4, 6, 1, 3, 5, 7),
  );
  assert.equal(adjacent[1], 10, "the input is as it was");
  assert.throws(() => toHalf(adjacent, 5, 4), RangeError);
  assert.throws(() => toHalf(adjacent, 6, 3), RangeError);
  assert.throws(() => toHalf(adjacent, 6, 8), RangeError);
});

Deno.test("asAsked converts what differs and hands on the rest", async () => {
  const { points } = await model({ ropeWidth: 4 });
  const [plain, halved, unscaled] = resolvePoints(points, [
    "Qcur-0",
    "blocks.0.attn.hook_rot_q",
    "kq-0",
  ]);
  const head = Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7);
  assert.equal(asAsked(plain, head), head);
  assert.deepEqual(asAsked(halved, head), Float32Array.of(0, 2, 1, 3, 4, 5, 6, 7));
  const factor = Math.fround(Math.sqrt(8));
  assert.deepEqual(
    asAsked(unscaled, Float32Array.of(1, -Infinity)),
    Float32Array.of(factor, -Infinity),
  );
});

Deno.test("Hugging Face's modules are called as a family's classes call them", async () => {
  const aliases = async (name: string, point: string) => {
    using folder = new Folder();
    await writeFamilyModel(name, folder.at("model.gguf"));
    const file = await openGgufFile(folder.at("model.gguf"));
    const config = readConfig(file);
    file.close();
    const points = listPoints(config, forward(config));
    return points.find((each) => each.name === point)!.aliases.filter((name) =>
      /^(model|transformer)\.|_states/.test(name)
    );
  };
  assert.deepEqual(await aliases("qwen2", "blk.1.attn_out"), [
    "model.layers.1.self_attn.o_proj",
    "model.layers.1.self_attn",
  ]);
  assert.deepEqual(await aliases("phi2", "blk.1.attn_out"), [
    "model.layers.1.self_attn.dense",
    "model.layers.1.self_attn",
  ]);
  // All modules of GPT-2's class have other names; what its output has is called alike.
  assert.deepEqual(await aliases("gpt2", "blk.1.attn_out"), []);
  assert.deepEqual(await aliases("gpt2", "blk.1.out"), ["hidden_states[2]"]);
});

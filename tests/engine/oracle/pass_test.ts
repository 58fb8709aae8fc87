/** The oracle's pass: models that between them have everything a config can say. */
import assert from "node:assert/strict";
import { type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import type { Config, Rope } from "../../../engine/model/config.ts";
import { activate } from "../../../engine/oracle/activations.ts";
import { attentionScores } from "../../../engine/oracle/attention.ts";
import { oracle, oracleGreedy } from "../../../engine/oracle/oracle.ts";
import { writeGguf, type WriterTensor } from "../../support/models/gguf_writer.ts";
import { randomFile } from "../../support/models/random_llama.ts";
import {
  BLOCK,
  D,
  d,
  F,
  fileOf,
  H,
  Hkv,
  near,
  NORMS,
  numbers,
  PLAIN,
  pointsOf,
  product,
  run,
  sum,
  T,
  testPasses,
  times,
  TURNS,
} from "../../support/models/oracle_configs.ts";

const YARN_TABLE: Rope = {
  ...TURNS,
  table: "rope_table_window",
  width: 2,
  style: "adjacent",
  magnitude: 1.2,
  scaling: { type: "yarn", factor: 4, originalLength: 8, betaFast: 32, betaSlow: 1, share: 1 },
};

/** Between them they have everything. */
const CONFIGS: Readonly<Record<string, Config>> = {
  plain: PLAIN,
  "parallel LayerNorms with biases, learned positions": {
    ...PLAIN,
    embedding: { scale: 3, positions: true, norm: true },
    normKind: "layer",
    norms: { attention: "attn_norm" },
    parallel: true,
    qkNorm: { over: "own_heads", afterRope: true },
    qkvLimit: 0.4,
    activation: "xielu",
    xielu: { alphaN: [0.5, 0.7], alphaP: [0.8, 0.2], beta: [0.5, 0.4], epsilon: [-0.1, 0] },
    gated: false,
    residualScale: 0.3,
    logitScale: 0.25,
    logitCap: 2,
    outputNorm: "final_norm",
    optional: new Set([
      ...["token_embd_norm", "attn_norm", "final_norm"].flatMap((
        n,
      ) => [`${n}.weight`, `${n}.bias`]),
      ...["attn_q_norm.weight", "attn_k_norm.weight", "output.bias"],
      ...["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"].map((n) =>
        `${n}.bias`
      ),
    ]),
  },
  "norms of what is added, of whole rows, two tables": {
    ...PLAIN,
    layers: 3,
    norms: { attentionAfter: "post_attention_norm", ffnAfter: "post_ffw_norm" },
    qkNorm: { over: "row", afterRope: false },
    queryScaling: { scale: 0.2, period: 2, offset: 0 },
    attentionCap: 1.5,
    ropes: [TURNS, YARN_TABLE],
    blocks: [
      { window: 3, chunk: 0, rope: YARN_TABLE },
      BLOCK,
      { window: 0, chunk: 4, rope: undefined },
    ],
    activation: "gelu",
    residualScale: 0.5,
    logitCap: 2,
    tiedOutput: true,
    fused: { qkv: true, gateUp: true },
    optional: new Set([
      ...["post_attention_norm.weight", "post_ffw_norm.weight", "output_norm.weight"],
      ...["attn_q_norm.weight", "attn_k_norm.weight"],
    ]),
  },
  "parallel with two norms, without weights, ALiBi": {
    ...PLAIN,
    normKind: "layer",
    norms: { attention: "attn_norm_2", ffn: "attn_norm" },
    parallel: true,
    qkNorm: { over: "head", afterRope: false },
    alibi: 8,
    ropes: [],
    blocks: [{ ...BLOCK, rope: undefined }, { ...BLOCK, rope: undefined }],
    activation: "swiglu_clamped",
    logitScale: 4,
    optional: new Set(["attn_q_norm.bias", "attn_k_norm.weight"]),
  },
};

testPasses(CONFIGS);

Deno.test("a parallel block: both halves read one norm, and are added at the end", async () => {
  const config = CONFIGS["parallel LayerNorms with biases, learned positions"];
  const file = await fileOf(config);
  const point = await pointsOf(config);
  near(point("embd_scaled"), times(point("token_embd"), 3));
  near(point("embd_sum"), sum(point("embd_scaled"), point("position_embd")));
  near(point("blk.0.attn_out_scaled"), times(point("blk.0.attn_out"), 0.3));
  near(point("blk.0.ffn_out_scaled"), times(point("blk.0.ffn_out"), 0.3));
  const stream = [point("embd_norm"), point("blk.0.attn_out_scaled")];
  near(point("blk.0.attn_resid"), sum(...stream));
  near(point("blk.0.out"), sum(...stream, point("blk.0.ffn_out_scaled")));
  const normed = point("blk.0.attn_norm");
  const up = await numbers(file, "blk.0.ffn_up.weight");
  near(point("blk.0.ffn_up_product"), product(normed, up, D));
  const bias = await numbers(file, "blk.0.ffn_up.bias");
  near(point("blk.0.ffn_up"), point("blk.0.ffn_up_product").map((x, i) => x + bias[i % F]));
  // LayerNorm of a position, by hand.
  const [x, weight] = [
    point("embd_norm").slice(0, D),
    await numbers(file, "blk.0.attn_norm.weight"),
  ];
  const mean = x.reduce((total, value) => total + value) / D;
  const variance = x.reduce((total, value) => total + (value - mean) ** 2, 0) / D;
  const shift = await numbers(file, "blk.0.attn_norm.bias");
  const root = Math.sqrt(variance + 1e-5);
  near(normed.slice(0, D), x.map((value, i) => (value - mean) / root * weight[i] + shift[i]));
  // Clamped, turned, normed; and the last clamped numbers were others.
  near(point("blk.0.k"), point("blk.0.k_unclamped").map((k) => Math.min(Math.max(k, -0.4), 0.4)));
  assert.ok(point("blk.0.k_unclamped").some((k) => Math.abs(k) > 0.4));
  near(point("blk.0.q_norm_centered").slice(0, d), less(point("blk.0.q_rope").slice(0, d)));
  near(point("blk.0.q_rope").slice(0, H * d), point("blk.0.q").slice(0, H * d)); // position 0
  near(point("blk.0.cache_k"), point("blk.0.k_norm"));
  // Each head has weights of its own.
  const own = await numbers(file, "blk.0.attn_q_norm.weight");
  near(point("blk.0.q_norm"), point("blk.0.q_norm_pre").map((q, i) => q * own[i % (H * d)]));
  // xIELU's numbers are those of the layer.
  const second = { alphaN: 0.7, alphaP: 0.2, beta: 0.4, epsilon: 0 };
  near(point("blk.1.ffn_act"), activate(point("blk.1.ffn_up"), "xielu", second));
  near(point("logits_uncapped"), times(point("logits_unscaled"), 0.25));
  near(point("logits"), point("logits_uncapped").map((logit) => 2 * Math.tanh(logit / 2)));
});

Deno.test("norms of what is added; windows, chunks and tables by layer", async () => {
  const config = CONFIGS["norms of what is added, of whole rows, two tables"];
  const file = await fileOf(config);
  const points = await run(config, file);
  const point = (name: string) => points.get(name)!.data;
  near(point("blk.0.q"), product(point("token_embd"), await rowsOf(file, "attn_qkv", 0, H * d), D));
  const after = point("blk.0.attn_post_norm_scaled");
  near(after, times(point("blk.0.attn_post_norm"), 0.5));
  near(point("blk.0.ffn_inp"), sum(point("token_embd"), after));
  near(point("blk.0.out"), sum(point("blk.0.ffn_inp"), point("blk.0.ffn_post_norm_scaled")));
  // The gate's rows come first in the tensor of both.
  near(
    point("blk.1.ffn_gate"),
    product(point("blk.1.ffn_inp"), await rowsOf(file, "ffn_up", 0, F, 1), D),
  );
  near(
    point("blk.1.ffn_up"),
    product(point("blk.1.ffn_inp"), await rowsOf(file, "ffn_up", F, F, 1), D),
  );
  // All heads of a position are one row: the whole has the mean square 1.
  const pre = point("blk.0.q_norm_pre").slice(0, H * d);
  const [rms] = point("blk.0.q_norm_rms");
  near(pre, point("blk.0.q").slice(0, H * d).map((q) => q / rms));
  assert.deepEqual(points.get("blk.0.q_norm_rms")!.shape, [T, 1]);
  // The first layer turns two numbers of each head, by YaRN's table, and leaves two; its magnitude is there at position 0 too.
  const [normed, turned] = [point("blk.0.q_norm"), point("blk.0.q_rope")];
  near(turned.slice(0, d), [1.2 * normed[0], 1.2 * normed[1], normed[2], normed[3]]);
  near(point("blk.1.q_rope").slice(0, d), point("blk.1.q_norm").slice(0, d));
  assert.ok(!points.has("blk.2.q_rope"));
  near(point("blk.2.cache_k"), point("blk.2.k_norm"));
  for (const [t, factor] of [[0, 1], [1, 1 + 0.2 * Math.log(2)], [6, 1 + 0.2 * Math.log(4)]]) {
    const row = (x: Float64Array) => x.slice(t * H * d, (t + 1) * H * d);
    near(row(point("blk.2.q_scaled")), times(row(point("blk.2.q_norm")), factor));
  }
  const seen = (layer: number) =>
    [...point(`blk.${layer}.attn_probs`).slice((T - 1) * T, T * T)].map((p) => p > 0 ? 1 : 0);
  assert.deepEqual(seen(0), [0, 0, 0, 0, 1, 1, 1]);
  assert.deepEqual(seen(1), [1, 1, 1, 1, 1, 1, 1]);
  assert.deepEqual(seen(2), [0, 0, 0, 0, 1, 1, 1]);
  const scores = attentionScores(
    point("blk.2.q_scaled"),
    point("blk.2.cache_k"),
    config,
    config.blocks[2],
  );
  assert.deepEqual(scores, point("blk.2.attn_scores"));
});

Deno.test("a parallel block of two norms without weights", async () => {
  const point = await pointsOf(CONFIGS["parallel with two norms, without weights, ALiBi"]);
  near(point("blk.0.ffn_norm"), point("blk.0.attn_norm"));
  const row = point("blk.0.attn_norm").slice(0, D);
  near(Float64Array.of(row.reduce((total, x) => total + x)), [0]);
  const stream = [point("token_embd"), point("blk.0.attn_out"), point("blk.0.ffn_out")];
  near(point("blk.0.out"), sum(...stream));
  near(point("logits"), times(point("logits_unscaled"), 4));
});

Deno.test("fused tensors give the bits of their parts, biases included", async () => {
  const biases = ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"].map((name) => `${name}.bias`);
  const parts: Config = { ...PLAIN, optional: new Set([...NORMS, ...biases]) };
  const file = await fileOf(parts);
  const joined = async (names: readonly string[], suffix: string, shape: readonly number[]) => {
    const data = (await Promise.all(names.map((name) => numbers(file, `${name}.${suffix}`))))
      .flatMap((each) => [...each]);
    return { type: "F32", shape, data: new Uint8Array(Float32Array.from(data).buffer) };
  };
  const tensors: WriterTensor[] = [];
  for (const { name, shape } of file.tensors.values()) {
    if (/attn_[qkv]\.|ffn_(gate|up)\./.test(name)) continue;
    tensors.push({ name, type: "F32", shape, data: bytesOf(await numbers(file, name)) });
  }
  for (const at of ["blk.0", "blk.1"]) {
    const [qkv, both] = [["attn_q", "attn_k", "attn_v"], ["ffn_gate", "ffn_up"]]
      .map((names) => names.map((name) => `${at}.${name}`));
    const [all, twice] = [(H + 2 * Hkv) * d, 2 * F];
    tensors.push(
      { name: `${at}.attn_qkv.weight`, ...await joined(qkv, "weight", [D, all]) },
      { name: `${at}.attn_qkv.bias`, ...await joined(qkv, "bias", [all]) },
      { name: `${at}.ffn_up.weight`, ...await joined(both, "weight", [D, twice]) },
      { name: `${at}.ffn_up.bias`, ...await joined(both, "bias", [twice]) },
    );
  }
  const whole = await openGguf(bytesSource("test", writeGguf({ metadata: {}, tensors })));
  const fused: Config = { ...parts, fused: { qkv: true, gateUp: true } };
  assert.deepEqual(await run(fused, whole), await run(parts, file));
  // Of a file that is shown as its parts the parts are read.
  assert.deepEqual(await run(fused, file), await run(parts, file));
});

Deno.test("more positions than the model has learned are refused, and a tensor that is missing", async () => {
  const config = CONFIGS["parallel LayerNorms with biases, learned positions"];
  const ids = Array<number>(16).fill(1);
  const file = await fileOf(config);
  await run(config, file, ids);
  await assert.rejects(run(config, file, [...ids, 1]), RangeError);
  const without = new Map(file.tensors);
  without.delete("blk.1.attn_norm.bias");
  await assert.rejects(
    run(config, { ...file, tensors: without, readTensor: (...args) => file.readTensor(...args) }),
    /blk\.1\.attn_norm\.bias is missing/,
  );
});

Deno.test("LongRoPE: the room decides, not the positions that are used", async () => {
  const divisors = (name: string, ...values: number[]): WriterTensor => ({
    ...{ name: `rope_factors_${name}.weight`, type: "F32", shape: [values.length] },
    data: bytesOf(Float32Array.from(values)),
  });
  const file = await randomFile({
    ...{ layers: 1, width: 16, heads: 2, vocab: 40 },
    metadata: {
      "llama.rope.scaling.type": "longrope",
      "llama.rope.scaling.original_context_length": 10,
    },
    tensors: (list) => [
      ...list,
      divisors("short", 1, 1, 1, 1),
      divisors("long", 4, 5, 6, 7),
    ],
  });
  const turned = async (count: number, capacity?: number) => {
    const points = (name: string) => name === "blk.0.q_rope";
    const ids = Array.from({ length: count }, (_, i) => i + 1);
    const result = await oracle(file, ids, { capacity, points });
    return result.points.get("blk.0.q_rope")!.data;
  };
  const [short, long] = [await turned(3), await turned(3, 11)];
  assert.deepEqual(await turned(3, 10), short);
  assert.deepEqual(short.slice(0, 16), long.slice(0, 16)); // position 0 is not turned
  assert.notDeepEqual(short, long);
  assert.deepEqual((await turned(10)).slice(0, 3 * 16), short);
  assert.deepEqual((await turned(11)).slice(0, 3 * 16), long);
  // Of a generation the ids to come count from the first pass on.
  const ids = [1, 2, 3, 4, 5, 6, 7, 8];
  const margin = async (count: number, capacity?: number) =>
    (await oracleGreedy(file, ids, count, { capacity })).margins[0];
  assert.equal(await margin(2), await margin(1, 10));
  assert.equal(await margin(3), await margin(1, 11));
  assert.notEqual(await margin(2), await margin(3));
});

function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.slice().buffer);
}

/** Rows of a matrix with D columns. */
async function rowsOf(file: GgufFile, kind: string, first: number, count: number, layer = 0) {
  const all = await numbers(file, `blk.${layer}.${kind}.weight`);
  return all.subarray(first * D, (first + count) * D);
}

/** x · Wᵀ by its definition. */
/** Numbers less their mean. */
function less(x: Float64Array): Float64Array {
  const mean = x.reduce((total, value) => total + value) / x.length;
  return x.map((value) => value - mean);
}

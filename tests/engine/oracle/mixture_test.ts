/** The oracle's mixtures of experts, and what came with them: sinks, norms and growth of some layers. */
import assert from "node:assert/strict";
import type { Config, Experts } from "../../../engine/model/config.ts";
import {
  BLOCK,
  D,
  d,
  fileOf,
  H,
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
} from "../../support/models/oracle_configs.ts";

/** Mixtral's; what differs is said. */
const EXPERTS: Experts = {
  ...{ count: 4, used: 2, width: 5, gating: "softmax", normalized: true, scale: 1 },
  ...{ weighsInput: false, groups: undefined, shared: undefined },
};

const LLAMA_4: Experts = {
  ...EXPERTS,
  ...{ used: 1, gating: "sigmoid", normalized: false, weighsInput: true },
  shared: { width: 5, gated: false },
};

/** Between them they have all that mixtures can be. */
const MIXTURES: Readonly<Record<string, Config>> = {
  "experts, in groups, with a bias for the choice; a gated FFN for all; the first layer dense": {
    ...PLAIN,
    layers: 3,
    blocks: [
      BLOCK,
      { ...BLOCK, experts: EXPERTS },
      {
        ...BLOCK,
        experts: {
          ...EXPERTS,
          ...{ gating: "sigmoid", scale: 2.5, groups: { count: 2, used: 1 } },
          shared: { width: 7, gated: true },
        },
      },
    ],
    optional: new Set([...NORMS, "exp_probs_b.bias"]),
  },
  "sinks, biased experts, softmax over the chosen": {
    ...PLAIN,
    sinks: true,
    activation: "swiglu_clamped",
    blocks: [
      { ...BLOCK, window: 3, experts: { ...EXPERTS, gating: "softmax_chosen", normalized: false } },
      { ...BLOCK, experts: { ...EXPERTS, gating: "softmax_chosen", normalized: false } },
    ],
    optional: new Set([
      ...[...NORMS, "ffn_gate_inp.bias"],
      ...["ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"],
    ]),
  },
  "an expert whose input is weighted, chunks, norms where RoPE turns": {
    ...PLAIN,
    qkNorm: { over: "head", afterRope: true, turnedOnly: true, weightless: true },
    queryScaling: { scale: 0.2, period: 2, offset: 1, unturnedOnly: true },
    blocks: [
      { ...BLOCK, chunk: 4, experts: LLAMA_4 },
      { ...BLOCK, rope: undefined, experts: LLAMA_4 },
    ],
  },
};
testPasses(MIXTURES);

Deno.test("a mixture, expert by expert", async () => {
  const config = MIXTURES[Object.keys(MIXTURES)[0]];
  const file = await fileOf(config);
  const points = await run(config, file);
  const point = (name: string) => points.get(name)!.data;
  assert.ok(points.has("blk.0.ffn_act") && !points.has("blk.0.ffn_router"));
  const f = point("blk.2.ffn_norm");
  near(point("blk.2.ffn_router"), product(f, await numbers(file, "blk.2.ffn_gate_inp.weight"), D));
  const bias = await numbers(file, "blk.2.exp_probs_b.bias");
  const W = 5;
  for (let t = 0; t < T; t++) {
    // Sigmoids of logits; with the bias they make the choice, without it the weights.
    const gates = [...point("blk.2.ffn_router").slice(4 * t, 4 * t + 4)]
      .map((logit) => 1 / (1 + Math.exp(-logit)));
    const merits = gates.map((gate, e) => gate + bias[e]);
    const group = merits[0] + merits[1] >= merits[2] + merits[3] ? [0, 1] : [2, 3];
    const ids = group.sort((a, b) => merits[b] - merits[a]);
    near(point("blk.2.ffn_expert_ids").slice(2 * t, 2 * t + 2), ids);
    const sum = gates[ids[0]] + gates[ids[1]];
    const weights = ids.map((e) => 2.5 * gates[e] / sum);
    near(point("blk.2.ffn_expert_weights").slice(2 * t, 2 * t + 2), weights);
    const row = f.slice(t * D, (t + 1) * D);
    const total = new Float64Array(D);
    for (const [k, e] of ids.entries()) {
      const own = async (name: string) => {
        const all = await numbers(file, `blk.2.ffn_${name}_exps.weight`);
        return all.slice(e * W * D, (e + 1) * W * D);
      };
      const up = product(row, await own("up"), D);
      const act = product(row, await own("gate"), D).map((g, i) => g / (1 + Math.exp(-g)) * up[i]);
      near(point("blk.2.ffn_expert_act").slice((2 * t + k) * W, (2 * t + k + 1) * W), act);
      const out = product(Float64Array.from(act), await own("down"), W);
      near(point("blk.2.ffn_expert_out").slice((2 * t + k) * D, (2 * t + k + 1) * D), out);
      out.forEach((value, i) => total[i] += weights[k] * value);
    }
    near(point("blk.2.ffn_experts").slice(t * D, (t + 1) * D), total);
    const [share] = product(row, await numbers(file, "blk.2.ffn_gate_inp_shexp.weight"), D)
      .map((logit) => 1 / (1 + Math.exp(-logit)));
    near(
      point("blk.2.ffn_shared_weighted").slice(t * D, (t + 1) * D),
      times(point("blk.2.ffn_shared_out").slice(t * D, (t + 1) * D), share),
    );
  }
  near(point("blk.2.ffn_out"), sum(point("blk.2.ffn_experts"), point("blk.2.ffn_shared_weighted")));
});

Deno.test("sinks take a share; biases are those of the experts", async () => {
  const config = MIXTURES[Object.keys(MIXTURES)[1]];
  const file = await fileOf(config);
  const point = await pointsOf(config);
  const sinks = await numbers(file, "blk.0.attn_sinks.weight");
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      const powers = point("blk.0.attn_scores").slice((h * T + t) * T, (h * T + t + 1) * T).map(
        Math.exp,
      );
      const all = powers.reduce((a, b) => a + b) + Math.exp(sinks[h]);
      near(
        point("blk.0.attn_probs").slice((h * T + t) * T, (h * T + t + 1) * T),
        times(powers, 1 / all),
      );
    }
  }
  const biases = await numbers(file, "blk.1.ffn_down_exps.bias");
  const ids = point("blk.1.ffn_expert_ids");
  near(
    point("blk.1.ffn_expert_out"),
    point("blk.1.ffn_expert_out_product")
      .map((x, i) => x + biases[ids[Math.floor(i / D)] * D + i % D]),
  );
  for (let t = 0; t < T; t++) {
    const [a, b] = ids.slice(2 * t, 2 * t + 2).map((id) => point("blk.1.ffn_router")[4 * t + id]);
    assert.ok(a >= b);
    const weights = point("blk.1.ffn_expert_weights").slice(2 * t, 2 * t + 2);
    near(weights, [1 / (1 + Math.exp(b - a)), 1 / (1 + Math.exp(a - b))]);
  }
});

Deno.test("an input is weighted; norms where RoPE turns, growth where it does not", async () => {
  const config = MIXTURES[Object.keys(MIXTURES)[2]];
  const points = await run(config, await fileOf(config));
  const point = (name: string) => points.get(name)!.data;
  assert.ok(points.has("blk.0.q_norm") && !points.has("blk.0.q_scaled"));
  assert.ok(!points.has("blk.1.q_norm") && points.has("blk.1.q_scaled"));
  const row = point("blk.0.q_norm").slice(0, d);
  near(Float64Array.of(row.reduce((total, q) => total + q * q, 0)), [
    d * (1 - 1e-5 / point("blk.0.q_norm_rms")[0] ** 2),
  ]);
  near(
    point("blk.1.q_scaled").slice(H * d, 2 * H * d),
    times(
      point("blk.1.q").slice(H * d, 2 * H * d),
      1 + 0.2 * Math.log(2),
    ),
  );
  for (let t = 0; t < T; t++) {
    const logits = point("blk.0.ffn_router").slice(4 * t, 4 * t + 4);
    const [best] = point("blk.0.ffn_expert_ids").slice(t);
    assert.equal(logits[best], Math.max(...logits));
    near(
      point("blk.0.ffn_expert_inp").slice(t * D, (t + 1) * D),
      times(point("blk.0.ffn_norm").slice(t * D, (t + 1) * D), 1 / (1 + Math.exp(-logits[best]))),
    );
  }
  near(point("blk.0.ffn_out"), sum(point("blk.0.ffn_shared_out"), point("blk.0.ffn_expert_out")));
});

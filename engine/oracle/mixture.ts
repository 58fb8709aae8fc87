/** A mixture of experts in 64-bit floats (Shazeer et al. 2017; Mixtral, arXiv 2401.04088; `build_moe_ffn` in llama-graph.cpp). */
import type { Experts } from "../model/config.ts";
import { glu } from "./activations.ts";
import { add } from "./math.ts";
import { chooseExperts, expertWeights } from "./routing.ts";
import { linear, type Pass, point } from "./step.ts";
import { expertProduct, vector } from "./tensors.ts";

/** What the mixture of a layer makes of normed rows f [T, D]: [T, D]. */
export async function mixture(
  pass: Pass,
  layer: number,
  experts: Experts,
  f: Float64Array,
): Promise<Float64Array> {
  const { config: { width: D, activation, optional }, ids: { length: T }, file } = pass;
  const { count: E, used: K, width: F, weighsInput, shared } = experts;
  const at = `blk.${layer}`;
  const logits = await linear(pass, `${at}.ffn_router`, `${at}.ffn_gate_inp`, f, [T, E]);
  const bias = optional.has("exp_probs_b.bias")
    ? await vector(file, `${at}.exp_probs_b.bias`)
    : undefined;
  const rows = Array.from({ length: T }, (_, t) => logits.subarray(t * E, (t + 1) * E));
  const chosen = rows.map((row) => chooseExperts(row, bias, experts)); // [T, K]
  point(pass, `${at}.ffn_expert_ids`, [T, K], Float64Array.from(chosen.flat()));
  const weights = Float64Array.from(
    rows.flatMap((row, t) => [...expertWeights(row, chosen[t], experts)]),
  );
  point(pass, `${at}.ffn_expert_weights`, [T, K], weights);
  let inputs = f; // [T, D]
  if (weighsInput) {
    inputs = f.map((value, i) => value * weights[Math.floor(i / D) * K]);
    point(pass, `${at}.ffn_expert_inp`, [T, D], inputs);
  }
  const x = repeatRows(inputs, D, K); // [T, K, D]
  const gate = await toExperts(pass, layer, "gate", chosen, x, F); // [T, K, F]
  const up = await toExperts(pass, layer, "up", chosen, x, F); // [T, K, F]
  const act = point(pass, `${at}.ffn_expert_act`, [T, K, F], glu(gate, up, activation));
  const out = await toExperts(pass, layer, "down", chosen, act, D); // [T, K, D]
  const sum = new Float64Array(T * D);
  for (let row = 0; row < T * K; row++) {
    const weight = weighsInput ? 1 : weights[row];
    for (let i = 0; i < D; i++) sum[Math.floor(row / K) * D + i] += weight * out[row * D + i];
  }
  if (!shared) return point(pass, `${at}.ffn_out`, [T, D], sum);
  if (!weighsInput) point(pass, `${at}.ffn_experts`, [T, D], sum);
  const all = await forAll(pass, layer, shared, f); // [T, D]
  return point(pass, `${at}.ffn_out`, [T, D], add(all, sum));
}

/** Each row of x [T, D] `times` times: [T, times, D]. */
function repeatRows(x: Float64Array, D: number, times: number): Float64Array {
  const out = new Float64Array(x.length * times);
  for (let row = 0; row < out.length / D; row++) {
    const from = Math.floor(row / times) * D;
    out.set(x.subarray(from, from + D), row * D);
  }
  return out;
}

/** Every row of x [T, K, columns] times the matrix of its expert, plus the bias that it has: [T, K, width]. */
async function toExperts(
  pass: Pass,
  layer: number,
  which: "gate" | "up" | "down",
  chosen: readonly (readonly number[])[],
  x: Float64Array,
  width: number,
): Promise<Float64Array> {
  const { file, config: { optional } } = pass;
  const name = `blk.${layer}.ffn_expert_${which === "down" ? "out" : which}`;
  const tensor = `blk.${layer}.ffn_${which}_exps`;
  const shape = [chosen.length, chosen[0].length, width];
  const experts = chosen.flat();
  const columns = x.length / experts.length;
  const out = new Float64Array(experts.length * width);
  for (const expert of new Set(experts)) {
    const own = [...experts.keys()].filter((row) => experts[row] === expert);
    const inputs = new Float64Array(own.length * columns);
    own.forEach((row, i) =>
      inputs.set(x.subarray(row * columns, (row + 1) * columns), i * columns)
    );
    const made = await expertProduct(file, tensor, expert, inputs);
    own.forEach((row, i) => out.set(made.subarray(i * width, (i + 1) * width), row * width));
  }
  if (!optional.has(`ffn_${which}_exps.bias`)) return point(pass, name, shape, out);
  point(pass, `${name}_product`, shape, out);
  const biases = await vector(file, `${tensor}.bias`); // [E, width]
  const biased = out.map((value, i) =>
    value + biases[experts[Math.floor(i / width)] * width + i % width]
  );
  return point(pass, name, shape, biased);
}

/** What the FFN that all positions go to makes of normed rows f [T, D], times its gate where it has one: [T, D]. */
async function forAll(
  pass: Pass,
  layer: number,
  { width: W, gated }: NonNullable<Experts["shared"]>,
  f: Float64Array,
): Promise<Float64Array> {
  const { config: { width: D, activation }, ids: { length: T } } = pass;
  const at = `blk.${layer}`;
  const gate = await linear(pass, `${at}.ffn_shared_gate`, `${at}.ffn_gate_shexp`, f, [T, W]);
  const up = await linear(pass, `${at}.ffn_shared_up`, `${at}.ffn_up_shexp`, f, [T, W]);
  const act = point(pass, `${at}.ffn_shared_act`, [T, W], glu(gate, up, activation));
  const made = await linear(pass, `${at}.ffn_shared_out`, `${at}.ffn_down_shexp`, act, [T, D]);
  if (!gated) return made;
  const router = `${at}.ffn_shared_router`;
  const logits = await linear(pass, router, `${at}.ffn_gate_inp_shexp`, f, [T, 1]);
  const share = logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  point(pass, `${at}.ffn_shared_weight`, [T, 1], share);
  const weighted = made.map((value, i) => value * share[Math.floor(i / D)]);
  return point(pass, `${at}.ffn_shared_weighted`, [T, D], weighted);
}

/** The forward pass, in model order. Each line records one named step; nothing runs here. */
import type { Config, Experts } from "../model/config.ts";
import type { Plan, Value } from "./plan.ts";
import { type Recorder, recorder } from "./recorder.ts";

/**
 * Records the forward pass of a decoder: of a Llama (Touvron et al. 2023) the lines without a condition. What a model does not have
 * leaves no step. Names of the points follow llama.cpp's graph.
 *
 * Shapes: T positions of this pass, S cached ones (these included), R last rows whose logits are asked for, D width, F width
 * of the FFN, H heads, Hkv key/value heads, d head width, V vocabulary.
 */
export function forward(config: Config): Plan {
  const { width: D, heads: H, kvHeads: Hkv, headWidth: d, norms, qkNorm, parallel } = config;
  const { queryScaling: growth } = config;
  const record = recorder(config);

  let x = embedding(config, record); // [T, D]
  for (const [layer, block] of config.blocks.entries()) {
    const at = `blk.${layer}`;
    const a = record.norm(`${at}.attn_norm`, norms.attention, x); // [T, D]
    let q = record.project(`${at}.q`, `${at}.attn_q`, a, [H, d]); // [T, H, d]
    let k = record.project(`${at}.k`, `${at}.attn_k`, a, [Hkv, d]); // [T, Hkv, d]
    const v = record.project(`${at}.v`, `${at}.attn_v`, a, [Hkv, d]); // [T, Hkv, d]
    const normHeads = () => {
      q = record.headNorm(`${at}.q_norm`, `${at}.attn_q_norm`, q); // [T, H, d]
      k = record.headNorm(`${at}.k_norm`, `${at}.attn_k_norm`, k); // [T, Hkv, d]
    };
    const normed = qkNorm && (block.rope || !qkNorm.turnedOnly);
    if (normed && !qkNorm.afterRope) normHeads();
    if (block.rope) {
      q = record.rope(`${at}.q_rope`, q, block.rope); // [T, H, d]
      k = record.rope(`${at}.k_rope`, k, block.rope); // [T, Hkv, d]
    }
    if (normed && qkNorm.afterRope) normHeads();
    if (growth && !(growth.unturnedOnly && block.rope)) {
      q = record.scaleByPosition(`${at}.q_scaled`, q, growth); // [T, H, d]
    }
    const keys = record.store(`${at}.cache_k`, k); // [S, Hkv, d]
    const values = record.store(`${at}.cache_v`, v); // [S, Hkv, d]
    const s = record.scores(`${at}.attn_scores`, q, keys, block); // [H, T, S]
    const p = record.attend(`${at}.attn_probs`, s); // [H, T, S]
    const heads = record.mix(`${at}.head_out`, p, values); // [T, H, d]
    record.headResult(`${at}.head_result`, `${at}.attn_output`, heads); // [T, H, D]
    let attention = record.linear(`${at}.attn_out`, `${at}.attn_output`, heads, [D]); // [T, D]
    attention = record.added(`${at}.attn_post_norm`, norms.attentionAfter, attention); // [T, D]
    const middle = parallel ? x : record.add(`${at}.ffn_inp`, x, attention); // [T, D]
    const shared = parallel && norms.ffn === undefined;
    const f = shared ? a : record.norm(`${at}.ffn_norm`, norms.ffn, middle); // [T, D]
    let ffn = feedForward(config, record, layer, f); // [T, D]
    ffn = record.added(`${at}.ffn_post_norm`, norms.ffnAfter, ffn); // [T, D]
    const before = parallel ? record.add(`${at}.attn_resid`, x, attention) : middle; // [T, D]
    x = record.add(`${at}.out`, before, ffn); // [T, D]
  }
  const last = record.takeRows("last_rows", x); // [R, D]
  const n = record.norm("output_norm", config.outputNorm, last); // [R, D]
  const logits = unembedding(config, record, n); // [R, V]
  record.softmax("probs", logits); // [R, V]
  record.argmax("argmax", logits); // [R]
  record.sample("sample", logits); // [1]
  return record.steps;
}

/** The residual stream before the first block: [T, D]. */
function embedding({ embedding: { scale, positions, norm } }: Config, record: Recorder): Value {
  let x = record.embed("token_embd"); // [T, D]
  if (scale !== 1) x = record.scale("embd_scaled", x, scale); // [T, D]
  if (positions) {
    const rows = record.embedPositions("position_embd"); // [T, D]
    x = record.add("embd_sum", x, rows); // [T, D]
  }
  return norm ? record.norm("embd_norm", "token_embd_norm", x) : x; // [T, D]
}

/** What a layer's FFN makes of normed rows f [T, D]: [T, D]. */
function feedForward(config: Config, record: Recorder, layer: number, f: Value): Value {
  const { width: D, ffnWidth: F, gated, blocks: { [layer]: { experts } } } = config;
  if (experts) return mixture(config, record, layer, experts, f);
  const at = `blk.${layer}`;
  let act: Value; // [T, F]
  if (gated) {
    const gate = record.linear(`${at}.ffn_gate`, `${at}.ffn_gate`, f, [F]); // [T, F]
    const up = record.linear(`${at}.ffn_up`, `${at}.ffn_up`, f, [F]); // [T, F]
    act = record.glu(`${at}.ffn_act`, gate, up); // [T, F]
  } else {
    const up = record.linear(`${at}.ffn_up`, `${at}.ffn_up`, f, [F]); // [T, F]
    act = record.activate(`${at}.ffn_act`, up, layer); // [T, F]
  }
  return record.linear(`${at}.ffn_out`, `${at}.ffn_down`, act, [D]); // [T, D]
}

/** What the experts of a layer, and the FFN that all share, make of normed rows f [T, D]: [T, D]. */
function mixture(
  { width: D }: Config,
  record: Recorder,
  layer: number,
  { count: E, used: K, width: F, weighsInput, shared, ...how }: Experts,
  f: Value,
): Value {
  const at = `blk.${layer}`;
  const logits = record.linear(`${at}.ffn_router`, `${at}.ffn_gate_inp`, f, [E]); // [T, E]
  const routing = { ...how, used: K };
  const ids = record.route(`${at}.ffn_expert_ids`, logits, routing); // [T, K]
  const weights = record.expertWeights(`${at}.ffn_expert_weights`, logits, ids, routing); // [T, K]
  const x = weighsInput ? record.weigh(`${at}.ffn_expert_inp`, f, weights) : f; // [T, D]
  const each = record.experts(ids);
  const gate = each(`${at}.ffn_expert_gate`, `${at}.ffn_gate_exps`, x, F); // [T, K, F]
  const up = each(`${at}.ffn_expert_up`, `${at}.ffn_up_exps`, x, F); // [T, K, F]
  const act = record.glu(`${at}.ffn_expert_act`, gate, up); // [T, K, F]
  const out = each(`${at}.ffn_expert_out`, `${at}.ffn_down_exps`, act, D); // [T, K, D]
  if (!shared) return record.combine(`${at}.ffn_out`, out, weights); // [T, D]
  // What is weighed on its way in goes to one expert.
  const sum = weighsInput ? out : record.combine(`${at}.ffn_experts`, out, weights); // [T, D]
  const W = shared.width;
  const sharedGate = record.linear(`${at}.ffn_shared_gate`, `${at}.ffn_gate_shexp`, f, [W]); // [T, W]
  const sharedUp = record.linear(`${at}.ffn_shared_up`, `${at}.ffn_up_shexp`, f, [W]); // [T, W]
  const sharedAct = record.glu(`${at}.ffn_shared_act`, sharedGate, sharedUp); // [T, W]
  let all = record.linear(`${at}.ffn_shared_out`, `${at}.ffn_down_shexp`, sharedAct, [D]); // [T, D]
  if (shared.gated) {
    const logit = record.linear(`${at}.ffn_shared_router`, `${at}.ffn_gate_inp_shexp`, f, [1]); // [T, 1]
    const share = record.sigmoid(`${at}.ffn_shared_weight`, logit); // [T, 1]
    all = record.combine(`${at}.ffn_shared_weighted`, all, share); // [T, D]
  }
  return record.add(`${at}.ffn_out`, all, sum); // [T, D]
}

/** Logits of normed rows n [R, D]: [R, V]. */
function unembedding(
  { vocabSize: V, tiedOutput, logitScale, logitCap }: Config,
  record: Recorder,
  n: Value,
): Value {
  const output = tiedOutput ? "token_embd" : "output";
  const [isScaled, isCapped] = [logitScale !== 1, logitCap !== 0];
  if (!isScaled && !isCapped) return record.linear("logits", output, n, [V]); // [R, V]
  if (!isScaled) {
    const uncapped = record.linear("logits_uncapped", output, n, [V]); // [R, V]
    return record.cap("logits", uncapped, logitCap); // [R, V]
  }
  const unscaled = record.linear("logits_unscaled", output, n, [V]); // [R, V]
  if (!isCapped) return record.scale("logits", unscaled, logitScale); // [R, V]
  const uncapped = record.scale("logits_uncapped", unscaled, logitScale); // [R, V]
  return record.cap("logits", uncapped, logitCap); // [R, V]
}

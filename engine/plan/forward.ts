/** The forward pass, in model order. Each line records one named step; nothing runs here. */
import type { Block, Config, Experts } from "../model/config.ts";
import type { Plan, Value } from "./plan.ts";
import { type Recorder, recorder } from "./recorder.ts";

/**
 * Records the forward pass of a decoder (Touvron et al. 2023; names of the points follow llama.cpp's graph). What a family
 * does not have leaves no step: a Llama's pass is what {@link half} and the lines below say without their conditions.
 *
 * Shapes: T positions of this pass, S cached ones (these included), R last rows whose logits are asked for, D width, F width
 * of the FFN, H heads, Hkv key/value heads, d head width, V vocabulary.
 */
export function forward(config: Config): Plan {
  const record = recorder(config);
  let x = embedding(config, record); // [T, D]
  config.blocks.forEach((block, layer) => {
    const at = `blk.${layer}`;
    const { norms, parallel } = config;
    const a = norms.attention === undefined
      ? x
      : record.norm(`${at}.attn_norm`, `${at}.${norms.attention}`, x); // [T, D]
    const attention = added(
      config,
      record,
      attend(config, record, layer, block, a),
      `${at}.attn_post_norm`,
      norms.attentionAfter && `${at}.${norms.attentionAfter}`,
    ); // [T, D]
    const middle = parallel ? x : record.add(`${at}.ffn_inp`, x, attention); // [T, D]
    const f = norms.ffn === undefined
      ? parallel ? a : middle
      : record.norm(`${at}.ffn_norm`, `${at}.${norms.ffn}`, middle); // [T, D]
    const ffn = added(
      config,
      record,
      block.experts
        ? mixture(config, record, layer, block.experts, f)
        : feedForward(config, record, layer, f),
      `${at}.ffn_post_norm`,
      norms.ffnAfter && `${at}.${norms.ffnAfter}`,
    ); // [T, D]
    x = parallel
      ? record.add(`${at}.out`, record.add(`${at}.attn_resid`, x, attention), ffn)
      : record.add(`${at}.out`, middle, ffn); // [T, D]
  });
  const last = record.takeRows("last_rows", x); // [R, D]
  const n = record.norm("output_norm", config.outputNorm, last); // [R, D]
  const logits = unembedding(config, record, n); // [R, V]
  record.softmax("probs", logits); // [R, V]
  record.argmax("argmax", logits); // [R]
  record.sample("sample", logits); // [1]
  return record.steps;
}

/** The residual stream before the first block: [T, D]. */
function embedding({ embedding, width }: Config, record: Recorder): Value {
  let x = record.embed("token_embd"); // [T, D]
  if (embedding.scale !== 1) x = record.scale("embd_scaled", x, embedding.scale);
  if (embedding.positions) {
    x = record.add("embd_sum", x, record.embedPositions("position_embd", width));
  }
  if (embedding.norm) x = record.norm("embd_norm", "token_embd_norm", x);
  return x;
}

/** What attention makes of normed rows a [T, D]: [T, D]. */
function attend(
  config: Config,
  record: Recorder,
  layer: number,
  block: Block,
  a: Value,
): Value {
  const { heads: H, kvHeads: Hkv, headWidth: d, width: D, qkvLimit, qkNorm } = config;
  const at = `blk.${layer}`;
  const project = (name: string, count: number) => {
    const limited = qkvLimit !== 0;
    const product = `${at}.${name}${limited ? "_unclamped" : ""}`;
    const x = record.linear(product, `${at}.attn_${name}`, a, [count, d]);
    return limited ? record.clamp(`${at}.${name}`, x, qkvLimit) : x;
  };
  let q = project("q", H); // [T, H, d]
  let k = project("k", Hkv); // [T, Hkv, d]
  const v = project("v", Hkv); // [T, Hkv, d]
  const normed = () => {
    if (!qkNorm) return;
    q = record.headNorm(`${at}.q_norm`, `${at}.attn_q_norm`, q, qkNorm.over);
    k = record.headNorm(`${at}.k_norm`, `${at}.attn_k_norm`, k, qkNorm.over);
  };
  if (!qkNorm?.afterRope) normed();
  if (block.rope) {
    q = record.rope(`${at}.q_rope`, q, block.rope);
    k = record.rope(`${at}.k_rope`, k, block.rope);
  }
  if (qkNorm?.afterRope) normed();
  if (config.queryScaling) q = record.scaleByPosition(`${at}.q_scaled`, q, config.queryScaling);
  const keys = record.store(`${at}.cache_k`, k); // [S, Hkv, d]
  const values = record.store(`${at}.cache_v`, v); // [S, Hkv, d]
  const s = record.scores(`${at}.attn_scores`, q, keys, block); // [H, T, S]
  const p = record.softmax(`${at}.attn_probs`, s); // [H, T, S]
  const out = record.mix(`${at}.head_out`, p, values); // [T, H, d]
  record.headResult(`${at}.head_result`, `${at}.attn_output`, out); // [T, H, D]
  return record.linear(`${at}.attn_out`, `${at}.attn_output`, out, [D]); // [T, D]
}

/** What the FFN makes of normed rows f [T, D]: [T, D]. */
function feedForward(config: Config, record: Recorder, layer: number, f: Value): Value {
  const { width: D, ffnWidth: F } = config;
  const at = `blk.${layer}`;
  let act: Value; // [T, F]
  if (config.gated) {
    const gate = record.linear(`${at}.ffn_gate`, `${at}.ffn_gate`, f, [F]); // [T, F]
    const up = record.linear(`${at}.ffn_up`, `${at}.ffn_up`, f, [F]); // [T, F]
    act = record.glu(`${at}.ffn_act`, gate, up);
  } else {
    const up = record.linear(`${at}.ffn_up`, `${at}.ffn_up`, f, [F]); // [T, F]
    act = record.activate(`${at}.ffn_act`, up, layer);
  }
  return record.linear(`${at}.ffn_out`, `${at}.ffn_down`, act, [D]); // [T, D]
}

/** What the experts of a layer, and the FFN that all share, make of normed rows f [T, D]: [T, D]. */
function mixture(
  { width: D }: Config,
  record: Recorder,
  layer: number,
  experts: Experts,
  f: Value,
): Value {
  const { count: E, used: K, width: F, weighsInput, shared } = experts;
  const at = `blk.${layer}`;
  const router = record.linear(`${at}.ffn_router`, `${at}.ffn_gate_inp`, f, [E]); // [T, E]
  const { ids, weights } = record.route(at, router, experts); // [T, K], [T, K]
  const x = weighsInput ? record.weigh(`${at}.ffn_expert_inp`, f, weights) : f; // [T, D]
  const product = (name: string, x: Value, columns: number, rows: number) =>
    record.linearExperts(`${at}.ffn_expert_${name}`, `${at}.ffn_${name}_exps`, x, ids, [
      K,
      columns,
      rows,
    ]);
  const gate = product("gate", x, D, F); // [T, K, F]
  const up = product("up", x, D, F); // [T, K, F]
  const act = record.glu(`${at}.ffn_expert_act`, gate, up); // [T, K, F]
  const out = record.linearExperts(
    `${at}.ffn_expert_out`,
    `${at}.ffn_down_exps`,
    act,
    ids,
    [K, F, D],
  ); // [T, K, D]
  // What is weighed on its way in goes to one expert.
  const sum = weighsInput
    ? out
    : record.combine(`${at}.${shared ? "ffn_experts" : "ffn_out"}`, out, weights); // [T, D]
  if (!shared) return sum;
  const { width, gated } = shared;
  const sharedGate = record.linear(`${at}.ffn_shared_gate`, `${at}.ffn_gate_shexp`, f, [width]);
  const sharedUp = record.linear(`${at}.ffn_shared_up`, `${at}.ffn_up_shexp`, f, [width]);
  const sharedAct = record.glu(`${at}.ffn_shared_act`, sharedGate, sharedUp); // [T, width]
  let all = record.linear(`${at}.ffn_shared_out`, `${at}.ffn_down_shexp`, sharedAct, [D]); // [T, D]
  if (gated) {
    const logit = record.linear(`${at}.ffn_shared_router`, `${at}.ffn_gate_inp_shexp`, f, [1]);
    const share = record.sigmoid(`${at}.ffn_shared_weight`, logit); // [T, 1]
    all = record.combine(`${at}.ffn_shared_weighted`, all, share); // [T, D]
  }
  return record.add(`${at}.ffn_out`, all, sum);
}

/** What is added to the stream: the rows themselves, or after a norm, or times a factor. */
function added(
  { residualScale }: Config,
  record: Recorder,
  x: Value,
  name: string,
  tensor: string | undefined,
): Value {
  const normed = tensor === undefined ? x : record.norm(name, tensor, x);
  return residualScale === 1
    ? normed
    : record.scale(`${normed.name}_scaled`, normed, residualScale);
}

/** Logits of normed rows n [R, D]: [R, V]. */
function unembedding(
  { vocabSize, tiedOutput, logitScale, logitCap }: Config,
  record: Recorder,
  n: Value,
): Value {
  const [scaled, capped] = [logitScale !== 1, logitCap !== 0];
  const product = scaled ? "logits_unscaled" : capped ? "logits_uncapped" : "logits";
  let logits = record.linear(product, tiedOutput ? "token_embd" : "output", n, [vocabSize]);
  if (scaled) logits = record.scale(capped ? "logits_uncapped" : "logits", logits, logitScale);
  return capped ? record.cap("logits", logits, logitCap) : logits;
}

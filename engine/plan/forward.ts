/** The forward pass, in model order. Each line records one named step; nothing runs here. */
import { sizeOf } from "../../base/shape.ts";
import { SAMPLING_WORDS } from "../../kernels/sampling/sampling.ts";
import type { Operation } from "../../kernels/kernel.ts";
import type { Config } from "../model/config.ts";
import type { Dim, Plan, Step, Value } from "./plan.ts";

/**
 * Records the forward pass of a Llama (Touvron et al. 2023; names of the points follow llama.cpp's graph).
 *
 * Shapes: T positions of this pass, S cached ones (these included), R last rows whose logits are asked for, D width, F width
 * of the FFN, H heads, Hkv key/value heads, d head width, V vocabulary.
 */
export function forward(config: Config): Plan {
  const { width: D, ffnWidth: F, heads: H, kvHeads: Hkv, headWidth: d, vocabSize: V } = config;
  const {
    steps,
    embed,
    rmsNorm,
    linear,
    rope,
    store,
    scores,
    softmax,
    mix,
    headResult,
    add,
    swiglu,
    takeRows,
    argmax,
    sample,
  } = recorder(config);

  let x = embed("token_embd"); // [T, D]
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `blk.${layer}`;
    const a = rmsNorm(`${at}.attn_norm`, x); // [T, D]
    const q = linear(`${at}.q`, `${at}.attn_q`, a, [H, d]); // [T, H, d]
    const k = linear(`${at}.k`, `${at}.attn_k`, a, [Hkv, d]); // [T, Hkv, d]
    const v = linear(`${at}.v`, `${at}.attn_v`, a, [Hkv, d]); // [T, Hkv, d]
    const qRope = rope(`${at}.q_rope`, q); // [T, H, d]
    const kRope = rope(`${at}.k_rope`, k); // [T, Hkv, d]
    const keys = store(`${at}.cache_k`, kRope); // [S, Hkv, d]
    const values = store(`${at}.cache_v`, v); // [S, Hkv, d]
    const s = scores(`${at}.attn_scores`, qRope, keys); // [H, T, S]
    const p = softmax(`${at}.attn_probs`, s); // [H, T, S]
    const heads = mix(`${at}.head_out`, p, values); // [T, H, d]
    headResult(`${at}.head_result`, `${at}.attn_output`, heads); // [T, H, D]
    const attention = linear(`${at}.attn_out`, `${at}.attn_output`, heads, [D]); // [T, D]
    const middle = add(`${at}.ffn_inp`, x, attention); // [T, D]
    const f = rmsNorm(`${at}.ffn_norm`, middle); // [T, D]
    const gate = linear(`${at}.ffn_gate`, `${at}.ffn_gate`, f, [F]); // [T, F]
    const up = linear(`${at}.ffn_up`, `${at}.ffn_up`, f, [F]); // [T, F]
    const act = swiglu(`${at}.ffn_act`, gate, up); // [T, F]
    const ffn = linear(`${at}.ffn_out`, `${at}.ffn_down`, act, [D]); // [T, D]
    x = add(`${at}.out`, middle, ffn); // [T, D]
  }
  const last = takeRows("last_rows", x); // [R, D]
  const n = rmsNorm("output_norm", last); // [R, D]
  const logits = linear("logits", config.tiedOutput ? "token_embd" : "output", n, [V]); // [R, V]
  softmax("probs", logits); // [R, V]
  argmax("argmax", logits); // [R]
  sample("sample", logits); // [1]
  return steps;
}

/** The operations that `forward` is written in: each appends a step and gives the value that it makes. */
function recorder(config: Config) {
  const steps: Step[] = [];
  const { heads, kvHeads: kv_heads, headWidth: head_width } = config;
  const ids: Value = { name: "ids", shape: ["T"], dtype: "u32", kind: "ids" };
  const history: Value = { name: "history", shape: ["S"], dtype: "u32", kind: "ids" };
  const sampling: Value = { name: "sampling", shape: [SAMPLING_WORDS], dtype: "bits", kind: "ids" };
  const turns: Dim[] = ["S", config.ropeWidth / 2, 2];
  const table: Value = { name: "rope_table", shape: turns, dtype: "f32", kind: "table" };

  function record(
    operation: Operation,
    name: string,
    shape: readonly Dim[],
    inputs: Value[],
    constants: Record<string, number>,
    weights: string[] = [],
    { dtype = "f32", kind = "result" }: Partial<Value> = {},
  ): Value {
    const output: Value = { name, shape, dtype, kind };
    steps.push({ operation, inputs, weights, outputs: [output], constants });
    return output;
  }

  const columnsOf = (x: Value) =>
    x.shape.slice(1).reduce<number>((product, dim) => product * (dim as number), 1);

  return {
    steps: steps as Plan,

    embed: (name: string): Value =>
      record("embed", name, ["T", config.width], [ids], {
        columns: config.width,
        rows: config.vocabSize,
      }, [
        "token_embd.weight",
      ]),

    rmsNorm(name: string, x: Value): Value {
      const columns = columnsOf(x);
      const rms = record("rms", `${name}_rms`, [x.shape[0], 1], [x], {
        columns,
        epsilon: config.normEpsilon,
      });
      const pre = record("normalize", `${name}_pre`, x.shape, [x, rms], { columns });
      return record("scale_columns", name, x.shape, [pre], { columns }, [`${name}.weight`]);
    },

    linear(name: string, tensor: string, x: Value, shape: number[]): Value {
      const columns = columnsOf(x);
      const rows = sizeOf(shape);
      const out = [x.shape[0], ...shape];
      const biased = config.biases[tensor.split(".").at(-1) as keyof Config["biases"]] ?? false;
      const product = record("linear", biased ? `${name}_product` : name, out, [x], {
        columns,
        rows,
      }, [
        `${tensor}.weight`,
      ]);
      return biased
        ? record("add_bias", name, out, [product], { columns: rows }, [`${tensor}.bias`])
        : product;
    },

    rope: (name: string, x: Value): Value =>
      record("rope", name, x.shape, [x, table], {
        heads: x.shape[1] as number,
        head_width,
        rope_width: config.ropeWidth,
        half_style: config.ropeStyle === "half" ? 1 : 0,
        rope_start: 0,
      }),

    store: (name: string, x: Value): Value =>
      record(
        "store",
        name,
        ["S", ...x.shape.slice(1)],
        [x],
        { columns: columnsOf(x) },
        [],
        { kind: "cache" },
      ),

    scores: (name: string, q: Value, keys: Value): Value =>
      record("scores", name, [heads, "T", "S"], [q, keys], {
        heads,
        kv_heads,
        head_width,
        scale: config.attentionScale,
        window: 0,
        chunk: 0,
        cap: 0,
        max_bias: 0,
      }),

    softmax: (name: string, x: Value): Value =>
      record("softmax", name, x.shape, [x], {
        columns: x.shape[x.shape.length > 2 ? 0 : 1] as number,
        causal: x.shape.length > 2 ? 1 : 0,
      }),

    mix: (name: string, probs: Value, values: Value): Value =>
      record("mix", name, ["T", heads, head_width], [probs, values], {
        heads,
        kv_heads,
        head_width,
        value_width: head_width,
      }),

    headResult: (name: string, tensor: string, x: Value): Value =>
      record("head_result", name, ["T", heads, config.width], [x], {
        heads,
        columns: columnsOf(x),
        rows: config.width,
      }, [`${tensor}.weight`]),

    add: (name: string, a: Value, b: Value): Value =>
      record("add", name, a.shape, [a, b], { columns: columnsOf(a) }),

    swiglu: (name: string, gate: Value, up: Value): Value =>
      record("swiglu", name, gate.shape, [gate, up], { columns: columnsOf(gate) }),

    takeRows: (name: string, x: Value): Value =>
      record("take_rows", name, ["R", ...x.shape.slice(1)], [x], { columns: columnsOf(x) }),

    argmax: (name: string, x: Value): Value =>
      record("argmax", name, ["R"], [x], { columns: columnsOf(x) }, [], { dtype: "i32" }),

    sample: (name: string, x: Value): Value =>
      record("sample", name, [1], [x, sampling, history], { columns: columnsOf(x) }, [], {
        dtype: "i32",
      }),
  };
}

/** Faults of parts that only some families have: each is named, and models without a fault are blamed for nothing. */
import assert from "node:assert/strict";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import { type Plan, type Step, stepName, type Value } from "../../../engine/plan/plan.ts";
import { readWeight } from "../../../checkpoints/parity/steps_behind.ts";
import type { Block, Config, Rope } from "../../../engine/model/config.ts";
import {
  type DescribedFault,
  describedPass,
  diagnosed,
} from "../../support/engines/described_engine.ts";
import { type DescribedModel, describedModel } from "../../support/models/described_model.ts";
import { type DescriptionName, DESCRIPTIONS } from "../../support/models/descriptions.ts";
import { FAMILY_CAUSES } from "../../support/faults/family_causes.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const IDS = Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % 97);

const models = new Map<DescriptionName, Promise<DescribedModel>>();
function modelOf(name: DescriptionName): Promise<DescribedModel> {
  const made = models.get(name) ?? describedModel(DESCRIPTIONS[name], folder.at(`${name}.gguf`));
  models.set(name, made);
  return made;
}

/** An engine that takes the model for another one. */
const as = (change: Partial<Config> | ((config: Config) => Partial<Config>)): DescribedFault => ({
  config: (config) => ({ ...config, ...typeof change === "function" ? change(config) : change }),
});

const blocks = (change: (block: Block, layer: number) => Partial<Block>) =>
  as((config) => ({
    blocks: config.blocks.map((block, layer) => ({ ...block, ...change(block, layer) })),
  }));

/** Another table of turns in all blocks, by the name of the table. */
const ropes = (change: (rope: Rope) => Partial<Rope>) =>
  as((config) => {
    const changed = config.ropes.map((rope) => ({ ...rope, ...change(rope) }));
    return {
      ropes: changed,
      blocks: config.blocks.map((block) => ({
        ...block,
        rope: changed.find(({ table }) => table === block.rope?.table),
      })),
    };
  });

const experts = (change: Partial<NonNullable<Block["experts"]>>) =>
  blocks(({ experts }) => ({ experts: { ...experts!, ...change } }));

const without = (...names: string[]) =>
  as(({ optional }) => ({
    optional: new Set([...optional].filter((each) => !names.includes(each))),
  }));

/** A plan in which the norm of what attention adds comes after the addition. */
function normedAfterAddition(plan: Plan): Plan {
  return plan.flatMap((step): Step[] => {
    const name = stepName(step);
    const at = name.replace(/\.[^.]*$/, "");
    const addition = plan.find((each) => stepName(each) === `${at}.ffn_inp`);
    if (!addition || !/(attn_post_norm.*|ffn_inp)$/.test(name)) return [step];
    const [stream, normed] = addition.inputs;
    const sum: Value = { ...normed, name: `${at}.sum` };
    const added = plan.find((each) => stepName(each) === `${at}.attn_out`)!.outputs[0]!;
    const inputs = step.inputs.map((input) => input.name === added.name ? sum : input);
    switch (name) {
      case `${at}.attn_post_norm_rms`:
        return [{ ...addition, inputs: [stream, added], outputs: [sum] }, { ...step, inputs }];
      case normed.name:
        return [{ ...step, outputs: addition.outputs }];
      case `${at}.ffn_inp`:
        return [];
      default:
        return [{ ...step, inputs }];
    }
  });
}

type Case = readonly [
  on: DescriptionName,
  fault: DescribedFault,
  point: string,
  cause: Cause,
  detail: RegExp,
  shown?: RegExp,
];

/** What an engine shows that shows little: the stream and what its matrices make. */
const STREAM = /\.(ffn_inp|out)$|^token_embd$/;
const NO_ATTENTION = /^(?!.*(attn_scores|attn_probs)).*$/;

const FAULTS: Readonly<Record<string, Case>> = {
  "a window that is one too wide": [
    "gemma2",
    blocks(({ window }) => ({ window: window && window + 1 })),
    ...["blk.0.attn_scores", "window", /the window is 10 instead of 9/] as const,
  ],
  "a window that is one too narrow": [
    "gemma2",
    blocks(({ window }) => ({ window: window && window - 1 })),
    ...["blk.0.attn_scores", "window", /the window is 8 instead of 9/] as const,
  ],
  "a window that is one too wide, attention not shown": [
    "gemma3",
    blocks(({ window }) => ({ window: window && window + 1 })),
    ...["blk.0.head_out", "window", /the window is 10 instead of 9/, NO_ATTENTION] as const,
  ],
  "no window": [
    "gemma2",
    blocks(() => ({ window: 0 })),
    ...["blk.0.attn_scores", "window", /there is no window instead of 9/] as const,
  ],
  "windows on the other layers": [
    "gemma2",
    blocks(({ window }) => ({ window: window ? 0 : 9 })),
    ...["blk.0.attn_scores", "window", /no window instead of 9, as in block 1/] as const,
  ],
  "windows on all layers": [
    "gemma2",
    blocks(() => ({ window: 9 })),
    ...["blk.1.attn_scores", "window", /the window is 9 instead of none, as in block 0/] as const,
  ],
  "a window on all layers, only the stream shown": [
    "gemma3",
    blocks(() => ({ window: 9 })),
    ...["blk.1.ffn_inp", "window", /the window is 9 instead of none/, STREAM] as const,
  ],
  "a window in place of chunks": [
    "llama4",
    blocks(({ chunk }) => ({ chunk: 0, window: chunk })),
    ...["blk.0.attn_scores", "window", /a window of 8 instead of chunks/] as const,
  ],
  "no soft cap of scores": [
    "gemma2",
    as({ attentionCap: 0 }),
    ...["blk.0.attn_scores", "soft-cap", /scores lack their soft cap of 5/] as const,
  ],
  "another soft cap of scores": [
    "gemma2",
    as({ attentionCap: 30 }),
    ...["blk.0.attn_scores", "soft-cap", /30 · tanh/] as const,
  ],
  "no soft cap of logits": [
    "gemma2",
    as({ logitCap: 0 }),
    ...["logits", "soft-cap", /the soft cap of 3 is left out/] as const,
  ],
  "no ALiBi": ["bloom", as({ alibi: 0 }), "blk.0.attn_scores", "alibi", /distance/],
  "the usual scale of attention": [
    "granite",
    as({ attentionScale: 0.25 }),
    ...["blk.0.attn_scores", "scaled", /0\.25 \(1\/√d\) instead of 0\.05/] as const,
  ],
  "no embedding scale": [
    "gemma2",
    as({ embedding: { scale: 1, positions: false, norm: false } }),
    ...["blk.0.attn_norm", "embedding-scale", /the factor 6\.9282 is left out/] as const,
  ],
  "an embedding that is shown without its scale": [
    "granite",
    { made: (name, x) => name === "embd_scaled" ? x.map((v) => v / 12) : x },
    ...["embd_scaled", "embedding-scale", /the factor 12 is left out/] as const,
  ],
  "no residual scale": [
    "granite",
    as({ residualScale: 1 }),
    ...["blk.0.ffn_inp", "residual-scale", /the factor 0\.22 is left out/] as const,
  ],
  "no logit scale": [
    "granite",
    as({ logitScale: 1 }),
    ...["logits", "logit-scale", /the factor 0\.125 is left out/] as const,
  ],
  "logits multiplied by their divisor": [
    "granite",
    as({ logitScale: 8 }),
    ...["logits", "logit-scale", /divided by 0\.125/] as const,
  ],
  "no norm after attention": [
    "gemma2",
    as(({ norms }) => ({ norms: { ...norms, attentionAfter: undefined } })),
    ...["blk.0.ffn_inp", "post-norm", /attn_post_norm: the norm is left out/] as const,
  ],
  "no norm after the FFN, only the stream shown": [
    "gemma2",
    as(({ norms }) => ({ norms: { ...norms, ffnAfter: undefined } })),
    ...["blk.0.out", "post-norm", /ffn_post_norm: the norm is left out/, STREAM] as const,
  ],
  "a norm after attention that does nothing": [
    "olmo2",
    as(({ norms }) => ({ norms: { ...norms, attentionAfter: undefined } })),
    ...["blk.0.ffn_inp", "post-norm", /the norm is left out/] as const,
  ],
  "norms after the addition": [
    "olmo2",
    { steps: normedAfterAddition },
    ...["blk.0.ffn_inp", "post-norm", /after the addition/] as const,
  ],
  "the base of layers without a window": [
    "gemma3",
    ropes(() => ({ base: 10000 })),
    ...["blk.0.q_rope", "rope-base", /10000 instead of 500, as in block 1/] as const,
  ],
  "the base of layers with a window, only the stream shown": [
    "gemma3",
    ropes(() => ({ base: 500 })),
    ...["blk.1.ffn_inp", "rope-base", /500 instead of 10000/, STREAM] as const,
  ],
  "no magnitude of YaRN": [
    "yarn",
    ropes(() => ({ magnitude: 1 })),
    ...["blk.0.q_rope", "rope-magnitude", /lack their factor 1\.1386 \(YaRN\)/] as const,
  ],
  "no YaRN": [
    "yarn",
    ropes(() => ({ magnitude: 1, scaling: { type: "none" } })),
    ...["blk.0.q_rope", "rope-scaling", /YaRN is left out, and no factor/] as const,
  ],
  "another base beside YaRN": [
    "yarn",
    ropes(() => ({ base: 123456 })),
    ...["blk.0.q_rope", "rope-base", /^123456 instead of 10000$/] as const,
  ],
  "LongRoPE's long factors": [
    "longrope",
    ropes(({ scaling }) =>
      scaling.type !== "longrope" ? {} : {
        scaling: { ...scaling, short: scaling.long, long: scaling.short },
      }
    ),
    ...["blk.0.q_rope", "longrope-factors", /exchanged/] as const,
  ],
  "no norm of queries and keys": [
    "qwen3",
    as({ qkNorm: undefined }),
    ...["blk.0.q_rope", "qk-norm", /q_norm: the norm is left out/] as const,
  ],
  "no norm of queries and keys, only the stream shown": [
    "qwen3",
    as({ qkNorm: undefined }),
    ...[
      "blk.0.ffn_inp",
      "qk-norm",
      /the norm is left out \(.*q_norm and .*k_norm\)/,
      STREAM,
    ] as const,
  ],
  "the norm of queries head by head": [
    "olmo2",
    as({ qkNorm: { over: "own_heads", afterRope: false } }),
    ...["blk.0.q_norm", "qk-norm", /over each head instead of the whole row/] as const,
  ],
  "the norm of queries over whole rows": [
    "command-r",
    as({ qkNorm: { over: "row", afterRope: false } }),
    ...["blk.0.q_norm", "qk-norm", /over the whole row instead of each head/] as const,
  ],
  "SiLU where GELU belongs": [
    "gemma2",
    as({ activation: "silu" }),
    ...["blk.0.ffn_act", "activation", /SiLU instead of GELU \(tanh\)/] as const,
  ],
  "GELU by erf where tanh belongs": [
    "gpt2",
    as({ activation: "gelu" }),
    ...["blk.0.ffn_act", "activation", /GELU \(erf\) instead of GELU \(tanh\)/] as const,
  ],
  "GELU where SiLU belongs": [
    "qwen3",
    as({ activation: "gelu_tanh" }),
    ...["blk.0.ffn_act", "activation", /GELU \(tanh\) instead of SiLU/] as const,
  ],
  "ReLU where ReLU² belongs": [
    "nemotron",
    as({ activation: "relu" }),
    ...["blk.0.ffn_act", "activation", /ReLU instead of ReLU²/] as const,
  ],
  "SiLU where xIELU belongs": [
    "apertus",
    as({ activation: "silu", xielu: undefined }),
    ...["blk.0.ffn_act", "activation", /SiLU instead of xIELU/] as const,
  ],
  "expert weights that are not divided by their sum": [
    "qwen3moe",
    experts({ normalized: false }),
    ...["blk.0.ffn_expert_weights", "expert-weights", /not divided by their sum/] as const,
  ],
  "expert weights that are divided by their sum": [
    "qwen2moe",
    experts({ normalized: true }),
    ...["blk.0.ffn_expert_weights", "expert-weights", /they are divided by their sum/] as const,
  ],
  "expert weights that are divided by their sum, only the stream shown": [
    "qwen2moe",
    experts({ normalized: true }),
    ...["blk.0.out", "expert-weights", /they are divided by their sum/, STREAM] as const,
  ],
  "expert weights without their factor": [
    "deepseek3",
    experts({ scale: 1 }),
    ...["blk.0.ffn_expert_weights", "expert-weights", /factor 2\.5 is left out/] as const,
  ],
  "a softmax in place of sigmoids": [
    "deepseek3",
    experts({ gating: "softmax" }),
    ...["blk.0.ffn_expert_ids", "expert-choice", /a softmax over all instead of sigmoids/] as const,
  ],
  "experts chosen without their bias": [
    "deepseek3",
    without("exp_probs_b.bias"),
    ...["blk.0.ffn_expert_ids", "expert-choice", /the bias of the choice is left out/] as const,
  ],
  "experts chosen from all groups": [
    "deepseek3",
    experts({ groups: undefined }),
    ...["blk.0.ffn_expert_ids", "expert-choice", /groups of experts are left out/] as const,
  ],
  "no shared expert": [
    "qwen2moe",
    experts({ shared: undefined }),
    ...["blk.0.ffn_out", "shared-expert", /the shared expert makes is not added/] as const,
  ],
  "no gate of the shared expert": [
    "qwen2moe",
    experts({ shared: { width: 56, gated: false } }),
    ...["blk.0.ffn_out", "shared-expert", /its gate is left out/] as const,
  ],
  "biases of experts left out": [
    "gpt-oss",
    without("ffn_down_exps.bias"),
    ...["blk.0.ffn_expert_out", "bias-missing", /not added/] as const,
  ],
  "no sinks": ["gpt-oss", as({ sinks: false }), "blk.0.attn_probs", "sinks", /ignored/],
  "no sinks, attention not shown": [
    "gpt-oss",
    as({ sinks: false }),
    ...["blk.0.head_out", "sinks", /ignored/, NO_ATTENTION] as const,
  ],
  "RMSNorm where LayerNorm belongs": [
    "gpt2",
    as({ normKind: "rms" }),
    ...["blk.0.attn_norm", "layernorm", /the mean is not subtracted/] as const,
  ],
  "LayerNorm without its bias": [
    "gpt2",
    without("attn_norm.bias"),
    ...["blk.0.attn_norm", "bias-missing", /attn_norm\.bias: it is not added/] as const,
  ],
  "no clamp of queries": [
    "mpt",
    as({ qkvLimit: 0 }),
    ...["blk.0.q", "clamp", /not limited/] as const,
  ],
  "queries not scaled by position": [
    "llama4",
    as({ queryScaling: undefined }),
    ...["blk.0.attn_scores", "query-scaling", /not made longer/] as const,
  ],
};

for (const name of Object.keys(DESCRIPTIONS) as DescriptionName[]) {
  Deno.test(`${name}: nothing is blamed where nothing is wrong`, async () => {
    const model = await modelOf(name);
    const pass = await describedPass(model, IDS);
    for (const shown of [/./, NO_ATTENTION, STREAM]) {
      const found = await diagnosed(model, pass, shown);
      assert.equal(found, undefined, `${found?.point}: ${found?.cause}: ${found?.detail}`);
    }
  });
}

Deno.test("every cause of a part that only some families have is among the faults", () => {
  const tried = new Set(Object.values(FAULTS).map(([, , , cause]) => cause));
  assert.deepEqual(FAMILY_CAUSES.filter((cause) => !tried.has(cause)), []);
});

for (const [name, [on, fault, point, cause, detail, shown]] of Object.entries(FAULTS)) {
  Deno.test(`${on}: ${name}`, async () => {
    const model = await modelOf(on);
    const found = await diagnosed(model, await describedPass(model, IDS, fault), shown);
    const said = `${found?.point}: ${found?.cause}: ${found?.detail}`;
    assert.ok(found, "nothing was found");
    assert.equal(found.point, point, said);
    assert.equal(found.cause, cause, said);
    assert.match(found.detail, detail);
  });
}

/** Faults that any model may have: what they may be called. */
const ANYWHERE: Readonly<Record<string, readonly [DescribedFault, kind: RegExp, ...Cause[]]>> = {
  "another epsilon": [as({ normEpsilon: 1e-2 }), /_norm$/, "epsilon"],
  "heads backwards": [
    {
      made: (name, x) => {
        if (name !== "blk.1.head_out") return x;
        return x.map((_, i) => x[i - i % 64 + (3 - Math.floor(i % 64 / 16)) * 16 + i % 16]);
      },
    },
    /^blk\.1\.head_out$/,
    "head-grouping",
  ],
  "no residual connection": [
    {
      steps: (plan) =>
        plan.map((step) =>
          stepName(step) === "blk.1.out"
            ? {
              ...step,
              inputs: [step.inputs[1]],
              operation: "scale",
              constants: { ...step.constants, factor: 1 },
            }
            : step
        ),
    },
    /^blk\.1\.out$/,
    "residual-missing",
  ],
  "the FFN's outcome times 2": [
    { made: (name, x) => name === "blk.1.ffn_out" ? x.map((v) => 2 * v) : x },
    /^blk\.1\.ffn_out$/,
    ...["scaled", "unknown"] as const,
  ],
  "no number": [
    { made: (name, x) => name === "blk.1.head_out" ? x.map((v, i) => i === 70 ? NaN : v) : x },
    /^blk\.1\.head_out$/,
    "nan",
  ],
  "a stray number in the stream": [
    { made: (name, x) => name === "blk.1.out" ? x.map((v, i) => i === 70 ? v + 1 : v) : x },
    /^blk\.1\.out$/,
    "unknown",
  ],
  "noise in the keys": [
    {
      made: (name, x) => name === "blk.1.k" ? x.map((v, i) => v + Math.sin(i * i) / 10) : x,
    },
    /^blk\.1\.k$/,
    "unknown",
  ],
  "each query sees the next key": [
    {
      made(name, x) {
        if (name !== "blk.1.attn_probs") return x;
        const T = IDS.length;
        // Half of its own key's probability goes to the next.
        return x.map((v, i) => {
          const [query, key] = [Math.floor(i / T) % T, i % T];
          if (query === T - 1) return v;
          return key === query ? v / 2 : key === query + 1 ? x[i - 1] / 2 : v;
        });
      },
    },
    /^blk\.1\.attn_probs$/,
    ...["unknown", "mask"] as const,
  ],
};

for (const name of Object.keys(DESCRIPTIONS) as DescriptionName[]) {
  Deno.test(`${name}: faults that any model may have are called nothing else`, async (t) => {
    const model = await modelOf(name);
    for (const [title, [fault, kind, ...causes]] of Object.entries(ANYWHERE)) {
      await t.step(title, async () => {
        const found = await diagnosed(model, await describedPass(model, IDS, fault));
        const said = `${found?.point}: ${found?.cause}: ${found?.detail}`;
        assert.ok(found, "nothing was found");
        assert.match(found.point, kind);
        assert.ok(causes.includes(found.cause), said);
      });
    }
  });
}

Deno.test("rows of learned positions that begin two later", async () => {
  const model = await modelOf("gpt2");
  const rows = await readWeight(model.file, "position_embd.weight");
  const fault: DescribedFault = {
    made: (name, x) => name === "position_embd" ? rows!.data.slice(96, 96 + x.length) : x,
  };
  const found = await diagnosed(model, await describedPass(model, IDS, fault));
  assert.equal(found?.point, "position_embd");
  assert.equal(found.cause, "position-offset", found.detail);
  assert.match(found.detail, /off by 2$/);
});

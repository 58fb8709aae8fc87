/** Faults of parts that only some families have: each is named, and models without a fault are blamed for nothing. */
import assert from "node:assert/strict";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import type { Block, Config, Rope } from "../../../engine/model/config.ts";
import {
  type DescribedFault,
  describedPass,
  diagnosed,
} from "../../support/engines/described_engine.ts";
import { type DescribedModel, describedModel } from "../../support/models/described_model.ts";
import { type DescriptionName, DESCRIPTIONS } from "../../support/models/descriptions.ts";
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
    ...["blk.0.ffn_inp", "embedding-scale", /the factor 6\.9282 is left out/] as const,
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
    { steps: (plan) => plan },
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
    { made: (_, x) => x, ...ropes(() => ({ base: 123456 })) },
    ...["blk.0.q_rope", "unknown", /./] as const,
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
    { made: (_, x) => x, ...experts({ gating: "softmax" }) },
    ...["blk.0.ffn_expert_ids", "unknown", /./] as const,
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

import assert from "node:assert/strict";
import type { Config } from "../../engine/model/config.ts";
import { expectedTensors, readConfig } from "../../engine/plan/tensors.ts";
import { GgufError, openGguf } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import type { WriterTensor, WriterValue } from "../support/models/gguf_writer.ts";
import { randomLlama, type RandomLlamaOptions } from "../support/models/random_llama.ts";

async function config(options: RandomLlamaOptions = {}): Promise<Config> {
  return readConfig(await openGguf(bytesSource("test.gguf", randomLlama(options))));
}

/** Metadata that is left out of the file: the writer never sees it. */
async function configWithout(key: string, options: RandomLlamaOptions = {}): Promise<Config> {
  const file = await openGguf(bytesSource("test.gguf", randomLlama(options)));
  const metadata = new Map(file.metadata);
  assert.ok(metadata.delete(key), `${key} is not there`);
  return readConfig({ name: file.name, metadata, tensors: file.tensors });
}

Deno.test("all fields come from the file", async () => {
  const sizes = { layers: 3, width: 64, heads: 8, kvHeads: 2, headWidth: 16, ffnWidth: 96 };
  const same = { ...sizes, contextLength: 777 };
  const turns = { ropeBase: 500000, ropeWidth: 12, ropeFactor: 4, ropeFactors: true };
  const made = { vocab: 300, vocabulary: "llama", normEpsilon: 1e-6 } as const;
  const found = await config({ ...same, ...turns, ...made, biases: true, seed: 9 });
  const rope = {
    ...{ table: "rope_table", base: 500000, width: 12, style: "adjacent", magnitude: 1 },
    scaling: { type: "linear", factor: 4 },
    factors: "rope_freqs.weight",
  };
  assert.deepEqual(found, {
    ...same,
    ...{ architecture: "llama", name: "random llama, seed 9", vocabSize: 300, tiedOutput: false },
    ...{ normKind: "rms", normEpsilon: Math.fround(1e-6), outputNorm: "output_norm" },
    norms: { attention: "attn_norm", ffn: "ffn_norm" },
    embedding: { scale: 1, positions: false, norm: false },
    ...{
      parallel: false,
      qkNorm: undefined,
      queryScaling: undefined,
      qkvLimit: 0,
      alibi: 0,
      sinks: false,
    },
    ...{ attentionScale: 0.25, attentionCap: 0, residualScale: 1, logitScale: 1, logitCap: 0 },
    ...{ activation: "silu", xielu: undefined, gated: true },
    ropes: [rope],
    blocks: [0, 1, 2].map(() => ({ window: 0, chunk: 0, rope })),
    optional: new Set([
      ...["attn_norm.weight", "ffn_norm.weight", "output_norm.weight"],
      ...["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"],
    ]),
    fused: { qkv: false, gateUp: false },
  });
  for (const part of [found, found.ropes, found.ropes[0].scaling]) assert.ok(Object.isFrozen(part));
});

Deno.test("what a file may leave out has llama.cpp's default", async () => {
  const plain: RandomLlamaOptions = { width: 64, heads: 4, tied: true };
  assert.equal((await config(plain)).tiedOutput, true);
  assert.deepEqual((await config(plain)).ropes[0].scaling, { type: "none" });
  for (
    const [key, field, expected] of [
      ["llama.attention.head_count_kv", "kvHeads", 4],
      ["llama.attention.key_length", "headWidth", 16],
      ["llama.attention.value_length", "headWidth", 16],
      ["llama.vocab_size", "vocabSize", 96],
      ["general.name", "name", "test.gguf"],
    ] as const
  ) {
    assert.equal((await configWithout(key, plain))[field], expected, key);
  }
  const ropeWithout = async (key: string) => (await configWithout(key, plain)).ropes[0];
  assert.equal((await ropeWithout("llama.rope.dimension_count")).width, 16);
  assert.equal((await ropeWithout("llama.rope.freq_base")).base, 10000);
});

Deno.test("heads and FFN width may be lists when all layers are alike", async () => {
  const found = await config({
    width: 64,
    heads: 4,
    kvHeads: 2,
    metadata: {
      "llama.attention.head_count": Uint32Array.of(4, 4),
      "llama.attention.head_count_kv": Int32Array.of(2, 2),
      "llama.feed_forward_length": Uint32Array.of(128, 128),
    },
  });
  assert.deepEqual([found.heads, found.kvHeads, found.ffnWidth], [4, 2, 128]);
});

Deno.test("RoPE scaling: none, linear, the old key, and zero for none", async () => {
  const scaling = async (metadata: Record<string, WriterValue>) =>
    (await config({ metadata })).ropes[0].scaling;
  const factor = { type: "f32", value: 2.5 } as const;
  for (const key of ["llama.rope.scaling.factor", "llama.rope.scale_linear"]) {
    assert.deepEqual(await scaling({ [key]: factor }), { type: "linear", factor: 2.5 });
  }
  assert.deepEqual(
    await scaling({ "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": factor }),
    { type: "none" },
  );
  for (const value of [0, 1]) {
    const metadata = { "llama.rope.scaling.factor": { type: "f32", value } as const };
    assert.deepEqual(await scaling(metadata), { type: "none" });
  }
});

Deno.test("the expected tensors are those of the file, in every combination", async () => {
  for (const tied of [true, false]) {
    for (const biases of [true, false]) {
      for (const ropeFactors of [true, false]) {
        const options = { layers: 2, width: 32, heads: 4, kvHeads: 2, tied, biases, ropeFactors };
        const file = await openGguf(bytesSource("test.gguf", randomLlama(options)));
        const expected = expectedTensors(readConfig(file));
        assert.deepEqual(
          expected.map(({ name, shape }) => [name, shape]).toSorted(),
          [...file.tensors.values()].map(({ name, shape }) => [name, shape]).toSorted(),
        );
      }
    }
  }
});

function changed(name: string, change: Partial<WriterTensor>): RandomLlamaOptions {
  return {
    tensors: (list) => list.map((each) => each.name === name ? { ...each, ...change } : each),
  };
}

function without(name: string): RandomLlamaOptions {
  return { tensors: (list) => list.filter((each) => each.name !== name) };
}

function metadata(key: string, value: WriterValue): RandomLlamaOptions {
  return { metadata: { [key]: value } };
}

const real = (value: number) => ({ type: "f32", value } as const);
const F32_OF = (count: number) => new Uint8Array(4 * count);

/** Metadata that no model can have, or none that runs here: each line is a key, its value, and what is said. */
const REFUSED_METADATA: readonly [key: string, value: WriterValue, said: RegExp][] = [
  [
    "general.architecture",
    "mamba",
    /architecture "mamba" is not supported yet; supported: .*\bllama, /,
  ],
  ["general.architecture", "toString", /architecture "toString" is not supported/],
  ["general.architecture", 7, /general.architecture is missing/],
  ["llama.block_count", 1, /"blk.1.\w+.weight" is no part .* with 1 layers/],
  ["llama.block_count", 3, /tensor blk.2.attn_norm.weight is missing/],
  [
    "llama.block_count",
    2 ** 32 - 1,
    /llama.block_count is 4294967295, but the file has only 21 tensors/,
  ],
  ["llama.block_count", 0, /llama.block_count is 0 instead of a whole number/],
  ["llama.embedding_length", "64", /embedding_length is "64" instead of a whole number/],
  ["llama.embedding_length", real(64.5), /embedding_length is 64.5 instead of a whole number/],
  ["llama.embedding_length", 2n ** 63n, /embedding_length is 9223372036854775808 instead/],
  ["llama.context_length", { type: "i32", value: -1 }, /context_length is -1 instead/],
  ["llama.attention.head_count_kv", 3, /head_count_kv is 3, which does not divide 4 heads/],
  [
    "llama.attention.head_count_kv",
    Uint32Array.of(4, 2),
    /head_count_kv is not the same in all layers: .*not supported yet/,
  ],
  [
    "llama.attention.head_count_kv",
    Uint32Array.of(4),
    /head_count_kv is a list of 1 numbers for 2 layers/,
  ],
  [
    "llama.attention.value_length",
    32,
    /value_length is 32 where keys have 16: .*not supported yet/,
  ],
  ["llama.rope.dimension_count", 7, /dimension_count is 7; it must be even/],
  ["llama.rope.dimension_count", 32, /dimension_count is 32; it must be even and at most/],
  ["llama.attention.layer_norm_rms_epsilon", real(NaN), /rms_epsilon is NaN/],
  ["llama.attention.layer_norm_rms_epsilon", real(-0.5), /rms_epsilon is -0.5/],
  ["llama.rope.freq_base", real(Infinity), /freq_base is Infinity/],
  ["llama.rope.freq_base", real(0), /freq_base is 0/],
  ["llama.rope.scaling.type", "su", /rope.scaling.type is "su", which is not supported yet/],
  ["llama.rope.scaling.factor", real(NaN), /scaling.factor is NaN/],
  ["llama.rope.scaling.attn_factor", real(0), /attn_factor is 0, which makes no sense/],
  ["llama.logit_scale", real(4), /logit_scale is 4: scaled logits .* not supported yet/],
  ["llama.expert_count", 8, /expert_used_count is missing/],
  ["llama.attention.causal", false, /causal is false: models that look ahead are not/],
];

for (const [key, value, said] of REFUSED_METADATA) {
  const shown = typeof value === "object" && "value" in value ? value.value : value;
  Deno.test(`refused: ${key} = ${shown}`, () => assertRefused(metadata(key, value), said));
}

for (const name of ["blk.1.ffn_up.weight", "output_norm.weight", "token_embd.weight"]) {
  const said = new RegExp(`tensor ${name} is missing`);
  Deno.test(`refused: no ${name}`, () => assertRefused(without(name), said, name));
}

const REFUSED_TENSORS: readonly [string, RandomLlamaOptions, said: RegExp, tensor: string][] = [
  [
    "a bias that one layer lacks",
    { biases: true, ...without("blk.1.attn_k.bias") },
    /tensor blk.1.attn_k.bias is missing/,
    "blk.1.attn_k.bias",
  ],
  [
    "a bias that only the second layer has",
    { biases: true, ...without("blk.0.attn_k.bias") },
    /"blk.1.attn_k.bias" is no part of the llama architecture/,
    "blk.1.attn_k.bias",
  ],
  [
    "a wrong shape",
    changed("blk.0.attn_q.weight", { shape: [64, 32], data: F32_OF(64 * 32) }),
    /blk.0.attn_q.weight is 64 x 32 where the metadata asks for 64 x 64/,
    "blk.0.attn_q.weight",
  ],
  [
    "a transposed matrix",
    changed("blk.0.ffn_down.weight", { shape: [64, 128] }),
    /ffn_down.weight is 64 x 128 .* 128 x 64/,
    "blk.0.ffn_down.weight",
  ],
  [
    "an empty tensor",
    changed("output_norm.weight", { shape: [0], data: F32_OF(0) }),
    /output_norm.weight is 0 where/,
    "output_norm.weight",
  ],
  [
    "an unsupported type",
    {
      width: 256,
      ...changed("blk.1.attn_v.weight", { type: "IQ4_XS", data: new Uint8Array(256 * 136) }),
    },
    /blk.1.attn_v.weight has type IQ4_XS, which is not supported yet/,
    "blk.1.attn_v.weight",
  ],
  [
    "a tensor that nobody knows",
    { tensors: (list) => [...list, { ...list[1], name: "blk.0.attn_q_norm.weight" }] },
    /"blk.0.attn_q_norm.weight" is no part of the llama architecture/,
    "blk.0.attn_q_norm.weight",
  ],
  [
    "more tokens than embeddings",
    { ...metadata("tokenizer.ggml.tokens", ["a", "b"]) },
    /token_embd.weight is 64 x 96 where the metadata asks for 64 x 2/,
    "token_embd.weight",
  ],
];

for (const [what, options, said, tensor] of REFUSED_TENSORS) {
  Deno.test(`refused: ${what}`, () => assertRefused(options, said, tensor));
}

async function assertRefused(options: RandomLlamaOptions, said: RegExp, tensor?: string) {
  await assert.rejects(config(options), (error) => {
    assert.ok(error instanceof GgufError);
    assert.match(error.message, said);
    assert.ok(error.message.startsWith("test.gguf: ") && !error.message.includes("\n"));
    assert.equal(error.file, "test.gguf");
    if (tensor !== undefined) assert.equal(error.tensor, tensor);
    return true;
  });
}

const NEEDED = [
  ...["llama.context_length", "llama.embedding_length", "llama.block_count"],
  ...["llama.feed_forward_length", "llama.attention.head_count"],
  ...["llama.attention.layer_norm_rms_epsilon", "general.architecture"],
];

for (const key of NEEDED) {
  Deno.test(`refused: a file without ${key}`, async () => {
    await assert.rejects(configWithout(key), (error) => {
      assert.ok(error instanceof GgufError);
      assert.ok(error.message.includes(`${key} is missing`), error.message);
      return true;
    });
  });
}

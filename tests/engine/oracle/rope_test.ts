/** The oracle's tables of scaled RoPE against those of llama.cpp and of Hugging Face. */
import assert from "node:assert/strict";
import type { Rope } from "../../../engine/model/config.ts";
import { type RopeKind, ropeTable } from "../../../engine/oracle/rope.ts";
import { pyTorch, run } from "../../support/engines/python_venv.ts";

const environment = await pyTorch();

const YARN: Rope = {
  table: "rope_table",
  base: 10000,
  width: 64,
  style: "half",
  scaling: { type: "yarn", factor: 4, originalLength: 64, betaFast: 32, betaSlow: 1, share: 1 },
  magnitude: 1 + 0.1 * Math.log(4),
};

/**
 * Angles of the first pairs at position 392, out of keys before and after RoPE, in llama.cpp v0.5.0 (npm @node-llama-cpp/linux-x64 3.22.1,
 * one thread) on a random llama with the metadata of `YARN`.
 */
const LLAMACPP = [
  ...[2.44251092, -0.71496257, 1.48577672, -1.68494638, 0.95944487, -2.32325729, -2.8448371],
  ...[2.93129162, 0.50029505, 1.0657775, -0.77224092, -2.15056015],
];

Deno.test("YaRN's angles of ggml are llama.cpp's", () => {
  const off = (kind: RopeKind) => {
    const { cos, sin } = ropeTable(YARN, undefined, kind, 392, 1);
    return LLAMACPP.reduce((most, angle, i) => {
      const turned = Math.atan2(sin[i], cos[i]) - angle;
      return Math.max(most, Math.abs(Math.atan2(Math.sin(turned), Math.cos(turned))));
    }, 0);
  };
  // Without the fused multiply-add they are 1.5e-5 off.
  assert.ok(off("ggml") < 2e-7, `${off("ggml")}`);
  assert.ok(off("exact") > 5e-6, `${off("exact")}`);
});

/** Tables of 2000 positions in transformers' terms, and in ours. */
const TABLES: readonly { theirs: unknown; rope: Rope; divisors?: Float32Array }[] = [
  {
    theirs: {
      rope_type: "yarn",
      rope_theta: 10000,
      factor: 4,
      original_max_position_embeddings: 64,
    },
    rope: YARN,
  },
  {
    theirs: {
      ...{
        rope_type: "yarn",
        rope_theta: 1e6,
        factor: 8.5,
        original_max_position_embeddings: 4096,
      },
      ...{ beta_fast: 16, beta_slow: 2, attention_factor: 1.25 },
    },
    rope: {
      ...{ ...YARN, base: 1e6, magnitude: 1.25 },
      scaling: {
        ...{ type: "yarn", factor: 8.5, originalLength: 4096, betaFast: 16, betaSlow: 2 },
        share: 1,
      },
    },
  },
  {
    theirs: { rope_type: "linear", rope_theta: 10000, factor: 3 },
    rope: { ...YARN, magnitude: 1, scaling: { type: "linear", factor: 3 } },
  },
  {
    theirs: {
      ...{ rope_type: "longrope", rope_theta: 10000, attention_factor: 1.19 },
      ...{ original_max_position_embeddings: 1000, factor: 4 },
      short_factor: Array<number>(32).fill(1),
      long_factor: Array.from({ length: 32 }, (_, i) => 1 + i / 7),
    },
    rope: {
      ...{ ...YARN, magnitude: 1.19 },
      scaling: { type: "longrope", originalLength: 1000, short: "short", long: "long" },
    },
    divisors: Float32Array.from({ length: 32 }, (_, i) => 1 + i / 7),
  },
];

/** Prints cosines, then sines, of all positions as base64, a line per table, made by transformers' own module. */
const THEIRS = `
import base64, json, sys, torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
for parameters in json.loads(sys.argv[1]):
    config = LlamaConfig(hidden_size=64, num_attention_heads=1, head_dim=64, max_position_embeddings=4000,
                         rope_parameters=parameters)
    rope = LlamaRotaryEmbedding(config)
    cos, sin = rope(torch.zeros(1, dtype=torch.float32), torch.arange(2000)[None])
    both = torch.stack([cos[0, :, :32], sin[0, :, :32]])
    print(base64.b64encode(both.contiguous().numpy().tobytes()).decode())
`;

Deno.test({
  name: "scaled tables of f32 are PyTorch's",
  ignore: environment === undefined,
  async fn() {
    const args = ["-c", THEIRS, JSON.stringify(TABLES.map(({ theirs }) => theirs))];
    const lines = (await run(environment!.python, args)).trim().split("\n");
    assert.equal(lines.length, TABLES.length);
    for (const [i, { rope, divisors }] of TABLES.entries()) {
      const theirs = new Float32Array(Uint8Array.fromBase64(lines[i]).buffer);
      const off = (kind: RopeKind) => {
        const { cos, sin } = ropeTable(rope, divisors, kind, 0, 2000);
        const ours = [...cos, ...sin];
        assert.equal(ours.length, theirs.length);
        return ours.reduce((most, value, at) => Math.max(most, Math.abs(value - theirs[at])), 0);
      };
      // PyTorch's powers, cosines and sines are at most a unit in the last place off.
      assert.ok(off("f32") <= 2 ** -22, `${i}: ${off("f32")}`);
      assert.ok(off("exact") > 2 ** -17, `${i}: ${off("exact")}`);
    }
  },
});

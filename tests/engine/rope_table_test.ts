/** RoPE's tables: the kernels' are the oracle's, and those of `f32` are PyTorch's. */
import assert from "node:assert/strict";
import type { Rope } from "../../engine/model/config.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { type RopeBuilder, ropeTable } from "../../engine/model/rope_table.ts";
import { ropeTable as oracleTable } from "../../engine/oracle/rope.ts";
import { pyTorch, run } from "../support/engines/python_venv.ts";
import { randomFile, type RandomLlamaOptions } from "../support/models/random_llama.ts";

const POSITIONS = 2000;
const environment = await pyTorch();

async function ropeOf(options: RandomLlamaOptions): Promise<Rope> {
  return readConfig(await randomFile(options)).ropes[0];
}

for (const builder of ["exact", "ggml", "f32"] as const satisfies readonly RopeBuilder[]) {
  Deno.test(`the kernels' table is the oracle's, rounded: ${builder}`, async () => {
    const factors = Float32Array.of(1, 1.5, 4, 8);
    for (const options of [{ ropeFactor: 3, ropeBase: 1e6 }, {}]) {
      const rope = await ropeOf({ width: 32, heads: 4, ropeFactors: true, ...options });
      const known = new Map([[rope.factors!, factors]]);
      const found = ropeTable(rope, POSITIONS, builder, known);
      const { cos, sin } = oracleTable(rope, factors, builder, 0, POSITIONS);
      const expected = Float32Array.from(
        found,
        (_, at) => at % 2 === 0 ? cos[at >> 1] : sin[at >> 1],
      );
      assert.deepEqual(found, expected);
    }
  });
}

/** Widths and bases. */
const SHAPES = [[32, 10000], [64, 100000], [22, 10000], [128, 500000]] as const;

/** Prints cosines and sines of all positions as base64, a line per shape, made by transformers' own module. */
const THEIRS = `
import base64, json, sys, torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
positions, shapes = json.loads(sys.argv[1])
for width, base in shapes:
    config = LlamaConfig(hidden_size=width, num_attention_heads=1, head_dim=width,
                         rope_parameters={"rope_type": "default", "rope_theta": float(base)})
    rope = LlamaRotaryEmbedding(config)
    cos, sin = rope(torch.zeros(1, dtype=torch.float32), torch.arange(positions)[None])
    half = torch.stack([cos[0, :, :width // 2], sin[0, :, :width // 2]], dim=-1)
    print(base64.b64encode(half.contiguous().numpy().tobytes()).decode())
`;

Deno.test({
  name: "the table of f32 is PyTorch's",
  ignore: environment === undefined,
  async fn() {
    const args = ["-c", THEIRS, JSON.stringify([POSITIONS, SHAPES])];
    const lines = (await run(environment!.python, args)).trim().split("\n");
    assert.equal(lines.length, SHAPES.length);
    for (const [i, [width, ropeBase]] of SHAPES.entries()) {
      const theirs = new Float32Array(Uint8Array.fromBase64(lines[i]).buffer);
      const rope = await ropeOf({ width, heads: 1, headWidth: width, ropeBase });
      const off = (builder: RopeBuilder) => {
        const ours = ropeTable(rope, POSITIONS, builder);
        assert.equal(ours.length, theirs.length);
        return ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i])), 0);
      };
      // PyTorch's powers, cosines and sines are at most a unit in the last place off.
      assert.ok(off("f32") <= 2 ** -23, `${width}: ${off("f32")}`);
      assert.ok(off("exact") > 2 ** -16, `${width}: ${off("exact")}`);
    }
  },
});

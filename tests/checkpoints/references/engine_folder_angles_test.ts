/** Folders that do not say how their engine builds RoPE's angles: any way is right, and nobody is accused of his own. */
import assert from "node:assert/strict";
import { setUp } from "../../../checkpoints/comparisons/setup.ts";
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { ownRun } from "../../../checkpoints/parity/lamina.ts";
import { openModel } from "../../../checkpoints/files/model_argument.ts";
import { writeNpy } from "../../../checkpoints/files/npy.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import { Folder } from "../../support/folder.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const IDS = Array.from({ length: 600 }, (_, i) => (31 * i) % 96);

/** Writes what our kernels make with a builder's angles, without a manifest. */
async function write(path: string, out: string, rope: RopeBuilder, kinds: readonly string[]) {
  using model = await openModel(path);
  const points = kinds.map((kind) => `blk.0.${kind}`);
  const request = { ids: IDS, generate: 0, steps: [0], points };
  const { passes: [{ tensors }] } = await ownRun(model.engine, request, rope);
  await Deno.mkdir(out);
  for (const [point, { shape, data }] of tensors) {
    await writeNpy(`${out}/${point}.npy`, shape, data as Float32Array<ArrayBuffer>);
  }
}

/** The builder that a folder's numbers tell. */
async function told(path: string, engine: string): Promise<RopeBuilder> {
  using model = await openModel(path);
  await using setup = await setUp(model, IDS, { engine });
  return setup.reference.provenance.rope;
}

Deno.test("a folder's own numbers tell how its angles are made", async () => {
  using folder = new Folder();
  const path = folder.write("random.gguf", randomLlama({ contextLength: 700 }));
  for (const rope of ["exact", "ggml", "f32"] as const) {
    for (const kind of ["q", "k"]) {
      const engine = folder.at(`${rope}-${kind}`);
      await write(path, engine, rope, [kind, `${kind}_rope`]);
      assert.equal(await told(path, engine), rope);
    }
    const silent = folder.at(`${rope}-silent`);
    await write(path, silent, rope, ["q", "k_rope"]);
    assert.equal(await told(path, silent), "exact");
  }
  const other = folder.write("other.gguf", randomLlama({ contextLength: 700, ropeBase: 10100 }));
  const engine = folder.at("other");
  await write(other, engine, "f32", ["q", "q_rope"]);
  assert.equal(await told(path, engine), "exact", "another base is no builder's");
});

Deno.test("angles that are multiplied up in f32 pass over 600 tokens, undeclared", async () => {
  using folder = new Folder();
  const path = folder.write("random.gguf", randomLlama({ contextLength: 700 }));
  const engine = folder.at("tensors");
  await write(path, engine, "ggml", ["q", "q_rope"]);
  const report = await parity(path, IDS, { engine });
  assert.ok(report.passed, `${report}`);
});

/** Induction and previous-token heads in the embedded model: there, above chance, and doing what they are said to do. */
import assert from "node:assert/strict";
import { openGguf } from "../engine/gguf/reader.ts";
import { bytesSource } from "../engine/gguf/source.ts";
import { inductionScores, repeatedRandomTokens } from "../inspect/analyses/mod.ts";
import { zero } from "../inspect/interventions.ts";
import type { Model } from "../inspect/model.ts";
import { tableColumns } from "../inspect/tables.ts";
import { findModel } from "../models/mod.ts";
import { Random } from "./support/random.ts";
import { modelOf } from "./support/random_model.ts";

const OPTIONS = { length: 40, seeds: [0, 1] };
const CONTROLS = 20;

interface Best {
  readonly layer: number;
  readonly head: number;
  readonly induction: number;
  readonly previous: number;
}

async function best(model: Model): Promise<Best> {
  const columns = tableColumns(await inductionScores(model, OPTIONS));
  const induction = Array.from(columns.induction as Float64Array);
  const strongest = induction.indexOf(Math.max(...induction));
  return {
    layer: Number(columns.layer[strongest]),
    head: Number(columns.head[strongest]),
    induction: induction[strongest],
    previous: Math.max(...columns.previous_token as Float64Array),
  };
}

/** A copy of the model whose query and key weights are in another order: the same numbers, no circuit. */
async function shuffled(bytes: Uint8Array, seed: number): Promise<Uint8Array> {
  const copy = bytes.slice();
  const random = new Random(seed);
  const file = await openGguf(bytesSource("tiny", copy));
  for (const { name, offset, bytes: size } of file.tensors.values()) {
    if (!/attn_[qk]\.weight$/.test(name)) continue;
    const words = new Uint16Array(copy.buffer, copy.byteOffset + offset, size / 2);
    for (let i = words.length - 1; i > 0; i--) {
      const j = random.integer(0, i + 1);
      [words[i], words[j]] = [words[j], words[i]];
    }
  }
  file.close();
  return copy;
}

Deno.test("tiny has an induction head and a previous-token head, above 20 controls with shuffled weights", async () => {
  const bytes = (await findModel("tiny")).bytes!;
  using own = await modelOf(bytes, "webgpu");
  const { induction, previous } = await best(own.model);
  assert.ok(induction >= 0.4, `induction ${induction}`);
  assert.ok(previous >= 0.4, `previous token ${previous}`);
  for (let seed = 0; seed < CONTROLS; seed++) {
    using control = await modelOf(await shuffled(bytes, seed), "webgpu");
    const chance = await best(control.model);
    assert.ok(induction > chance.induction, `control ${seed}: induction ${chance.induction}`);
    assert.ok(previous > chance.previous, `control ${seed}: previous token ${chance.previous}`);
  }
});

Deno.test("without its best induction head tiny repeats worse", async () => {
  using own = await modelOf((await findModel("tiny")).bytes!, "webgpu");
  const { model } = own;
  const { layer, head } = await best(model);
  const prompts = [0, 1, 2].map((seed) => repeatedRandomTokens(model, { length: 40, seed }));
  const secondCopy = async (edit: Parameters<Model["run"]>[1]) => {
    const { sequences } = await model.run(prompts, edit);
    const losses = sequences.flatMap(({ surprisals }) => [...surprisals.slice(-39)]);
    return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  };
  const plain = await secondCopy({});
  const ablated = await secondCopy({ edit: [[`blk.${layer}.head_out`, zero({ head })]] });
  console.log(
    `loss on the second copy: ${plain.toFixed(3)}, without head ${layer}.${head}: ${
      ablated.toFixed(3)
    }`,
  );
  assert.ok(ablated > plain, `${plain} → ${ablated}`);
});

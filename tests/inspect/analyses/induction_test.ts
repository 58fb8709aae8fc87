/** Induction and previous-token heads in the models that ship: there, above chance, and doing what they are said to do. */
import assert from "node:assert/strict";
import { openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import {
  type InductionOptions,
  inductionScores,
  repeatedRandomTokens,
} from "../../../inspect/analyses/mod.ts";
import { zero } from "../../../inspect/run/interventions.ts";
import type { Model } from "../../../inspect/run/model.ts";
import { tableColumns } from "../../../inspect/tables/mod.ts";
import { findModel } from "../../../models/mod.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { modelOf } from "../../support/models/random_model.ts";

/** The larger model gets one short sequence. */
const MODELS: Readonly<Record<string, InductionOptions>> = {
  "tiny": { length: 40, seeds: [0, 1] },
  "smollm2-135m": { length: 16, seeds: [0] },
};
const CONTROLS = 20;

interface Best {
  readonly layer: number;
  readonly head: number;
  readonly induction: number;
  readonly previous: number;
}

async function best(model: Model, options: InductionOptions): Promise<Best> {
  const columns = tableColumns(await inductionScores(model, options));
  const induction = Array.from(columns.induction as Float64Array);
  const strongest = induction.indexOf(Math.max(...induction));
  return {
    layer: Number(columns.layer[strongest]),
    head: Number(columns.head[strongest]),
    induction: induction[strongest],
    previous: Math.max(...columns.previous_token as Float64Array),
  };
}

/** A copy of the model whose query and key weights are in another order: the same numbers (quantized: blocks), no circuit. */
async function shuffled(bytes: Uint8Array<ArrayBuffer>, seed: number) {
  const copy = bytes.slice();
  const random = new Random(seed);
  const file = await openGguf(bytesSource("model", bytes));
  for (const { name, type, offset, bytes: size } of file.tensors.values()) {
    if (!/attn_[qk]\.weight$/.test(name)) continue;
    const order = Array.from({ length: size / type.blockBytes }, (_, i) => i);
    for (let i = order.length - 1; i > 0; i--) {
      const j = random.integer(0, i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    const block = (at: Uint8Array, i: number) =>
      at.subarray(offset + i * type.blockBytes, offset + (i + 1) * type.blockBytes);
    order.forEach((from, to) => block(copy, to).set(block(bytes, from)));
  }
  file.close();
  return copy;
}

async function bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes, path } = await findModel(name);
  return bytes ? bytes.slice() : await Deno.readFile(path!);
}

for (const [name, options] of Object.entries(MODELS)) {
  Deno.test(`${name} has an induction head and a previous-token head, above ${CONTROLS} controls with shuffled weights`, async () => {
    const bytes = await bytesOf(name);
    using own = await modelOf(bytes, "webgpu");
    const { layer, head, induction, previous } = await best(own.model, options);
    assert.ok(induction >= 0.4, `induction ${induction}`);
    assert.ok(previous >= 0.4, `previous token ${previous}`);
    let [mostInduction, mostPrevious] = [0, 0];
    for (let seed = 0; seed < CONTROLS; seed++) {
      using control = await modelOf(await shuffled(bytes, seed), "webgpu");
      const chance = await best(control.model, options);
      mostInduction = Math.max(mostInduction, chance.induction);
      mostPrevious = Math.max(mostPrevious, chance.previous);
    }
    console.log(
      `induction ${induction.toFixed(3)} (head ${layer}.${head}), controls at most ${
        mostInduction.toFixed(3)
      }; previous token ${previous.toFixed(3)}, controls at most ${mostPrevious.toFixed(3)}`,
    );
    assert.ok(induction > mostInduction && previous > mostPrevious);
  });
}

Deno.test("without its best induction head tiny repeats worse", async () => {
  using own = await modelOf((await findModel("tiny")).bytes!, "webgpu");
  const { model } = own;
  const { layer, head } = await best(model, MODELS.tiny);
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

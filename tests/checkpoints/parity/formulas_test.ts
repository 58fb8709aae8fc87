/** The formula of every operation, at places drawn by a seed, against what its kernel's twin makes: in models of many families. */
import assert from "node:assert/strict";
import { Random } from "../../../checkpoints/files/random.ts";
import { WeightReader } from "../../../checkpoints/diagnosis/activations/operation.ts";
import { chainOf } from "../../../checkpoints/diagnosis/activations/chain.ts";
import { operationEvidence } from "../../../checkpoints/diagnosis/divergence_evidence.ts";
import { compareTensors, placesOf } from "../../../checkpoints/parity/compare.ts";
import { formulaAt } from "../../../checkpoints/parity/divergence/formula.ts";
import { recompute } from "../../../checkpoints/parity/divergence/recompute.ts";
import type { ParityRow } from "../../../checkpoints/parity/comparison.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { describedPass } from "../../support/engines/described_engine.ts";
import { describedModel } from "../../support/models/described_model.ts";
import { DESCRIPTIONS } from "../../support/models/descriptions.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const IDS = Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % 97);

const seen = new Set<string>();
for (const [name, description] of Object.entries(DESCRIPTIONS)) {
  Deno.test(`${name}: formulas give what twins make`, async () => {
    const model = await describedModel(description, folder.at(`${name}.gguf`));
    const { config, file } = model;
    const pass = await describedPass(model, IDS);
    const plan = forward(config);
    const draw = new Random(3);
    for (const point of pass.tensors.keys()) {
      const reader = new WeightReader(file);
      const chain = await chainOf({ plan, config, reader, pass, point, builder: "exact" });
      const reference = { shape: chain.shape, data: chain.target };
      // One number more than is right: all that it is made of is kept, and says so.
      const element = draw.integer(0, chain.target.length);
      const place = placesOf(point, reference, chain.start)(element);
      const wrong = reference.data.slice();
      wrong[element] += 1 + Math.abs(wrong[element]);
      const local = {
        ...compareTensors(point, reference, reference, ONE, chain.start),
        place,
        allowed: 1e-3,
      };
      const row = { ...ROW, point, local: { ...local, passed: false } } as unknown as ParityRow;
      const evidence = (await operationEvidence({
        ...{ config, file, provenance: PROVENANCE, row, piece: String },
        chain: { ...chain, target: wrong },
        pass: {
          ...pass,
          tensors: new Map(pass.tensors).set(point, { shape: chain.shape, data: wrong }),
        },
      }))!;
      for (const operation of evidence.operations) {
        seen.add(operation.operation);
        const { output } = operation;
        const placeOf = placesOf(output.name, output, evidence.pass.start);
        for (let i = 0; i < 10; i++) {
          const at = draw.integer(0, output.data.length);
          const { value } = formulaAt(operation, operation, evidence.pass, placeOf(at))!;
          const expected = output.data[at];
          assert.ok(
            Math.abs(value! - expected) <= 1e-6 * Math.max(1, Math.abs(expected)),
            `${operation.point}[${at}] (${operation.operation}): ${value} and ${expected}`,
          );
        }
      }
      const found = recompute(evidence);
      const isHidden = wrong[element] <= -1e29;
      if (!isHidden) assert.equal(found.right, "ours", `${point}: ${found.says}`);
    }
  });
}

const ONE = { tolerance: 1, relative: 0 };
const ROW = { case: "prompt", step: 0, checkpoint: "0" };
const PROVENANCE = { name: "foreign" } as Parameters<typeof operationEvidence>[0]["provenance"];

Deno.test("every operation was among them", () => {
  const all = [
    ...["embed", "embed_positions", "center", "rms", "normalize", "scale_columns", "linear"],
    ...["add_bias", "rope", "store", "scores", "softmax", "mix", "add", "glu", "activate", "xielu"],
    ...["scale", "cap", "clamp", "scale_by_position", "take_rows", "route", "route_weights"],
    ...["linear_experts", "add_expert_bias", "combine", "weigh"],
  ];
  assert.deepEqual(all.filter((each) => !seen.has(each)), []);
});

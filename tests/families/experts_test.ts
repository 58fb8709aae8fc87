/** Experts on both backends: forced, forbidden, tabled and drawn; the oracle is the judge. */
import assert from "node:assert/strict";
import { syntheticModel } from "../../checkpoints/files/synthetic_model.ts";
import type { MetadataValue, TensorInfo } from "../../engine/gguf/header.ts";
import { GGML_TYPES } from "../../engine/gguf/types.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { openGgufFile } from "../../engine/gguf/reader.ts";
import { oracle } from "../../engine/oracle/oracle.ts";
import { expertLoads, routing } from "../../inspect/analyses/routing.ts";
import { expertLoadMap, routingMap } from "../../inspect/figures/experts.ts";
import { loadModel } from "../../inspect/run/model.ts";
import type { TensorView } from "../../inspect/tensor/tensor.ts";
import { Folder } from "../support/folder.ts";
import { FAMILY_MODELS, writeFamilyModel } from "../support/models/family_models.ts";
import { tableRows } from "../support/tables/table_rows.ts";

const IDS = Array.from({ length: 40 }, (_, i) => (7919 * (i + 1)) % 211);
const MIXTURES = Object.entries(FAMILY_MODELS)
  .filter(([, { shape: { keys = {} } }]) => "expert_count" in keys).map(([name]) => name);

async function withModel(
  name: string,
  backend: "cpu" | "webgpu",
  use: (model: Awaited<ReturnType<typeof loadModel>>, path: string) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  const path = folder.at("model.gguf");
  await writeFamilyModel(name, path);
  const model = await loadModel(path, { backend });
  try {
    await use(model, path);
  } finally {
    model.dispose();
  }
}

Deno.test("there are mixtures", () => assert.ok(MIXTURES.length >= 10));

for (const name of MIXTURES) {
  Deno.test(`${name}: ids, weights and logits are the oracle's on the GPU too`, async () => {
    await withModel(name, "webgpu", async (model, path) => {
      const wanted = /ffn_expert_(ids|weights)$|attn_probs$|^logits$/;
      const file = await openGgufFile(path);
      const { points } = await oracle(file, IDS, { rows: "all", points: (p) => wanted.test(p) });
      const { experts } = readConfig(file).blocks.at(-1)!;
      file.close();
      const run = await model.run([IDS], {
        capture: ["blk.*.ffn_expert_*", "blk.*.attn_probs", "logits"],
      });
      for (const [point, { data }] of points) {
        const own = run.tensor(point).toFloat32Array();
        const worst = data.reduce((most, x, i) => Math.max(most, Math.abs(x - own[i])), 0);
        const allowed = point.endsWith("ids") ? 0 : point === "logits" ? 1e-3 : 1e-4;
        assert.ok(worst <= allowed, `${point}: ${worst}`);
      }
      assert.ok(points.has("blk.3.ffn_expert_ids") && experts);
    });
  });
}

for (const backend of ["cpu", "webgpu"] as const) {
  Deno.test(`an edit forces or forbids an expert, and its weights follow: ${backend}`, async () => {
    await withModel("llama with experts", backend, async (model) => {
      const capture = ["blk.1.ffn_router", "blk.1.ffn_expert_*", "blk.1.ffn_out"];
      const plain = await model.run([IDS], { capture });
      const ids = plain.tensor("blk.1.ffn_expert_ids");
      const [favourite] = ids.toFloat32Array();

      // Forbidden: nobody goes there, and the weights of the others still sum to 1.
      const forbidden = await model.run([IDS], {
        capture,
        edit: [["blk.1.ffn_router", (logits: TensorView) => {
          for (let t = 0; t < IDS.length; t++) logits.data[t * 6 + favourite] = -1e30;
        }]],
      });
      const others = forbidden.tensor("blk.1.ffn_expert_ids").toFloat32Array();
      assert.ok(!others.includes(favourite) && ids.toFloat32Array().includes(favourite));
      const weights = forbidden.tensor("blk.1.ffn_expert_weights").toFloat32Array();
      for (let t = 0; t < IDS.length; t++) {
        assert.ok(Math.abs(weights[2 * t] + weights[2 * t + 1] - 1) < 1e-6);
      }
      assert.notDeepEqual(
        forbidden.tensor("blk.1.ffn_out").toFloat32Array(),
        plain.tensor("blk.1.ffn_out").toFloat32Array(),
      );

      // Forced: all positions go to experts 5 and 0; weights are the softmax of these two logits.
      const forced = await model.run([IDS], {
        capture,
        edit: [["blk.1.ffn_expert_ids", (chosen: TensorView) => {
          for (let t = 0; t < IDS.length; t++) {
            [chosen.data[2 * t], chosen.data[2 * t + 1]] = [5, 0];
          }
        }]],
      });
      const logits = forced.tensor("blk.1.ffn_router").toFloat32Array();
      const follow = forced.tensor("blk.1.ffn_expert_weights").toFloat32Array();
      assert.deepEqual([...new Set(forced.tensor("blk.1.ffn_expert_ids").toFloat32Array())], [
        5,
        0,
      ]);
      for (let t = 0; t < IDS.length; t++) {
        const share = 1 / (1 + Math.exp(logits[6 * t] - logits[6 * t + 5]));
        assert.ok(Math.abs(follow[2 * t] - share) < 1e-6, `${follow[2 * t]}, not ${share}`);
      }
      // A position that went to both anyway makes what it made; the order of a sum may differ.
      const [before, after] = [plain, forced].map((run) =>
        run.tensor("blk.1.ffn_out").toFloat32Array()
      );
      let same = 0;
      for (let t = 0; t < IDS.length; t++) {
        const pair = [...ids.toFloat32Array().subarray(2 * t, 2 * t + 2)].sort().join();
        const worst = Math.max(
          ...Array.from({ length: 84 }, (_, i) => Math.abs(before[84 * t + i] - after[84 * t + i])),
        );
        assert.equal(worst < 1e-5, pair === "0,5", `${t}: ${pair}, ${worst}`);
        if (pair === "0,5") same++;
      }
      assert.ok(same < IDS.length);
    });
  });
}

Deno.test("who went where, as tables and pictures", async () => {
  await withModel("deepseek", "cpu", async (model) => {
    const capture = ["blk.*.ffn_expert_ids", "blk.*.ffn_expert_weights"];
    const run = await model.run([IDS, IDS.slice(0, 7)], { capture });
    const rows = tableRows(routing(run));
    assert.equal(rows.length, 3 * 3 * (40 + 7)); // the first of four layers has no experts
    const ids = run.tensor("blk.2.ffn_expert_ids", { sequence: 1 }).toFloat32Array();
    const weights = run.tensor("blk.2.ffn_expert_weights", { sequence: 1 }).toFloat32Array();
    const own = rows.filter(({ sequence, layer }) => sequence === 1 && layer === 2);
    assert.deepEqual(own.map(({ expert }) => expert), [...ids]);
    assert.deepEqual(own.map(({ value }) => value), [...weights]);
    assert.deepEqual(own.slice(0, 4).map(({ position }) => position), [0, 0, 0, 1]);
    assert.deepEqual(own.slice(0, 4).map(({ rank }) => rank), [0, 1, 2, 0]);

    const loads = tableRows(expertLoads(run));
    assert.equal(loads.length, 3 * 6);
    for (const { layer, expert, count, weight, value } of loads) {
      const found = rows.filter((row) => row.layer === layer && row.expert === expert);
      assert.equal(count, found.length);
      assert.equal(value, found.length / 47);
      const sum = found.reduce((total, row) => total + (row.value as number), 0);
      assert.ok(Math.abs(weight as number - sum) < 1e-12);
    }
    assert.match(JSON.stringify(expertLoadMap(run)), /share of positions/);
    assert.match(
      JSON.stringify(routingMap(routing(run), { sequence: 1 })),
      /experts that positions/,
    );
    const bare = await model.run([IDS], { capture: ["blk.*.ffn_expert_ids"] });
    assert.throws(() => routing(bare), /ffn_expert_weights/);
    assert.equal(tableRows(expertLoads(bare))[0].weight, null);
  });
});

/** The model of a name as a file's header, with some metadata changed, and tensors of a type. */
function headerOf(name: string, changes: Readonly<Record<string, MetadataValue>>, type = "F32") {
  const { shape } = FAMILY_MODELS[name];
  const made = syntheticModel({ name, shape, type: "F32" });
  const metadata = new Map(made.metadata);
  for (const [key, value] of Object.entries(changes)) {
    metadata.set(key.startsWith("general.") ? key : `${shape.architecture}.${key}`, value);
  }
  const experts = GGML_TYPES.find((each) => each.name === type)!;
  const tensors = new Map(made.tensors.map((tensor): [string, TensorInfo] => [
    tensor.name,
    {
      ...{ name: tensor.name, shape: tensor.shape, bytes: 0, offset: 0, source: 0 },
      type: tensor.name.endsWith("_exps.weight") ? experts : tensor.type,
    },
  ]));
  return { name, metadata, tensors };
}

Deno.test("what is not computed is refused by its name", () => {
  const refused = [
    ["gpt-oss", {}, /ffn_gate_exps.weight has type MXFP4, which is not supported yet/, "MXFP4"],
    ["deepseek", { "general.architecture": "deepseek2" }, /"deepseek2" is not supported yet/],
    ["llama4", { expert_used_count: 2 }, /expert_used_count is 2, and only 1/],
    ["llama4", { "attention.sliding_window": 0 }, /sliding_window is 0: models without chunks/],
    ["llama with experts", { expert_used_count: 7 }, /expert_used_count is 7 of 6 experts/],
    ["qwen3moe", { expert_weights_scale: 2.5 }, /expert_weights_scale is 2.5: scaled weights/],
    ["qwen2moe", { expert_weights_norm: true }, /expert_weights_norm is true: normalized/],
    ["olmoe", { expert_gating_func: 2 }, /expert_gating_func is 2: other gates/],
    ["dots1", { expert_gating_func: 4 }, /expert_gating_func is 4, which is not known/],
    ["dots1", { expert_group_count: 4 }, /expert_group_count is 4, which does not divide 6/],
    ["dots1", { expert_group_count: 2 }, /expert_group_used_count is 0 of 2 groups/],
  ] as const;
  for (const [name, changes, message, type] of refused) {
    readConfig(headerOf(name, {}));
    assert.throws(() => readConfig(headerOf(name, changes, type)), message);
  }
});

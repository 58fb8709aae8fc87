/** Patching sweeps: each cell is what a run from scratch with that patch gives. */
import assert from "node:assert/strict";
import type { SessionOptions } from "../../../engine/backend.ts";
import { logitLens } from "../../../inspect/analyses/logit_lens.ts";
import {
  patchingSweep,
  type PatchingSweepOptions,
} from "../../../inspect/analyses/patching_sweep.ts";
import { openDevice } from "../../../inspect/run/loading.ts";
import { type EditList, patch } from "../../../inspect/run/interventions.ts";
import type { Run } from "../../../inspect/run/run.ts";
import { randomModel } from "../../support/models/random_model.ts";
import { tableRows } from "../../support/tables/table_rows.ts";

const MODEL = {
  layers: 3,
  width: 32,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 48,
  vocab: 64,
  biases: true,
  seed: 41,
};
const CLEAN = [5, 17, 42, 8, 63, 29];
const CORRUPTED = [5, 11, 42, 8, 1, 29];
const METRIC = [7, 50] as const;
const EVERYTHING = [
  "token_embd",
  "blk.*.{ffn_inp,out,attn_out,ffn_out,head_out,k,attn_probs,attn_norm_rms}",
];

for (const backend of ["cpu", "webgpu"] as const) {
  Deno.test(`resumed runs equal runs from scratch (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const clean = await model.run([CLEAN], { capture: EVERYTHING });
    const corrupted = await model.run([CORRUPTED], { capture: EVERYTHING });
    const worst = corrupted.logitDiff(...METRIC);
    const best = clean.logitDiff(...METRIC);

    async function check(options: Omit<PatchingSweepOptions, "metric">, cells: number) {
      const rows = tableRows(
        await patchingSweep(model, { clean, corrupted }, { metric: METRIC, ...options }),
      );
      assert.equal(rows.length, cells);
      const { point = "inp" } = options;
      for (const { layer, head, position, metric, value } of rows) {
        const where = { head: head ?? undefined, position: position ?? undefined };
        const edit: EditList = [[`blk.${layer}.${point}`, patch(clean, where)]];
        const scratch = (await model.run([CORRUPTED], { edit })).logitDiff(...METRIC);
        const what = `${point}, layer ${layer}, head ${head}, position ${position}`;
        assert.ok(Math.abs(metric - scratch) < 1e-5, `${what}: ${metric}, from scratch ${scratch}`);
        assert.ok(Math.abs(value - (metric - worst) / (best - worst)) < 1e-9, what);
      }
      assert.ok(new Set(rows.map(({ metric }) => metric)).size > 1, `${point} changes nothing`);
    }

    await check({}, 3 * 6);
    await check({ point: "out", layers: [1, 2], positions: [-1, 1] }, 4);
    await check({ point: "ffn_inp", over: ["position"], positions: [0, 1, 5] }, 9);
    await check({ point: "attn_out", positions: [4] }, 3);
    await check({ point: "ffn_out", positions: [1, 2] }, 6);
    await check({ point: "attn_norm_rms", positions: [4, 1] }, 6);
    await check({ point: "head_out" }, 3 * 4);
    await check({ point: "head_out", over: ["head", "position"], heads: [-1, 0] }, 3 * 2 * 6);
    await check({ point: "k" }, 3 * 2);
    await check({ point: "attn_probs", heads: [1, 3] }, 6);
    await check(
      { point: "attn_probs", over: ["head", "position"], heads: [2], positions: [-1] },
      3,
    );
  });
}

for (const backend of ["cpu", "webgpu"] as const) {
  Deno.test(`places of a layer run together, and are what they are alone (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const runs = {
      clean: await model.run([CLEAN], { capture: EVERYTHING }),
      corrupted: await model.run([CORRUPTED], { capture: EVERYTHING }),
    };
    // How many sequences each pass has.
    const passes: number[] = [];
    const { session } = model.engine;
    Object.assign(model.engine, {
      session(options: SessionOptions) {
        const made = session(options);
        const pass = made.pass.bind(made);
        made.pass = (request) => {
          passes.push(request.branches?.length ?? 1);
          return pass(request);
        };
        return made;
      },
    });
    for (const point of ["inp", "head_out", "attn_probs"]) {
      const options: PatchingSweepOptions = { metric: METRIC, point, over: ["position"] };
      passes.length = 0;
      const together = tableRows(await patchingSweep(model, runs, options));
      // The corrupted run's cache, then one pass for all that differs in a layer.
      assert.equal(passes.length, 1 + 3, `${passes}`);
      assert.ok(passes.slice(1).every((count) => count > 1), `${passes}`);
      for (const { layer, position, metric } of together) {
        const [alone] = tableRows(
          await patchingSweep(model, runs, { ...options, layers: [layer], positions: [position] }),
        );
        const what = `${point}, layer ${layer}, position ${position}`;
        assert.ok(Math.abs(metric - alone.metric) < 1e-5, `${what}: ${metric}, ${alone.metric}`);
      }
    }
  });
}

Deno.test("patching the whole residual stream of a layer restores the clean run", async () => {
  using random = await randomModel(MODEL);
  const prompts = { clean: CLEAN, corrupted: CORRUPTED };
  const clean = await random.model.run([CLEAN]);
  const corrupted = await random.model.run([CORRUPTED]);
  for (const point of ["inp", "ffn_inp", "out"]) {
    const table = await patchingSweep(random.model, prompts, { metric: METRIC, point, over: [] });
    const rows = tableRows(table);
    assert.deepEqual(rows.map(({ layer }) => layer), [0, 1, 2]);
    for (const { metric, value } of rows) {
      // What runs together may be computed by the kernels for many positions, which add up in another order.
      assert.ok(Math.abs(metric - clean.logitDiff(...METRIC)) < 1e-5, `${metric}`);
      assert.ok(Math.abs(value - 1) < 1e-4, `${value}`);
    }
    assert.equal(Number(table.metadata.get("metric_clean")), clean.logitDiff(...METRIC));
    assert.equal(Number(table.metadata.get("metric_corrupted")), corrupted.logitDiff(...METRIC));
    assert.equal(table.metadata.get("complete"), "true");
  }
});

Deno.test("positions before the first difference change nothing; rows name both tokens", async () => {
  using random = await randomModel(MODEL);
  const largest = (logits: Float32Array) => Math.max(...logits);
  const rows = tableRows(
    await patchingSweep(random.model, { clean: CLEAN, corrupted: CORRUPTED }, { metric: largest }),
  );
  for (const { layer, position, value, token_id, token, clean_token } of rows) {
    assert.equal(token_id, CORRUPTED[position]);
    assert.equal(token, `${CORRUPTED[position]}`);
    assert.equal(clean_token, `${CLEAN[position]}`);
    // In layer 0 only the two different embeddings can matter.
    if (position === 0 || (layer === 0 && CLEAN[position] === CORRUPTED[position])) {
      assert.equal(value, 0);
    }
  }
});

Deno.test("runs of several passes", async () => {
  using random = await randomModel({ ...MODEL, layers: 2, width: 16, contextLength: 512 });
  const { model } = random;
  const clean = Array.from({ length: 150 }, (_, i) => (i * 37) % 64);
  const corrupted = clean.with(3, 9).with(140, 2);
  assert.ok(model.engine.maxTokens < clean.length);
  const capture = ["token_embd", "blk.*.{out,attn_probs,ffn_inp,head_out}"];
  const source = await model.run([clean], { capture });
  const runs = { clean: source, corrupted: await model.run([corrupted], { capture }) };
  const one = { layers: [0], heads: [2] };
  const sweeps: Omit<PatchingSweepOptions, "metric">[] = [
    { point: "out", layers: [0], positions: [3, 129, 140, 149] },
    { point: "head_out", layers: [1], heads: [2] },
    { ...one, point: "head_out", over: ["position", "head"], positions: [3, 140] },
    { ...one, point: "attn_probs" },
    { ...one, point: "attn_probs", over: ["position", "head"], positions: [3, 130, 149] },
  ];
  for (const options of sweeps) {
    const rows = tableRows(await patchingSweep(model, runs, { metric: METRIC, ...options }));
    for (const { layer, head, position, metric } of rows) {
      const where = { head: head ?? undefined, position: position ?? undefined };
      const point = `blk.${layer}.${options.point}`;
      const edit: EditList = [[point, patch(source, where)]];
      const scratch = (await model.run([corrupted], { edit })).logitDiff(...METRIC);
      assert.ok(
        Math.abs(metric - scratch) < 1e-6,
        `${JSON.stringify(where)}: ${metric}, ${scratch}`,
      );
    }
  }
});

Deno.test("the clean run may be another model's of the same shape", async () => {
  using random = await randomModel(MODEL);
  using other = await randomModel({ ...MODEL, seed: 42 });
  const clean = await other.model.run([CLEAN], { capture: ["blk.*.out"] });
  const rows = tableRows(
    await patchingSweep(random.model, { clean, corrupted: CLEAN }, {
      metric: METRIC,
      point: "out",
      layers: [2],
      over: [],
    }),
  );
  const scratch = await random.model.run([CLEAN], { edit: [["blk.2.out", patch(clean)]] });
  assert.ok(Math.abs(rows[0].metric - scratch.logitDiff(...METRIC)) < 1e-5);
});

Deno.test("runs of another shape are refused, both shapes named", async () => {
  using random = await randomModel(MODEL);
  using wide = await randomModel({ ...MODEL, width: 64 });
  using few = await randomModel({ ...MODEL, kvHeads: 1 });
  const capture = ["token_embd", "blk.*.{out,ffn_inp,k}"];
  const [corrupted, wider, fewer] = await Promise.all(
    [random, wide, few].map(({ model }) => model.run([CLEAN], { capture })),
  );
  const cases: [Run, string, RegExp][] = [
    [wider, "out", /blk\.0\.out: rows of the other run are \[64\], this model's \[32\]/],
    [fewer, "k", /blk\.0\.k: rows of the other run are \[1, 8\], this model's \[2, 8\]/],
  ];
  for (const [clean, point, message] of cases) {
    await assert.rejects(
      patchingSweep(random.model, { clean, corrupted }, { metric: METRIC, point }),
      { name: "EditError", message },
    );
  }
});

Deno.test("an aborted sweep keeps what was computed", async () => {
  using random = await randomModel(MODEL);
  const prompts = { clean: CLEAN, corrupted: CORRUPTED };
  const whole = tableRows(await patchingSweep(random.model, prompts, { metric: METRIC }));
  const controller = new AbortController();
  const table = await patchingSweep(random.model, prompts, {
    metric: METRIC,
    signal: controller.signal,
    onProgress(done, total) {
      assert.equal(total, 18);
      if (done === 5) controller.abort();
    },
  });
  assert.equal(table.metadata.get("complete"), "false");
  const rows = tableRows(table);
  assert.equal(rows.length, 5);
  for (const row of rows) {
    assert.deepEqual(
      row,
      whole.find(({ layer, position }) => layer === row.layer && position === row.position),
    );
  }
});

Deno.test("sweeps, lenses and aborted ones leave device memory where it was", async () => {
  using random = await randomModel(MODEL, "webgpu");
  const { model } = random;
  const device = await openDevice();
  const once = async () => {
    await patchingSweep(model, { clean: CLEAN, corrupted: CORRUPTED }, { metric: METRIC });
    for (const abort of [false, true]) {
      const controller = new AbortController();
      const { signal } = controller;
      const onProgress = () => abort && controller.abort();
      await logitLens(model, CLEAN, { signal, onProgress }).catch((error) => {
        assert.equal(error.name, "AbortError");
      });
    }
  };
  await once();
  const before = device.allocated;
  for (let i = 0; i < 5; i++) await once();
  assert.equal(device.allocated, before);
});

Deno.test("what cannot be patched is refused", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  const sweep = (options: Partial<PatchingSweepOptions>, corrupted = CORRUPTED) =>
    patchingSweep(model, { clean: CLEAN, corrupted }, { metric: METRIC, ...options });
  await assert.rejects(sweep({}, CORRUPTED.slice(1)), /6 positions into one of 5/);
  await assert.rejects(sweep({}, CLEAN), /in the clean and in the corrupted run/);
  await assert.rejects(sweep({ point: "head_result" }), /nothing in the pass reads it/);
  await assert.rejects(sweep({ point: "cache_k" }), /k_rope and v wrote/);
  await assert.rejects(sweep({ over: ["head"] }), /has none/);
  await assert.rejects(sweep({ positions: [6] }), /position 6: there are 6/);
  await assert.rejects(sweep({ point: "head_out", heads: [4] }), /head 4: there are 4/);
  await assert.rejects(sweep({ point: "atn_out" }), /attn_out/);
  await assert.rejects(sweep({ layers: [] }), /Cannot sweep over no layers/);
  await assert.rejects(sweep({ captureLimit: 100 }), /captureLimit/);
  const some = await model.run([CLEAN], { capture: ["token_embd", "blk.*.out"], positions: [1] });
  await assert.rejects(
    patchingSweep(model, { clean: some, corrupted: CORRUPTED }, { metric: METRIC }),
    /did not capture it at all of its 6 positions/,
  );
});

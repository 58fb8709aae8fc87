/** Runs and generations with captures: observing changes nothing, and what comes back is what was computed. */
import assert from "node:assert/strict";
import { openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { oracle } from "../../../engine/oracle/oracle.ts";
import { openDevice } from "../../../inspect/run/loading.ts";
import { loadModel, type Model } from "../../../inspect/run/model.ts";
import { add, meanAblate, patch, scale, zero } from "../../../inspect/run/interventions.ts";
import type { TensorView } from "../../../inspect/tensor/tensor.ts";
import { findModel } from "../../../models/mod.ts";

const PROMPT = "Once upon a time there was a little girl";
const EVERYTHING = ["blk.*.*", "token_embd", "output_norm*", "logits", "probs"];

async function greedy(model: Model, prompt: string, count: number, capture: string[] = []) {
  const generation = model.generate(prompt, { maxTokens: count, ignoreEos: true, capture });
  for await (const _ of generation);
  return generation;
}

function worst(a: TensorView, b: TensorView): number {
  assert.deepEqual(a.shape, b.shape);
  const [x, y] = [a.toFloat32Array(), b.toFloat32Array()];
  return x.reduce(
    (most, value, i) => value === y[i] ? most : Math.max(most, Math.abs(value - y[i])),
    0,
  );
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`64 greedy ids are the same with nothing and with everything captured (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const plain = await greedy(model, PROMPT, 64);
    const observed = await greedy(model, PROMPT, 64, EVERYTHING);
    assert.deepEqual(observed.ids, plain.ids);
    assert.equal(observed.run.tensor("blk.4.attn_probs").shape[1], plain.promptIds.length + 63);
  });
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`what is captured beside everything else is what is captured alone, by the rule of the tolerances (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const all = await model.run(PROMPT, { capture: EVERYTHING });
    for (
      const point of [
        "blk.0.q",
        "blk.2.attn_norm_pre",
        "blk.3.head_out",
        "blk.3.k_rope",
        "blk.4.ffn_up",
        "blk.4.out",
        "logits",
      ]
    ) {
      const alone = (await model.run(PROMPT, { capture: [point] })).tensor(point);
      const largest = alone.toFloat32Array().reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const difference = worst(all.tensor(point), alone);
      assert.ok(difference <= 1e-5 + 1e-5 * largest, `${point}: ${difference}`);
    }
  });
}

Deno.test("every point of every layer agrees with the oracle, on both backends", async () => {
  const found = await findModel("tiny");
  const file = await openGguf(bytesSource("tiny", found.bytes!));
  for (const backend of ["webgpu", "cpu"] as const) {
    using model = await loadModel("tiny", { backend });
    const run = await model.run(PROMPT, { capture: EVERYTHING });
    const expected = (await oracle(file, [...run.ids], { points: () => true, rows: "all" })).points;
    const compared = run.captured.filter((name) => expected.has(name));
    assert.ok(compared.length >= 5 * 22, `only ${compared.length} points compared`);
    for (const name of compared) {
      const { data, shape } = expected.get(name)!;
      const own = run.tensor(name);
      assert.deepEqual(own.shape, shape, name);
      const numbers = own.toFloat32Array();
      const largest = data.reduce(
        (most, x) => Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most,
        0,
      );
      data.forEach((value, i) => {
        if (value === -Infinity) return assert.equal(numbers[i], -Infinity, name);
        const difference = Math.abs(value - numbers[i]);
        assert.ok(
          difference <= 1e-5 + 1e-5 * largest,
          `${backend} ${name}[${i}]: ${numbers[i]}, oracle ${value}`,
        );
      });
    }
  }
  file.close();
});

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`the same run twice is equal bit for bit (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const [a, b] = [
      await model.run(PROMPT, { capture: EVERYTHING }),
      await model.run(PROMPT, { capture: EVERYTHING }),
    ];
    for (const name of a.captured) {
      assert.deepEqual(
        a.pieces(name).map(({ data }) => data),
        b.pieces(name).map(({ data }) => data),
        name,
      );
    }
  });
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`generation captures what a run over the whole text captures (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const points = ["blk.1.attn_probs", "blk.3.out", "blk.2.cache_v", "blk.4.ffn_act"];
    const generation = await greedy(model, PROMPT, 24, points);
    const ids = [...generation.promptIds, ...generation.ids.slice(0, -1)];
    const whole = await model.run([ids], { capture: points });
    for (const point of points) {
      const largest = whole.tensor(point).toFloat32Array().reduce(
        (most, x) => Math.max(most, Math.abs(x)),
        0,
      );
      const difference = worst(generation.run.tensor(point), whole.tensor(point));
      assert.ok(difference <= 1e-4 + 1e-5 * largest, `${point}: ${difference}`);
    }
  });
}

Deno.test("captures of some positions and of every n-th token", async () => {
  using model = await loadModel("tiny");
  const all = await model.run(PROMPT, { capture: ["blk.2.out", "blk.2.attn_probs"] });
  const some = await model.run(PROMPT, {
    capture: ["blk.2.out", "blk.2.attn_probs"],
    positions: [-1, 2],
  });
  const last = all.ids.length - 1;
  assert.deepEqual(some.tensor("blk.2.out").shape, [2, 256]);
  assert.deepEqual(
    some.tensor("blk.2.out").at({ position: last }).toArray(),
    all.tensor("blk.2.out").at({ position: -1 }).toArray(),
  );
  assert.deepEqual(
    some.tensor("blk.2.attn_probs").at({ query: 2, head: 3 }).toArray(),
    all.tensor("blk.2.attn_probs").at({ query: 2, head: 3 }).toArray(),
  );
  const generation = model.generate(PROMPT, {
    maxTokens: 10,
    ignoreEos: true,
    capture: ["blk.0.out"],
    captureEvery: 3,
    positions: Array.from({ length: 10 }, (_, i) => i + all.ids.length),
  });
  for await (const _ of generation);
  assert.deepEqual(generation.run.pieces("blk.0.out").map(({ step }) => step), [3, 6, 9]);
});

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`prompts longer than one pass (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const ids = Array.from({ length: 300 }, (_, i) => 260 + (i * 37) % 700);
    const run = await model.run([ids], {
      capture: ["blk.4.out", "blk.4.attn_probs", "blk.0.cache_k"],
    });
    assert.deepEqual(run.tensor("blk.4.out").shape, [300, 256]);
    assert.deepEqual(run.tensor("blk.4.attn_probs").shape, [8, 300, 300]);
    assert.deepEqual(run.tensor("blk.0.cache_k").shape, [300, 4, 32]);
    const sums = run.tensor("blk.4.attn_probs").sum("key").toFloat32Array();
    sums.forEach((sum) => assert.ok(Math.abs(sum - 1) < 3e-6));
    const file = await openGguf(bytesSource("tiny", (await findModel("tiny")).bytes!));
    const { logits } = await oracle(file, ids, { rows: "last" });
    run.sequences[0].lastLogits!.forEach((value, i) =>
      assert.ok(Math.abs(value - logits[0][i]) < 1e-4)
    );
  });
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`ragged batches: each sequence as if alone (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const prompts = ["Once", "There was a dog and a", "The"];
    const batch = await model.run(prompts, { capture: ["blk.4.out"] });
    for (const [sequence, prompt] of prompts.entries()) {
      const alone = await model.run(prompt, { capture: ["blk.4.out"] });
      const [ours, theirs] = [batch.tensor("blk.4.out", { sequence }), alone.tensor("blk.4.out")];
      assert.deepEqual(ours.shape, theirs.shape);
      // In one pass, the sums are added up in another order.
      const expected = theirs.toFloat32Array();
      ours.toFloat32Array().forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-4));
      assert.deepEqual(batch.tokens(sequence), alone.tokens());
    }
  });
}

Deno.test("top, logitDiff, loss", async () => {
  using model = await loadModel("tiny");
  const run = await model.run(PROMPT, { capture: ["logits"] });
  const logits = run.tensor("logits");
  const last = logits.at({ position: -1 }).toFloat32Array();
  const [best, second] = run.top(2);
  assert.equal(best.logit, Math.max(...last));
  assert.ok(Math.abs(run.logitDiff(best.id, second.id) - (best.logit - second.logit)) < 1e-6);
  const total = run.top(1024).reduce((sum, { probability }) => sum + probability, 0);
  assert.ok(Math.abs(total - 1) < 1e-9);
  const probs = logits.softmax("feature");
  const losses = run.ids.slice(1).map((id, i) =>
    -Math.log(probs.at({ position: i, feature: id }).item())
  );
  assert.ok(Math.abs(run.loss() - losses.reduce((a, b) => a + b) / losses.length) < 1e-5);
  assert.equal(model.tokenId(best.token), best.id);
  assert.throws(() => model.tokenId("Once upon a time"), /not one token but 4/);
});

Deno.test("edits in a run and in generation leave no trace", async () => {
  using model = await loadModel("tiny");
  const capture = ["blk.*.out", "blk.*.head_out"];
  const before = await model.run(PROMPT, { capture });
  const other = await model.run("Once upon a time there was a little bird", { capture });
  const steering = Array.from({ length: 256 }, (_, i) => Math.sin(i));
  const changes: [string, Parameters<Model["run"]>[1]][] = [
    ["zero", { edit: [["blk.2.head_out", zero({ head: 1 })]] }],
    ["scale", { edit: [["blk.*.ffn_out", scale(0.5, { position: -1 })]] }],
    ["add", { edit: [["blk.1.out", add(steering, { position: [3, -1] })]] }],
    ["patch", { edit: [["blk.2.out", patch(other, { position: -1 })]] }],
    ["mean", { edit: [["blk.0.head_out", meanAblate(other, { head: [0, -1] })]] }],
    ["function", { edit: [["blk.3.ffn_act", (view) => view.map((x) => Math.min(x, 1))]] }],
  ];
  for (const [name, options] of changes) {
    const edited = await model.run(PROMPT, options);
    assert.notDeepEqual(edited.sequences[0].lastLogits, before.sequences[0].lastLogits, name);
  }
  const generation = model.generate(PROMPT, {
    maxTokens: 6,
    edit: [["blk.*.head_out", zero({ head: 2 })]],
  });
  for await (const _ of generation);
  const after = await model.run(PROMPT, { capture });
  for (const point of before.captured) {
    assert.deepEqual(after.pieces(point)[0].data, before.pieces(point)[0].data, point);
  }
});

Deno.test("patching every position of the last residual gives the other run's logits", async () => {
  using model = await loadModel("tiny");
  const clean = await model.run(PROMPT, { capture: ["blk.4.out"] });
  const corrupted = await model.run("Once upon a time there was a little bird", {
    edit: [["blk.4.out", patch(clean)]],
  });
  assert.deepEqual(corrupted.sequences[0].lastLogits, clean.sequences[0].lastLogits);
});

Deno.test("errors say what to do, before anything runs", async () => {
  using model = await loadModel("tiny");
  const run = await model.run(PROMPT, { capture: ["blk.0.out"] });
  await assert.rejects(
    model.run(PROMPT, { capture: ["blk.0.atn_probs"] }),
    /did you mean blk\.0\.attn_probs/,
  );
  await assert.rejects(
    model.run(PROMPT, { capture: ["blk.*.*"], captureLimit: 1000 }),
    /would take \d+\.\d MiB.*sink/,
  );
  await assert.rejects(
    model.run("Once", { edit: [["blk.0.out", patch(run)]] }),
    /has \d+ positions, this one \d+/,
  );
  await assert.rejects(
    model.run(PROMPT, { edit: [["blk.0.q", patch(run)]] }),
    /has not captured it/,
  );
  await assert.rejects(
    model.run(PROMPT, { edit: [["blk.0.out", add([1, 2])]] }),
    /2 numbers, a row has 256/,
  );
  await assert.rejects(
    model.run(PROMPT, { edit: [["blk.0.out", zero({ head: 1 })]] }),
    /no head to choose/,
  );
  await assert.rejects(model.run([[]]), /prompt is empty/);
  assert.throws(() => run.tensor("blk.1.out"), /run again with capture: \["blk\.1\.out"\]/);
  assert.throws(() => run.tensor("blk.0.out", { sequence: 3 }), /the run has 1/);
});

Deno.test("300 runs with captures leave device memory where it was", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const device = await openDevice();
  const once = () => model.run("Once upon a time", { capture: ["blk.*.attn_probs", "blk.*.out"] });
  await once();
  const before = device.allocated;
  for (let i = 0; i < 300; i++) await once();
  assert.equal(device.allocated, before);
});

/** The stepper: look, change, go on, go back; on both backends. */
import assert from "node:assert/strict";
import { loadModel, type Model } from "../inspect/model.ts";
import { zero } from "../inspect/interventions.ts";
import { firstNaN, normAbove } from "../inspect/stepper.ts";
import type { TensorView } from "../inspect/tensor.ts";

const PROMPT = "Once upon a time";

function assertClose(a: TensorView, b: TensorView, limit = 1e-4): void {
  assert.deepEqual(a.shape, b.shape);
  const [x, y] = [a.toFloat32Array(), b.toFloat32Array()];
  const worst = x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0);
  assert.ok(worst <= limit, `differs by ${worst}`);
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`stepper (${backend}): walks the plan, tells each step, and ends with the run's logits`, async () => {
    using model: Model = await loadModel("tiny", { backend });
    const run = await model.run(PROMPT, { capture: ["logits", "blk.2.attn_probs"] });
    const names: string[] = [];
    let last;
    for await (const step of model.steps(PROMPT)) {
      names.push(step.name);
      last = step;
      assert.ok(step.ms >= 0);
      if (step.name === "blk.2.attn_probs") {
        assert.equal(step.kernel, "softmax");
        assert.deepEqual(step.inputs.map(({ name }) => name), ["blk.2.attn_scores"]);
        assertClose(step.output, run.tensor("blk.2.attn_probs"));
      }
      if (step.name === "blk.0.q") assert.deepEqual(step.weights, ["blk.0.attn_q.weight"]);
      if (step.name === "logits") assertClose(step.output, run.tensor("logits"));
    }
    assert.equal(names[0], "token_embd");
    assert.equal(last?.name, names.at(-1));
    assert.equal(new Set(names).size, names.length);
  });

  Deno.test(`stepper (${backend}): until, look, edit, rewind`, async () => {
    using model = await loadModel("tiny", { backend });
    const plain = await model.run(PROMPT, { capture: ["logits", "blk.3.*"] });
    const edited = await model.run(PROMPT, {
      capture: ["logits"],
      edit: [["blk.1.head_out", zero({ head: 2 })]],
    });
    const s = await model.stepper(PROMPT);
    assert.throws(() => s.value, /no step has run/);
    const stopped = await s.until("blk.1.head_out");
    assert.equal(stopped?.name, "blk.1.head_out");
    assert.equal(s.value.name, "blk.1.head_out");
    await assert.rejects(s.look("blk.3.out"), /has not run/);
    assert.equal((await s.look("blocks.0.hook_resid_post")).name, "blocks.0.hook_resid_post");

    const original = s.value.toFloat32Array().slice();
    await s.edit(({ data, shape: [tokens, heads, width] }) => {
      for (let t = 0; t < tokens; t++) {
        data.fill(0, (t * heads + 2) * width, (t * heads + 3) * width);
      }
    });
    await s.until("logits");
    assertClose(s.value, edited.tensor("logits"));
    await assert.rejects(s.until("blk.0.out"), /rewind\("blk\.0\.out"\) goes back/);

    await s.rewind("blk.1.head_out");
    await s.edit(original);
    await s.until("blk.3.attn_probs");
    assertClose(s.value, plain.tensor("blk.3.attn_probs"));
    await s.until("logits");
    assertClose(s.value, plain.tensor("logits"));
    assert.equal(s.done, false);
    while (await s.next());
    assert.equal(s.done, true);
    await assert.rejects(s.edit([1, 2, 3]), /3 were given/);
    s.close();
    await assert.rejects(s.next(), /closed/);
  });
}

Deno.test("stepper: predicates stop where they say", async () => {
  using model = await loadModel("tiny");
  const s = await model.stepper(PROMPT);
  assert.equal(await s.until(firstNaN), undefined, "a sound pass has no NaN");

  const broken = await model.stepper(PROMPT);
  await broken.until("blk.2.q");
  await broken.edit(({ data }) => void (data[5] = NaN));
  await broken.rewind("blk.2.attn_norm");
  await broken.until("blk.2.q");
  await broken.edit(({ data }) => void (data[5] = NaN));
  const first = await broken.until(firstNaN);
  assert.equal(first?.name, "blk.2.q_rope");
  await assert.rejects(s.next(), /closed/, "a new stepper closes the one before");

  const loud = await model.stepper(PROMPT);
  const found = await loud.until(normAbove(5));
  assert.ok(found && Math.max(...found.output.norm(found.output.axes.at(-1)).toFloat32Array()) > 5);
});

Deno.test("stepper: a hundred abandoned ones leave the device's memory where it was", async () => {
  using model = await loadModel("tiny");
  const { openDevice } = await import("../inspect/loading.ts");
  const device = await openDevice();
  (await model.stepper(PROMPT)).close();
  const before = device.allocated;
  for (let i = 0; i < 100; i++) await (await model.stepper(PROMPT)).next();
  assert.ok(device.allocated <= before * 1.01, `${before} → ${device.allocated}`);
});

Deno.test("stepper: leaving the loop frees everything", async () => {
  using model = await loadModel("tiny");
  for await (const step of model.steps(PROMPT)) if (step.name === "blk.0.q") break;
  const s = await model.stepper(PROMPT, { include: ["blk.0.head_result"] });
  assert.ok(s.steps.includes("blk.0.head_result"));
  assert.deepEqual((await s.until("blk.0.head_result"))?.output.axes, [
    "position",
    "head",
    "feature",
  ]);
});

/** The stepper: look, change, go on, go back; on both backends. */
import assert from "node:assert/strict";
import { loadModel, type Model } from "../../../inspect/run/model.ts";
import { zero } from "../../../inspect/run/interventions.ts";
import { firstNaN, normAbove, type StepInfo } from "../../../inspect/run/stepper.ts";
import { TensorView } from "../../../inspect/tensor/tensor.ts";
import { randomModel } from "../../support/models/random_model.ts";

const PROMPT = "Once upon a time";
const SMALL = { layers: 2, width: 32, heads: 4, kvHeads: 2, ffnWidth: 48, vocab: 64, seed: 5 };
const IDS = [5, 17, 42, 8, 63, 29];

function assertClose(a: TensorView, b: TensorView, limit = 1e-4): void {
  assert.deepEqual(a.shape, b.shape);
  const [x, y] = [a.toFloat32Array(), b.toFloat32Array()];
  const apart = (value: number, i: number) => value === y[i] ? 0 : Math.abs(value - y[i]);
  const worst = x.reduce((most, value, i) => Math.max(most, apart(value, i)), 0);
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
    await assert.rejects(s.edit([1, 2, 3], "logits"), /3 were given/);
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

for (const last of [undefined, 2]) {
  Deno.test(`stepper: predicates pass over hidden keys, not over infinities (last: ${last})`, async () => {
    using random = await randomModel(SMALL);
    const s = await random.model.stepper(IDS, { last });
    assert.equal(await s.until(normAbove(1e6)), undefined);
    assert.ok((await s.look("blk.0.attn_scores")).data.includes(-Infinity), "there are some");
    await s.edit(({ data }) => void (data[3] = Infinity), "blk.0.ffn_out");
    assert.equal((await s.until(normAbove(1e6)))?.name, "blk.0.out");
    // A look may take its time.
    const slow = (step: StepInfo) => Promise.resolve(step.name === "blk.1.out");
    assert.equal((await s.until(slow))?.name, "blk.1.out");
  });
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`stepper (${backend}): under an alias, what is shown is what is edited`, async () => {
    using random = await randomModel(SMALL, backend);
    const { model } = random;
    const capture = ["logits", "blk.0.q", "blk.0.attn_scores"];
    const plain = await model.run([IDS], { capture });
    const aliases: [alias: string, point: string][] = [
      ["blocks.0.attn.hook_q", "blk.0.q"],
      ["kq-0", "blk.0.attn_scores"],
    ];
    for (const [alias, point] of aliases) {
      const s = await model.stepper(IDS);
      await s.until(alias);
      const shown = await s.look(alias);
      assertClose(shown, plain.tensor(alias));
      assert.notDeepEqual(shown.data, s.value.data);
      // What is shown, written back, changes nothing.
      await s.edit(shown, alias);
      assertClose(s.value, plain.tensor(point));
      await s.until("logits");
      assertClose(s.value, plain.tensor("logits"));
      // A change under the alias is there under the alias, and in its place under the point's own name.
      const place = { head: 1, [shown.axes.includes("key") ? "query" : "position"]: 3 };
      await s.edit((value) => {
        value.at(place).toFloat32Array()[1] = 7;
      }, alias);
      assert.equal((await s.look(alias)).at(place).toFloat32Array()[1], 7);
      const own = s.value.at(place).toFloat32Array();
      if (alias === "kq-0") assert.ok(Math.abs(own[1] - 7 / Math.sqrt(8)) < 1e-6);
      else assert.equal(own[2], 7, "the second of the first halves is the third of the pairs");
    }
  });

  Deno.test(`stepper (${backend}): hidden keys are shown as such, and −∞ hides`, async () => {
    using random = await randomModel(SMALL, backend);
    const { model } = random;
    const plain = await model.run([IDS], { capture: ["blk.0.attn_*", "logits"] });
    const s = await model.stepper(IDS);
    const scores = (await s.until("blk.0.attn_scores"))!.output;
    assertClose(scores, plain.tensor("blk.0.attn_scores"));
    await s.edit(scores.map((x) => x === -Infinity ? NaN : x + 2));
    assertClose(s.value, plain.tensor("blk.0.attn_scores").add(2));
    await s.until("logits");
    assertClose(s.value, plain.tensor("logits"));
    await s.edit(({ data }) => {
      for (let i = 1; i < data.length; i += IDS.length) data[i] = -Infinity;
    }, "blk.0.attn_scores");
    await s.next();
    assert.deepEqual(new Set(s.value.at({ key: 1 }).toFloat32Array()), new Set([0]));
    const hidden = (await s.look("blk.0.attn_scores")).at({ key: 1 }).toFloat32Array();
    assert.deepEqual(new Set(hidden), new Set([-Infinity]));
  });

  Deno.test(`stepper (${backend}): what is shown is a copy`, async () => {
    using random = await randomModel(SMALL, backend);
    const s = await random.model.stepper(IDS);
    const kept = (await s.until("blk.0.out"))!.output;
    const before = kept.data.slice();
    (await s.look("blk.0.out")).data.fill(0);
    assert.deepEqual((await s.look("blk.0.out")).data, before);
    await s.edit(before.map((x) => x * 2));
    assert.deepEqual(kept.data, before);
  });

  Deno.test(`stepper (${backend}): a step of decoding, and the end of a long prompt`, async () => {
    using random = await randomModel({ ...SMALL, contextLength: 300 }, backend);
    const { model } = random;
    const long = Array.from({ length: 200 }, (_, i) => (i * 37) % 64);
    const edit = [["blk.0.out", zero({ position: [2, 198] })]] as const;
    const capture = ["logits", "blk.1.*"];
    for (const options of [{}, { edit }]) {
      const run = await model.run([long], { capture, ...options });
      for (const last of [undefined, 1, 128, 3]) {
        const s = await model.stepper(long, { last, ...options });
        assert.equal(s.start, 200 - (last ?? 128));
        for (const name of ["blk.1.cache_k", "blk.1.attn_probs", "blk.1.out", "logits"]) {
          const { output } = (await s.until(name))!;
          const whole = run.tensor(name);
          const [axis] = output.axes.filter((axis) => axis === "query" || axis === "position");
          assertClose(output, axis ? whole.slice({ [axis]: [s.start] }) : whole);
          // Positions are absolute.
          if (axis) assertClose(output.at({ [axis]: 199 }), whole.at({ [axis]: 199 }));
        }
      }
    }
    for (const last of [0, 129, 1.5]) {
      await assert.rejects(model.stepper(long, { last }), /takes 1 to 128 of the prompt's 200/);
    }
    await assert.rejects(model.stepper(IDS, { last: 7 }), /takes 1 to 6/);
  });
}

Deno.test("stepper: loops end where they are told, and may look, edit and rewind", async () => {
  using random = await randomModel(SMALL);
  const { model } = random;
  const names = async (options: Parameters<typeof model.steps>[1], body?: Body) => {
    const found: string[] = [];
    for await (const step of model.steps(IDS, options)) {
      found.push(step.name);
      await body?.(step);
    }
    return found;
  };
  type Body = (step: StepInfo) => Promise<unknown> | void;
  const all = await names({});
  const to = (name: string) => all.slice(0, all.indexOf(name) + 1);
  assert.deepEqual(await names({ until: "blk.0.attn_probs" }), to("blk.0.attn_probs"));
  assert.deepEqual(await names({ until: "kq_soft_max-0" }), to("blk.0.attn_probs"));
  assert.deepEqual(await names({ until: firstNaN }), all);
  await assert.rejects(names({ until: "blk.0.atn_probs" }), /did you mean/);

  // A NaN that the body puts into q is found there; where the body takes it out again, the loop goes on.
  const breakIt: Body = (step) =>
    step.name === "blk.0.q" ? step.stepper.edit(({ data }) => void (data[0] = NaN)) : undefined;
  assert.deepEqual(await names({ until: firstNaN }, breakIt), to("blk.0.q"));
  const mend: Body = async (step) => {
    await breakIt(step);
    if (step.name === "blk.0.q") await step.stepper.edit(({ data }) => void (data[0] = 0));
  };
  assert.deepEqual(await names({ until: firstNaN }, mend), all);

  // Once back from the end of the loop: it runs there again.
  let rounds = 0;
  const again: Body = (step) => {
    if (step.name === "blk.0.out" && rounds++ === 0) return step.stepper.rewind("blk.0.ffn_act");
  };
  assert.deepEqual(await names({ until: "blk.0.out" }, again), [
    ...to("blk.0.out"),
    "blk.0.ffn_out",
    "blk.0.out",
  ]);
  assert.equal(rounds, 2);

  const s = await model.stepper(IDS);
  assert.ok((await s.next())!.ms >= 0);
  assert.equal((await s.rewind("token_embd")).ms, NaN);
});

Deno.test("stepper: what cannot be done is refused in one line", async () => {
  using random = await randomModel(SMALL);
  const { model } = random;
  const s = await model.stepper(IDS);
  await s.until("blk.0.attn_out");
  const turned = new TensorView(new Float32Array(192), [32, 6], ["position", "feature"]);
  const cases: [() => Promise<unknown>, string, RegExp][] = [
    [
      () => s.until("blk.*.ffn_out"),
      "StepperError",
      /fits 2: blk\.0\.ffn_out, blk\.1\.ffn_out; name/,
    ],
    [
      () => s.look("blk.0.*"),
      "StepperError",
      /it fits \d+: blk\.0\.attn_norm_rms, .*, …; name one/,
    ],
    [() => s.rewind("blk.*.q"), "StepperError", /fits 2/],
    [() => s.until("blk.1.head_result"), "StepperError", /with include: \["blk\.1\.head_result"\]/],
    [() => s.until("blk.2.q"), "UnknownPointError", /did you mean/],
    [() => s.edit(() => new Float32Array(2)), "EditError", /it has 192 numbers \(6 × 32\), 2 were/],
    [
      () => s.edit(turned),
      "EditError",
      /it is \[position 6, feature 32\]; \[position 32, feature 6\] was given/,
    ],
    [() => s.edit(s.value.rename({ feature: "head" })), "EditError", /head 32\] was given/],
  ];
  for (const [ask, name, message] of cases) await assert.rejects(ask, { name, message });
  assert.equal(s.value.name, "blk.0.attn_out");
  assert.equal((await s.until("blk.0.o*"))?.name, "blk.0.out");
  await s.edit((value) => Promise.resolve(value.mul(2))); // here it may take its time

  // A new one that is refused leaves the old one open.
  await assert.rejects(model.stepper([]), /prompt is empty/);
  await assert.rejects(model.stepper([99]), /token id 99/);
  await assert.rejects(model.stepper(IDS, { edit: [["blk.9.q", zero()]] }), /No point/);
  await assert.rejects(model.stepper(IDS, { edit: [["blk.0.cache_k", zero()]] }), /k_rope and v/);
  await assert.rejects(model.stepper(IDS, { include: ["blk.0.nothing"] }), /No point/);
  const untyped = ["blk.0.q", zero()] as never;
  await assert.rejects(model.stepper(IDS, { edit: untyped }), /Cannot .*: give a list of pairs/);
  assert.equal((await s.next())?.name, "blk.1.attn_norm_rms");

  const included = await model.stepper(IDS, { include: ["blk.0.head_result"] });
  await included.until("blk.0.head_result");
  await assert.rejects(included.edit(({ data }) => void data.fill(0)), /nothing in the pass reads/);
});

Deno.test("stepper: a hundred abandoned ones leave the device's memory where it was", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const { openDevice } = await import("../../../inspect/run/loading.ts");
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

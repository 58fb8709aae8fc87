/** Edits as people write them: what each changes, on both backends, and what is refused. */
import assert from "node:assert/strict";
import {
  add,
  type Change,
  type ChangeFunction,
  type EditList,
  meanAblate,
  patch,
  scale,
  type Where,
  zero,
} from "../../../inspect/run/interventions.ts";
import type { Run } from "../../../inspect/run/run.ts";
import type { TensorView } from "../../../inspect/tensor/tensor.ts";
import { randomModel } from "../../support/models/random_model.ts";

const MODEL = { layers: 2, width: 32, heads: 4, kvHeads: 2, ffnWidth: 48, vocab: 64, seed: 5 };
const IDS = [5, 17, 42, 8, 63, 29];
const OTHER = [7, 11, 42, 3, 1, 20];

/** How far two lists of numbers are apart; infinities may be equal. */
function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, x, i) => x === b[i] ? most : Math.max(most, Math.abs(x - b[i])), 0);
}

function assertClose(a: Run, b: Run, what: string, limit = 1e-5): void {
  const [x, y] = [a, b].map((run) => run.sequences[0].lastLogits!);
  assert.ok(distance(x, y) <= limit, `${what}: ${distance(x, y)}`);
}

/** A patch of attention as a function over what a pass makes, [H, T, S]. */
function otherAttention(source: TensorView, { head, position, key }: Where): ChangeFunction {
  const { data: others, shape: [, rows, columns] } = source;
  return ({ data, shape: [heads, queries, keys] }, start) => {
    for (let h = 0; h < heads; h++) {
      for (let row = 0; row < queries; row++) {
        for (let k = 0; k < keys; k++) {
          const chosen = h === (head ?? h) && start + row === (position ?? start + row) &&
            k === (key ?? k);
          const other = others[(h * rows + start + row) * columns + k];
          if (chosen) data[(h * queries + row) * keys + k] = other;
        }
      }
    }
  };
}

for (const backend of ["cpu", "webgpu"] as const) {
  Deno.test(`attention rows of another run (${backend})`, async () => {
    using random = await randomModel({ ...MODEL, contextLength: 512 }, backend);
    const { model } = random;
    const long = Array.from({ length: 140 }, (_, i) => (i * 37) % 64);
    assert.ok(model.engine.maxTokens < long.length, "two passes");
    for (const ids of [IDS, long]) {
      const others = ids.map((id, i) => (id + i) % 64);
      const source = await model.run([others], { capture: ["blk.*.attn_*"] });
      for (const point of ["blk.0.attn_probs", "blk.1.attn_scores"]) {
        const run = (change: Change | ChangeFunction) =>
          model.run([ids], { capture: [point], edit: [[point, change]] });
        const plain = await run(({ data }) => void data);
        for (const where of [{}, { head: 2 }, { head: 1, position: 4 }, { position: 5, key: 1 }]) {
          const what = `${point} ${JSON.stringify(where)}`;
          const patched = await run(patch(source, where));
          const expected = await run(otherAttention(source.tensor(point), where));
          assertClose(patched, expected, what);
          const [is, should, was] = [patched, expected, plain].map((run) => run.tensor(point).data);
          assert.ok(distance(is, should) < 1e-5, what);
          assert.ok(distance(is, was) > 1e-3, what);
        }
      }
    }
  });

  Deno.test(`rows that another run captured at some positions only (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    for (const point of ["blk.0.out", "blk.1.k", "blk.1.attn_probs"]) {
      const whole = await model.run([OTHER], { capture: [point] });
      const some = await model.run([OTHER], { capture: [point], positions: [1, 4] });
      for (const position of [[1, 4], [4], [1, -2]]) {
        const [a, b] = await Promise.all(
          [whole, some].map((run) =>
            model.run([IDS], { edit: [[point, patch(run, { position })]] })
          ),
        );
        assertClose(a, b, point, 0);
      }
      const run = (change: Change) => model.run([IDS], { edit: [[point, change]] });
      await assert.rejects(run(patch(some)), /has 2 positions, this one 6; name the positions/);
      await assert.rejects(run(patch(some, { position: [1, 3] })), /not captured it at position 3/);
      assertClose(await run(patch(some, { position: [] })), await model.run([IDS]), "none");
    }
    const some = await model.run([OTHER], { capture: ["blk.0.out"], positions: [1, 4] });
    const mean = some.tensor("blk.0.out").mean("position").toFloat32Array();
    const replaced = await model.run([IDS], { edit: [["blk.0.out", meanAblate(some)]] });
    const expected = await model.run([IDS], {
      edit: [["blk.0.out", zero()], ["blk.0.out", add(mean)]],
    });
    assertClose(replaced, expected, "mean over the captured positions", 0);
  });

  Deno.test(`keys that a query does not see (${backend}): shown as hidden, never changed`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const capture = ["blk.0.attn_scores", "blk.0.attn_probs"];
    const plain = await model.run([IDS], { capture });
    const hidden = (_: number, i: number) => i % 6 > Math.floor(i / 6) % 6;
    const only = (run: Run, point: string) => run.tensor(point).toFloat32Array().filter(hidden);
    // A shift of all scores does not change the softmax.
    const shifts: EditList = [
      ["blk.0.attn_scores", (scores) => scores.map((x) => x + 3)],
      ["blk.0.attn_scores", ({ data }) => {
        assert.ok(data.filter(hidden).every((x) => x === -Infinity));
        assert.ok(data.every((x, i) => x > -1e29 || hidden(x, i)));
        data.forEach((x, i) => data[i] = x === -Infinity ? 50 : x + 3);
      }],
      ["blk.0.attn_probs", ({ data }) => {
        assert.ok(data.filter(hidden).every((x) => x === 0));
        data.forEach((x, i) => data[i] = hidden(x, i) ? 1 : x);
      }],
    ];
    for (const edit of shifts) {
      assertClose(await model.run([IDS], { edit: [edit] }), plain, "shift");
    }

    for (const change of [zero(), scale(0.5), scale(0, { key: 3 })]) {
      const edited = await model.run([IDS], { capture, edit: [["blk.0.attn_scores", change]] });
      for (const point of capture) assert.deepEqual(only(edited, point), only(plain, point));
    }
    // −∞ hides a visible key.
    const edit: EditList = [["blk.0.attn_scores", (scores) => {
      for (let i = 1; i < scores.data.length; i += 6) scores.data[i] = -Infinity;
    }]];
    const probs = (await model.run([IDS], { capture, edit })).tensor("blk.0.attn_probs");
    assert.deepEqual(new Set(probs.at({ key: 1 }).toFloat32Array()), new Set([0]));
    assert.ok(Math.abs(probs.at({ head: 0, query: 5 }).sum().item() - 1) < 1e-5);
  });

  Deno.test(`what no edit can do is refused in one line (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const run = (...edit: EditList) => model.run([IDS], { edit });
    const position = { position: 999 };
    const cases: [() => Promise<unknown>, RegExp][] = [
      [
        () => run(["blk.0.out", zero(position)]),
        /blk\.0\.out: there is no position 999; .* 0 to 5$/,
      ],
      [() => run(["blk.0.out", zero({ position: [0, -7] })]), /there is no position -7/],
      [() => run(["blk.0.attn_probs", zero({ key: 6 })]), /there is no key 6/],
      [() => run(["blk.0.q", zero({ head: 4 })]), /there is no head 4; .* 0 to 3$/],
      [() => run(["blk.0.head_result", zero()]), /head_result: nothing in the pass reads it/],
      [() => run(["probs", zero()]), /nothing in the pass reads it/],
      [
        () => run(["kq-0", scale(2)]),
        /Cannot edit kq-0: .* times the point's own; edit blk\.0\.attn_sc/,
      ],
      [() => run(["blocks.0.attn.hook_q", zero()]), /another row order.*; edit blk\.0\.q/],
      [() => run(["blk.0.q", (q) => q.rename({ head: "feature", feature: "head" })]), /was given/],
    ];
    for (const [ask, message] of cases) {
      await assert.rejects(ask, { name: "EditError", message });
    }
    // Positions that are still to be generated.
    const generate = async (where: Where) => {
      const edit: EditList = [["blk.0.out", zero(where)]];
      for await (const _ of model.generate(IDS, { maxTokens: 4, edit }));
    };
    await generate({ position: 8 });
    await assert.rejects(generate({ position: 9 }), /no position 9; they go from 0 to 8/);
  });
}

Deno.test("rows of a model of another shape are refused, both shapes named", async () => {
  using random = await randomModel(MODEL);
  const capture = ["blk.*.{out,k,attn_probs}"];
  const cases = [
    [{ width: 64 }, "blk.1.out", /rows of the other run are \[64\], this model's \[32\]/],
    [{ kvHeads: 4 }, "blk.0.k", /rows of the other run are \[4, 8\], this model's \[2, 8\]/],
    [{ heads: 8 }, "blk.0.attn_probs", /rows of the other run are \[8\], this model's \[4\]/],
  ] as const;
  for (const [shape, point, message] of cases) {
    using other = await randomModel({ ...MODEL, ...shape });
    const source = await other.model.run([OTHER], { capture });
    const changes = [patch(source), patch(source, { position: 2 })];
    if (!point.endsWith("probs")) changes.push(meanAblate(source));
    for (const change of changes) {
      await assert.rejects(random.model.run([IDS], { edit: [[point, change]] }), {
        name: "EditError",
        message,
      });
    }
  }
  using deeper = await randomModel({ ...MODEL, layers: 3 });
  const source = await random.model.run([OTHER], { capture });
  await assert.rejects(
    deeper.model.run([IDS], { edit: [["blk.2.out", patch(source)]] }),
    /the other run has not captured it/,
  );
  await assert.rejects(
    random.model.run([IDS, OTHER, IDS], {
      edit: [["blk.1.out", patch(await random.model.run([IDS, OTHER], { capture }))]],
    }),
    /the other run has 2 sequences, none for number 2/,
  );
});

Deno.test("what the untyped cell of a notebook may hold is refused in one line", async () => {
  using random = await randomModel(MODEL);
  const point = "blk.0.out";
  const cases: [unknown, RegExp][] = [
    [[[point, "zero"]], /Cannot edit blk\.0\.out: "zero" is no change: give zero\(\)/],
    [[[point, undefined]], /undefined is no change/],
    [[[point, zero({ positoin: 3 } as Where)]], /no positoin to choose, but position, feature/],
    [[[point, zero]], /\[object Object\] was given: give numbers/],
    [[[point, (x: TensorView) => Promise.resolve(x)]], /its function is async/],
    [[[point, () => Promise.reject(new Error("later"))]], /its function is async/],
    [[[point, () => 3]], /3 was given: give numbers, or change the value's data and return noth/],
    [[[point, () => [1, 2, 3]]], /it has 192 numbers \(6 × 32\), 3 were given/],
  ];
  for (const [edit, message] of cases) {
    await assert.rejects(random.model.run([IDS], { edit: edit as EditList }), {
      name: "EditError",
      message,
    });
  }
});

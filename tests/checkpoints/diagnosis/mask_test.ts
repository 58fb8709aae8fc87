/** The causes of wrong scores and probabilities: masks by their shape, the softmax, the scale, soft caps; and what right engines show. */
import assert from "node:assert/strict";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const T = random.ids.length;

type Sees = NonNullable<Mistakes["sees"]>;

/** Masks, what is said of them where their probabilities are shown, and the pass that shows them. */
const MASKS: [Sees, string, 0 | 1][] = [
  [({ query, key }) => key < query, "misses itself (key = query)", 0],
  [() => true, "sees the whole future", 0],
  [({ query, key }) => key <= query + 1, "sees 1 key of the future", 0],
  [({ query, key }) => key <= query + 3, "sees 3 keys of the future", 0],
  [({ query, key }) => key >= query, "sees the future instead of the past", 0],
  [({ query, key }) => key <= query && key > query - 7, "sees a window of 7", 0],
  [({ query, key }) => key <= query && key > 0, "misses the first key", 0],
  [({ query, key }) => key <= query && key >= 4, "misses the first 4 keys", 0],
  [({ query, key }) => key <= query && key < T - 2, "misses the last 2 keys", 0],
  [({ query, key }) => key <= query && key !== 9, "misses key 9", 0],
  [
    ({ query, key }) => key <= query && Math.floor(key / 16) === Math.floor(query / 16),
    "sees only keys of its own chunk of 16",
    0,
  ],
  [
    ({ query, key }) => key <= query || (key < 12 && query < 12),
    "sees the future among the first 12 keys",
    0,
  ],
  [({ query, key, head }) => key <= query || head === 2, "sees the whole future (head 2)", 0],
  [({ query, key, start }) => key < query || start === 0, "misses itself (key = query)", 1],
  [
    ({ query, key, start }) => key <= query - start,
    "counts queries from 0 in this pass: misses the newest keys",
    1,
  ],
  [
    ({ query, key, start }) => key <= query && (start === 0 || key > query - 16),
    "sees a window of 16",
    1,
  ],
];

for (const [sees, what, step] of MASKS) {
  Deno.test(`mask: ${what}, step ${step}`, async (t) => {
    const run = random.engine.run(random.ids, step, { mistakes: { sees }, where: 1 });
    await t.step("probabilities are shown", async () => {
      const found = await explained(random, run, "blk.1.attn_probs", { step });
      assert.deepEqual([found.cause, found.detail], ["mask", what]);
      assert.ok(found.after < 2e-6, `${found.after}`);
    });
    const hides = /^misses|window|chunk|counts/.test(what);
    if (hides) {
      for (const floor of [-Infinity, -1e4, -65504, -1e9, -3.4e38]) {
        await t.step(`scores are shown, with ${floor}`, async () => {
          const run = random.engine.run(random.ids, step, { mistakes: { sees, floor }, where: 1 });
          const found = await explained(random, run, "blk.1.attn_scores", { step });
          assert.deepEqual([found.cause, found.detail], ["mask", what]);
          assert.ok(found.after < 2e-6, `${found.after}`);
        });
      }
    }
    if (/last 2|key 9|chunk|first 12|head 2/.test(what)) return; // shapes that are not tried, or not alone
    for (const shown of [/\.(q_rope|k_rope|v|cache_.|head_out)$/, /\.(ffn_inp|out|cache_.)$/]) {
      await t.step(`${shown} is shown`, async () => {
        const found = await explained(random, run, "blk.1.attn_probs", { step, shown });
        assert.equal(found.cause, "mask", found.detail);
        assert.ok(found.detail.endsWith(what), found.detail);
        assert.ok(found.after < 1e-5 * Math.max(1, found.before), `${found.after}`);
      });
    }
  });
}

Deno.test("mask: a shape without a name is told by its first key", async () => {
  const sees: Sees = ({ query, key }) => key <= query && (key * 7 + query) % 5 !== 0;
  const run = random.engine.run(random.ids, 0, { mistakes: { sees, floor: -1e4 }, where: 1 });
  const found = await explained(random, run, "blk.1.attn_scores");
  assert.equal(found.cause, "mask");
  assert.match(found.detail, /^misses keys, \d+ in all, the first in head 0: query 0, key 0$/);
});

Deno.test("mask: rows in which no key is seen, and what is left of the others", async () => {
  // A softmax over nothing is no number; over one floor for all keys it is the same for all.
  const sees: Sees = ({ query, key }) => key < query;
  for (const value of [NaN, 0, 1 / T]) {
    const mistakes: Mistakes = {
      sees,
      made: (point, x) => point === "attn_probs" ? x.map((p, i) => i % (T * T) < T ? value : p) : x,
    };
    const run = random.engine.run(random.ids, 0, { mistakes, where: 1 });
    const found = await explained(random, run, "blk.1.attn_probs");
    assert.deepEqual([found.cause, found.detail], ["mask", "misses itself (key = query)"]);
  }
});

Deno.test("mask: not renormalised", async () => {
  const cut: Mistakes = {
    made: (point, x) => point === "attn_probs" ? x.map((p, i) => i % T === 0 ? 0 : p) : x,
  };
  const run = random.engine.run(random.ids, 0, { mistakes: cut, where: 1 });
  const found = await explained(random, run, "blk.1.attn_probs");
  assert.equal(found.cause, "mask");
  assert.equal(found.detail, "misses the first key, and rows are not divided by what is left");

  const divided: Mistakes = {
    sees: () => true,
    made: (point, x) =>
      point === "attn_probs" ? x.map((p, i) => i % T > Math.floor(i / T) % T ? 0 : p) : x,
  };
  const other = random.engine.run(random.ids, 0, { mistakes: divided, where: 1 });
  const again = await explained(random, other, "blk.1.attn_probs", { shown: /^(?!.*attn_scores)/ });
  assert.equal(again.cause, "mask", again.detail);
  assert.match(again.detail, /^rows are divided by the sum over all keys, hidden ones too$/);
});

Deno.test("softmax: one more in the sum, another axis, left out, another temperature", async () => {
  const cases: [Mistakes, string, RegExp][] = [
    [{ sink: 1 }, "mask", /one more key, with a score of 0 and no value/],
    [
      { made: (point, x) => point === "attn_probs" ? overQueries(x) : x },
      "unknown",
      /^no known cause, but the softmax runs over queries instead of keys$/,
    ],
  ];
  for (const [mistakes, cause, detail] of cases) {
    const run = random.engine.run(random.ids, 0, { mistakes, where: 1 });
    const found = await explained(random, run, "blk.1.attn_probs");
    assert.equal(found.cause, cause, found.detail);
    assert.match(found.detail, detail);
  }
});

/** What a softmax over queries makes of a right run's scores in block 1. */
function overQueries(x: Float32Array): Float32Array {
  const scores = random.right.passes[0].tensors.get("blk.1.attn_scores")!.data;
  const out = new Float32Array(x.length);
  for (let first = 0; first < x.length; first += T * T) {
    for (let key = 0; key < T; key++) {
      let sum = 0;
      for (let t = key; t < T; t++) sum += Math.exp(scores[first + t * T + key]);
      for (let t = key; t < T; t++) {
        out[first + t * T + key] = Math.exp(scores[first + t * T + key]) / sum;
      }
    }
  }
  return out;
}

Deno.test("scores: the factor is named, and a cap is fitted", async () => {
  const d = random.engine.shape.headWidth;
  const floor = -Infinity;
  const cap = (at: number) => (score: number) => at * Math.tanh(score / at);
  const cases: [Mistakes, string, RegExp][] = [
    [
      { floor, scale: 1 / Math.sqrt(d) },
      "scaled",
      /^scores are times 0\.25 \(1\/√d\): scaled by 0\.0625 instead of 0\.25$/,
    ],
    [{ floor, scale: Math.sqrt(d) }, "scaled", /^scores are times 4 \(√d\):/],
    [
      { floor, scale: Math.sqrt(d / random.engine.shape.width) },
      "scaled",
      /^scores are times 0\.5 \(√\(d\/D\)\):/,
    ],
    [{ floor, scale: 0.7 }, "scaled", /^scores are times 0\.7:/],
    [{ floor, scale: 0.71234 }, "scaled", /^scores are times 0\.71234:/],
    [{ floor, score: cap(50) }, "soft-cap", /^scores go through 50 · tanh\(score \/ 50\)$/],
    [{ floor, score: cap(3) }, "soft-cap", /^scores go through 3 · tanh/],
    [{ floor, score: cap(2.71) }, "soft-cap", /^scores go through 2\.71 · tanh/],
  ];
  for (const [mistakes, cause, detail] of cases) {
    const run = random.engine.run(random.ids, 0, { mistakes, where: 1 });
    const found = await explained(random, run, "blk.1.attn_scores");
    if (found.before < 1e-4) continue; // a cap that these scores are too small for
    assert.equal(found.cause, cause, found.detail);
    assert.match(found.detail, detail);
    assert.ok(found.after < 2e-6, `${found.after}`);
  }
  const hot: Mistakes = { score: (score) => 0.4 * score };
  const { promptIds, passes, ...rest } = random.engine.run(random.ids, 0, {
    mistakes: hot,
    where: 1,
  });
  const tensors = new Map(passes[0].tensors);
  tensors.set("blk.1.attn_scores", random.right.passes[0].tensors.get("blk.1.attn_scores")!);
  const run = { ...rest, promptIds, passes: [{ ...passes[0], tensors }] };
  const found = await explained(random, run, "blk.1.attn_probs");
  assert.equal(found.cause, "scaled", found.detail);
  assert.match(found.detail, /^scores are times 0\.4 before the softmax$/);
});

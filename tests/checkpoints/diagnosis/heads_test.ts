/** The causes of heads in wrong places: their order, their axes, the key/value heads that they read. */
import assert from "node:assert/strict";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { made } from "../../support/faults/engines/mistakes.ts";
import { ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const path = folder.at("heads.gguf");
await Deno.writeFile(
  path,
  randomLlama({ layers: 1, heads: 8, kvHeads: 4, headWidth: 16, width: 128, seed: 9 }),
);
const engine = await ForeignEngine.open(path);
const model = { path };
const ids = Array.from({ length: 24 }, (_, i) => (i * 37) % 96);
const [H, d] = [8, 16];

/** The numbers of each position in other places. */
function moved(point: string, from: (place: number) => number): Mistakes {
  return made(point, (x) => x.map((_, i) => x[i - i % (H * d) + from(i % (H * d))]));
}

/** Head order[h] in place h. */
const ordered = (order: (head: number) => number) => (place: number) =>
  order(Math.floor(place / d)) * d + place % d;

const ORDERS: [(place: number) => number, RegExp][] = [
  [ordered((h) => 7 - h), /heads stand backwards$/],
  [ordered((h) => (h + 3) % 8), /heads are rotated: in place 0 stands head 3$/],
  [ordered((h) => h === 2 ? 5 : h === 5 ? 2 : h), /heads 2 and 5 are exchanged$/],
  [ordered((h) => (h * 3) % 8), /heads 0, 3, 6, 1, 4, 7, 2, 5 stand where 0 to 7 belong$/],
  [ordered((h) => h === 4 ? 3 : h), /in place 4 stands head 3 again$/],
  [
    (place) => place % H * d + Math.floor(place / H),
    /as \[feature, head\] where \[head, feature\] belongs$/,
  ],
  [(place) => place % d * H + Math.floor(place / d), /are read as \[feature, head\]/],
];

for (const point of ["head_out", "q"]) {
  Deno.test(`heads in another order: ${point}`, async () => {
    for (const [from, detail] of ORDERS) {
      const run = engine.run(ids, 0, { mistakes: moved(point, from), where: 0 });
      const found = await explained(model, run, `blk.0.${point}`);
      assert.equal(found.cause, "head-grouping", found.detail);
      assert.match(found.detail, detail);
      assert.ok(found.after < 1e-6, `${found.after}`);
    }
  });
}

Deno.test("heads joined in another order, seen behind the projection", async () => {
  const cases = [ORDERS[0], ...ORDERS.slice(5)];
  for (const [i, [from]] of cases.entries()) {
    const run = engine.run(ids, 0, { mistakes: moved("head_out", from), where: 0 });
    const shown = /attn_probs|cache_v|attn_out$/;
    const found = await explained(model, run, "blk.0.attn_out", { shown });
    assert.equal(found.cause, "head-grouping", found.detail);
    assert.match(found.detail, [/backwards/, /as \[feature, head\]/, /read as \[feature/][i]);
    assert.ok(found.after < 1e-6, `${found.after}`);
  }
});

const T = ids.length;

/** A right run's probabilities mixed with one of its tensors [T, 4, d]. */
function mixed(point: string, keyHead: (head: number) => number): Mistakes {
  const right = engine.run(ids, 0).passes[0].tensors;
  const probs = right.get("blk.0.attn_probs")!.data;
  const values = right.get(`blk.0.${point}`)!.data;
  const out = new Float32Array(T * H * d);
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      for (let s = 0; s <= t; s++) {
        const from = (s * 4 + keyHead(h)) * d;
        for (let i = 0; i < d; i++) {
          out[(t * H + h) * d + i] += probs[(h * T + t) * T + s] * values[from + i];
        }
      }
    }
  }
  return { made: (each, x) => each === "head_out" ? out : x };
}

const MAPS: [number[], RegExp][] = [
  [[0, 1, 2, 3, 0, 1, 2, 3], /^query head h reads key\/value head h mod Hkv$/],
  [[1, 1, 0, 0, 3, 3, 2, 2], /^query heads 0 to 7 read key\/value heads 1, 1, 0, 0, 3, 3, 2, 2$/],
  [[0, 0, 0, 0, 0, 0, 0, 0], /read key\/value heads 0, 0, 0, 0, 0, 0, 0, 0$/],
];

for (const [map, detail] of MAPS) {
  Deno.test(`query heads read key/value heads ${map.join(", ")}`, async () => {
    const keyHead = (head: number) => map[head];
    const cases = [[{ keyHead }, "attn_scores"], [mixed("cache_v", keyHead), "head_out"]] as const;
    for (const [mistakes, point] of cases) {
      const run = engine.run(ids, 0, { mistakes, where: 0 });
      const found = await explained(model, run, `blk.0.${point}`);
      assert.equal(found.cause, "head-grouping", found.detail);
      assert.match(found.detail, detail);
      assert.ok(found.after < 1e-6, `${found.after}`);
    }
  });
}

Deno.test("keys are mixed instead of values", async () => {
  const mistakes = mixed("cache_k", (head) => head >> 1);
  const run = engine.run(ids, 0, { mistakes, where: 0 });
  const found = await explained(model, run, "blk.0.head_out");
  assert.equal(found.cause, "other-tensor", found.detail);
  assert.equal(found.detail, "it is made with blk.0.cache_k");
});

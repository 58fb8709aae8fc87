/** What can be wrong with a weight, in an engine that shows its tensors: named with proof, or honestly unknown. */
import assert from "node:assert/strict";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { columns, instead, made, rows, weight } from "../../support/faults/engines/mistakes.ts";
import { type FaultModel, faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random, tiny } = await faultModels(folder.path);
const LAYER = 1;

/** Rows times factors. */
function factors(name: string, of: (row: number) => number): Mistakes {
  return weight(name, (data, _, width) => data.map((v, i) => v * of(Math.floor(i / width))));
}

/** Numbers in an order without rule. */
function shuffled(n: number): number[] {
  const draw = new Random(9);
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = draw.integer(0, i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

type Fault = readonly [mistakes: Mistakes, point: string, cause: Cause, detail: RegExp];

const FAULTS: Readonly<Record<string, Fault>> = {
  "rows rotated": [
    rows("ffn_up.weight", (r, n) => (r + 5) % n),
    ...["ffn_up", "reordered"] as const,
    /ffn_up\.weight: rows are rotated by 5: at 0 stands 5$/,
  ],
  "rows shifted from one on": [
    rows("ffn_gate.weight", (r, n) => r < 40 ? r : Math.min(n - 1, r + 1)),
    ...["ffn_gate", "reordered"] as const,
    /rows are shifted by 1 from 40 on: there stands 41/,
  ],
  "two rows exchanged": [
    rows("ffn_down.weight", (r) => r === 7 ? 30 : r === 30 ? 7 : r),
    ...["ffn_out", "reordered"] as const,
    /rows 7 and 30 are exchanged$/,
  ],
  "two blocks of rows exchanged": [
    rows("ffn_gate.weight", (r) => r < 32 ? r + 64 : r >= 64 && r < 96 ? r - 64 : r),
    ...["ffn_gate", "reordered"] as const,
    /rows 0 to 31 and 64 to 95 are exchanged$/,
  ],
  "rows reversed": [
    rows("ffn_down.weight", (r, n) => n - 1 - r),
    ...["ffn_out", "reordered"] as const,
    /rows are in reverse order$/,
  ],
  "rows reversed within heads": [
    rows("attn_v.weight", (r) => r - r % 16 + 15 - r % 16),
    ...["v", "reordered"] as const,
    /rows are in reverse order within each 16/,
  ],
  "halves of rows interleaved": [
    rows("ffn_up.weight", (r, n) => r % 2 * (n / 2) + (r >> 1)),
    ...["ffn_up", "reordered"] as const,
    /halves of the rows are interleaved$/,
  ],
  "rows without any order": [
    rows("ffn_up.weight", (r, n) => shuffled(n)[r]),
    ...["ffn_up", "reordered"] as const,
    /rows are in another order: the first that moved is \d+, where \d+ stands$/,
  ],
  "a row that holds its neighbour's": [
    rows("ffn_up.weight", (r) => r === 12 ? 13 : r),
    ...["ffn_up", "reordered"] as const,
    /row 12 has the numbers of 13$/,
  ],
  "columns rotated": [
    columns("ffn_down.weight", (c, n) => (c + 3) % n),
    ...["ffn_out", "reordered"] as const,
    /columns are rotated by 3: at 0 stands 3; or the features/,
  ],
  "two columns exchanged": [
    columns("ffn_up.weight", (c) => c === 3 ? 11 : c === 11 ? 3 : c),
    ...["ffn_up", "reordered"] as const,
    /columns 3 and 11 are exchanged; or/,
  ],
  "columns reversed": [
    columns("ffn_gate.weight", (c, n) => n - 1 - c),
    ...["ffn_gate", "reordered"] as const,
    /columns are in reverse order; or/,
  ],
  "heads' columns exchanged": [
    columns("attn_output.weight", (c) => c < 16 ? c + 16 : c < 32 ? c - 16 : c),
    ...["attn_out", "reordered"] as const,
    /columns 0 to 15 and 16 to 31 are exchanged; or/,
  ],
  "the last rows zero": [
    factors("ffn_gate.weight", (r) => r >= 180 ? 0 : 1),
    ...["ffn_gate", "zeros"] as const,
    /ffn_gate\.weight: rows 180 to \d+ are zero$/,
  ],
  "a row zero": [
    factors("attn_v.weight", (r) => r === 4 ? 0 : 1),
    ...["v", "zeros"] as const,
    /row 4 is zero$/,
  ],
  "a weight all zero": [
    factors("attn_v.weight", () => 0),
    ...["v", "zeros"] as const,
    /all of it is zero$/,
  ],
  "the last columns zero": [
    weight("ffn_down.weight", (data, _, n) => data.map((v, i) => i % n >= n - 32 ? 0 : v)),
    ...["ffn_out", "zeros"] as const,
    /columns \d+ to \d+ are zero, or the features that they read$/,
  ],
  "rows times two": [
    factors("ffn_gate.weight", (r) => r >= 64 && r < 128 ? 2 : 1),
    ...["ffn_gate", "scaled"] as const,
    /rows 64 to 127 times 2$/,
  ],
  "a row times 0.7": [
    factors("ffn_gate.weight", (r) => r === 64 ? 0.7 : 1),
    ...["ffn_gate", "scaled"] as const,
    /row 64 times 0\.7$/,
  ],
  "a head of V with its sign changed": [
    factors("attn_v.weight", (r) => r < 16 ? -1 : 1),
    ...["v", "scaled"] as const,
    /rows 0 to 15 times -1/,
  ],
  "a product times √D": [
    factors("ffn_down.weight", () => 8),
    ...["ffn_out", "scaled"] as const,
    /^there it is 8 \(.*√D.*\) times what it is here$/,
  ],
  "a product times an odd factor": [
    factors("ffn_down.weight", () => 0.9417),
    ...["ffn_out", "scaled"] as const,
    /^there it is 0\.9417 times what it is here$/,
  ],
  "a product in degrees": [
    made("ffn_up", (x) => x.map((v) => v * 180 / Math.PI)),
    ...["ffn_up", "scaled"] as const,
    /180\/π/,
  ],
  "a branch with a multiplier": [
    { residual: { out: 0.22 } },
    ...["out", "scaled"] as const,
    /^blk\.1\.ffn_inp times 0\.22 is added there$/,
  ],
  "the l2 norm": [
    made("attn_norm", (x) => x.map((v) => v / 8)),
    ...["attn_norm", "scaled"] as const,
    /1\/√D/,
  ],
  "a norm without its weight": [
    weight("ffn_norm.weight", (data) => data.map(() => 1)),
    ...["ffn_norm", "left-out"] as const,
    /ffn_norm\.weight: it is not applied there$/,
  ],
  "a norm with its weight twice": [
    weight("ffn_norm.weight", (data) => data.map((v) => v * v)),
    ...["ffn_norm", "left-out"] as const,
    /it is applied twice there$/,
  ],
  "the norm of another place": [
    instead({ "ffn_norm.weight": "attn_norm.weight" }),
    ...["ffn_norm", "other-tensor"] as const,
    /it holds the numbers of blk\.1\.attn_norm\.weight$/,
  ],
  "a norm's weight rotated": [
    columns("ffn_norm.weight", (c, n) => (c + 1) % n),
    ...["ffn_norm", "reordered"] as const,
    /rotated by 1/,
  ],
  "K made with V's weight": [
    instead({ "attn_k.weight": "attn_v.weight" }),
    ...["k", "other-tensor"] as const,
    /it holds the numbers of blk\.1\.attn_v\.weight$/,
  ],
};

/** The weights of another layer cannot be asked for by their own names. */
function ofLayer(model: FaultModel, name: string, layer: number): Mistakes {
  const other = model.engine.weights.get(`blk.${layer}.${name}`)!;
  return { weight: (each, right) => each === name ? other : right };
}

async function found(
  model: FaultModel,
  mistakes: Mistakes,
  from: string,
  where: number | "outside" = LAYER,
) {
  const run = model.engine.run(model.ids, 0, { mistakes, where });
  return await explained(model, run, from, { shown: /./ });
}

for (const [name, [mistakes, point, cause, detail]] of Object.entries(FAULTS)) {
  Deno.test(`weights: ${name}`, async () => {
    const each = await found(random, mistakes, `blk.${LAYER}.${point}`);
    assert.equal(each.cause, cause, each.detail);
    assert.match(each.detail, detail);
    assert.ok(each.leaves);
  });
}

Deno.test("weights: those of another layer", async () => {
  for (const model of [random, tiny]) {
    for (const name of ["ffn_down.weight", "attn_v.weight", "attn_norm.weight"]) {
      const point = { "ffn_down.weight": "ffn_out", "attn_v.weight": "v" }[name] ?? "attn_norm";
      const each = await found(model, ofLayer(model, name, 2), `blk.${LAYER}.${point}`);
      assert.equal(each.cause, "other-tensor", each.detail);
      assert.match(each.detail, new RegExp(`it holds the numbers of blk\\.2\\.${name}$`));
    }
  }
});

Deno.test("weights: rows of other numbers are named as such, and are no damaged block", async () => {
  const draw = new Random(4);
  const numbers = Float32Array.from({ length: 4096 }, () => draw.normal(0.1));
  const mistakes = weight(
    "ffn_down.weight",
    (data, _, n) => data.map((v, i) => Math.floor(i / n) === 9 ? numbers[i % n] : v),
  );
  const each = await found(random, mistakes, `blk.${LAYER}.ffn_out`);
  assert.equal(each.cause, "unknown");
  assert.match(each.detail, /only row 9 has other numbers$/);
});

Deno.test("the embedding: factors, rows of other tokens, another table, zeros", async (t) => {
  const faults: [string, Mistakes, Cause, RegExp][] = [
    [
      "√D",
      weight("token_embd.weight", (x) => x.map((v) => v * Math.sqrt(tiny.engine.shape.width))),
      "scaled",
      /√D/,
    ],
    [
      "a token added",
      rows("token_embd.weight", (r, n) => r < 100 ? r : Math.min(n - 1, r + 1)),
      "reordered",
      /rows are shifted by 1/,
    ],
    [
      "the output matrix",
      instead({ "token_embd.weight": "output.weight" }),
      "other-tensor",
      /output\.weight$/,
    ],
    ["zeros", weight("token_embd.weight", (x) => x.map(() => 0)), "zeros", /all of it is zero$/],
  ];
  for (const [name, mistakes, cause, detail] of faults) {
    await t.step(name, async () => {
      const embedding = mistakes.weight!(
        "token_embd.weight",
        tiny.engine.weights.get("token_embd.weight")!,
        undefined,
      )!;
      const other = typeof embedding === "string" ? tiny.engine.weights.get(embedding)! : embedding;
      const columns = other.columns;
      const looked: Mistakes = made(
        "token_embd",
        (x) =>
          x.map((_, i) => other.data[tiny.ids[Math.floor(i / columns)] * columns + i % columns]),
      );
      const each = await found(tiny, looked, "token_embd", "outside");
      assert.equal(each.cause, cause, each.detail);
      assert.match(each.detail, detail);
    });
  }
});

/** Plans in which only the last rows go on behind the last layer's attention. */
import assert from "node:assert/strict";
import { readConfig } from "../../engine/plan/tensors.ts";
import { forward } from "../../engine/plan/forward.ts";
import { narrow } from "../../engine/plan/passes/narrow.ts";
import { fuse } from "../../engine/plan/passes/fuse.ts";
import { select } from "../../engine/plan/passes/select.ts";
import { onLastRows, type Plan, stepName } from "../../engine/plan/plan.ts";
import { randomFile } from "../support/models/random_llama.ts";

async function planOf(wanted: ReadonlySet<string>, given: ReadonlySet<string> = new Set()) {
  return select(forward(readConfig(await randomFile({ layers: 2 }))), wanted, given);
}

function fused(plan: Plan, wanted: ReadonlySet<string>): string[] {
  return fuse(plan, { wanted, adjacent: () => true }).filter(onLastRows).map(stepName);
}

Deno.test("behind the last attention only the last rows go on, fused as all of them are", async () => {
  const wanted = new Set(["logits"]);
  const plan = await planOf(wanted);
  const names = plan.filter((step) => !onLastRows(step)).map(stepName);
  const narrowed = narrow(plan, wanted);
  assert.deepEqual(
    narrowed.filter((step) => !onLastRows(step)).map(stepName),
    [
      ...names.slice(0, names.indexOf("blk.0.out") + 1),
      "blk.0.out~last",
      ...names.slice(names.indexOf("blk.0.out") + 1, names.indexOf("blk.1.head_out") + 1),
      "blk.1.head_out~last",
    ],
  );
  assert.deepEqual(fused(narrowed, wanted), [
    "blk.1.ffn_inp",
    "blk.1.ffn_norm",
    "blk.1.ffn_act",
    "blk.1.out",
    "output_norm",
    "logits",
  ]);
  // Each value is made before it is read, and once.
  const made = new Set<unknown>();
  for (const { inputs, outputs } of narrowed) {
    for (const value of inputs) assert.ok(value.kind !== "result" || made.has(value), value.name);
    for (const value of outputs) {
      assert.ok(!made.has(value));
      made.add(value);
    }
  }
});

Deno.test("what is wanted has all of its rows, and so has what it is made of", async () => {
  const wanted = new Set(["logits", "blk.1.ffn_act"]);
  const plan = await planOf(wanted);
  assert.deepEqual(fused(narrow(plan, wanted), wanted), ["blk.1.out", "output_norm", "logits"]);
  const all = new Set(["logits", "blk.1.out"]);
  const whole = await planOf(all);
  assert.deepEqual(
    narrow(whole, all).map(stepName),
    whole.map(stepName).with(
      whole.findIndex((step) => stepName(step) === "last_rows"),
      "blk.1.out~last",
    ),
  );
});

Deno.test("values that are handed in are narrowed where they are read", async () => {
  const wanted = new Set(["logits"]);
  const narrowed = narrow(await planOf(wanted, new Set(["blk.1.ffn_inp"])), wanted);
  assert.equal(stepName(narrowed[0]), "blk.1.ffn_inp~last");
  assert.ok(narrowed.slice(1).every(onLastRows));
});

/** The verdicts on made-up references: a fault is blamed on the step that has it, and on nothing else. */
import assert from "node:assert/strict";
import type { HostTensor } from "../engine/backend.ts";
import { planValues } from "../engine/plan.ts";
import { fusedValues, unfusedValues } from "./support/local_values.ts";
import { randomModel } from "./support/random_model.ts";
import { worst } from "./support/verdicts.ts";

function tensor(shape: number[], data: number[]): HostTensor {
  return { shape, data: Float32Array.from(data) };
}

Deno.test("a value may differ by the tolerance and a share of its row's largest", () => {
  const place = { start: 0, tokens: 2 };
  const reference = tensor([2, 3], [1, 2, 3, 1, 2, 1e4]);
  const off = (index: number, by: number) => {
    const data = Float32Array.from(reference.data);
    data[index] += by;
    return worst("blk.0.out", { ...reference, data }, reference, place);
  };
  assert.equal(worst("blk.0.out", reference, reference, place).ratio, 0);
  assert.ok(off(0, 1e-4).ratio < 1);
  assert.ok(off(0, 2e-4).ratio > 1);
  assert.ok(off(4, 9e-2).ratio < 1, "the second row has a large number");
  assert.equal(off(4, 0.2).index, 4);
  assert.equal(off(3, NaN).ratio, Infinity);
  assert.ok(
    worst("argmax", tensor([2], [1, 3]), tensor([2], [1, 2]), place).ratio === Infinity,
  );
});

Deno.test("only the keys that a query sees count for a row's largest", () => {
  const place = { start: 1, tokens: 2 };
  const reference = tensor([1, 2, 3], [1, 1, -1e30, 1, 1, 1e6]);
  const found = tensor([1, 2, 3], [1, 1.001, -1e30, 1, 1.001, 1e6]);
  const most = worst("blk.0.attn_scores", found, reference, place);
  assert.equal(most.index, 1);
  assert.ok(most.ratio > 9);
});

Deno.test("a fault in the reference is blamed on that step and on those that read it", async () => {
  for (const backend of ["webgpu", "cpu"] as const) {
    using own = await randomModel({ layers: 2, kvHeads: 2, vocab: 40 }, backend);
    const { engine, plan } = own.model;
    const session = engine.session({ capacity: 9 });
    await session.pass({ ids: [3, 1, 4, 1, 5] });
    const ids = [9, 2, 6];
    const names = [...planValues(plan).keys()];
    const right = await session.pass({ ids, rows: 3, wanted: names });
    session.rewind(5);
    const { data, shape } = right.get("blk.1.ffn_norm")!;
    const wrong = { shape, data: data.map((value, i) => i === 70 ? value + 0.1 : value) };
    const reference = new Map([...right, ["blk.1.ffn_norm", wrong] as const]);
    for (const values of [unfusedValues, fusedValues]) {
      const found = await values({ session, ids, reference });
      assert.equal(session.position, 5);
      const blamed = [...found].filter(([point, value]) =>
        worst(point, value, reference.get(point)!, { start: 5, tokens: 3 }).ratio > 1
      ).map(([point]) => point);
      assert.deepEqual(blamed.toSorted(), [
        // The activation is computed from gate and up where that is a step of its own.
        ...(values === fusedValues ? ["blk.1.ffn_act"] : []),
        "blk.1.ffn_gate",
        "blk.1.ffn_norm",
        "blk.1.ffn_up",
      ]);
      const unseen = names.filter((point) => !found.has(point));
      const never = /last_rows|attn_scores|attn_probs|head_result/;
      assert.ok(
        values === unfusedValues ? unseen.length === 0 : unseen.every((each) => never.test(each)),
      );
    }
    session.dispose();
  }
});

/** The local verdict on a made-up reference: a fault is blamed on the step that has it, and on nothing else. */
import assert from "node:assert/strict";
import { largestError } from "../../../checkpoints/parity/compare.ts";
import { planValues } from "../../../engine/plan/plan.ts";
import { fusedValues, unfusedValues } from "../../support/engines/local_values.ts";
import { randomModel } from "../../support/models/random_model.ts";

Deno.test("a fault in the reference is blamed on that step and on those that read it", async () => {
  for (const backend of ["webgpu", "cpu"] as const) {
    using own = await randomModel({ layers: 2, kvHeads: 2, vocab: 40 }, backend);
    const { engine, plan } = own.model;
    const session = engine.session({ capacity: 9 });
    await session.pass({ ids: [3, 1, 4, 1, 5] });
    const ids = [9, 2, 6];
    // What is drawn, and how likely the next ids were, is no tensor that a reference has.
    const names = [...planValues(plan).keys()].filter((name) =>
      name !== "sample" && name !== "surprisal"
    );
    const right = await session.pass({ ids, rows: 3, wanted: names });
    session.rewind(5);
    const { data, shape } = right.get("blk.1.ffn_norm")!;
    const wrong = { shape, data: data.map((value, i) => i === 70 ? value + 0.1 : value) };
    const reference = new Map([...right, ["blk.1.ffn_norm", wrong] as const]);
    for (const values of [unfusedValues, fusedValues]) {
      const found = await values({ session, ids, reference });
      assert.equal(session.position, 5);
      const blamed = [...found].filter(([point, value]) =>
        largestError(point, value, reference.get(point)!, 5) > 1e-3
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

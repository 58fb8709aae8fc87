/** Which experts are chosen, and what they count, on numbers that can be done by hand. */
import assert from "node:assert/strict";
import { chooseExperts, expertWeights, type Routing } from "../../../engine/oracle/routing.ts";

const MIXTRAL: Routing = {
  ...{ used: 2, gating: "softmax", normalized: true, scale: 1, groups: undefined },
};
const ln = (...numbers: number[]) => Float64Array.from(numbers, Math.log);

function near(found: Iterable<number>, expected: readonly number[]): void {
  const list = [...found];
  assert.equal(list.length, expected.length);
  list.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-14, `${list}`));
}

Deno.test("softmax over all: the chosen ones' shares, of all or of their sum", () => {
  const logits = ln(1, 4, 2, 3);
  assert.deepEqual(chooseExperts(logits, undefined, MIXTRAL), [1, 3]);
  near(expertWeights(logits, [1, 3], MIXTRAL), [4 / 7, 3 / 7]);
  near(expertWeights(logits, [1, 3], { ...MIXTRAL, normalized: false }), [0.4, 0.3]);
  near(expertWeights(logits, [1, 3], { ...MIXTRAL, scale: 2.5 }), [10 / 7, 7.5 / 7]);
});

Deno.test("softmax over the chosen sums to 1 by itself", () => {
  const routing: Routing = { ...MIXTRAL, gating: "softmax_chosen", normalized: false };
  near(expertWeights(ln(1, 4, 2, 3), [1, 3], routing), [4 / 7, 3 / 7]);
});

Deno.test("sigmoids; what is divided by is not too small", () => {
  const routing: Routing = { ...MIXTRAL, gating: "sigmoid" };
  near(expertWeights(Float64Array.of(0, Math.log(3)), [1, 0], routing), [0.6, 0.4]);
  const tiny = Math.log(2 ** -20);
  const weight = 1 / (1 + 2 ** 20) * 2 ** 14;
  near(expertWeights(Float64Array.of(tiny, tiny), [0, 1], routing), [weight, weight]);
});

Deno.test("of equal ones the first; a bias counts for the choice only", () => {
  assert.deepEqual(chooseExperts(Float64Array.of(0, 1, 1, 1), undefined, MIXTRAL), [1, 2]);
  const bias = Float32Array.of(0.9, 0, 0, 0);
  const logits = ln(1, 4, 2, 3);
  assert.deepEqual(chooseExperts(logits, bias, MIXTRAL), [0, 1]); // 0.1 + 0.9, 0.4
  near(expertWeights(logits, [0, 1], MIXTRAL), [0.2, 0.8]);
});

Deno.test("groups are as good as their two best", () => {
  const routing: Routing = { ...MIXTRAL, groups: { count: 2, used: 1 } };
  // The best expert of all is in the worse group: 9 + 1 < 6 + 5.
  assert.deepEqual(chooseExperts(ln(9, 1, 0.5, 5, 6, 1), undefined, routing), [4, 3]);
  assert.deepEqual(
    chooseExperts(ln(9, 1, 0.5, 5, 6, 1), undefined, { ...routing, groups: { count: 2, used: 2 } }),
    [0, 4],
  );
});

Deno.test("logits far below zero still have an order", () => {
  assert.deepEqual(chooseExperts(Float64Array.of(-2000, 0, -1000), undefined, MIXTRAL), [1, 2]);
});

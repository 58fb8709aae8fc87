/** The twins of the experts' kernels against closed forms. */
import assert from "node:assert/strict";
import { canRoute } from "../../kernels/experts/routing/route.ts";
import { assertClose, run, W, WX, X } from "./run_twin.ts";

Deno.test("experts are chosen by their logits, of equal ones the lower id", () => {
  const all = { experts: 4, used: 2, gating: 0, normalize: 0, scale: 1, groups: 1, groups_used: 1 };
  const logs = [1, 4, 2, 3].map(Math.log);
  const route = (constants: Record<string, number>, logits = logs, weights: number[][][] = []) =>
    run(weights.length ? "route_biased" : "route", { constants, inputs: [logits], weights }, 2, 2);
  const assertRouted = (found: number[][], ids: number[], weights: number[]) => {
    assert.deepEqual(found[0], ids);
    assertClose(found[1], weights);
  };
  assertRouted(route(all), [1, 3], [0.4, 0.3]);
  assertRouted(route({ ...all, scale: 2.5 }), [1, 3], [1, 0.75]);
  assertRouted(route({ ...all, normalize: 1 }), [1, 3], [4 / 7, 3 / 7]);
  // x / (1 + x) of the odds.
  assertRouted(route({ ...all, gating: 1 }), [1, 3], [4 / 5, 3 / 4]);
  assertRouted(route({ ...all, gating: 2 }), [1, 3], [4 / 7, 3 / 7]);
  assertRouted(route(all, [5, 5, 5, 5]), [0, 1], [0.25, 0.25]);
  // Where gates are next to nothing they are not blown up.
  const far = route({ ...all, gating: 1, normalize: 1 }, [-40, -40, -50, -50]);
  assertClose(far[1].map((weight) => weight * 2 ** 40), [1, 1].map(() => Math.exp(-40) * 2 ** 54));

  // The bias chooses, but weighs nothing: 0.1 + 0.35, 0.4, 0.2 + 0.15, 0.3.
  assertRouted(route(all, logs, [[[0.35, 0, 0.15, 0]]]), [0, 1], [0.1, 0.4]);
  // Of two groups the one whose two best are better: 0.1 + 0.4 or 0.2 + 0.3 + 0.15.
  const groups = { ...all, groups: 2 };
  assertRouted(route(groups, logs, [[[0, 0, 0.15, 0]]]), [2, 3], [0.2, 0.3]);
  assertRouted(route({ ...groups, groups_used: 2 }, logs, [[[0, 0, 0.15, 0]]]), [1, 2], [0.4, 0.2]);
  // Whoever was chosen, by whatever way.
  const own = { constants: { ...all, normalize: 1 }, inputs: [logs, [2, 0]] };
  assertClose(run("route_weights", own, 2)[0], [2 / 3, 1 / 3]);
  assertRouted(route(groups, [1, 9, 2, 2].map(Math.log)), [1, 0], [9 / 14, 1 / 14]);
});

Deno.test("what does not fit into a workgroup's memory cannot be routed", () => {
  assert.ok(canRoute(1024, 64) && canRoute(1, 1) && canRoute(256, 8, 64));
  assert.ok(!canRoute(1025, 8) && !canRoute(512, 65) && !canRoute(4, 5) && !canRoute(256, 8, 65));
});

Deno.test("each position has its own experts' matrices and biases, and their weighted sum", () => {
  // Two experts of three rows, the second one ten times the first.
  const both = [...W, ...W.map((row) => row.map((each) => 10 * each))];
  const times = (factor: number, from: number) => WX.slice(from, from + 3).map((y) => factor * y);
  const constants = { columns: 2, rows: 3, used: 2, shared: 1 };
  for (const many of ["", "_many"]) {
    const given = { constants, inputs: [X, [1, 0, 0, 1]], weights: [both] };
    const [shared] = run(`linear_experts${many}`, given, 12);
    assert.deepEqual(shared, [...times(10, 0), ...times(1, 0), ...times(1, 3), ...times(10, 3)]);
    const own = { constants: { ...constants, shared: 0 }, inputs: [[...X, ...X], [1, 0, 0, 1]] };
    const [each] = run(`linear_experts${many}`, { ...own, weights: [both] }, 12);
    assert.deepEqual(each, [...times(10, 0), ...times(1, 3), ...times(1, 0), ...times(10, 3)]);
  }
  const rows = { rows: 2, columns: 2, used: 2 };
  const x = [1, 2, 3, 4, 5, 6, 7, 8];
  const bias = { constants: rows, inputs: [x, [1, 0, 1, 1]], weights: [[[10, 20, 30, 40]]] };
  assert.deepEqual(run("add_expert_bias", bias, 8), [[31, 42, 13, 24, 35, 46, 37, 48]]);
  const weighed = { constants: rows, inputs: [x, [1, 2, -1, 0.5]] };
  assert.deepEqual(run("weigh", weighed, 8), [[1, 2, 6, 8, -5, -6, 3.5, 4]]);
  assert.deepEqual(run("combine", weighed, 4), [[7, 10, -1.5, -2]]);
});

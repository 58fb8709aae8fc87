/** The oracle's parts against numbers worked out by hand and closed forms. */
import assert from "node:assert/strict";
import type { Rope, Yarn } from "../../../engine/model/config.ts";
import { activate, complementaryError, glu } from "../../../engine/oracle/activations.ts";
import {
  alibiSlope,
  attentionScores,
  scaleByPosition,
  sees,
} from "../../../engine/oracle/attention.ts";
import { cap, centerRows, clamp, rootMeanSquare, scale } from "../../../engine/oracle/math.ts";
import { divisorsName, type RopeKind, ropeTable, rotate } from "../../../engine/oracle/rope.ts";

const row = (...numbers: number[]) => Float64Array.from(numbers);

function near(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-14): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++) {
    const bound = tolerance * Math.max(1, Math.abs(expected[i]));
    assert.ok(Math.abs(found[i] - expected[i]) <= bound, `${i}: ${found[i]}, not ${expected[i]}`);
  }
}

Deno.test("LayerNorm: a row less its mean, and the root mean square of that", () => {
  const centered = centerRows(row(1, 2, 3, 6, -1, 1, -1, 1), 4);
  assert.deepEqual([...centered], [-2, -1, 0, 3, -1, 1, -1, 1]);
  near(rootMeanSquare(centered, 4, 0.5), [2, Math.sqrt(1.5)]);
});

Deno.test("scale, clamp and cap", () => {
  assert.deepEqual([...scale(row(1, -2), 3)], [3, -6]);
  assert.deepEqual([...clamp(row(-9, -1, 0, 2, 9), 2)], [-2, -1, 0, 2, 2]);
  near(cap(row(0, 30, -1e9), 30), [0, 30 * Math.tanh(1), -30]);
});

Deno.test("erfc is that of tables", () => {
  const table: [number, number][] = [
    ...[[0, 1], [0.1, 0.8875370839817152], [0.5, 0.4795001221869535]] as [number, number][],
    ...[[1, 0.15729920705028513], [-1, 1.8427007929497148]] as [number, number][],
  ];
  for (const [x, expected] of table) near([complementaryError(x)], [expected], 1e-15);
  // Far out to 64-bit precision of the small number itself.
  for (
    const [x, expected] of [
      [2, 0.004677734981047265],
      [2.5, 0.0004069520174449589],
      [3, 2.209049699858544e-05],
      [5, 1.5374597944280347e-12],
      [10, 2.088487583762545e-45],
    ]
  ) near([complementaryError(x) / expected], [1], 2e-13);
  assert.equal(complementaryError(Infinity), 0);
  assert.equal(complementaryError(-Infinity), 2);
  assert.ok(Number.isNaN(complementaryError(NaN)));
});

Deno.test("activations are their formulas", () => {
  const x = row(-3, 0, 1);
  near(activate(x, "silu"), [-3 / (1 + Math.exp(3)), 0, 1 / (1 + Math.exp(-1))]);
  near(activate(x, "gelu"), [-3 * 0.0013498980316300933, 0, 0.8413447460685429]);
  near(activate(x, "gelu_tanh").slice(1), [0, 0.8411919906082767]);
  assert.deepEqual([...activate(x, "relu")], [0, 0, 1]);
  assert.deepEqual([...activate(row(-3, 0, 4), "relu2")], [0, 0, 16]);
  near(glu(x, row(2, 2, 10), "gelu"), [-6 * 0.0013498980316300933, 0, 8.413447460685429]);
  assert.throws(() => activate(x, "swiglu_clamped"), RangeError);
  assert.throws(() => activate(x, "xielu"), RangeError);
});

Deno.test("activations of large numbers are no NaN, and their limits", () => {
  const x = row(-1e30, -1000, 1000, 1e30);
  for (const activation of ["silu", "gelu", "gelu_tanh", "relu"] as const) {
    assert.deepEqual([...activate(x, activation)].map((y) => y + 0), [0, 0, 1000, 1e30]);
  }
});

Deno.test("the clamped SwiGLU keeps the gate below 7 and what goes up within 7 of zero", () => {
  const sigma = (z: number) => 1 / (1 + Math.exp(-z));
  const found = glu(row(10, 1, -50, 1000), row(-9, 0.5, 100, 6), "swiglu_clamped");
  near(found, [
    ...[7 * sigma(1.702 * 7) * -6, sigma(1.702) * 1.5],
    ...[-50 * sigma(1.702 * -50) * 8, 7 * sigma(1.702 * 7) * 7],
  ]);
});

Deno.test("xIELU: softplus of ln(e − 1) is 1", () => {
  const one = Math.log(Math.E - 1);
  const numbers = { alphaN: one, alphaP: one, beta: 0.5, epsilon: -0.25 };
  near(activate(row(2, 0, -1, -0.1), "xielu", numbers), [
    4 + 1,
    1.5 * Math.expm1(-0.25), // nothing that learned ε allows is zero there
    1.5 * (Math.exp(-1) - 1 + 1) - 0.5,
    1.5 * (Math.expm1(-0.25) + 0.1) - 0.05,
  ]);
  const steep = { alphaN: 1000, alphaP: 1000, beta: 0, epsilon: 0 };
  near(activate(row(1, -1), "xielu", steep), [1000, 1000 * Math.exp(-1)]);
  near(glu(row(2), row(3), "xielu", numbers), [15]);
});

Deno.test("a window, a chunk, and what comes later", () => {
  const seen = (query: number, window: number, chunk: number) =>
    [0, 1, 2, 3, 4, 5, 6].filter((key) => sees(query, key, { window, chunk }));
  assert.deepEqual(seen(4, 0, 0), [0, 1, 2, 3, 4]);
  assert.deepEqual(seen(4, 1, 0), [4]);
  assert.deepEqual(seen(4, 3, 0), [2, 3, 4]);
  assert.deepEqual(seen(4, 0, 3), [3, 4]);
  assert.deepEqual(seen(2, 0, 3), [0, 1, 2]);
  assert.deepEqual(seen(3, 0, 3), [3]);
  assert.deepEqual(seen(5, 2, 3), [4, 5]);
});

Deno.test("ALiBi's slopes of the paper: 8 heads, and 12", () => {
  const slopes = (heads: number) =>
    Array.from({ length: heads }, (_, head) => alibiSlope(head, heads, 8));
  const eight = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => 2 ** -n);
  near(slopes(8), eight);
  near(slopes(12), [...eight, 2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5]);
  near([alibiSlope(1, 2, 4)], [2 ** -4]);
});

Deno.test("scores: scale, then cap, then ALiBi, then the mask", () => {
  const shape = { heads: 2, kvHeads: 1, headWidth: 1, attentionScale: 0.5 };
  // Keys 1, 2, 3; the queries at positions 1 and 2 are 2 and 4 in head 0, 6 and 8 in head 1.
  const [q, keys] = [row(2, 6, 4, 8), row(1, 2, 3)];
  const no = -Infinity;
  const scores = (cap: number, alibi: number, window = 0) =>
    attentionScores(q, keys, { ...shape, attentionCap: cap, alibi }, { window, chunk: 0 });
  near(scores(0, 0).map((s) => s === no ? -1 : s), [1, 2, -1, 2, 4, 6, 3, 6, -1, 4, 8, 12]);
  near(scores(0, 0, 2).map((s) => s === no ? -1 : s), [1, 2, -1, -1, 4, 6, 3, 6, -1, -1, 8, 12]);
  const capped = (s: number) => 5 * Math.tanh(s / 5);
  // Slopes of two heads, 4 being the largest bias: 2^−2 and 2^−4.
  near(scores(5, 4).map((s) => s === no ? -1 : s), [
    ...[capped(1) - 1 / 4, capped(2), -1],
    ...[capped(2) - 2 / 4, capped(4) - 1 / 4, capped(6)],
    ...[capped(3) - 1 / 16, capped(6), -1],
    ...[capped(4) - 2 / 16, capped(8) - 1 / 16, capped(12)],
  ]);
});

Deno.test("queries grow by the periods that are behind them", () => {
  const found = scaleByPosition(row(1, 2, 1, 2, 1, 2), 3, 2, { scale: 0.1, period: 4, offset: 0 });
  const [none, one] = [1, 1 + 0.1 * Math.log(2)];
  near(found, [none, 2 * none, one, 2 * one, one, 2 * one]);
});

const ROPE: Rope = {
  table: "rope_table",
  base: 10000,
  width: 8,
  style: "half",
  scaling: { type: "none" },
  magnitude: 1,
};
const YARN: Yarn = {
  type: "yarn",
  factor: 4,
  originalLength: 4096,
  betaFast: 32,
  betaSlow: 1,
  share: 1,
};

/** The angles of a table's row, where they are below π. */
function anglesOf(
  rope: Rope,
  position: number,
  kind: RopeKind = "exact",
  divisors?: Float32Array,
): number[] {
  const { cos, sin } = ropeTable(rope, divisors, kind, position, 1);
  return [...cos].map((c, i) => Math.atan2(sin[i], c));
}

Deno.test("YaRN: fast pairs as they were, slow ones squeezed, a ramp between", () => {
  // Of 4096 positions pair i turns 4096 / 2π · 10^−i times: 652, 65, 6.5, 0.65. The pairs of 32 turns and 1, as fractions, are 1.31
  // and 2.81, so the ramp goes from pair 1 to pair 3.
  const expected = [1, 1e-1, 1e-2 * (0.5 + 0.5 / 4), 1e-3 / 4];
  for (const [kind, tolerance] of [["exact", 1e-15], ["ggml", 1e-7], ["f32", 1e-7]] as const) {
    near(anglesOf({ ...ROPE, scaling: YARN }, 1, kind), expected, tolerance);
    near(anglesOf({ ...ROPE, scaling: { ...YARN, share: 0 } }, 1, kind), [
      ...[0.25, 0.025, 0.0025, 0.00025],
    ], tolerance);
    near(anglesOf({ ...ROPE, scaling: { ...YARN, share: 0.5 } }, 1, kind), [
      ...[0.625, 0.0625, 1e-2 * (0.25 + 0.75 / 4), 0.00025],
    ], tolerance);
    const divided = anglesOf({ ...ROPE, scaling: YARN }, 1, kind, Float32Array.of(2, 2, 4, 8));
    near(divided, expected.map((angle, i) => angle / [2, 2, 4, 8][i]), tolerance);
  }
});

Deno.test("YaRN of a short length has a ramp from the first pair on, and ends where it begins", () => {
  // 32 turns would be before pair 0, and a single turn is at pair 0.31: the ramp from 0 to 1.
  const short: Rope = { ...ROPE, scaling: { ...YARN, originalLength: 2 * 2 * Math.PI } };
  near(anglesOf(short, 1), [1, 0.025, 0.0025, 0.00025]);
  // One turn is before pair 0 too: no pair is in front of it.
  const shorter: Rope = { ...ROPE, scaling: { ...YARN, originalLength: 3 } };
  near(anglesOf(shorter, 1), [1, 0.025, 0.0025, 0.00025]);
});

Deno.test("magnitude multiplies cosines and sines, and only what is turned", () => {
  const table = ropeTable({ ...ROPE, width: 2, magnitude: 1.5 }, undefined, "exact", 2, 1);
  near(table.cos, [1.5 * Math.cos(2)]);
  near(table.sin, [1.5 * Math.sin(2)]);
  const turned = rotate(row(1, 0, 7, 8), 1, 4, { width: 2, style: "half" }, table);
  near(turned, [1.5 * Math.cos(2), 1.5 * Math.sin(2), 7, 8]);
  const rounded = ropeTable({ ...ROPE, width: 2, magnitude: 1.1 }, undefined, "ggml", 2, 1);
  const f = Math.fround;
  assert.equal(rounded.cos[0], f(f(Math.cos(2)) * f(1.1)));
});

Deno.test("LongRoPE: long factors where there is room for more than the first length", () => {
  const scaling = { type: "longrope", originalLength: 100, short: "short", long: "long" } as const;
  const rope: Rope = { ...ROPE, scaling };
  assert.equal(divisorsName(rope, 100), "short");
  assert.equal(divisorsName(rope, 101), "long");
  assert.equal(divisorsName({ ...rope, factors: "rope_freqs.weight" }, 101), "rope_freqs.weight");
  assert.equal(divisorsName(ROPE, 1e6), undefined);
  const divisors = Float32Array.of(2, 4, 8, 16);
  for (const [kind, tolerance] of [["exact", 1e-15], ["ggml", 1e-7], ["f32", 1e-7]] as const) {
    near(anglesOf(rope, 2, kind, divisors), [1, 0.05, 0.0025, 0.000125], tolerance);
  }
});

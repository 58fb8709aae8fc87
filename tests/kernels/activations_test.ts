/** Activations and scales: their twins against known values, and what they make of numbers far out on the processor. */
import assert from "node:assert/strict";
import {
  activate,
  type Activation,
  ACTIVATIONS,
  gated,
  normalBelow,
  softplus,
  xielu,
} from "../../kernels/elementwise/activations.ts";
import { KERNELS } from "../../kernels/mod.ts";
import type { KernelCase } from "../../engine/check/case.ts";
import { endWorkers, Laid } from "./cpu_kernels.ts";

const place = (name: Activation) => ACTIVATIONS.indexOf(name);

function assertNear(found: number, expected: number, relative = 1e-14): void {
  const error = Math.abs(found - expected);
  assert.ok(error <= relative * Math.abs(expected), `${found} against ${expected}`);
}

Deno.test("shares of a normal distribution, far out too", () => {
  // Computed with 40 digits by mpmath's ncdf.
  const known = [
    [0, 0.5],
    [1, 0.84134474606854294859],
    [-1, 0.15865525393145705141],
    [-2.4999, 0.0062114183749445860],
    [-2.5, 0.0062096653257761351],
    [-5, 2.8665157187919391e-7],
    [-10, 7.6198530241605261e-24],
    [-14, 7.7935368191928e-45],
  ];
  for (const [x, share] of known) assertNear(normalBelow(x), share, 1e-13);
  for (const x of [0.3, 1.7, 2.49, 2.51, 6]) assertNear(normalBelow(x) + normalBelow(-x), 1);
});

Deno.test("activations have their known values", () => {
  const known: readonly (readonly [Activation, number, number])[] = [
    ["silu", 1, 0.73105857863000488],
    ["silu", -2, -0.23840584404423515],
    ["gelu_tanh", 1, 0.84119199060827655],
    ["gelu_tanh", -3, -0.0036373920817729943],
    ["gelu", 1, 0.84134474606854293],
    ["gelu", -3, -0.0040496940948902836],
    ["relu2", 3, 9],
    ["relu2", -3, 0],
    ["relu", 2.5, 2.5],
    ["relu", -2.5, 0],
    ["sigmoid", 0, 0.5],
    ["sigmoid", Math.log(3), 0.75],
  ];
  for (const [name, x, y] of known) assertNear(activate(place(name), x), y, 1e-12);
  for (const [name, x, y] of known) assertNear(gated(place(name), x, -3), -3 * y, 1e-12);
});

Deno.test("GELU by tanh is what its paper says", () => {
  for (const x of [-4, -1, -0.1, 0, 0.5, 2, 6]) {
    const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
    const error = activate(place("gelu_tanh"), x) - 0.5 * x * (1 + Math.tanh(u));
    assert.ok(Math.abs(error) < 1e-15, `${x}: ${error}`);
  }
});

Deno.test("gpt-oss's gate is cut at 7 from above, what it gates at both ends", () => {
  const gate = (g: number, u: number) => gated(place("swiglu_clamped"), g, u);
  const sigma = (x: number) => 1 / (1 + Math.exp(-x));
  assertNear(gate(2, 3), 2 * sigma(3.404) * 4);
  assertNear(gate(9, 20), 7 * sigma(1.702 * 7) * 8);
  assertNear(gate(-9, -20), -9 * sigma(1.702 * -9) * -6);
  assert.equal(gate(5, -1), 0);
});

Deno.test("xIELU is a square above zero, an exponential below, of one slope", () => {
  assertNear(softplus(0), Math.LN2);
  assertNear(softplus(-40), Math.exp(-40));
  assert.equal(softplus(800), 800);
  const ln = (value: number) => Math.log(Math.expm1(value)); // softplus of it is the value
  const numbers = { alpha_n: ln(0.5), alpha_p: ln(2), beta: 0.25, epsilon: -1e-6 };
  assertNear(xielu(3, numbers), 2 * 9 + 0.75);
  // The slope below has β in it.
  assertNear(xielu(-Math.LN2, numbers), 0.75 * (-0.5 + Math.LN2) - 0.25 * Math.LN2);
  // Numbers beside zero count as epsilon does.
  assertNear(xielu(-1e-7, numbers), 0.75 * (Math.expm1(-1e-6) + 1e-7) - 0.25e-7);
});

/** What a kernel of the processor makes of numbers. */
function computed(operation: string, constants: Record<string, number>, inputs: number[][]) {
  const kernel = KERNELS.get(operation)!;
  const columns = inputs[0].length;
  const each: KernelCase = {
    kernel,
    name: operation,
    kind: "real",
    pass: { tokens: 1, start: 0, rows: 1 },
    constants: { columns, ...constants },
    inputs: inputs.map((input) => Float32Array.from(input)),
    weights: [],
    outputs: [columns],
    parts: 1,
    taps: true,
  };
  const laid = new Laid(each);
  laid.run();
  const twin = new Float32Array(columns);
  kernel.twin({ ...each, outputs: [twin] });
  return { made: [...laid.outputs()[0]!], twin: [...twin] };
}

Deno.test("numbers far out make no NaN, and NaN stays NaN", () => {
  const far = [1e30, -1e30, 200, -200, 88.8, -88.8, 14.1, -14.1, 0, -0];
  const ones = far.map(() => 1);
  for (const [activation, name] of ACTIVATIONS.entries()) {
    const gates = computed("glu", { activation }, [far, ones]).made;
    const clamped = name === "swiglu_clamped";
    const acts = clamped ? gates : computed("activate", { activation }, [far]).made;
    assert.deepEqual(gates, acts);
    assert.ok(!gates.some(Number.isNaN), `${name}: ${gates}`);
    assert.ok(Math.abs(gates[1]) < 1e-6 && Math.abs(gates[3]) < 1e-30, `${name}: ${gates}`);
    const [nan] = computed("glu", { activation }, [[NaN], [1]]).made;
    assert.ok(Number.isNaN(nan), name);
  }
  const cap = computed("cap", { cap: 30 }, [[...far, NaN, 1e-30, -0.001]]);
  assert.deepEqual(cap.made.slice(0, 2), [30, -30]);
  assert.ok(Number.isNaN(cap.made[10]));
  assert.deepEqual(cap.made.slice(11), cap.twin.slice(11));
  const clamp = computed("clamp", { limit: 2 }, [[3, -3, 2, 1.5, Infinity, -Infinity, NaN]]);
  assert.deepEqual(clamp.made, [2, -2, 2, 1.5, 2, -2, NaN]);
});

Deno.test("rows far out are scaled by the logarithm of their period", () => {
  const constants = { columns: 1, scale: 0.1, period: 8192, offset: 1 };
  const scaled = (start: number, offset = 1) => {
    const y = new Float32Array(2);
    KERNELS.get("scale_by_position")!.twin({
      pass: { tokens: 2, start, rows: 1 },
      constants: { ...constants, offset },
      inputs: [Float32Array.of(1, 1)],
      weights: [],
      outputs: [y],
    });
    return [...y];
  };
  const second = Math.fround(1 + 0.1 * Math.LN2);
  assert.deepEqual(scaled(0), [1, 1]);
  assert.deepEqual(scaled(8190), [1, second]);
  assert.deepEqual(scaled(8190, 0), [1, 1]);
  assert.deepEqual(scaled(3 * 8192), [0, 1].map(() => Math.fround(1 + 0.1 * Math.log(4))));
  endWorkers();
});

/** The check of the processor's kernels: right ones pass, and it sees what is wrong. */
import assert from "node:assert/strict";
import type { KernelCase } from "../../engine/check/case.ts";
import { kernelCases } from "../../engine/check/cases.ts";
import { type KernelResult, problemOf } from "../../engine/check/results.ts";
import { variantName } from "../../engine/check/variants.ts";
import { checkCpuKernel, checkCpuKernels, cpuVariants } from "../../engine/cpu/check.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import { cpuAllowedErrors } from "../../engine/cpu/product_bounds.ts";
import { hasRecord, OPERATIONS } from "../../engine/cpu/records.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";

const processor = new Processor(3);
processor.expect(Infinity);

function assertPassed(results: readonly KernelResult[]): void {
  const failed = results.filter(({ passed }) => !passed);
  const lines = failed.map((each) => `${each.kernel} ${each.packing}: ${problemOf(each)}`);
  assert.deepEqual(lines, []);
}

Deno.test("every operation that has a kernel is checked, with every weight type, and taps on and off", () => {
  const variants = cpuVariants();
  const operations = new Set(variants.map(({ kernel }) => kernel.operation));
  assert.deepEqual(operations, new Set(OPERATIONS.keys()));
  const names = new Set(variants.map(variantName));
  for (const kernel of [...KERNELS.values()].filter(hasRecord)) {
    for (const packing of kernel.packed ? PACKINGS.values() : [undefined]) {
      assert.ok(names.has(variantName({ kernel, packing, taps: false })));
    }
    const tapped = variants.some((each) => each.kernel === kernel && each.taps);
    assert.equal(tapped, kernel.bindings.some(({ kind }) => kind === "tap"));
  }
});

Deno.test("doctor's cases pass, and leave no memory behind", () => {
  for (const { kernel, packing, taps } of cpuVariants()) {
    const results = checkCpuKernel(processor, kernel, { packings: packing && [packing], taps });
    assert.ok(results.length > 0);
    assertPassed(results);
  }
  assert.equal(processor.home.used, 0);
});

Deno.test("products pass over many shapes, each kernel with a few weight types", async (t) => {
  const packings = [...PACKINGS.values()];
  let next = 0;
  for (const kernel of [...KERNELS.values()].filter((each) => each.packed && hasRecord(each))) {
    const two = [0, 1].map(() => packings[next++ % packings.length]);
    await t.step(`${kernel.name}: ${two.map(({ name }) => name).join(", ")}`, () => {
      assertPassed(checkCpuKernel(processor, kernel, { packings: two, full: true }));
    });
  }
});

/** The short cases of a kernel, for one weight type where it reads packed weights. */
function casesOf(name: string, packing = "Q4_K"): KernelCase[] {
  return [...kernelCases(KERNELS.get(name)!, { packings: [PACKINGS.get(packing)!] })];
}

/** The case with something else for the processor, of which the twin is not told. */
function wrong(each: KernelCase, change: Partial<KernelCase>, fields: Partial<Kernel> = {}) {
  const { kernel, pass, constants } = each;
  return {
    ...each,
    ...change,
    kernel: {
      ...kernel,
      ...fields,
      twin: (args) => {
        const inputs = args.inputs === change.inputs ? each.inputs : args.inputs;
        kernel.twin({ ...args, pass, constants, inputs });
      },
    },
  } satisfies KernelCase;
}

/** A change of one input's number. */
function changed(inputs: readonly Float32Array[], at: number, add: number): Float32Array[] {
  const [first, ...others] = inputs.map((input) => input.slice());
  first[at] += add;
  return [first, ...others];
}

/** Faults: kernel, what is wrong, weight type, and the case made wrong. */
const FAULTS: readonly (readonly [
  kernel: string,
  what: string,
  make: (each: KernelCase) => KernelCase,
  packing?: string,
])[] = [
  [
    "add",
    "another operation",
    (each) =>
      wrong(each, { constants: { ...each.constants, activation: 0 } }, { operation: "glu" }),
  ],
  ["glu", "another activation", (each) =>
    wrong(each, {
      constants: { ...each.constants, activation: (each.constants.activation + 1) % 7 },
    })],
  [
    "activate",
    "an input that is off by a thousandth",
    (each) => wrong(each, { inputs: changed(each.inputs, 4, 0.001) }),
  ],
  [
    "center",
    "a number more in each row",
    (each) =>
      wrong(each, { constants: { ...each.constants, columns: each.constants.columns + 1 } }),
  ],
  [
    "cap",
    "another cap",
    (each) => wrong(each, { constants: { ...each.constants, cap: each.constants.cap * 1.00001 } }),
  ],
  [
    "xielu",
    "another slope",
    (each) =>
      wrong(each, { constants: { ...each.constants, beta: each.constants.beta * 1.00001 } }),
  ],
  [
    "scale_by_position",
    "a position more",
    ({ pass, ...each }) => wrong({ pass, ...each }, { pass: { ...pass, start: pass.start + 1 } }),
  ],
  [
    "embed_positions",
    "a position less",
    ({ pass, ...each }) => wrong({ pass, ...each }, { pass: { ...pass, start: pass.start - 1 } }),
  ],
  [
    "mix",
    "a position more",
    ({ pass, ...each }) => wrong({ pass, ...each }, { pass: { ...pass, start: pass.start - 1 } }),
  ],
  [
    "linear_residual",
    "another residual",
    (each) => wrong(each, { inputs: [each.inputs[0], ...changed(each.inputs.slice(1), 5, 0.01)] }),
  ],
  [
    "rms_norm",
    "another epsilon",
    (each) => wrong(each, { constants: { ...each.constants, epsilon: 1 } }),
  ],
  ["rope", "the other style", (each) =>
    wrong(each, {
      constants: { ...each.constants, half_style: 1 - each.constants.half_style },
    })],
  [
    "attention",
    "another scale",
    (each) =>
      wrong(each, { constants: { ...each.constants, scale: each.constants.scale * 1.001 } }),
  ],
  ...[
    ["attention", "window", 1],
    ["attention_few", "cap", 0.01],
    ["attention_split", "window", 1],
    ["attention_branches", "max_bias", -1],
    ["scores", "window", -1],
    ["scores_branches", "chunk", 1],
    ["scores", "cap", 0.01],
    ["scores", "max_bias", 0.01],
    ["rope_store", "rope_start", 2],
  ].map(([kernel, name, more]) =>
    [kernel, `another ${name}`, (each: KernelCase) =>
      wrong(each, {
        constants: { ...each.constants, [name]: each.constants[name] + Number(more) },
      })] as (typeof FAULTS)[number]
  ),
  [
    "take_rows",
    "other rows",
    (each) => wrong(each, { pass: { ...each.pass, tokens: each.pass.tokens - 1 } }),
  ],
  [
    "linear",
    "an input that is off by a thousandth",
    (each) => wrong(each, { inputs: changed(each.inputs, 77, 0.001) }),
  ],
  [
    "linear_many",
    "an input that is off by a thousandth",
    (each) => wrong(each, { inputs: changed(each.inputs, 77, 0.001) }),
  ],
  [
    "linear_normed",
    "an input that is off by a hundredth",
    (each) => wrong(each, { inputs: changed(each.inputs, 77, 0.01) }),
  ],
  [
    "linear_experts",
    "another expert",
    (each) => wrong(each, { inputs: [each.inputs[0], each.inputs[1].toReversed()] }),
  ],
  [
    "linear_experts_many",
    "an input that is off by a hundredth",
    (each) => wrong(each, { inputs: changed(each.inputs, 77, 0.01) }),
  ],
  [
    "route",
    "other weights",
    (each) => wrong(each, { constants: { ...each.constants, scale: 1.1 } }),
  ],
  [
    "combine",
    "another weight",
    (each) => wrong(each, { inputs: [each.inputs[0], ...changed(each.inputs.slice(1), 2, 0.01)] }),
  ],
  [
    "head_result",
    "heads that begin elsewhere",
    (each) => wrong(each, { constants: { ...each.constants, heads: 1 } }),
  ],
];

Deno.test("wrong kernels fail, and the number that is off is named", async (t) => {
  for (const [name, what, make, packing] of FAULTS) {
    await t.step(`${name}: ${what}`, () => {
      const results = checkCpuKernels(processor, casesOf(name, packing).map(make));
      const failed = results.filter(({ passed }) => !passed);
      assert.ok(failed.length > 0, JSON.stringify(results));
      for (const { output, at, worst, allowed, fault } of failed) {
        const outputs = KERNELS.get(name)!.bindings.map((binding) => binding.name);
        assert.ok(outputs.includes(output));
        assert.ok(Number.isInteger(at));
        assert.ok(!(worst <= allowed) || fault);
      }
    });
  }
});

Deno.test("weights with a wrong bit in each row fail, for each type", () => {
  for (const packing of PACKINGS.values()) {
    const { name, blockSize, blockBytes } = packing;
    for (const kernel of ["linear", "linear_many", "embed", "head_result"]) {
      const spoiled = casesOf(kernel, name).filter(({ kind }) => kind === "real").map((each) => {
        const bytes = each.packed!.bytes.slice();
        const rowBytes = each.packed!.columns / blockSize * blockBytes;
        for (let end = rowBytes; end <= bytes.length; end += rowBytes) {
          // The highest bit of the last number's exponent; or the lowest bit of a quant, which lie in the middle of a block of any type.
          if (blockSize === 1) bytes[end - 1] ^= 0x40;
          else bytes[end - blockBytes + (blockBytes >> 1)] ^= 0x01;
        }
        return { ...each, packed: { ...each.packed!, bytes } };
      });
      assert.ok(spoiled.length > 0);
      for (const result of checkCpuKernels(processor, spoiled)) {
        assert.equal(result.passed, false, `${kernel} ${name} ${JSON.stringify(result)}`);
      }
    }
  }
});

Deno.test("what is read or written behind the end is found", () => {
  const [each] = casesOf("scale_columns");
  const [length] = each.outputs;
  const [short] = checkCpuKernels(processor, [
    wrong({ ...each, outputs: [length - 1] }, {}),
  ]);
  assert.match(short.fault!, /behind the end/);
  const [x] = each.inputs;
  const [read] = checkCpuKernels(processor, [wrong(each, { inputs: [x.slice(0, -1)] })]);
  assert.deepEqual([read.passed, read.worst, read.at], [false, NaN, length - 1]);
});

Deno.test("a kernel that stops is told, and others are checked", () => {
  const [each] = casesOf("linear_normed");
  // More positions than a thread's scratch has room for.
  const stops = { ...each, pass: { ...each.pass, tokens: 5000 } };
  const results = checkCpuKernels(processor, [stops, ...casesOf("add")]);
  assert.match(results[0].fault!, /^stopped: /);
  assert.equal(results[0].packing, "Q4_K");
  assert.equal(results.length, 5);
  assertPassed(results.slice(1));
  assert.equal(processor.home.used, 0);
});

Deno.test("threads that leave other bits fail", () => {
  class Forgetful extends Processor {
    override run(): void {}
  }
  const forgetful = new Forgetful(2);
  for (const result of checkCpuKernels(forgetful, casesOf("add"))) {
    assert.match(result.fault!, /^gives other bits with 2 threads than with one$/);
    assert.equal(result.passed, false);
  }
  forgetful.close();
});

Deno.test("sums of whole numbers have to be exact, others as good as their arithmetic", () => {
  for (const { kernel, packing } of cpuVariants()) {
    if (!kernel.packed || kernel.operation === "embed" || kernel.epilogue === "glu") continue;
    for (const each of kernelCases(kernel, { packings: [packing!] })) {
      const expected = each.outputs.map((length) => new Float32Array(length));
      kernel.twin({ ...each, outputs: expected });
      const [allowed] = cpuAllowedErrors(each, expected);
      const largest = allowed.reduce((a, b) => Math.max(a, b));
      if (each.kind === "whole" && !kernel.normed) assert.equal(largest, 0);
      else {
        const size = expected[0].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        assert.ok(largest > 0 && largest < 1e-3 * size, `${kernel.name} ${packing!.name}`);
      }
    }
  }
});

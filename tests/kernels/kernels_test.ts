/**
 * Every kernel on this device against its 64-bit twin. What the twins themselves compute is tested in
 * twins_test.ts, what weights' numbers are in packings_test.ts.
 *
 * Compiling a product takes a second or more on a software driver, so not every product is tested with every weight type:
 * the sources are put together from parts (packing, epilogue, matvec or matmul), and each part is covered with all of another.
 * `./denow task doctor` goes over all pairs.
 */
import assert from "node:assert/strict";
import { Device } from "../../engine/webgpu/device.ts";
import type { KernelResult } from "../../engine/check/results.ts";
import { checkKernels, runKernels } from "../../engine/webgpu/check/kernel_check.ts";
import type { KernelCase } from "../../engine/check/case.ts";
import { kernelCases } from "../../engine/check/cases.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { type Packing, PACKINGS } from "../../kernels/weights/packings.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { kernelOf, KERNELS } from "../../kernels/mod.ts";

const device = await openDevice();

/** Forms of the products that are not tested with all. */
const SOME_PACKINGS: Readonly<Record<string, readonly string[]>> = {
  linear_residual: ["Q4_1"],
  linear_qkv: ["Q8_0"],
  linear_glu: ["Q4_K"],
  linear_residual_many: ["Q6_K"],
  linear_qkv_many: ["F16"],
  linear_glu_many: ["Q5_0"],
  linear_experts: ["Q6_K", "F16"],
  linear_experts_many: ["Q4_K", "BF16"],
};

function packingsOf(kernel: Kernel): Packing[] {
  return SOME_PACKINGS[kernel.name]?.map((name) => PACKINGS.get(name)!) ?? [...PACKINGS.values()];
}

function kernel(name: string): Kernel {
  return KERNELS.get(name)!;
}

function firstCases(kernel: Kernel, count: number): KernelCase[] {
  return [...kernelCases(kernel, { packings: packingsOf(kernel).slice(0, 1) }).take(count)];
}

function bits(numbers: Float32Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
}

function describe(
  { kernel, packing, case: name, output, at, worst, allowed, fault }: KernelResult,
) {
  return `${kernel} ${
    packing ?? ""
  }, ${name}: ${output}[${at}] is off by ${worst}, allowed is ${allowed} ${fault ?? ""}`;
}

Deno.test("each kernel gives its twin's numbers over odd shapes", async (t) => {
  for (const each of KERNELS.values()) {
    await t.step(each.name, async () => {
      const results = await checkKernels(
        device,
        kernelCases(each, { full: true, packings: packingsOf(each) }),
      );
      assert.ok(results.length >= 7);
      for (const result of results) assert.ok(result.passed, describe(result));
    });
  }
});

Deno.test("the shapes are odd ones: all lengths of the list, 1 to 130 rows and positions", () => {
  for (const [name, most] of [["linear", 9], ["linear_many", 130]] as const) {
    const cases = [...kernelCases(kernel(name), { full: true, packings: [PACKINGS.get("F32")!] })];
    const of = (value: (each: KernelCase) => number) => new Set(cases.map(value));
    const columns = of(({ constants }) => constants.columns);
    for (const length of [1, 7, 8, 9, 63, 64, 65, 576, 1000, 4096, 11008]) {
      assert.ok(columns.has(length), `${name}: ${length} columns`);
    }
    const rows = of(({ constants }) => constants.rows);
    for (const count of [1, 7, 8, 9, 63, 64, 65, 130]) assert.ok(rows.has(count), `${count} rows`);
    const tokens = of(({ pass }) => pass.tokens);
    assert.equal(Math.min(...tokens), 1);
    assert.equal(Math.max(...tokens), most);
    assert.ok(of(({ parts }) => parts).has(3));
  }
});

Deno.test("whole numbers come out exactly, in all lengths", async () => {
  // A lost term shows whatever the bound on rounding is, as long as Σ|terms| stays below 2²⁴.
  const cases = [...kernelCases(kernel("linear"), { full: true, packings: [PACKINGS.get("F16")!] })]
    .filter(({ kind }) => kind === "whole");
  assert.equal(cases.length, 11);
  for (const result of await checkKernels(device, cases)) {
    assert.deepEqual([result.worst, result.passed], [0, true], describe(result));
  }
});

Deno.test("so do those whose source depends on the device, in the setting for GPUs", async (t) => {
  const other = await Device.open({ dotLanes: 32, columnLanes: 32, broadcast: false });
  for (const each of KERNELS.values()) {
    if (!each.prologue) continue;
    await t.step(each.name, async () => {
      const packings = each.name === "linear" ? PACKINGS.values() : [PACKINGS.get("Q4_1")!];
      const full = !each.packed || each.name === "linear";
      for (const result of await checkKernels(other, kernelCases(each, { full, packings }))) {
        assert.ok(result.passed, describe(result));
      }
    });
  }
  other.dispose();
});

Deno.test("taps change nothing: what is computed has the same bits", async (t) => {
  const tapped = [...KERNELS.values()].filter(({ bindings }) =>
    bindings.some(({ kind }) => kind === "tap")
  );
  assert.ok(tapped.length >= 6);
  for (const each of tapped) {
    await t.step(each.name, async () => {
      const cases = firstCases(each, 4);
      const on = await runKernels(device, cases);
      const off = await runKernels(device, cases.map((one) => ({ ...one, taps: false })));
      const taps = each.bindings.filter(({ kind }) => kind === "output" || kind === "tap")
        .map(({ kind }) => kind === "tap");
      on.forEach(({ outputs, withinBounds }, i) => {
        assert.ok(withinBounds && off[i].withinBounds);
        outputs.forEach((output, j) => {
          const other = off[i].outputs[j];
          if (taps[j]) assert.equal(other, null);
          else assert.deepEqual(bits(output!), bits(other!));
        });
      });
    });
  }
});

Deno.test("a matrix in parts gives the same bits as in one", async () => {
  const names = ["embed", "linear", "linear_residual", "linear_many", "head_result"];
  const cases = [...names, "linear_experts", "linear_experts_many"]
    .flatMap((name) => firstCases(kernel(name), 1));
  const [whole, ...split] = await Promise.all(
    [1, 2, 3, 5].map((parts) => runKernels(device, cases.map((each) => ({ ...each, parts })))),
  );
  for (const runs of split) {
    runs.forEach(({ outputs: [output] }, i) =>
      assert.deepEqual(bits(output!), bits(whole[i].outputs[0]!), cases[i].kernel.name)
    );
  }
});

Deno.test("the same dispatch gives the same bits, 20 of 20", async () => {
  for (const each of KERNELS.values()) {
    const [one] = firstCases(each, 1);
    const runs = await runKernels(device, Array.from({ length: 20 }, () => one));
    for (const { outputs } of runs) {
      outputs.forEach((output, i) =>
        assert.deepEqual(bits(output!), bits(runs[0].outputs[i]!), each.name)
      );
    }
  }
});

Deno.test("inputs and weights are the same each time they are made", () => {
  for (const each of KERNELS.values()) {
    const [one] = firstCases(each, 1);
    const [other] = firstCases(each, 1);
    assert.deepEqual(one.inputs, other.inputs);
    assert.deepEqual(one.packed?.words, other.packed?.words);
  }
});

Deno.test("a kernel is found by its fields, and nothing where no kernel has them", () => {
  for (const each of KERNELS.values()) assert.equal(kernelOf(each), each, each.name);
  const many = kernelOf({ operation: "linear", epilogue: "qkv", positions: "many" })!;
  assert.equal(many.name, "linear_qkv_many");
  assert.notEqual(many, kernelOf({ operation: "linear", epilogue: "qkv" }));
  assert.equal(kernelOf({ operation: "linear", epilogue: "residual", normed: true }), undefined);
  assert.equal(kernelOf({ operation: "add", branches: true }), undefined);
  assert.equal(kernelOf({ operation: "host" }), undefined);
});

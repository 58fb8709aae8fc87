/** The check of kernels itself: it must see what is wrong, for it is what stands between a bad driver and wrong text. */
import assert from "node:assert/strict";
import { Device } from "../../engine/webgpu/device.ts";
import type { KernelResult } from "../../engine/check/results.ts";
import { checkKernel } from "../../engine/webgpu/check/kernel_check.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";

// Pipelines are kept by kernel name, so what is broken here needs a device of its own.
const device = await Device.open();

/** Checks the kernel with a piece of its source replaced, on the short cases. */
async function checkBroken(name: string, right: string, wrong: string): Promise<KernelResult[]> {
  const kernel = KERNELS.get(name)!;
  const packing = PACKINGS.get("F16")!;
  const prologue = kernel.prologue?.(device.knobs, packing) ?? "";
  assert.ok((prologue + kernel.wgsl).includes(right), `${name} has no ${right}`);
  const broken: Kernel = {
    ...kernel,
    wgsl: kernel.wgsl.replaceAll(right, wrong),
    prologue: () => prologue.replaceAll(right, wrong),
  };
  return await checkKernel(device, broken, { packings: [packing] });
}

/** Faults that a driver or a careless change could bring: kernel, right source, wrong source. */
const FAULTS: readonly (readonly [kernel: string, right: string, wrong: string])[] = [
  ["add", "a[at] + b[at]", "(a[at] + b[at]) * 1.000001"], // eight ULP
  ["rms", "i < step.columns", "i + 1u < step.columns"], // the last column
  ["rms_norm", "norm[base + i] = pre", "norm[base + i] = weight[i] * pre"],
  ["softmax", "pass_.start + group.x + 1u", "pass_.start + group.x"], // a key less
  ["scores", "key > pass_.start + token", "key >= pass_.start + token"],
  ["mix", "key <= pass_.start + token", "key < pass_.start + token"],
  device.knobs.broadcast // a key lost between two tiles
    ? ["attention", "first = next;", "first = next + 1u;"]
    : ["attention", "next_key(first + count, gap)", "next_key(first + count + 1u, gap)"],
  ["attention_branches", "max(key, gap.y)", "max(key, gap.y + 1u)"], // a branch's first key
  ["attention_branches", "key >= gap.x", "key > gap.x"], // the first key of another's
  ["scores_branches", "key < gap.y", "key <= gap.y"],
  ["softmax_branches", "(i < gap.x || i >= gap.y) { run", "(true) { run"],
  ["mix_branches", "key < gap.y", "key <= gap.y"],
  ["rope_branches", "token - (gap.y - gap.x)", "token"],
  ["rope_store_branches", "token - (gap.y - gap.x)", "token - gap.y"],
  ["take_rows_branches", "branch_rows[i]", "branch_rows[0]"],
  ["attention_split", "part_range(group.z, visible)", "part_range(group.z, visible - 1u)"],
  ["attention_merge", "part < count", "part + 1u < count"], // the last part's keys
  ["rope", "a * turn.y + b * turn.x", "a * turn.y - b * turn.x"],
  ["rope_store", "(pass_.start + token) * step.kv_heads", "token * step.kv_heads"],
  ["store", "(pass_.start + id.y)", "id.y"],
  ["take_rows", "pass_.tokens - pass_.rows", "0u"],
  ["argmax", "place[other] < place[lane]", "place[other] > place[lane]"], // the last of equal ones
  ["argmax", "wrong | (bits", "(bits"], // only the last number of a lane counts
  ["argmax", "0x7f800000u) | ((bits & 0x7fffffffu) > 0x7f800000u)", "0x7f800000u)"], // NaN
  [
    "sample",
    "(other == logit && candidate.x > last.x)",
    "(other == logit && candidate.x < last.x)",
  ],
  ["sample", "sum >> (exponent >> 27u)", "(sum + 64u) >> (exponent >> 27u)"], // three in a hundred million
  ["sample", "key.y + four + 1u", "key.y + four"], // another draw
  ["sample", "id % LANES != lane", "i % LANES != lane"], // a penalty in another lane's candidates, or none
  ["sample", "+ vec4<u32>(sums < others)", "+ vec4<u32>(others < others)"], // a carry lost
  ["sample", "wrong | (bits", "(bits"],
  ["surprisal", "i < end", "i + LANES < end"], // the last of a lane's run
  ["surprisal", "wrong[0] == 2u", "wrong[0] != 0u"], // NaN
  ["surprisal", "id < step.columns", "true"],
  ["embed", "row - step.out_row, group", "row, group"], // the second part's rows
  ["linear", "c < chunks", "c + 1u < chunks"], // the last eight columns
  device.knobs.broadcast
    ? ["linear_many", "column < step.columns", "column <= step.columns"]
    : ["linear_many", "vec4<u32>(0u, 1u, 2u, 3u) < left", "vec4<u32>(1u, 2u, 3u, 4u) < left"],
  ["linear_qkv", "row - after_k", "row - after_q"],
  ["linear_normed", "sum / rms()", "sum / (1.00001 * rms())"],
  ["linear_qkv_normed", "return v * gain[", "return gain["],
  ["linear_qkv_rope_normed", "sum.x * turn.y + sum.y * turn.x", "sum.x * turn.y - sum.y * turn.x"],
  ["linear_qkv_rope_normed", "position * step.out_rows", "token * step.out_rows"],
  ["linear_swiglu_normed", "norm_out[at] = pre *", "norm_out[at] = pre +"], // a tap
  // Numbers behind the end of x.
  device.knobs.broadcast
    ? ["linear_residual", "column < step.columns", "true"]
    : ["linear_residual", "left < 8u", "false"],
  ["head_result", "column < first + width", "column <= first + width"],
];

Deno.test("wrong kernels fail, and the number that is off is named", async (t) => {
  for (const [name, right, wrong] of FAULTS) {
    await t.step(`${name}: ${wrong}`, async () => {
      const results = await checkBroken(name, right, wrong);
      const failed = results.filter(({ passed }) => !passed);
      assert.ok(failed.length > 0, JSON.stringify(results));
      for (const { kernel, output, at, worst, allowed, fault } of failed) {
        assert.equal(kernel, name);
        const outputs = KERNELS.get(name)!.bindings.map((binding) => binding.name);
        assert.ok(outputs.includes(output));
        assert.ok(Number.isInteger(at));
        assert.ok(!(worst <= allowed) || fault);
      }
    });
  }
});

Deno.test("NaN fails", async () => {
  const results = await checkBroken("add_bias", "x[at] + bias[id.x]", "sqrt(x[at] * 0.0 - 1.0)");
  for (const { passed, worst } of results) assert.deepEqual([passed, worst], [false, NaN]);
});

Deno.test("a kernel that writes behind the end of its output fails", async () => {
  const results = await checkBroken(
    "scale_columns",
    "y[at] =",
    "y[arrayLength(&y) - 1u] = 0.0; y[at] =",
  );
  for (const { passed, fault } of results) {
    assert.equal(passed, false);
    assert.match(fault!, /behind the end/);
  }
});

Deno.test("a kernel that the device refuses fails with the device's reason, and the next one is checked", async () => {
  const [result, ...more] = await checkBroken("swiglu", "act[at] =", "nonsense[at] =");
  assert.deepEqual([result.kernel, result.passed, more], ["swiglu", false, []]);
  assert.match(result.fault!, /refused a kernel: .*nonsense/);
  assert.ok(!result.fault!.includes("\n"));
  const right = await checkKernel(device, KERNELS.get("normalize")!);
  assert.ok(right.length > 0 && right.every(({ passed }) => passed));
});

Deno.test("a check leaves no memory behind", async () => {
  const before = device.allocated;
  await checkKernel(device, KERNELS.get("normalize")!);
  assert.equal(device.allocated, before);
});

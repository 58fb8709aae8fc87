/** The check of kernels itself: it must see what is wrong, for it is what stands between a bad driver and wrong text. */
import assert from "node:assert/strict";
import { Device } from "../../engine/webgpu/device.ts";
import type { KernelResult } from "../../engine/check/results.ts";
import { checkKernel } from "../../engine/webgpu/check/kernel_check.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";

// Pipelines are kept by kernel name, so what is broken here needs a device of its own, which forgets each.
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
  device.forgetPipelines();
  const results = await checkKernel(device, broken, { packings: [packing] });
  device.forgetPipelines();
  return results;
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
  ["attention_split", "first + part_keys())", "first + part_keys() - 1u)"], // the last key of a part
  ["attention", "position + 1u - step.window", "position - step.window"], // a key more than the window
  ["attention_branches", "first + select(0u, hidden", "first + select(0u, 0u"], // a window that forgets where a branch goes on
  ["attention", "position % step.chunk", "position % (step.chunk + 1u)"],
  ["attention", "step.cap * tanh_(score / step.cap)", "score"],
  ["attention", "head >= power", "false"], // slopes of heads behind a power of two
  [
    "attention_sinks",
    "sink_of(head: u32) -> f32 { return sinks[head]",
    "sink_of(head: u32) -> f32 { return sinks[0]",
  ],
  ["attention_merge_sinks", "var sum = f32(SINKS)", "var sum = 0.0"],
  ["softmax_sinks", "sum += weight(sink, largest)", "sum += 0.0"],
  ["scores", "distance_to(key, token, gap)", "distance_to(key + 1u, token, gap)"],
  ["scores", "key < first_key(token, gap)", "false"],
  ["rope", "pair - step.rope_start / 2u", "pair"],
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
  ["linear_glu_normed", "norm_out[at] = pre *", "norm_out[at] = pre +"], // a tap
  ["center", "x[base + i] - mean", "x[base + i] - mean * 1.0001"],
  ["rms_norm", "group.x * step.groups + group.y", "group.x + group.y"],
  ["scale_columns", "id.y * step.groups + id.z", "id.y"],
  ["glu", "fma(q, t, 0.11968663)", "fma(q, t, 0.11967)"], // gelu
  ["glu", "0.044715", "0.0447"],
  ["glu", "-1.702 * limited", "-1.7 * limited"],
  ["activate", "at_least(x, 0.0) * at_least(x, 0.0)", "at_least(x, 0.0)"],
  ["xielu", "bend + step.beta", "bend - step.beta"],
  ["xielu", "fma(z, sum, 1.0 / 3.0)", "fma(z, sum, 1.0 / 3.01)"],
  ["cap", "-0.3333328", "-0.33332"],
  ["clamp", "abs(value) > step.limit", "value > step.limit"],
  ["scale", "x[at] * step.factor", "x[at] * step.factor * 1.000001"],
  ["scale_by_position", "+ step.offset", ""],
  ["scale_by_position_branches", "- (gap.y - gap.x)", ""],
  ["embed_positions_branches", "- (gap.y - gap.x)", ""],
  // Numbers behind the end of x.
  device.knobs.broadcast
    ? ["linear_residual", "column < step.columns", "true"]
    : ["linear_residual", "left < 8u", "false"],
  ["head_result", "column < first + width", "column <= first + width"],
  ["route", "keys[j] == key && j < i", "keys[j] == key && j > i"], // of equal ones the higher id
  ["route", "select(best + second, best", "select(best, best"], // a group's second expert
  ["route", "better < step.groups_used", "better <= step.groups_used"],
  ["route", "divisor = max(sum", "divisor = max(sum + 0.0001"],
  ["route_biased", "return gate + bias[expert]", "return logit"],
  ["route_biased", "own[i] = gates[chosen[i]]", "own[i] = gates[chosen[i]] + bias_of(chosen[i])"],
  ["route_weights", "chosen[i] = ids[group.x * step.used + i]", "chosen[i] = ids[i]"],
  ["linear_experts", "ids[pair] * step.rows", "ids[0] * step.rows"],
  ["linear_experts", "select(pair, pair / step.used", "select(pair, 0u"],
  ["linear_experts", "first + row - step.out_row < step.out_rows", "row < step.rows"], // another part's rows
  ["linear_experts", "part_has(first)", "first >= step.out_row"], // an expert that is in two parts
  ["linear_experts_many", "step.out_row / step.rows + group.y", "group.y"],
  ["linear_experts_many", "if (at + 3u < listed)", "if (at + 4u < listed)"], // the last of four
  ["linear_experts_many", "w < t / 32u", "w < 0u"], // positions from 32 on
  device.knobs.broadcast // numbers behind the end of x
    ? ["linear_experts_many", "column < step.columns", "column <= step.columns"]
    : [
      "linear_experts_many",
      "vec4<u32>(0u, 1u, 2u, 3u) < left",
      "vec4<u32>(1u, 2u, 3u, 4u) < left",
    ],
  ["add_expert_bias", "ids[id.y]", "ids[0]"],
  ["combine", "(id.y + 1u) * step.used", "id.y * step.used + 1u"],
  ["weigh", "weights[id.y]", "weights[0]"],
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
  const [result, ...more] = await checkBroken("glu", "act[at] =", "nonsense[at] =");
  assert.deepEqual([result.kernel, result.passed, more], ["glu", false, []]);
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

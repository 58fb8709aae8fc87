/** `task doctor` as people run it, and its report on a device that computes wrongly. */
import assert from "node:assert/strict";
import { Device } from "../../engine/webgpu/device.ts";
import { checkKernel } from "../../engine/webgpu/check/kernel_check.ts";
import { variantName } from "../../engine/check/variants.ts";
import { allVariants } from "../../engine/webgpu/check/kernel_variants.ts";
import { failure } from "../../engine/check/results.ts";
import { cpuVariants } from "../../engine/cpu/check.ts";
import { checkDevice } from "../../inspect/commands/doctor.ts";
import {
  type Findings,
  type GpuFindings,
  type KernelFindings,
  pasteBlock,
  reportText,
} from "../../inspect/commands/doctor_report.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import denoJson from "../../deno.json" with { type: "json" };
import { deno } from "../support/command.ts";

/** Runs the command with the permissions of its task. */
function doctor(args: string[], env: Record<string, string> = {}) {
  assert.match(denoJson.tasks.doctor.command, /-P=doctor inspect\/commands\/doctor\.ts$/);
  return deno(["run", "-q", "--no-prompt", "-P=doctor", "inspect/commands/doctor.ts", ...args], {
    env,
  });
}

let findings: Findings;
/** Of the findings. */
let gpu: GpuFindings;

/** The findings, with others about the GPU's kernels. */
function findingsWith(check: Partial<KernelFindings>): Findings {
  return { ...findings, gpu: { ...gpu, check: { ...gpu.check, ...check } } };
}

Deno.test("doctor checks every kernel on CPU and GPU, and says which packings it had no time for", async () => {
  const { code, out, err } = await doctor(["--json"]);
  assert.equal(err, "");
  assert.equal(code, 0, out);
  assert.equal(out.trimEnd().split("\n").length, 1);
  findings = JSON.parse(out);
  assert.equal(findings.passed, true);
  const { cores, threads, relaxedSimd, check, figures } = findings.cpu;
  assert.ok(cores > 0 && relaxedSimd);
  assert.equal(threads, cores);
  assert.ok(check?.passed);
  const own = new Set(cpuVariants().map(({ kernel }) => kernel.name));
  assert.deepEqual(new Set(check.kernels.map(({ kernel }) => kernel)), own);
  assert.deepEqual([check.notChecked, check.unreached, check.unbound], [[], [], []]);
  assert.deepEqual(new Set(Object.keys(figures!.weights)), new Set(PACKINGS.keys()));
  assert.deepEqual(
    figures!.byThreads.map(({ threads }) => threads),
    cores > 1 ? [1, cores] : [1],
  );
  for (const { read, arithmetic } of figures!.byThreads) assert.ok(read > 0 && arithmetic > 0);
  assert.ok(typeof findings.gpu !== "string");
  gpu = findings.gpu;
  const { kernels, notChecked } = gpu.check;
  assert.deepEqual(new Set(kernels.map(({ kernel }) => kernel)), new Set(KERNELS.keys()));
  assert.ok(kernels.every(({ passed }) => passed));
  // How many those are depends on the driver: kernels_test.ts checks every packing.
  const names = allVariants().map(variantName);
  assert.deepEqual(notChecked, names.slice(names.length - notChecked.length));
  const checked = new Set(kernels.map(({ kernel, packing }) => `${kernel} ${packing ?? ""}`));
  assert.ok(checked.size <= names.length - notChecked.length);
});

Deno.test("the report has a part for each device, tables in them, and ends in a block to paste", () => {
  const text = reportText(findings);
  const [, block] = text.split("Paste this into a bug report:\n\n");
  assert.equal(block, pasteBlock(findings));
  for (const line of text.split("\n")) assert.ok(line === line.trimEnd(), `"${line}"`);
  for (const name of KERNELS.keys()) assert.match(text, new RegExp(`^  ${name} .* ok$`, "m"));
  const own = new Set(cpuVariants().map(({ kernel }) => kernel.name)).size;
  for (const count of [own, KERNELS.size]) {
    const all = `${count} of ${count} kernels`;
    assert.match(text, new RegExp(`${all}, \\d+ cases in [\\d.]+ s, 0 failed`));
  }
  for (const device of ["CPU", "GPU"]) {
    assert.match(text, new RegExp(`^${device}: kernels against their 64-bit twins`, "m"));
    assert.match(block, new RegExp(`^${device} kernels: (\\d+) of \\1 cases ok in`, "m"));
  }
  assert.match(text, /^ {2}f32 products .* GFLOP\/s$/m);
  assert.match(text, /^ {2}memory read .* GB\/s$/m);
  assert.match(text, /^ {2}relaxed SIMD {2}yes$/m);
  assert.match(block, /^CPU: memory .*shared.*; relaxed SIMD yes$/m);
  assert.match(block, /^CPU speed: .* GFLOP\/s .* GB\/s; 10⁹ weights\/s: F32 [\d.]+ /m);
  assert.doesNotMatch(text, /FAILED/);
  assert.ok(text.indexOf("\nCPU\n  cores  ") < text.indexOf("\nGPU\n  name "));
  const { description } = gpu.info;
  for (const part of [denoJson.version, Deno.version.deno, Deno.build.arch, description]) {
    assert.ok(block.includes(part), part);
  }
  const { interface: api, driver } = gpu.info;
  for (const [name, value] of [["interface", api], ["driver", driver || "not stated"]]) {
    assert.ok(text.includes(`\n  ${name.padEnd(14)}${value}\n`), name);
    assert.ok(block.includes(`${name}=${JSON.stringify(value)}`), name);
  }
  assert.match(block, /maxStorageBufferBindingSize=\d+/);
  assert.ok(
    block.split("\n").every((line) => line.length > 0),
    "nothing is lost when it is pasted",
  );
});

Deno.test("a device that computes wrongly is said to, and what is wrong is named", async () => {
  const device = await Device.open();
  const softmax = KERNELS.get("softmax")!;
  const kernels = [
    ...await checkKernel(device, KERNELS.get("add")!),
    ...await checkKernel(device, {
      ...softmax,
      wgsl: softmax.wgsl.replace("/ sum", "/ (sum * 1.001)"),
    }),
  ];
  device.dispose();
  assert.ok(!kernels.every(({ passed }) => passed));
  const unreached = [...KERNELS.keys()].filter((name) => !/^(add|softmax)$/.test(name));
  const text = reportText(findingsWith({ kernels, unreached, notChecked: ["linear Q4_K"] }));
  assert.match(text, /^ {2}add .* ok$/m);
  assert.match(text, /^ {2}softmax .* FAILED$/m);
  assert.match(text, new RegExp(`2 of ${KERNELS.size} kernels, 13 cases in [\\d.]+ s, 1 failed`));
  assert.match(
    text,
    /^ {2}softmax {2}is off by [\d.e-]+ at y\[\d+\], allowed is [\d.e-]+ \(.*\)$/m,
  );
  assert.match(text, /This GPU computes wrongly: update its driver, or use the CPU/);
  const [table, block] = text.split("Paste this");
  for (const part of [table, block]) {
    assert.match(part, /^ *INCOMPLETE: 1 pairs of kernel .* not reached in time, among .*linear/m);
  }
  assert.match(block, /^FAILED softmax: is off by/m);
});

Deno.test("a CPU that computes wrongly, or where the kernels do not run, is said to", () => {
  const { cpu } = findings;
  const kernels = [failure("add", "stopped: unreachable", { case: "65 columns" })];
  const text = reportText({
    ...findings,
    cpu: { ...cpu, check: { ...cpu.check!, passed: false, kernels } },
  });
  assert.match(text, /^CPU: failures\n {2}add {2}stopped: unreachable \(65 columns\)$/m);
  assert.match(text, /^This CPU computes wrongly: .*--backend webgpu/m);
  assert.match(text, /^FAILED add: stopped: unreachable \(65 columns\)$/m);
  assert.doesNotMatch(text, /This GPU/);
  const problem = "no relaxed SIMD";
  const none = reportText({ ...findings, cpu: { cores: 3, relaxedSimd: false, problem } });
  assert.match(none, /^ {2}kernels {7}do not run here: no relaxed SIMD$/m);
  assert.match(none, /^CPU: memory not stated; relaxed SIMD no; kernels do not run: no relaxed/m);
});

Deno.test("NaN and refused kernels have their place in the report", async () => {
  const device = await Device.open();
  const broken = (name: string, right: string, wrong: string) => {
    const kernel = KERNELS.get(name)!;
    return checkKernel(device, { ...kernel, wgsl: kernel.wgsl.replace(right, wrong) });
  };
  const kernels = [
    ...await broken("add", "a[at] + b[at]", "sqrt(a[at] * 0.0 - 1.0)"),
    ...await broken("store", "cache[", "nonsense["),
  ];
  device.dispose();
  const text = reportText(findingsWith({ kernels }));
  assert.match(text, /^FAILED add: is off by NaN at y\[0\]/m);
  assert.match(text, /^FAILED store: the GPU device refused a kernel: .*nonsense/m);
  assert.match(text, /This GPU computes wrongly/);
  const refused = kernels.filter(({ kernel }) => kernel === "store");
  const report = reportText(findingsWith({ kernels: refused }));
  assert.match(report, /This GPU refuses kernels: update its driver, or use the CPU/);
  assert.doesNotMatch(report, /wrongly/);
});

Deno.test("kernels that a device cannot bind are a fact, and not looked for", async () => {
  const device = await Device.open(undefined, { maxStorageBuffersPerShaderStage: 8 });
  const { signal } = new AbortController();
  const checked = await checkDevice(device, 0, { quiet: true, signal });
  device.dispose();
  const large = [...KERNELS.values()].filter(({ bindings }) => bindings.length > 8);
  const names = large.map(({ name }) => name);
  assert.ok(names.includes("linear_qkv_rope_normed") && names.includes("rope_store_branches"));
  assert.deepEqual(checked.unbound, names);
  assert.equal(checked.unreached.length, KERNELS.size - names.length);
  const reached = allVariants(8).map(variantName);
  assert.deepEqual(checked.notChecked, reached);
  for (const name of names) {
    assert.ok(!reached.some((variant) => variant.startsWith(`${name} `)), name);
  }

  const kernels = gpu.check.kernels.filter(({ kernel }) => !names.includes(kernel));
  const text = reportText({
    ...findings,
    gpu: {
      ...gpu,
      limits: { ...gpu.limits, maxStorageBuffersPerShaderStage: 8 },
      check: { ...checked, kernels, unreached: [], notChecked: [] },
    },
  });
  const [table, block] = text.split("Paste this");
  for (const part of [table, block]) {
    assert.match(
      part,
      /^ *not used here, with more storage buffers than the 8 of a stage: .*linear_qkv_rope_normed \(14\)/m,
    );
  }
  const count = KERNELS.size - names.length;
  assert.match(table, new RegExp(`${count} of ${count} kernels, .* 0 failed`));
  assert.doesNotMatch(text, /FAILED|wrongly|refuses|INCOMPLETE/);
});

/** As on a machine without a driver: the loader finds none. */
const NO_DRIVER = {
  VK_DRIVER_FILES: "/nonexistent.json",
  VK_ICD_FILENAMES: "/nonexistent.json",
  DENO_WEBGPU_BACKEND: "vulkan",
};

Deno.test("without a GPU doctor checks the CPU, and says in one line how to get a software GPU", async () => {
  const { code, out, err } = await doctor([], NO_DRIVER);
  assert.equal(code, 0, out);
  assert.equal(err, "");
  assert.match(out, /^CPU\n {2}cores {9}\d+\n {2}memory .*shared/m);
  assert.match(out, /^ {2}(\d+) of \1 kernels, \d+ cases in [\d.]+ s, 0 failed$/m);
  assert.match(
    out,
    /^GPU\n {2}none {2}no WebGPU device: .*\.\/denow task doctor --software-gpu.*$/m,
  );
  assert.match(out, /^ {2}Lamina computes on the CPU\.$/m);
  assert.match(out, /^adapter: none/m);
});

Deno.test("--software-gpu takes software and nothing else, and fails without it", async () => {
  const { code, out, err } = await doctor(["--software-gpu", "--json", "--seconds", "5"]);
  const { gpu, passed } = JSON.parse(out) as Findings;
  // Elsewhere there may be none to install.
  if (Deno.build.os === "linux") assert.ok(typeof gpu !== "string", err);
  if (typeof gpu !== "string") assert.equal(gpu.info.fallback, true);
  assert.equal(code, passed ? 0 : 1);
  const without = await doctor(["--software-gpu"], NO_DRIVER);
  assert.equal(without.code, 1);
  assert.match(without.out, /^GPU\n {2}none {2}no software GPU$/m);
});

Deno.test("wrong usage is exit code 2 with one line", async () => {
  const { code, out, err } = await doctor(["--everything"]);
  assert.deepEqual([code, out], [2, ""]);
  assert.match(err, /^error: unknown option --everything[^\n]*\n$/);
});

Deno.test("without time for every kernel the report is INCOMPLETE, and that is no success", async () => {
  const { code, out } = await doctor(["--seconds", "0.001"]);
  assert.equal(code, 1);
  const [table, block] = out.split("Paste this");
  const own = new Set(cpuVariants().map(({ kernel }) => kernel.name)).size;
  for (const count of [own, KERNELS.size]) {
    assert.match(table, new RegExp(`^  0 of ${count} kernels, 0 cases`, "m"));
  }
  for (const name of KERNELS.keys()) {
    assert.match(block, new RegExp(`^INCOMPLETE: .* among them all of .*\\b${name}\\b`, "m"));
  }
});

Deno.test("a check with little time begins with every kernel, then takes every packing", () => {
  const variants = allVariants();
  const names = variants.map(variantName);
  assert.equal(new Set(names).size, names.length);
  const packed = [...KERNELS.values()].filter(({ packed }) => packed).length;
  const withoutTaps = variants.filter(({ taps }) => !taps);
  assert.equal(withoutTaps.length, KERNELS.size - packed + packed * PACKINGS.size);
  const first = variants.slice(0, KERNELS.size);
  assert.deepEqual(new Set(first.map(({ kernel }) => kernel)), new Set(KERNELS.values()));
  const untilPackings = variants.findIndex(({ kernel, packing }) =>
    kernel.name === "linear" &&
    packing !== first.find(({ kernel }) => kernel.name === "linear")!.packing
  );
  const packings = variants.slice(0, untilPackings).flatMap(({ packing }) => packing ?? []);
  assert.deepEqual(new Set(packings), new Set(PACKINGS.values()));
  for (const { bindings, name } of KERNELS.values()) {
    const hasTaps = bindings.some(({ kind }) => kind === "tap");
    assert.equal(variants.some(({ kernel, taps }) => kernel.name === name && taps), hasTaps, name);
  }
});

/**
 * `./denow task doctor`: the devices of this machine, CPU and GPU, every kernel on both against its 64-bit twin, and how fast the CPU is.
 *
 * @module
 */
import denoJson from "../../deno.json" with { type: "json" };
import type { KernelResult } from "../../engine/check/results.ts";
import { type KernelVariant, variantName } from "../../engine/check/variants.ts";
import { checkCpuKernel, cpuVariants } from "../../engine/cpu/check.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import { freeMemory } from "../../engine/model/capacity.ts";
import { allVariants } from "../../engine/webgpu/check/kernel_variants.ts";
import { Device, DeviceError, hasGpu, LIMITS } from "../../engine/webgpu/device.ts";
import { installSoftwareGpu } from "../../engine/webgpu/software_gpu.ts";
import { checkKernel } from "../../engine/webgpu/check/kernel_check.ts";
import type { CaseOptions } from "../../engine/check/cases.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { cpuFigures } from "../bench/cpu_figures.ts";
import { hasRelaxedSimd } from "../bench/relaxed_simd.ts";
import { tunedProducts } from "../run/loading.ts";
import { flag, number } from "./args.ts";
import {
  type CpuFindings,
  type Findings,
  type GpuFindings,
  type KernelFindings,
  reportText,
} from "./doctor_report.ts";
import { printLine } from "./print.ts";
import { createStatus } from "./progress.ts";
import { defineCommand, EXIT, runCommand } from "./run_command.ts";
import { jsonLine, printableLines } from "../escape.ts";

const command = defineCommand({
  name: "./denow task doctor",
  summary:
    "Shows the CPU and the GPU, checks every kernel on both, times the CPU, and ends in a block for bug reports.",
  options: {
    "software-gpu": flag(
      "check the software GPU; on Linux as root, install it where it is missing",
    ),
    all: flag("check every kernel for every weight type, however long compiling takes"),
    seconds: number("begin no check that may last longer, on the CPU or on the GPU", {
      above: 0,
      default: 28,
    }),
    json: flag("print one line of JSON"),
  },
  async main({ options, signal }) {
    const findings = await examine({
      software: options["software-gpu"],
      timeLimit: options.all ? Infinity : options.seconds * 1000,
      quiet: options.json,
      signal,
    });
    printLine(options.json ? jsonLine(findings) : printableLines(reportText(findings)));
    return findings.passed ? EXIT.done : EXIT.failed;
  },
});

interface ExamineOptions extends CheckOptions {
  /** The software GPU and no other one. */
  readonly software: boolean;
  /** In ms from the start of the process, for a driver that compiles slowly; installing one does not count. */
  readonly timeLimit: number;
}

interface CheckOptions {
  readonly quiet: boolean;
  readonly signal: AbortSignal;
}

async function examine({ timeLimit, ...options }: ExamineOptions): Promise<Findings> {
  const versions = {
    lamina: denoJson.version,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
    system: `${Deno.build.os} ${systemRelease()} ${Deno.build.arch}`.replace("  ", " "),
  };
  const begun = performance.now();
  if (options.software) await installSoftwareGpu();
  const cpuLimit = timeLimit + performance.now() - begun;
  const cpu = await examineCpu(cpuLimit, options);
  const gpu = await examineGpu({ timeLimit: timeLimit + performance.now() - begun, ...options });
  // A GPU that is asked for, or a real one, has to open.
  const opened = typeof gpu !== "string" || !(options.software || await hasGpu());
  const checked = [cpu, gpu].flatMap((device) =>
    typeof device === "string" ? [] : device.check ?? []
  );
  return {
    passed: opened && cpu.problem === undefined && checked.every(({ passed }) => passed),
    versions,
    cpu,
    gpu,
  };
}

/**
 * The CPU with its kernels checked and timed.
 *
 * @param timeLimit in ms from the start of the process
 */
async function examineCpu(timeLimit: number, options: CheckOptions): Promise<CpuFindings> {
  const facts = {
    cores: navigator.hardwareConcurrency,
    relaxedSimd: hasRelaxedSimd(),
    freeMemory: freeMemory(),
  };
  let processor: Processor;
  try {
    processor = new Processor();
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError || error instanceof RangeError)) throw error;
    return { ...facts, problem: error.message };
  }
  try {
    const check = await checkProcessor(processor, timeLimit, options);
    const figures = performance.now() < timeLimit ? await cpuFigures(processor) : undefined;
    return { ...facts, threads: processor.threads, check, figures };
  } finally {
    processor.close();
  }
}

/**
 * Checks the kernels that the CPU has.
 *
 * @param timeLimit in ms from the start of the process
 */
export function checkProcessor(
  processor: Processor,
  timeLimit: number,
  options: CheckOptions,
): Promise<KernelFindings> {
  const check = (kernel: Kernel, cases: CaseOptions) =>
    Promise.resolve(checkCpuKernel(processor, kernel, cases));
  return checkVariants(cpuVariants(), check, timeLimit, options);
}

/** The GPU with its kernels checked, or why there is none. */
async function examineGpu(
  { software, timeLimit, ...options }: ExamineOptions,
): Promise<GpuFindings | string> {
  let device: Device;
  try {
    device = await Device.open(undefined, undefined, { software });
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return error.message;
  }
  const check = await checkDevice(device, timeLimit, options);
  const findings = { ...await describe(device), check };
  device.dispose();
  return findings;
}

/**
 * Checks the kernels that a device can bind.
 *
 * @param timeLimit in ms from the start of the process
 */
export async function checkDevice(
  device: Device,
  timeLimit: number,
  options: CheckOptions,
): Promise<KernelFindings> {
  const { maxStorageBuffersPerShaderStage: buffers } = device.gpu.limits;
  const variants = allVariants(buffers);
  const bound = new Set(variants.map(({ kernel }) => kernel.name));
  const check = (kernel: Kernel, cases: CaseOptions) => checkKernel(device, kernel, cases);
  return {
    ...await checkVariants(variants, check, timeLimit, options),
    unbound: [...KERNELS.keys()].filter((name) => !bound.has(name)),
  };
}

async function checkVariants(
  variants: readonly KernelVariant[],
  check: (kernel: Kernel, options: CaseOptions) => Promise<KernelResult[]>,
  timeLimit: number,
  { quiet, signal }: CheckOptions,
): Promise<KernelFindings> {
  const start = performance.now();
  const kernels: KernelResult[] = [];
  const status = createStatus({ quiet: quiet || !Deno.stderr.isTerminal() });
  let checked = 0;
  let slowest = 0;
  while (checked < variants.length && performance.now() + slowest < timeLimit) {
    signal.throwIfAborted();
    const { kernel, packing, taps } = variants[checked];
    const about = `${variantName(variants[checked])} (${checked + 1} of ${variants.length})`;
    status.update(`checking ${about}`);
    const begun = performance.now();
    kernels.push(...await check(kernel, { packings: packing && [packing], taps }));
    slowest = Math.max(slowest, performance.now() - begun);
    checked++;
  }
  status.finish();
  const reached = new Set(kernels.map(({ kernel }) => kernel));
  const names = new Set(variants.map(({ kernel }) => kernel.name));
  const unreached = [...KERNELS.keys()].filter((name) => names.has(name) && !reached.has(name));
  return {
    passed: unreached.length === 0 && kernels.every(({ passed }) => passed),
    kernels,
    unreached,
    unbound: [],
    notChecked: variants.slice(checked).map(variantName),
    seconds: (performance.now() - start) / 1000,
  };
}

async function describe({ gpu, info, offered }: Device): Promise<Omit<GpuFindings, "check">> {
  return {
    info,
    features: [...gpu.features].sort(),
    offered: [...offered].sort(),
    limits: Object.fromEntries(LIMITS.map((name) => [name, gpu.limits[name]])),
    tuned: Object.fromEntries(await tunedProducts(info)),
  };
}

/** The system's release; nothing where the permission is missing. */
function systemRelease(): string {
  try {
    return Deno.osRelease();
  } catch {
    return "";
  }
}

if (import.meta.main) await runCommand(command);

/**
 * `./denow task doctor`: this device, and every kernel on it against its 64-bit twin on the CPU.
 *
 * @module
 */
import denoJson from "../../deno.json" with { type: "json" };
import { allVariants, variantName } from "../../engine/webgpu/check/kernel_variants.ts";
import { Device, DeviceError, LIMITS } from "../../engine/webgpu/device.ts";
import { checkKernel, type KernelResult } from "../../engine/webgpu/check/kernel_check.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { tunedProducts } from "../run/loading.ts";
import { flag, number } from "./args.ts";
import { type DeviceFindings, type Findings, reportText } from "./doctor_report.ts";
import { printLine } from "./print.ts";
import { createStatus } from "./progress.ts";
import { defineCommand, EXIT, runCommand } from "./run_command.ts";
import { jsonLine, printableLines } from "../escape.ts";

const command = defineCommand({
  name: "./denow task doctor",
  summary: "Shows the GPU device, checks every kernel on it, and ends in a block for bug reports.",
  options: {
    all: flag("check every kernel for every weight type, however long compiling takes"),
    seconds: number("begin no check that may last longer", { above: 0, default: 28 }),
    json: flag("print one line of JSON"),
  },
  async main({ options, signal }) {
    const findings = await examine(options.all ? Infinity : options.seconds * 1000, {
      quiet: options.json,
      signal,
    });
    printLine(options.json ? jsonLine(findings) : printableLines(reportText(findings)));
    return findings.passed ? EXIT.done : EXIT.failed;
  },
});

/** @param timeLimit in ms from the start of the process, for a driver that compiles slowly */
async function examine(
  timeLimit: number,
  { quiet, signal }: { quiet: boolean; signal: AbortSignal },
): Promise<Findings> {
  const versions = {
    lamina: denoJson.version,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
    system: `${Deno.build.os} ${systemRelease()} ${Deno.build.arch}`.replace("  ", " "),
    cores: navigator.hardwareConcurrency,
  };
  let device: Device;
  try {
    device = await Device.open();
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    const nothing = { kernels: [], unreached: [...KERNELS.keys()], unbound: [], notChecked: [] };
    return { passed: false, versions, device: error.message, ...nothing, seconds: 0 };
  }
  const checked = await checkDevice(device, timeLimit, { quiet, signal });
  device.dispose();
  return { versions, ...checked };
}

/**
 * Checks the kernels that a device can bind.
 *
 * @param timeLimit in ms from the start of the process
 */
export async function checkDevice(
  device: Device,
  timeLimit: number,
  { quiet, signal }: { quiet: boolean; signal: AbortSignal },
): Promise<Omit<Findings, "versions">> {
  const start = performance.now();
  const { maxStorageBuffersPerShaderStage: buffers } = device.gpu.limits;
  const variants = allVariants(buffers);
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
    kernels.push(...await checkKernel(device, kernel, { packings: packing && [packing], taps }));
    slowest = Math.max(slowest, performance.now() - begun);
    checked++;
  }
  status.finish();
  const reached = new Set(kernels.map(({ kernel }) => kernel));
  const bound = new Set(variants.map(({ kernel }) => kernel.name));
  const [unbound, unreached] = [
    [...KERNELS.keys()].filter((name) => !bound.has(name)),
    [...KERNELS.keys()].filter((name) => bound.has(name) && !reached.has(name)),
  ];
  return {
    passed: unreached.length === 0 && kernels.every(({ passed }) => passed),
    device: await describe(device),
    kernels,
    unreached,
    unbound,
    notChecked: variants.slice(checked).map(variantName),
    seconds: (performance.now() - start) / 1000,
  };
}

async function describe({ gpu, info }: Device): Promise<DeviceFindings> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  return {
    info,
    features: [...gpu.features].sort(),
    offered: [...adapter?.features ?? []].sort(),
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

/**
 * `./denow task doctor`: this device, and every kernel on it against its 64-bit reference.
 *
 * @module
 */
import denoJson from "../../deno.json" with { type: "json" };
import { allPairs, pairName } from "../../engine/webgpu/check/pairs.ts";
import { Device, DeviceError, LIMITS } from "../../engine/webgpu/device.ts";
import { checkKernel, type KernelResult } from "../../engine/webgpu/kernel_check.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { flag } from "./args.ts";
import { type DeviceFindings, type Findings, reportText } from "./doctor_report.ts";
import { progressLine } from "./progress.ts";
import { defineCommand, EXIT, runCommand } from "./run_command.ts";

/** No check is begun after this time, so that slow compilers stay within half a minute. */
const TIME_LIMIT_MS = 22_000;

const command = defineCommand({
  name: "./denow task doctor",
  summary: "Shows the GPU device, checks every kernel on it, and ends in a block for bug reports.",
  options: {
    all: flag("check every kernel for every weight form, however long compiling takes"),
    json: flag("print one line of JSON"),
  },
  async main({ options, signal }) {
    const findings = await examine(options.all ? Infinity : TIME_LIMIT_MS, {
      quiet: options.json,
      signal,
    });
    console.log(options.json ? JSON.stringify(findings) : reportText(findings));
    return findings.passed ? EXIT.done : EXIT.failed;
  },
});

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
    const nothing = { kernelCount: KERNELS.size, kernels: [], notChecked: [], seconds: 0 };
    return { passed: false, versions, device: error.message, ...nothing };
  }

  const start = performance.now();
  const pairs = allPairs();
  const kernels: KernelResult[] = [];
  const show = progressLine(quiet);
  let checked = 0;
  while (checked < pairs.length && performance.now() - start < timeLimit) {
    signal.throwIfAborted();
    const { kernel, form, taps } = pairs[checked];
    show(`checking ${pairName(pairs[checked])} (${checked + 1} of ${pairs.length})`);
    kernels.push(...await checkKernel(device, kernel, { forms: form && [form], taps }));
    checked++;
  }
  show("");
  const findings = {
    passed: kernels.every(({ passed }) => passed),
    versions,
    device: await describe(device),
    kernelCount: KERNELS.size,
    kernels,
    notChecked: pairs.slice(checked).map(pairName),
    seconds: (performance.now() - start) / 1000,
  };
  device.dispose();
  return findings;
}

async function describe({ gpu, info }: Device): Promise<DeviceFindings> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  return {
    info,
    backend: interfaceName(),
    features: [...gpu.features].sort(),
    offered: [...adapter?.features ?? []].sort(),
    limits: Object.fromEntries(LIMITS.map((name) => [name, gpu.limits[name]])),
  };
}

/** What Deno's WebGPU goes through here; the adapter does not say. */
function interfaceName(): string {
  if (Deno.build.os === "windows") return "DirectX 12 or Vulkan";
  if (Deno.build.os === "darwin") return "Metal";
  return "Vulkan, or OpenGL where there is no Vulkan driver";
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

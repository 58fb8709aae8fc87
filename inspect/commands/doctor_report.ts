/** What `doctor` found, as text for people and for bug reports. */
import { type KernelResult, problemOf } from "../../engine/check/results.ts";
import type { DeviceInfo } from "../../engine/webgpu/device.ts";
import { knobsText, type TunedProduct } from "../../engine/webgpu/tuning/tuning_file.ts";
import { vendorName } from "../../engine/webgpu/driver.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import type { CpuFigures } from "../bench/cpu_figures.ts";
import { formatBytes, formatTable } from "../format.ts";

/** All that `doctor` found. */
export interface Findings {
  /** Whether the kernels of each device were checked, all that were are right, and a GPU opened that is asked for or real. */
  readonly passed: boolean;
  readonly versions: {
    readonly lamina: string;
    readonly deno: string;
    readonly v8: string;
    /** Operating system, its release and the processor's architecture. */
    readonly system: string;
  };
  readonly cpu: CpuFindings;
  /** The GPU, or why there is none. */
  readonly gpu: GpuFindings | string;
}

/** The CPU. */
export interface CpuFindings {
  /** Threads that run at the same time. */
  readonly cores: number;
  /** Whether WebAssembly has the relaxed SIMD instructions, which the kernels need. */
  readonly relaxedSimd: boolean;
  /** Bytes that programs may have; undefined where nobody may ask. */
  readonly freeMemory?: number;
  /** Threads that share their memory; undefined where the kernels do not run at all. */
  readonly threads?: number;
  /** Why the kernels do not run. */
  readonly problem?: string;
  /** Its kernels; undefined where they do not run. */
  readonly check?: KernelFindings;
  /** How fast it is; undefined where there was no time. */
  readonly figures?: CpuFigures;
}

/** An open GPU device. */
export interface GpuFindings {
  readonly info: DeviceInfo;
  /** Features in use, and all that the adapter names. */
  readonly features: readonly string[];
  readonly offered: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  /** Products whose settings were chosen by timing them, by kernel, weight type and shapes. */
  readonly tuned: Readonly<Record<string, TunedProduct>>;
  readonly check: KernelFindings;
}

/** Kernels on a device against their twins. */
export interface KernelFindings {
  /** Whether every kernel that the device can bind was checked, for one weight type at least, and all that was checked is right. */
  readonly passed: boolean;
  readonly kernels: readonly KernelResult[];
  /** Kernels for which there was no time. */
  readonly unreached: readonly string[];
  /** Kernels that bind more storage buffers than the device has for a stage: others do their work. */
  readonly unbound: readonly string[];
  /** Pairs of kernel and weight type for which there was no time, those of unreached kernels included. */
  readonly notChecked: readonly string[];
  readonly seconds: number;
}

/** Columns of a list beside its title. */
const LIST_COLUMNS = 80;

/** The whole report: for each device tables and what failed, and a block for a bug report. */
export function reportText(findings: Findings): string {
  const { versions, cpu, gpu } = findings;
  return [
    `Lamina ${versions.lamina}, Deno ${versions.deno}, ${versions.system}`,
    ...cpuParts(cpu),
    ...gpuParts(gpu),
    `Paste this into a bug report:\n\n${pasteBlock(findings)}`,
  ].join("\n\n");
}

function cpuParts(cpu: CpuFindings): string[] {
  const { cores, relaxedSimd, check, figures, problem } = cpu;
  const parts = [
    section("CPU", [
      ["cores", String(cores)],
      ["memory", memoryText(cpu)],
      ["relaxed SIMD", relaxedSimd ? "yes" : "no"],
      ...(problem ? [["kernels", `do not run here: ${problem}`]] : []),
    ]),
  ];
  if (figures) parts.push(section("CPU: speed", speedRows(figures)));
  if (figures) {
    const rows = Object.entries(figures.weights).map(([type, rate]) => [type, rate.toFixed(1)]);
    parts.push(section("CPU: products with one position, all threads, 10⁹ weights/s", rows));
  }
  if (check) {
    parts.push(kernelTable("CPU", check, []), ...failureParts("CPU", check));
    if (!check.kernels.every(({ passed }) => passed)) {
      parts.push("This CPU computes wrongly: please report it, or use the GPU (--backend webgpu).");
    }
  }
  return parts;
}

/** How much memory there is, and who shares it. */
function memoryText({ freeMemory, threads }: CpuFindings): string {
  const free = freeMemory === undefined ? [] : [`${formatBytes(freeMemory)} free`];
  if (threads === undefined) return free[0] ?? "not stated";
  return [...free, threads > 1 ? `shared by ${threads} threads` : "not shared: one thread"]
    .join(", ");
}

function speedRows({ byThreads }: CpuFigures): string[][] {
  return [
    ["", ...byThreads.map(({ threads }) => threads === 1 ? "1 thread" : `${threads} threads`)],
    ["f32 products", ...byThreads.map(({ arithmetic }) => `${arithmetic.toFixed(0)} GFLOP/s`)],
    ["memory read", ...byThreads.map(({ read }) => `${read.toFixed(1)} GB/s`)],
  ];
}

/** A table of what failed on a device; nothing where nothing did. */
function failureParts(device: string, { kernels }: KernelFindings): string[] {
  const failures = kernels.filter(({ passed }) => !passed);
  return failures.length === 0
    ? []
    : [section(`${device}: failures`, failures.map((each) => [nameOf(each), problemOf(each)]))];
}

function gpuParts(gpu: GpuFindings | string): string[] {
  if (typeof gpu === "string") {
    return [`${section("GPU", [["none", gpu]])}\n  Lamina computes on the CPU.`];
  }
  const parts = [section("GPU", gpuRows(gpu)), section("GPU: limits", limitRows(gpu))];
  if (Object.keys(gpu.tuned).length > 0) {
    const title = "GPU: tuned (--tune does it anew, --no-tune leaves it out)";
    parts.push(section(title, tunedRows(gpu)));
  }
  parts.push(
    kernelTable("GPU", gpu.check, unboundLines(gpu)),
    ...failureParts("GPU", gpu.check),
  );
  const failures = gpu.check.kernels.filter(({ passed }) => !passed);
  if (failures.length > 0) {
    const wrong = failures.some(({ refused }) => !refused);
    parts.push(
      `This GPU ${
        wrong ? "computes wrongly" : "refuses kernels"
      }: update its driver, or use the CPU (--backend cpu).`,
    );
  }
  return parts;
}

function section(title: string, rows: readonly (readonly string[])[]): string {
  const table = formatTable(rows, "l".repeat(rows[0].length));
  return `${title}\n${table.replaceAll(/^/gm, "  ")}`;
}

function gpuRows({ info, features, offered }: GpuFindings): string[][] {
  const others = offered.filter((name) => !features.includes(name));
  return [
    ["name", info.description || info.device],
    ["vendor", vendorName(info.vendor)],
    ["architecture", info.architecture || "not stated"],
    ["kind", info.fallback ? "software on the CPU" : "hardware"],
    ["interface", info.interface],
    ["driver", info.driver || "not stated"],
    ["subgroup", info.subgroupSize > 0 ? `${info.subgroupSize} invocations` : "not stated"],
    ...listRows("features", features),
    ...listRows("not used", others),
  ];
}

/** A list over as many lines as it takes. */
function listRows(title: string, words: readonly string[]): string[][] {
  const lines = [""];
  for (const word of words.length > 0 ? words : ["none"]) {
    const line = [lines.at(-1), word].filter(Boolean).join(" ");
    if (line.length > LIST_COLUMNS && lines.at(-1) !== "") lines.push(word);
    else lines[lines.length - 1] = line;
  }
  return lines.map((line, i) => [i === 0 ? title : "", line]);
}

function limitRows({ limits }: GpuFindings): string[][] {
  return Object.entries(limits).map(([name, value]) => [
    name,
    /size$/i.test(name) && !/Workgroup/.test(name) ? formatBytes(value) : String(value),
  ]);
}

/** Each product with what was chosen, and how much faster that is than the built-in setting. */
function tunedRows({ tuned }: GpuFindings): string[][] {
  return Object.entries(tuned).map(([product, { knobs, times }]) => {
    const chosen = times.find((each) => knobsText(each.knobs) === knobsText(knobs));
    const gain = times[0] && chosen ? `${(times[0].ms / chosen.ms).toFixed(2)}×` : "";
    return [product, knobsText(knobs), gain];
  });
}

function nameOf({ kernel, packing }: KernelResult): string {
  return packing ? `${kernel} ${packing}` : kernel;
}

/** An error as a share of what is allowed; NaN and errors where none is allowed are beyond all shares. */
function shareOf({ worst, allowed }: KernelResult): number {
  if (worst === 0) return 0;
  return Number.isNaN(worst) || allowed === 0 ? Infinity : worst / allowed;
}

function worstShare(results: readonly KernelResult[]): number {
  return Math.max(0, ...results.map(shareOf));
}

function formatShare(share: number): string {
  return share === 0 ? "exact" : `${(share * 100).toPrecision(2)} %`;
}

/** @param notes about the device's kernels, a line each */
function kernelTable(
  device: "CPU" | "GPU",
  check: KernelFindings,
  notes: readonly string[],
): string {
  const { kernels, unreached, seconds } = check;
  const byKernel = Map.groupBy(kernels, ({ kernel }) => kernel);
  const rows = [...byKernel].map(([kernel, results]) => {
    const packings = new Set(results.flatMap(({ packing }) => packing ?? []));
    return [
      kernel,
      packings.size > 0 ? `${packings.size} of ${PACKINGS.size} weight types` : "",
      `${results.length} cases`,
      formatShare(worstShare(results)),
      results.every(({ passed }) => passed) ? "ok" : "FAILED",
    ];
  });
  const table = formatTable([["kernel", "", "", "worst", ""], ...rows], "lrrrl");
  const failed = rows.filter((row) => row[4] === "FAILED").length;
  const summary = [
    `${rows.length} of ${rows.length + unreached.length} kernels, ${kernels.length} cases in ${
      seconds.toFixed(1)
    } s, ${failed} failed`,
  ];
  summary.push(...notes);
  for (const line of incompleteness(check)) {
    summary.push(
      line,
      device === "GPU"
        ? "what the driver compiled is kept, so run it again, or with --all"
        : "run it with --all",
    );
  }
  return `${device}: kernels against their 64-bit twins (worst: the largest error, as a share of what rounding explains)\n` +
    `${table}\n${summary.join("\n")}`.replaceAll(/^/gm, "  ");
}

/** A line about kernels that the device cannot bind; none where it can bind all. */
function unboundLines({ limits, check: { unbound } }: GpuFindings): string[] {
  if (unbound.length === 0) return [];
  const kernels = unbound.map((name) => `${name} (${KERNELS.get(name)!.bindings.length})`);
  return [
    `not used here, with more storage buffers than the ${limits.maxStorageBuffersPerShaderStage} of a stage: ${
      kernels.join(", ")
    }`,
  ];
}

/** A line about what there was no time for; none where everything was checked. */
function incompleteness({ unreached, notChecked }: KernelFindings): string[] {
  if (notChecked.length === 0) return [];
  const pairs = `${notChecked.length} pairs of kernel and weight type`;
  const kernels = unreached.length > 0 ? `, among them all of ${unreached.join(", ")}` : "";
  return [`INCOMPLETE: ${pairs} were not reached in time${kernels}`];
}

/** A few lines without decoration that hold all that a maintainer asks for first. */
export function pasteBlock({ versions, cpu, gpu }: Findings): string {
  const { lamina, deno, v8, system } = versions;
  const lines = [
    `lamina ${lamina}; deno ${deno} (v8 ${v8}); ${system}; ${cpu.cores} cores`,
    `CPU: memory ${memoryText(cpu)}; relaxed SIMD ${cpu.relaxedSimd ? "yes" : "no"}${
      cpu.problem ? `; kernels do not run: ${cpu.problem}` : ""
    }`,
  ];
  if (cpu.figures) lines.push(speedLine(cpu.figures));
  if (cpu.check) lines.push(...checkLines("CPU", cpu.check, []));
  if (typeof gpu === "string") {
    lines.push(`adapter: none (${gpu})`);
  } else {
    const { info, features, offered, limits } = gpu;
    lines.push(
      `adapter: ${
        [
          ["vendor", info.vendor],
          ["architecture", info.architecture],
          ["device", info.device],
          ["description", info.description],
          ["subgroup", info.subgroupSize],
          ["fallback", info.fallback],
          ["interface", info.interface],
          ["driver", info.driver || "not stated"],
        ].map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(" ")
      }`,
      `features: ${features.join(" ")}; offered: ${offered.join(" ")}`,
      `limits: ${Object.entries(limits).map(([name, value]) => `${name}=${value}`).join(" ")}`,
      ...checkLines("GPU", gpu.check, unboundLines(gpu)),
    );
  }
  return lines.join("\n");
}

/** The CPU's speed in one line. */
function speedLine({ byThreads, weights }: CpuFigures): string {
  const speeds = byThreads.map(({ threads, arithmetic, read }) =>
    `${threads} thread${threads === 1 ? "" : "s"} ${arithmetic.toFixed(0)} GFLOP/s ${
      read.toFixed(1)
    } GB/s`
  );
  const rates = Object.entries(weights).map(([type, rate]) => `${type} ${rate.toFixed(1)}`);
  return `CPU speed: ${speeds.join(", ")}; 10⁹ weights/s: ${rates.join(" ")}`;
}

/** @param notes about the device's kernels, a line each */
function checkLines(device: string, check: KernelFindings, notes: readonly string[]): string[] {
  const { kernels, seconds } = check;
  const failures = kernels.filter(({ passed }) => !passed);
  return [
    `${device} kernels: ${kernels.length - failures.length} of ${kernels.length} cases ok in ${
      seconds.toFixed(1)
    } s, worst ${formatShare(worstShare(kernels))}`,
    ...notes,
    ...incompleteness(check),
    ...failures.map((each) => `FAILED ${nameOf(each)}: ${problemOf(each)}`),
  ];
}

/** The GPU device: opening it with what it offers, memory that is pooled, pipelines that are built once. */
import type { Packing } from "../../kernels/weights/packings.ts";
import {
  type Constants,
  type Kernel,
  type Knobs,
  PASS_WGSL,
  tapOverride,
} from "../../kernels/kernel.ts";
import weightsWgsl from "../../kernels/weights/weights.wgsl" with { type: "text" };
import {
  type Create,
  layOutPlanes,
  type MatrixShape,
  type Memory,
  type Part,
} from "../model/weights.ts";
import { interfaceName, isSoftware, vulkanDrivers } from "./driver.ts";
import { Upload } from "./upload.ts";

/** No adapter, no device, or a device that failed. The message says which and what to do. */
export class DeviceError extends Error {
  /** The class's name. */
  override readonly name = "DeviceError";
}

/** What the bug report and the result tables say about a device. */
export interface DeviceInfo {
  /** The vendor's id; a number, mostly. */
  readonly vendor: string;
  /** The GPU's family, as WebGPU names it; often empty. */
  readonly architecture: string;
  /** The vendor's id of the device; a number, mostly. */
  readonly device: string;
  /** The GPU's name as people know it. */
  readonly description: string;
  /** Most lanes that a subgroup has; 0 where the adapter does not say. */
  readonly subgroupSize: number;
  /** Whether it is a GPU in name only: software that computes on the CPU, as its name or WebGPU tells. */
  readonly fallback: boolean;
  /** The interface that WebGPU goes through, as far as it can be told. */
  readonly interface: string;
  /** The driver and its version; empty where it cannot be told. */
  readonly driver: string;
}

/** Features that serve when the adapter has them; each is asked for on its own, none is needed. */
const WISHED: GPUFeatureName[] = ["shader-f16", "timestamp-query", "subgroups"];

/** Limits that are asked for as high as the adapter has them. */
export const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

/** Most bytes of buffers that the pool keeps for later. */
const MOST_IDLE = 128 * 2 ** 20;

/** An open GPU device with its pipelines and its pool of buffers. */
export class Device implements Memory<GPUBuffer> {
  readonly knobs: Knobs;
  readonly limit: number;
  /** Most bytes that a borrowed buffer can have. */
  readonly largestBuffer: number;
  /** Most bytes of a borrowed buffer that results come back through. */
  readonly largestStaging: number;
  #pipelines = new Map<string, GPUComputePipeline>();
  #layouts = new Map<string, GPUBindGroupLayout>();
  /** Buffers for later, by usage and size, those used last at the end. */
  #pool = new Map<string, GPUBuffer[]>();
  #idleBytes = 0;
  #failure: DeviceError | undefined;
  /** Bytes of buffers that are alive, pooled ones included. */
  allocated = 0;

  private constructor(
    readonly gpu: GPUDevice,
    readonly info: DeviceInfo,
    /** Features that the adapter names, whether in use or not. */
    readonly offered: ReadonlySet<string>,
    knobs: Partial<Knobs> | undefined,
    /** In front of every shader. */
    readonly directives: string,
  ) {
    this.knobs = { ...knobsOf(info, gpu.features.has("subgroups")), ...knobs };
    this.limit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize);
    this.largestBuffer = sizeClass(this.limit, Math.floor);
    this.largestStaging = sizeClass(gpu.limits.maxBufferSize, Math.floor);
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as unknown as GPUUncapturedErrorEvent;
      this.fail(
        error instanceof GPUOutOfMemoryError
          ? "is out of memory: lower --max-tokens (maxTokens), or take a smaller model"
          : `refused a command: ${error.message}`,
      );
    });
    gpu.lost.then(({ reason, message }) =>
      this.fail(reason === "destroyed" ? "was closed" : `was lost: ${message}`)
    );
  }

  /**
   * Opens the default adapter with all that it offers.
   *
   * @param knobs others than those that suit the adapter
   * @param limits lower ones than the adapter's, to be as another device is; not below what every device has
   * @param options `software`: the software GPU, beside a real one too
   * @throws {DeviceError} when there is none; the CPU backend then still works
   */
  static async open(
    knobs?: Partial<Knobs>,
    limits: Partial<Record<typeof LIMITS[number], number>> = {},
    { software = false }: { readonly software?: boolean } = {},
  ): Promise<Device> {
    const adapter = await requestAdapter(software);
    if (!adapter) {
      throw new DeviceError(
        software
          ? "no software GPU"
          : "no WebGPU device: install the GPU's driver, or a software GPU (./denow task doctor --software-gpu), or use the CPU",
      );
    }
    const requiredLimits = Object.fromEntries(
      LIMITS.map((name) => [name, limits[name] ?? adapter.limits[name]]),
    );
    let features = [...WISHED];
    while (true) {
      try {
        const gpu = await adapter.requestDevice({ requiredFeatures: features, requiredLimits });
        const directives = await directivesFor(gpu);
        return new Device(gpu, describe(adapter), new Set(adapter.features), knobs, directives);
      } catch (error) {
        // Some features are hidden though present, so asking is the only way to know: drop the last and ask again.
        if (features.length === 0) {
          throw new DeviceError(`the GPU device did not open: ${oneLine(String(error))}`);
        }
        features = features.every((name) => adapter.features.has(name))
          ? features.slice(0, -1)
          : features.filter((name, i) =>
            adapter.features.has(name) || i !== lastHidden(features, adapter)
          );
      }
    }
  }

  /** Whether it refused a command or was lost: what it computes is good for nothing any more. */
  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** @throws {DeviceError} when the device has failed */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Takes it for failed. The first failure counts: others follow from it. */
  fail(how: string): DeviceError {
    return this.#failure ??= new DeviceError(
      `the GPU device ${oneLine(how)}; load the model again to go on with a fresh one`,
    );
  }

  // Memory<GPUBuffer>: weights.

  create(words: number, label: string): GPUBuffer {
    this.allocated += words * 4;
    return this.gpu.createBuffer({
      label,
      size: words * 4,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
    });
  }

  layOut(group: readonly MatrixShape[], create: Create<GPUBuffer>): Part<GPUBuffer>[][] {
    return layOutPlanes(group, this.limit, create);
  }

  writer(): Upload {
    return new Upload(this);
  }

  /** A buffer to copy out of, mapped. */
  createStaging(size: number): { buffer: GPUBuffer; bytes: ArrayBuffer } {
    const usage = GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
    const buffer = this.gpu.createBuffer({ size, usage, mappedAtCreation: true });
    this.allocated += size;
    return { buffer, bytes: buffer.getMappedRange() };
  }

  destroy(buffer: GPUBuffer): void {
    this.allocated -= buffer.size;
    buffer.destroy();
  }

  // Buffers of sessions and passes come from a pool, so that runs leave memory where it was. A buffer may be given back as soon
  // as the last command that uses it is submitted: commands run in order.

  /** A buffer of at least `bytes`; contents are whatever they were. */
  borrow(bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const size = sizeClass(bytes);
    const pooled = this.#pool.get(`${usage}:${size}`)?.pop();
    if (pooled) {
      this.#idleBytes -= size;
      return pooled;
    }
    this.allocated += size;
    return this.gpu.createBuffer({ size, usage });
  }

  /** Gives a borrowed buffer back. */
  giveBack(buffer: GPUBuffer): void {
    const key = `${buffer.usage}:${buffer.size}`;
    const list = this.#pool.get(key) ?? [];
    list.push(buffer);
    this.#pool.delete(key);
    this.#pool.set(key, list);
    this.#idleBytes += buffer.size;
    this.trim(MOST_IDLE);
  }

  /** Destroys pooled buffers, those of sizes that were not used for long first, until at most `bytes` are left. */
  trim(bytes = 0): void {
    for (const [key, list] of this.#pool) {
      while (this.#idleBytes > bytes && list.length > 0) {
        const buffer = list.pop()!;
        this.#idleBytes -= buffer.size;
        this.destroy(buffer);
      }
      if (list.length > 0) return;
      this.#pool.delete(key);
    }
  }

  /**
   * Waits for what was copied into a borrowed staging buffer, takes out of it what is needed, and gives it back.
   *
   * @throws {DeviceError} when the device has failed
   */
  async readBack<T>(
    staging: GPUBuffer,
    bytes: number,
    take: (mapped: ArrayBuffer) => T,
  ): Promise<T> {
    let taken: T;
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, bytes);
      taken = take(staging.getMappedRange(0, bytes));
      staging.unmap();
    } catch (error) {
      this.destroy(staging);
      throw this.fail(`gave no result back: ${error}`);
    }
    this.giveBack(staging);
    this.check();
    return taken;
  }

  /** The explicit layout of a kernel's binding group. */
  layout(kernel: Kernel): GPUBindGroupLayout {
    let layout = this.#layouts.get(kernel.name);
    if (!layout) {
      const types: GPUBufferBindingType[] = ["uniform", "uniform"];
      for (const { kind } of kernel.bindings) {
        types.push(
          kind === "input" || kind === "weight" || kind === "vector"
            ? "read-only-storage"
            : "storage",
        );
      }
      layout = this.gpu.createBindGroupLayout({
        label: kernel.name,
        entries: types.map((type, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type },
        })),
      });
      this.#layouts.set(kernel.name, layout);
    }
    return layout;
  }

  /** Compiles WGSL, with the directives that the device's compiler wants. */
  module(code: string, label?: string): GPUShaderModule {
    return this.gpu.createShaderModule({ label, code: this.directives + code });
  }

  /**
   * The pipeline of a kernel for a packing and a choice of taps; with other knobs than the device's own where they are given.
   *
   * @param constants the step's, of kernels that have some of them compiled in
   */
  pipeline(
    kernel: Kernel,
    packing: Packing | undefined,
    taps: readonly string[],
    knobs: Knobs = this.knobs,
    constants: Constants = {},
  ): GPUComputePipeline {
    const overrides = kernel.overrides?.(knobs, constants) ?? {};
    const values = [...Object.values(knobs), ...Object.values(overrides)].join(",");
    const key = [kernel.name, packing?.name, ...taps, values].join(" ");
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      const compiledIn: Record<string, number> = { LANES: kernel.lanes(knobs), ...overrides };
      if (packing?.offset !== undefined) compiledIn.OFFSET = packing.offset;
      for (const tap of taps) compiledIn[tapOverride(tap)] = 1;
      pipeline = this.gpu.createComputePipeline({
        label: key,
        layout: this.gpu.createPipelineLayout({ bindGroupLayouts: [this.layout(kernel)] }),
        compute: {
          module: this.module(kernelSource(kernel, knobs, packing), key),
          constants: compiledIn,
        },
      });
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  /** Builds pipelines anew when they are next asked for: after a refusal, so that the next one says why too. */
  forgetPipelines(): void {
    this.#pipelines.clear();
  }

  /** Destroys the device and all that is on it. */
  dispose(): void {
    this.gpu.destroy();
  }
}

/** WGSL wants it in front of shaders that call subgroup functions: Tint (Chromium, Dawn) demands it, naga (Deno) refuses it. */
export const ENABLE_SUBGROUPS = "enable subgroups;\n";

/** The directives that the device's compiler wants, found out with an empty shader. */
async function directivesFor(gpu: GPUDevice): Promise<string> {
  if (!gpu.features.has("subgroups")) return "";
  gpu.pushErrorScope("validation");
  gpu.createShaderModule({ code: ENABLE_SUBGROUPS });
  return await gpu.popErrorScope() ? "" : ENABLE_SUBGROUPS;
}

/** The whole WGSL of a kernel, but for directives. */
export function kernelSource(kernel: Kernel, knobs: Knobs, packing?: Packing): string {
  const weights = kernel.packed ? weightsWgsl + packing!.wgsl : "";
  return PASS_WGSL + weights + (kernel.prologue?.(knobs, packing) ?? "") + kernel.wgsl;
}

/**
 * The two settings. On a GPU the lanes of a subgroup share a row, so that they read neighbouring words. A driver in software loads
 * each lane's word for itself wherever it lies: there a lane has rows of its own and nothing is added up across lanes.
 */
export function knobsOf({ fallback, subgroupSize }: DeviceInfo, subgroups: boolean): Knobs {
  const dotLanes = Math.min(64, subgroupSize || 32);
  return {
    lanes: 64,
    dotLanes,
    columnLanes: fallback ? 1 : dotLanes,
    broadcast: fallback && subgroups && dotLanes === 8,
  };
}

/** Sizes of pooled buffers: four steps per power of two, so that few sizes serve many lengths. */
function sizeClass(bytes: number, round = Math.ceil): number {
  const step = 2 ** Math.floor(Math.log2(Math.max(256, bytes))) / 4;
  return Math.max(256, round(bytes / step) * step);
}

function lastHidden(features: GPUFeatureName[], adapter: GPUAdapter): number {
  return features.findLastIndex((name) => !adapter.features.has(name));
}

/** The adapter of the best GPU that there is, or of the software GPU; none where there is no driver. */
async function requestAdapter(software = false): Promise<GPUAdapter | null | undefined> {
  return await navigator.gpu?.requestAdapter({
    powerPreference: "high-performance",
    forceFallbackAdapter: software,
  });
}

/**
 * Whether there is a GPU that is none in name only. Opens no device: loading the drivers takes 5 ms without one, 20 ms with Mesa's,
 * once a process.
 */
export async function hasGpu(): Promise<boolean> {
  const adapter = await requestAdapter();
  return adapter ? !isSoftware(adapter.info) : false;
}

function describe(adapter: GPUAdapter): DeviceInfo {
  const { vendor, architecture, device, description } = adapter.info;
  const info = adapter.info as GPUAdapterInfo & {
    subgroupMinSize?: number;
    subgroupMaxSize?: number;
  };
  const api = interfaceName(info);
  return {
    vendor,
    architecture,
    device,
    description,
    subgroupSize: info.subgroupMaxSize ?? 0,
    fallback: isSoftware(info),
    interface: api,
    driver: api === "Vulkan" ? vulkanDrivers(vendor) : "",
  };
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

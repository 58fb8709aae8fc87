/**
 * What a GPU can do, found by small kernels of our own, a few variants of each: how fast memory is read, how fast f32 matrices are
 * multiplied, what an empty dispatch and a read-back cost. The models' figures are held against these.
 */
import type { Device } from "../../engine/webgpu/device.ts";
import { type Encode, GpuTimer } from "../../engine/webgpu/gpu_timer.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { kernelOf } from "../../kernels/mod.ts";
import {
  EMPTY_WGSL,
  PRODUCT_TILE,
  type ProductKernel,
  productKernels,
  type ProductShape,
  READ_STEP,
  type ReadKernel,
  readKernels,
} from "../../kernels/probes/probes.ts";
import { BestProbe, type DeviceProbes, type Probe, type Variant } from "./probe.ts";

/** One way to do it, as dispatches. */
interface Dispatches {
  readonly name: string;
  readonly encode: Encode;
}

/** The best of some dispatches. */
function bestOf(
  gpu: GPUDevice,
  ways: () => readonly Dispatches[],
  figure: (ms: number) => number,
  buffers: readonly GPUBuffer[],
): Probe {
  const timer = new GpuTimer(gpu);
  const variants = () =>
    ways().map(({ name, encode }): Variant => ({
      name,
      times: () => timer.measure([encode, encode, encode]),
    }));
  return new BestProbe(variants, figure, () => {
    for (const buffer of buffers) buffer.destroy();
  });
}

/**
 * The probes of a GPU.
 *
 * @param shapes of the products
 * @param bytes that the read probe reads, about
 */
export function gpuProbes(
  device: Device,
  shapes: readonly ProductShape[],
  bytes: number,
): DeviceProbes {
  const read = readProbe(device, device.info.subgroupSize || 32, bytes);
  const products = shapes.map((shape) => productProbe(device, shape));
  const [dispatch, readBack] = [dispatchProbe(device), readBackProbe(device.gpu)];
  return {
    read,
    products,
    others: [
      { what: "empty dispatch", unit: "µs", probe: dispatch },
      { what: "read-back", unit: "ms", probe: readBack },
    ],
    missing: [],
    [Symbol.dispose]() {
      for (const probe of [read, ...products, dispatch, readBack]) probe.dispose();
    },
  };
}

/** The dispatches that read all of these buffers, each lane leaving the exclusive or of its words in `sums`. */
export function encodeRead(
  device: Device,
  { wgsl, word, lanes, run, apart }: ReadKernel,
  buffers: readonly GPUBuffer[],
  sums: GPUBuffer,
): Encode {
  const constants = { LANES: lanes, RUN: run, APART: Number(apart) };
  const pipeline = pipelineOf(device, wgsl, constants);
  const groups = buffers.map((buffer) => bind(device.gpu, pipeline, [buffer, sums]));
  const chunk = lanes * run * (word === "u32" ? 4 : 16);
  return (pass) => {
    pass.setPipeline(pipeline);
    for (const [i, group] of groups.entries()) {
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(buffers[i].size / chunk);
    }
  };
}

/**
 * The best streaming read, in GB/s (10⁹ bytes).
 *
 * @param bytes to be read, about: more than the caches hold
 */
export function readProbe(device: Device, subgroup: number, bytes: number): Probe {
  const { gpu } = device;
  const most = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize);
  const count = Math.ceil(bytes / most);
  const size = Math.max(READ_STEP, Math.floor(bytes / count / READ_STEP) * READ_STEP);
  const buffers = Array.from({ length: count }, () => storage(gpu, size));
  // A word for each run: of the buffers' bytes a 64th at most.
  const sums = storage(gpu, size / 64);
  const variants = () =>
    readKernels(subgroup).map((kernel): Dispatches => ({
      name: kernel.name,
      encode: encodeRead(device, kernel, buffers, sums),
    }));
  const figure = (ms: number) => count * size / ms / 1e6;
  return bestOf(gpu, variants, figure, [...buffers, sums]);
}

/** The dispatch of a product. */
export function encodeProduct(
  device: Device,
  kernel: ProductKernel,
  shape: ProductShape,
  buffers: readonly [x: GPUBuffer, w: GPUBuffer, y: GPUBuffer],
): Encode | undefined {
  const grid = kernel.grid(shape);
  if (!grid) return undefined;
  const { gpu } = device;
  const constants: Record<string, number> = kernel.lanes ? { LANES: kernel.lanes } : {};
  const pipeline = pipelineOf(device, kernel.wgsl, constants);
  const uniform = gpu.createBuffer({
    size: 16,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  const words = Uint32Array.of(shape.positions, shape.rows, shape.columns, 0);
  gpu.queue.writeBuffer(uniform, 0, words);
  const group = bind(gpu, pipeline, [...buffers, uniform]);
  return (pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid);
  };
}

/** Most bytes of the second matrix: a part of the rows tells how fast the whole is. */
const MOST_MATRIX = 64 * 2 ** 20;

/** The engine's own product for prompts, with f32 weights: one of the plain products that others are held against. */
function engineProduct(
  device: Device,
  { positions, rows, columns }: ProductShape,
  [x, w, y]: readonly [x: GPUBuffer, w: GPUBuffer, y: GPUBuffer],
): Dispatches & { readonly uniforms: readonly GPUBuffer[] } {
  const { gpu, knobs } = device;
  const kernel = kernelOf({ operation: "linear", positions: "many" })!;
  const packing = PACKINGS.get("F32")!;
  const pass = { tokens: positions, start: 0, rows: positions };
  const constants = {
    ...{ columns, groups: columns / 8, scales: 0, highs: 0, weight_row: 0 },
    ...{ rows, out_row: 0, out_rows: rows },
  };
  const words = Object.keys(kernel.constants).map((name) => constants[name as "rows"]);
  const uniforms = [[positions, 0, positions, 0], [...words, 0, 0, 0, 0, 0, 0, 0, 0]].map((all) => {
    const size = all.length * 4;
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const buffer = gpu.createBuffer({ size, usage });
    gpu.queue.writeBuffer(buffer, 0, Uint32Array.from(all));
    return buffer;
  });
  const pipeline = device.pipeline(kernel, packing, []);
  const group = gpu.createBindGroup({
    layout: device.layout(kernel),
    entries: [...uniforms, x, w, y].map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return {
    name: "the engine's own, with f32 weights",
    uniforms,
    encode(encoder) {
      encoder.setPipeline(pipeline);
      encoder.setBindGroup(0, group);
      encoder.dispatchWorkgroups(...kernel.grid(pass, constants, kernel.lanes(knobs), knobs));
    },
  };
}

/** The best plain f32 product of a shape, in GFLOP/s; a multiplication and an addition are two. */
export function productProbe(device: Device, wanted: ProductShape): Probe {
  const { gpu, info } = device;
  const subgroup = info.subgroupSize || 32;
  const up = (n: number) => Math.ceil(n / PRODUCT_TILE) * PRODUCT_TILE;
  const columns = up(wanted.columns);
  const most = Math.min(MOST_MATRIX, gpu.limits.maxStorageBufferBindingSize);
  const rows = Math.min(
    up(wanted.rows),
    Math.floor(most / 4 / columns / PRODUCT_TILE) * PRODUCT_TILE,
  );
  const shape = { positions: up(wanted.positions), rows, columns };
  const { positions } = shape;
  const numbers = (count: number) => {
    const buffer = storage(gpu, count * 4);
    // Zeros could be faster than numbers.
    const data = Float32Array.from({ length: count }, (_, i) => (i * 7919 % 1024) / 1024 - 0.5);
    gpu.queue.writeBuffer(buffer, 0, data);
    return buffer;
  };
  const buffers = [numbers(positions * columns), numbers(rows * columns)] as const;
  const all = [...buffers, storage(gpu, positions * rows * 4)] as const;
  const own = engineProduct(device, shape, all);
  const variants = () => [
    own,
    ...productKernels(subgroup, gpu.features.has("subgroups")).flatMap((kernel): Dispatches[] => {
      const encode = encodeProduct(device, kernel, shape, all);
      return encode ? [{ name: kernel.name, encode }] : [];
    }),
  ];
  const figure = (ms: number) => 2 * positions * rows * columns / ms / 1e6;
  return bestOf(gpu, variants, figure, [...all, ...own.uniforms]);
}

const EMPTY_DISPATCHES = 1000;

/** What a dispatch of nothing costs on the device, in microseconds. */
export function dispatchProbe(device: Device): Probe {
  const pipeline = pipelineOf(device, EMPTY_WGSL, {});
  const encode: Encode = (pass) => {
    pass.setPipeline(pipeline);
    for (let i = 0; i < EMPTY_DISPATCHES; i++) pass.dispatchWorkgroups(1);
  };
  const figure = (ms: number) => ms / EMPTY_DISPATCHES * 1000;
  return bestOf(device.gpu, () => [{ name: "empty", encode }], figure, []);
}

/** How long it takes from submitting to four bytes that have come back, in milliseconds: the least of a few. */
export function readBackProbe(gpu: GPUDevice): Probe {
  const from = storage(gpu, 4);
  const to = gpu.createBuffer({
    size: 4,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  return {
    variant: "four bytes",
    async measure() {
      const start = performance.now();
      const encoder = gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(from, 0, to, 0, 4);
      gpu.queue.submit([encoder.finish()]);
      await to.mapAsync(GPUMapMode.READ);
      to.getMappedRange();
      to.unmap();
      return performance.now() - start;
    },
    dispose() {
      from.destroy();
      to.destroy();
    },
  };
}

function storage(gpu: GPUDevice, size: number): GPUBuffer {
  const { STORAGE, COPY_DST, COPY_SRC } = GPUBufferUsage;
  return gpu.createBuffer({ size, usage: STORAGE | COPY_DST | COPY_SRC });
}

function pipelineOf(
  device: Device,
  code: string,
  constants: Record<string, number>,
): GPUComputePipeline {
  const module = device.module(code);
  return device.gpu.createComputePipeline({ layout: "auto", compute: { module, constants } });
}

function bind(
  gpu: GPUDevice,
  pipeline: GPUComputePipeline,
  buffers: readonly GPUBuffer[],
): GPUBindGroup {
  return gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
}

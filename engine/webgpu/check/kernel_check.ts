/**
 * Kernels run on a device and compared with their 64-bit twins: for `doctor`, for the first load on a new adapter
 * and for the tests.
 */
import type { Binding, Constants, Kernel, RowReader } from "../../../kernels/kernel.ts";
import { type Device, DeviceError } from "../device.ts";
import { CONSTANT_BYTES } from "../executable.ts";
import { allowedErrors } from "../../check/bounds.ts";
import type { KernelCase } from "../../check/case.ts";
import { type CaseOptions, kernelCases } from "../../check/cases.ts";
import {
  batches,
  compare,
  failure,
  type KernelResult,
  type KernelRun,
  MARGIN,
  twinOutputs,
  UNTOUCHED,
} from "../../check/results.ts";

/**
 * Runs kernels, each on its case, in one submission.
 *
 * @param onCompiled called after each case whose kernel is ready, which may have taken seconds
 * @throws {DeviceError} when the device refuses one
 */
export async function runKernels(
  device: Device,
  cases: readonly KernelCase[],
  onCompiled?: () => void,
): Promise<KernelRun[]> {
  const { gpu } = device;
  const created: GPUBuffer[] = [];
  const buffer = (
    bytes: number,
    usage: GPUBufferUsageFlags,
    data?: ArrayBufferView<ArrayBuffer>,
  ) => {
    const made = gpu.createBuffer({ size: bytes, usage: usage | GPUBufferUsage.COPY_DST });
    created.push(made);
    if (data) gpu.queue.writeBuffer(made, 0, data);
    return made;
  };

  gpu.pushErrorScope("validation");
  gpu.pushErrorScope("out-of-memory");
  let copies: { offset: number; bytes: number; output: number }[][] = [];
  let copied: ArrayBuffer;
  try {
    const encoder = gpu.createCommandEncoder();
    const sources: GPUBuffer[] = [];
    let total = 0;
    copies = cases.map((each) => {
      const outputs = encode(device, encoder, each, buffer);
      onCompiled?.();
      return outputs.flatMap((source, output) => {
        if (!source) return [];
        const copy = { offset: total, bytes: source.size, output };
        sources.push(source);
        total += source.size;
        return [copy];
      });
    });
    const staging = buffer(Math.max(4, total), GPUBufferUsage.MAP_READ);
    copies.flat().forEach(({ offset, bytes }, i) =>
      encoder.copyBufferToBuffer(sources[i], 0, staging, offset, bytes)
    );
    gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ).catch(() => {});
    const errors = [await gpu.popErrorScope(), await gpu.popErrorScope()];
    const error = errors.find((each) => each !== null);
    if (error) {
      device.forgetPipelines();
      throw new DeviceError(`the GPU device refused a kernel: ${oneLine(error.message)}`);
    }
    device.check();
    copied = staging.getMappedRange().slice(0);
  } finally {
    for (const each of created) each.destroy();
  }
  return cases.map((each, i) => readRun(each, copies[i], copied));
}

/** Adds a case's dispatches; gives the buffers of its outputs, null for taps that are off. */
function encode(
  device: Device,
  encoder: GPUCommandEncoder,
  each: KernelCase,
  buffer: (
    bytes: number,
    usage: GPUBufferUsageFlags,
    data?: ArrayBufferView<ArrayBuffer>,
  ) => GPUBuffer,
): (GPUBuffer | null)[] {
  const { kernel, pass, packed, knobs = device.knobs } = each;
  const { STORAGE, COPY_SRC, UNIFORM } = GPUBufferUsage;
  const inputs = [...each.inputs];
  const outputs: (GPUBuffer | null)[] = [];
  const bound = kernel.bindings.map((binding) => {
    if (binding.kind === "weight") {
      const words = packed?.words ?? weightNumbers(each.weights[0]);
      return buffer(words.byteLength, STORAGE, words);
    }
    if (binding.kind === "vector") {
      const words = weightNumbers(each.weights.at(-1)!);
      return buffer(words.byteLength, STORAGE, words);
    }
    if (binding.kind === "input") {
      const words = inputWords(binding, inputs.shift()!);
      return buffer(words.byteLength, STORAGE, words);
    }
    if (binding.kind === "scratch") {
      return buffer(kernel.scratch!(each.constants) * 4, STORAGE);
    }
    if (binding.kind === "tap" && !each.taps) {
      outputs.push(null);
      return buffer(256, STORAGE);
    }
    const words = new Float32Array(each.outputs[outputs.length] + MARGIN).fill(UNTOUCHED);
    const output = buffer(words.byteLength, STORAGE | COPY_SRC, words);
    outputs.push(output);
    return output;
  });
  const taps = kernel.bindings.filter(({ kind }) => kind === "tap" && each.taps);
  const pipeline = device.pipeline(
    kernel,
    packed?.packing,
    taps.map(({ name }) => name),
    knobs,
    each.constants,
  );
  const numbers = Uint32Array.of(pass.tokens, pass.start, pass.rows, 0);
  const passUniform = buffer(16, UNIFORM, numbers);
  const compute = encoder.beginComputePass();
  for (const constants of stepConstants(each)) {
    const step = buffer(CONSTANT_BYTES, UNIFORM, stepWords(kernel, constants));
    compute.setPipeline(pipeline);
    compute.setBindGroup(
      0,
      device.gpu.createBindGroup({
        layout: device.layout(kernel),
        entries: [passUniform, step, ...bound]
          .map((buffer, binding) => ({ binding, resource: { buffer } })),
      }),
    );
    compute.dispatchWorkgroups(
      ...kernel.grid(pass, constants, kernel.lanes(knobs), knobs),
    );
  }
  compute.end();
  return outputs;
}

function weightNumbers(reader: RowReader): Float32Array<ArrayBuffer> {
  const numbers = new Float32Array(reader.rows * reader.columns);
  reader.read(0, numbers);
  return numbers;
}

/** NaN follows the input: what lies there in pooled buffers may be anything. */
function inputWords(binding: Binding, input: Float32Array) {
  const length = Math.ceil(input.length / 4) * 4 + MARGIN;
  const words = binding.dtype === "f32" || binding.dtype === "bits"
    ? new Float32Array(length)
    : new Uint32Array(length);
  words.fill(words instanceof Float32Array ? NaN : 0xffffffff);
  words.set(input);
  return words;
}

/** A kernel over packed weights runs once per part of its rows. */
function stepConstants({ kernel, constants, packed, parts }: KernelCase): Constants[] {
  if (!packed) return [constants];
  const { columns, scales, highs } = packed;
  const common = { ...constants, groups: Math.ceil(columns / 8), scales, highs };
  const total = kernel.operation === "linear_experts" ? constants.out_rows : constants.rows;
  const size = Math.ceil(total / parts);
  return Array.from({ length: Math.ceil(total / size) }, (_, part) => {
    const out_row = part * size;
    const rows = Math.min(size, total - out_row);
    if (parts === 1) return { ...common, weight_row: 0 };
    return kernel.operation === "linear_experts"
      ? { ...common, weight_row: out_row, out_row, out_rows: rows }
      : { ...common, weight_row: out_row, out_row, rows };
  });
}

function stepWords(kernel: Kernel, constants: Constants): DataView<ArrayBuffer> {
  const words = new DataView(new ArrayBuffer(CONSTANT_BYTES));
  Object.entries(kernel.constants).forEach(([name, type], field) => {
    if (type === "u32") words.setUint32(field * 4, constants[name], true);
    else words.setFloat32(field * 4, constants[name], true);
  });
  return words;
}

function readRun(
  each: KernelCase,
  copies: readonly { offset: number; bytes: number; output: number }[],
  copied: ArrayBuffer,
): KernelRun {
  const bindings = each.kernel.bindings.filter(({ kind }) => kind === "output" || kind === "tap");
  const outputs: (Float32Array<ArrayBuffer> | null)[] = bindings.map(() => null);
  let withinBounds = true;
  for (const { offset, bytes, output } of copies) {
    const length = bytes / 4 - MARGIN;
    const margin = new Float32Array(copied, offset + length * 4, MARGIN);
    withinBounds &&= margin.every((value) => value === UNTOUCHED);
    outputs[output] = bindings[output].dtype === "i32"
      ? Float32Array.from(new Int32Array(copied, offset, length))
      : new Float32Array(copied, offset, length);
  }
  return { outputs, withinBounds };
}

/**
 * Checks kernels, each on its case.
 *
 * @param onCompiled called after each case whose kernel is ready, which may have taken seconds
 * @throws {DeviceError} when the device refuses one
 */
export async function checkKernels(
  device: Device,
  cases: Iterable<KernelCase>,
  onCompiled?: () => void,
): Promise<KernelResult[]> {
  const results: KernelResult[] = [];
  for (const batch of batches(cases)) {
    const running = runKernels(device, batch, onCompiled);
    running.catch(() => {}); // it is awaited below, the twins compute meanwhile
    const expected = batch.map(twinOutputs);
    const runs = await running;
    batch.forEach((each, i) =>
      results.push(compare(each, runs[i], expected[i], allowed(device, each, expected[i])))
    );
  }
  return results;
}

/** Checks one kernel on all its cases; a kernel that the device refuses has failed. */
export async function checkKernel(
  device: Device,
  kernel: Kernel,
  options: CaseOptions = {},
): Promise<KernelResult[]> {
  try {
    return await checkKernels(device, kernelCases(kernel, options));
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return [failure(kernel.name, error.message, { refused: true })];
  }
}

function allowed(
  device: Device,
  each: KernelCase,
  expected: readonly Float32Array[],
): Float64Array[] {
  const { kernel, kind, knobs = device.knobs } = each;
  return allowedErrors({
    ...each,
    outputs: expected,
    lanes: kernel.lanes(knobs),
    columnLanes: knobs.columnLanes,
    broadcast: knobs.broadcast,
    whole: kind === "whole",
  });
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

/** The probes of `task bench`: each reads and multiplies what it says, and the device's clock tells how long that takes. */
import assert from "node:assert/strict";
import { type Encode, GpuTimer } from "../../engine/webgpu/gpu_timer.ts";
import {
  dispatchProbe,
  encodeProduct,
  encodeRead,
  productProbe,
  readBackProbe,
  readProbe,
} from "../../inspect/bench/gpu_probes.ts";
import type { Probe } from "../../inspect/bench/probe.ts";
import { productKernels, READ_STEP, readKernels } from "../../kernels/probes/probes.ts";
import { openDevice } from "../../inspect/run/loading.ts";

const device = await openDevice();
const { gpu, info } = device;
const subgroup = info.subgroupSize || 32;

function bufferOf(data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer {
  const { STORAGE, COPY_DST, COPY_SRC } = GPUBufferUsage;
  const usage = STORAGE | COPY_DST | COPY_SRC;
  const buffer = gpu.createBuffer({ size: data.byteLength, usage });
  gpu.queue.writeBuffer(buffer, 0, data);
  return buffer;
}

async function run(encode: Encode, from: GPUBuffer): Promise<ArrayBuffer> {
  const { MAP_READ, COPY_DST } = GPUBufferUsage;
  const staging = gpu.createBuffer({ size: from.size, usage: MAP_READ | COPY_DST });
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
  encoder.copyBufferToBuffer(from, 0, staging, 0, from.size);
  gpu.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const result = staging.getMappedRange().slice(0);
  staging.destroy();
  return result;
}

const xor = (words: Uint32Array) => words.reduce((sum, word) => sum ^ word, 0) >>> 0;

for (const kernel of readKernels(subgroup)) {
  Deno.test(`reading by ${kernel.name} reads every word once`, async () => {
    const data = Uint32Array.from(
      { length: READ_STEP / 4 },
      (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 0,
    );
    const sums = bufferOf(new Uint32Array(READ_STEP / 64 / 4));
    const encode = encodeRead(device, kernel, [bufferOf(data)], sums);
    assert.equal(xor(new Uint32Array(await run(encode, sums))), xor(data));
  });
}

for (const kernel of productKernels(subgroup, gpu.features.has("subgroups"))) {
  Deno.test(`the product with ${kernel.name} is one`, async () => {
    const shape = { positions: 128, rows: 192, columns: 64 };
    const { positions, rows, columns } = shape;
    const x = (t: number, k: number) => Math.sin(3 * t + k);
    const w = (n: number, k: number) => Math.cos(n + 5 * k) / 8;
    const matrix = (
      height: number,
      at: (row: number, column: number) => number,
      transposed: boolean,
    ) => {
      const data = new Float32Array(height * columns);
      for (let i = 0; i < height; i++) {
        for (let k = 0; k < columns; k++) {
          data[transposed ? k * height + i : i * columns + k] = at(i, k);
        }
      }
      return bufferOf(data);
    };
    const y = bufferOf(new Float32Array(positions * rows));
    const encode = encodeProduct(device, kernel, shape, [
      matrix(positions, x, kernel.xTransposed),
      matrix(rows, w, kernel.wTransposed),
      y,
    ]);
    assert.ok(encode, "the shape suits all");
    const got = new Float32Array(await run(encode, y));
    let worst = 0;
    for (let t = 0; t < positions; t++) {
      for (let n = 0; n < rows; n++) {
        let sum = 0;
        for (let k = 0; k < columns; k++) sum += Math.fround(x(t, k)) * Math.fround(w(n, k));
        worst = Math.max(worst, Math.abs(got[t * rows + n] - sum));
      }
    }
    assert.ok(worst < 3e-6, `${worst}`);
  });
}

Deno.test("probes give figures, and know their best variant after the first", async () => {
  const measured = async (probe: Probe) => {
    const figures = [await probe.measure(), await probe.measure()];
    for (const figure of figures) assert.ok(figure > 0 && Number.isFinite(figure), `${figure}`);
    const { variant } = probe;
    probe.dispose();
    return variant;
  };
  const names = (kernels: readonly { readonly name: string }[]) => kernels.map(({ name }) => name);
  const read = readProbe(device, subgroup, 2 * READ_STEP);
  assert.equal(read.variant, undefined);
  assert.ok(names(readKernels(subgroup)).includes((await measured(read))!));
  const shape = { positions: 32, rows: 100, columns: 60 }; // rounded up to what all variants divide
  const product = await measured(productProbe(device, shape));
  const products = names(productKernels(subgroup, gpu.features.has("subgroups")));
  assert.ok(["the engine's own, with f32 weights", ...products].includes(product!), product);
  await measured(dispatchProbe(device));
  await measured(readBackProbe(gpu));
});

Deno.test("more work takes more of the device's time, by its clock and by submissions", async () => {
  const kernel = readKernels(subgroup)[0];
  const buffer = bufferOf(new Uint32Array(4 * READ_STEP / 4));
  const sums = bufferOf(new Uint32Array(4 * READ_STEP / 64 / 4));
  const once = encodeRead(device, kernel, [buffer], sums);
  const often = encodeRead(device, kernel, Array(40).fill(buffer), sums);
  const timer = new GpuTimer(gpu);
  const submissions = new GpuTimer(gpu);
  Object.defineProperty(submissions, "exact", { value: false });
  for (const each of [timer, submissions]) {
    // The least of a few: whatever else the machine does only adds.
    let [less, more] = [Infinity, Infinity];
    for (let i = 0; i < 4; i++) {
      const times = await each.measure([once, often]);
      [less, more] = [Math.min(less, times[0]), Math.min(more, times[1])];
    }
    assert.ok(less > 0 && more > 5 * less, `${less} ms and ${more} ms`);
  }
});

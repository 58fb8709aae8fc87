/** Packings of weights: packing changes no number, neither on the CPU nor on the device. */
import assert from "node:assert/strict";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../engine/gguf/types.ts";
import { type Kind, Noise, randomBlocks } from "../../engine/check/data.ts";
import { runKernels } from "../../engine/webgpu/check/kernel_check.ts";
import type { KernelCase } from "../../engine/check/case.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { type Packing, PACKINGS, type Planes } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import fixture from "../fixtures/dequantize.json" with { type: "json" };

const TYPES = new Map(GGML_TYPES.map((type) => [type.name, type]));

function bits(numbers: Float32Array): Uint32Array {
  return new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
}

function newPlanes(packing: Packing, rows: number, columns: number): Planes {
  const words = packing.words(columns);
  return {
    quants: new Uint32Array(rows * words.quants),
    scales: new Uint32Array(rows * words.scales),
    highs: new Uint32Array(rows * words.highs),
  };
}

function unpackAll(packing: Packing, planes: Planes, first: number, rows: number, columns: number) {
  const numbers = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    packing.unpack(
      planes,
      first + row,
      columns,
      numbers.subarray(row * columns, (row + 1) * columns),
    );
  }
  return numbers;
}

function dequantized(packing: Packing, bytes: Uint8Array): Float32Array {
  return dequantize(TYPES.get(packing.name)!, bytes);
}

/** Column counts that whole blocks fill, those of padded rows and odd numbers of blocks among them. */
function columnsOf({ blockSize }: Packing): number[] {
  if (blockSize === 1) return [1, 7, 8, 9, 63, 65, 576];
  return blockSize === 32 ? [32, 64, 96, 576, 1056] : [256, 512, 768];
}

Deno.test("there is a packing for each type that can be computed on, with its block layout", () => {
  const names = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K".split(" ");
  assert.deepEqual([...PACKINGS.keys()], names);
  for (const packing of PACKINGS.values()) {
    const { blockSize, blockBytes } = TYPES.get(packing.name)!;
    assert.deepEqual(
      [packing.blockSize, packing.blockBytes],
      [blockSize, blockBytes],
      packing.name,
    );
  }
});

Deno.test("quantized weights take no more memory than their file, but for K-quants' wider scales", () => {
  const bits = Object.fromEntries([...PACKINGS.values()].map((packing) => {
    const { quants, scales, highs } = packing.words(768);
    return [packing.name, (quants + scales + highs) * 32 / 768];
  }));
  assert.deepEqual(bits, {
    F32: 32,
    F16: 16,
    BF16: 16,
    Q4_0: 4.5,
    Q4_1: 5,
    Q5_0: 5.5,
    Q5_1: 6,
    Q8_0: 8.5,
    Q2_K: 8, // 2.625 in the file
    Q3_K: 10, // 3.4375
    Q4_K: 6, // 4.5
    Q5_K: 7, // 5.5
    Q6_K: 10, // 6.5625
  });
});

for (const { type: name, blocks, numbers } of fixture.cases) {
  Deno.test(`${name}: ggml's own blocks, packed, are ggml's own numbers`, () => {
    const packing = PACKINGS.get(TYPES.get(name)!.name)!;
    const bytes = Uint8Array.fromBase64(blocks);
    const expected = new Uint32Array(Uint8Array.fromBase64(numbers).buffer);
    const count = bytes.length / packing.blockBytes;
    // All blocks as one row, and each block as a row of its own.
    for (const rows of [1, count]) {
      const columns = count * packing.blockSize / rows;
      const planes = newPlanes(packing, rows, columns);
      packing.pack(bytes, rows, columns, planes, 0);
      assert.deepEqual(bits(unpackAll(packing, planes, 0, rows, columns)), expected);
    }
  });
}

for (const packing of PACKINGS.values()) {
  Deno.test(`${packing.name}: packing keeps every bit, in any row of the planes`, () => {
    const noise = new Noise(packing.name);
    for (const columns of columnsOf(packing)) {
      for (const kind of ["real", "whole"] as Kind[]) {
        const [before, rows] = [3, 4];
        const planes = newPlanes(packing, before + rows, columns);
        const bytes = randomBlocks(packing, rows * columns, noise, kind);
        const expected = dequantized(packing, bytes);
        assert.ok(new Set(bits(expected)).size > 1);
        // Bytes at an odd address.
        const shifted = new Uint8Array(bytes.length + 1);
        shifted.set(bytes, 1);
        packing.pack(shifted.subarray(1), rows, columns, planes, before);
        assert.deepEqual(bits(unpackAll(packing, planes, before, rows, columns)), bits(expected));
        // Rows before are still empty; a row packed on its own takes the place of just that row.
        for (const plane of [planes.quants, planes.scales, planes.highs]) {
          const perRow = plane.length / (before + rows);
          assert.ok(plane.subarray(0, before * perRow).every((word) => word === 0));
        }
        const rowBytes = bytes.length / rows;
        packing.pack(bytes.subarray(0, rowBytes), 1, columns, planes, before + 2);
        const changed = expected.slice();
        changed.set(expected.subarray(0, columns), 2 * columns);
        assert.deepEqual(bits(unpackAll(packing, planes, before, rows, columns)), bits(changed));
      }
    }
  });
}

Deno.test("random blocks hold what is rare: zero blocks, largest quants, zero, negative and subnormal scales", () => {
  const packing = PACKINGS.get("Q4_1")!;
  const bytes = randomBlocks(packing, 32 * 1000, new Noise("rare"), "real");
  const view = new DataView(bytes.buffer);
  const seen = new Set<string>();
  for (let at = 0; at < bytes.length; at += packing.blockBytes) {
    const quants = bytes.subarray(at + 4, at + 20);
    if (bytes.subarray(at, at + 20).every((byte) => byte === 0)) seen.add("zero block");
    if (quants.every((byte) => byte === 255)) seen.add("largest quants");
    const scale = view.getUint16(at, true);
    if ((scale & 0x7fff) === 0 && quants.some((byte) => byte > 0)) seen.add("zero scale");
    if (scale > 0x8400) seen.add("negative scale");
    if ((scale & 0x7fff) > 0 && (scale & 0x7fff) < 0x400) seen.add("subnormal scale");
    assert.ok(Number.isFinite(view.getFloat16(at, true)));
  }
  assert.equal(seen.size, 5, [...seen].join(", "));
});

/** A look-up of all rows of a matrix on the device: what load8 gives, unchanged. */
function lookUp(packing: Packing, bytes: Uint8Array, rows: number, columns: number): KernelCase {
  const planes = newPlanes(packing, rows, columns);
  packing.pack(bytes, rows, columns, planes, 0);
  const { quants, scales, highs } = planes;
  const words = new Uint32Array(quants.length + scales.length + highs.length);
  words.set(quants);
  words.set(scales, quants.length);
  words.set(highs, quants.length + scales.length);
  return {
    kernel: KERNELS.get("embed")!,
    name: `${packing.name}, ${columns} columns`,
    kind: "real",
    pass: { tokens: rows, start: 0, rows: 1 },
    constants: { columns, rows, out_row: 0, out_rows: rows },
    inputs: [Float32Array.from({ length: rows }, (_, i) => i)],
    weights: [],
    packed: {
      packing,
      columns,
      bytes,
      words,
      scales: quants.length,
      highs: quants.length + scales.length,
      readers: [],
    },
    parts: 1,
    outputs: [rows * columns],
    taps: true,
  };
}

Deno.test("the device reads the same numbers, bit for bit", async (t) => {
  const device = await openDevice();
  for (const packing of PACKINGS.values()) {
    await t.step(packing.name, async () => {
      const noise = new Noise(`device ${packing.name}`);
      const shapes = columnsOf(packing).map((columns) => {
        const rows = 9;
        return { rows, columns, bytes: randomBlocks(packing, rows * columns, noise, "real") };
      });
      for (const { type, blocks } of fixture.cases) {
        if (TYPES.get(type)!.name !== packing.name) continue;
        const bytes = Uint8Array.fromBase64(blocks);
        shapes.push({ rows: bytes.length / packing.blockBytes, columns: packing.blockSize, bytes });
      }
      const runs = await runKernels(
        device,
        shapes.map(({ rows, columns, bytes }) => lookUp(packing, bytes, rows, columns)),
      );
      runs.forEach(({ outputs: [found] }, i) => {
        const expected = dequantized(packing, shapes[i].bytes);
        expected.forEach((value, at) => {
          // WGSL promises nothing about NaN's bits, infinity, or −0.
          const same = Number.isFinite(value) ? found![at] === value : !Number.isFinite(found![at]);
          assert.ok(same, `${shapes[i].columns} columns, ${at}: ${found![at]} for ${value}`);
        });
      });
    });
  }
});

Deno.test("subnormal numbers reach the device, of every kind that a file can hold", async () => {
  const device = await openDevice();
  const at = (packing: string, count: number) => ({ packing: PACKINGS.get(packing)!, count });
  const subnormal = Float32Array.of(1e-45, -1e-40, 1.17e-38, 2 ** -127, 0, -0, 2 ** -126, 1);
  const f16 = Uint16Array.of(1, 0x8001, 0x3ff, 0x83ff, 0x200, 0, 0x400, 0x3c00);
  const bf16 = Uint16Array.of(1, 0x8001, 0x7f, 0x807f, 0x40, 0, 0x80, 0x3f80);
  const cases = [
    { ...at("F32", 8), bytes: new Uint8Array(subnormal.buffer) },
    { ...at("F16", 8), bytes: new Uint8Array(f16.buffer) },
    { ...at("BF16", 8), bytes: new Uint8Array(bf16.buffer) },
  ];
  const runs = await runKernels(
    device,
    cases.map(({ packing, count, bytes }) => lookUp(packing, bytes, 1, count)),
  );
  runs.forEach(({ outputs: [found] }, i) => {
    const { packing, bytes } = cases[i];
    const expected = dequantized(packing, bytes);
    // f16's subnormal numbers are normal in f32 and must come through. f32's own may be flushed to zero by a device:
    // WGSL allows it, and at 1e-38 it changes no sum.
    const flushed = (value: number) => Math.abs(value) < 2 ** -126 ? 0 : value;
    expected.forEach((value, at) =>
      assert.ok(
        found![at] === value || found![at] === flushed(value),
        `${packing.name}: ${found![at]} for ${value}`,
      )
    );
  });
});

/** What the rounding of weights may cost: judged from the weights and from what they are multiplied by. */
import assert from "node:assert/strict";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { alteredFile } from "../../../checkpoints/files/altered_file.ts";
import { roundingText } from "../../../checkpoints/parity/compare.ts";
import type { ParityResult } from "../../../checkpoints/parity/comparison.ts";
import { unseenLine } from "../../../checkpoints/parity/reports/report.ts";
import {
  expectedSquares,
  runWidth,
} from "../../../checkpoints/parity/weights/expected_rounding.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { comparedRun } from "../../support/engines/compared_run.ts";
import { ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { activations, judgedProduct, withBytes } from "../../support/engines/judged_product.ts";
import { Folder } from "../../support/folder.ts";
import { breakFile } from "../../support/models/broken_files.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { QUANTIZERS } from "../../support/models/quantize.ts";
import { randomFile } from "../../support/models/random_llama.ts";

const NAME = "blk.0.ffn_up.weight";
const COLUMNS = 128;
const original = await randomFile({ layers: 1, width: COLUMNS, ffnWidth: 384, heads: 4 });

/** The original with one weight in another type. */
async function quantized(type: string, from: GgufFile = original): Promise<GgufFile> {
  const tensor = from.tensors.get(NAME)!;
  const numbers = dequantize(tensor.type, await from.readTensor(tensor));
  const bytes = () => Promise.resolve(Uint8Array.from(QUANTIZERS[type](numbers)));
  const stored = GGML_TYPES.find(({ name }) => name === type)!;
  const made = { type: stored, shape: tensor.shape, bytes };
  return alteredFile(from, { tensors: new Map([[NAME, made]]) });
}

const copies = {
  F16: await quantized("F16"),
  BF16: await quantized("BF16"),
  Q8_0: await quantized("Q8_0"),
  Q4_0: await quantized("Q4_0"),
};
type Copy = keyof typeof copies;
const rowBytes = (type: Copy) => {
  const { blockBytes, blockSize } = GGML_TYPES.find(({ name }) => name === type)!;
  return COLUMNS / blockSize * blockBytes;
};
const normal = activations(20, COLUMNS, "normal");
const massive = activations(20, COLUMNS, "massive");

Deno.test("the expected square of an error is the mean of what there is", () => {
  const random = new Random(5);
  const numbers = Float32Array.from({ length: 2 ** 15 }, () => random.normal(0.02));
  for (const type of ["F16", "BF16", "Q8_0", "Q4_0"] as const) {
    const stored = GGML_TYPES.find(({ name }) => name === type)!;
    const found = dequantize(stored, QUANTIZERS[type](numbers));
    const expected = expectedSquares(type, numbers, 256);
    const mean = expected.reduce((sum, value) => sum + value, 0) / expected.length;
    const actual = numbers.reduce((sum, x, i) => sum + (x - found[i]) ** 2, 0) / numbers.length;
    assert.ok(actual / mean > 0.85 && actual / mean < 1.15, `${type}: ${actual / mean}`);
  }
  assert.equal(expectedSquares("F32", numbers, 256).every((value) => value === 0), true);
  assert.equal(runWidth("IQ4_NL"), undefined);
});

Deno.test("numbers that lie near the smallest scale, and none, expect no less than they lose", () => {
  const random = new Random(6);
  for (const type of ["Q8_0", "Q4_0", "F16"]) {
    const stored = GGML_TYPES.find(({ name }) => name === type)!;
    for (const size of [1e-4, 1e-6, 1e-8, 0]) {
      const numbers = Float32Array.from({ length: 4096 }, () => random.normal(size));
      const found = dequantize(stored, QUANTIZERS[type](numbers));
      const expected = expectedSquares(type, found, 256);
      for (let run = 0; run < expected.length; run++) {
        let square = 0;
        for (let i = 32 * run; i < 32 * (run + 1); i++) square += (found[i] - numbers[i]) ** 2 / 32;
        assert.ok(square <= 12 * expected[run], `${type} of ${size}: ${square / expected[run]}`);
      }
    }
  }
});

Deno.test("rounded weights pass, whatever single columns dominate", async () => {
  for (const [type, copy] of Object.entries(copies)) {
    for (const x of [normal, massive, activations(1, COLUMNS, "massive")]) {
      const judged = await judgedProduct([copy, original], NAME, x);
      assert.ok(judged.passed && judged.share > 0.1, `${type}: ${roundingText(judged.rounding!)}`);
    }
  }
  // Both are rounded.
  for (const other of ["F16", "Q8_0"] as const) {
    const both = await judgedProduct([copies.Q4_0, copies[other]], NAME, massive);
    assert.ok(both.passed, roundingText(both.rounding!));
    assert.equal(
      both.rounding!.types,
      other === "F16" ? "Q4_0 for F16" : "Q4_0 and Q8_0, both rounded",
    );
  }
  // The copy may stand on the other side.
  assert.ok((await judgedProduct([original, copies.Q4_0], NAME, massive)).passed);
});

Deno.test("what no rounding does fails, and is found", async () => {
  const scaled =
    (type: Copy, factor: number, first = 0, count = Infinity) => (bytes: Uint8Array) => {
      const { blockBytes } = GGML_TYPES.find(({ name }) => name === type)!;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const end = Math.min(bytes.length, first + count);
      for (let at = first; at < end; at += blockBytes) {
        view.setFloat16(at, view.getFloat16(at, true) * factor, true);
      }
    };
  for (const type of ["F16", "Q8_0", "Q4_0"] as const) {
    const row = rowBytes(type);
    const block = type === "F16" ? 64 : row / 4;
    const faults: Record<string, [(bytes: Uint8Array) => void, RegExp?]> = {
      "a block": [
        (bytes) =>
          bytes.subarray(5 * row, 5 * row + block).forEach((byte, i, all) => {
            // Its scale stays.
            if (i > 1) all[i] = byte ^ (i % 2 === 1 ? 0x25 : 0x3f);
          }),
        /row 5($|, columns 0 to 31$)/,
      ],
      "a block of zeros": [
        (bytes) => bytes.fill(0, 6 * row + block, 6 * row + 2 * block),
        /row 6($|, columns 32 to 63$)/,
      ],
      "a block's scale": [scaled(type, 2, 7 * row, block), /row 7($|, columns 0 to 31$)/],
      "a block without numbers": [scaled(type, NaN, 7 * row, block)],
      "two rows exchanged": [
        (bytes) => {
          const first = bytes.slice(8 * row, 9 * row);
          bytes.copyWithin(8 * row, 9 * row, 10 * row);
          bytes.set(first, 9 * row);
        },
        /row [89]($|,)/,
      ],
      "heads exchanged": [(bytes) => {
        const first = bytes.slice(0, 32 * row);
        bytes.copyWithin(0, 32 * row, 64 * row);
        bytes.set(first, 32 * row);
      }],
      "a tensor 1.02 times as large": [scaled(type, 1.02)],
      "a tensor 0.98 times as large": [scaled(type, 0.98)],
    };
    for (const [name, [change, where]] of Object.entries(faults)) {
      const broken = await withBytes(copies[type], NAME, change);
      for (const x of [normal, massive]) {
        const judged = await judgedProduct([broken, original], NAME, x);
        assert.equal(judged.passed, false, `${type}, ${name}: ${judged.share}`);
        if (where) assert.match(judged.rounding?.where ?? "", where, `${type}, ${name}`);
      }
    }
  }
});

Deno.test("an outcome that is not the product of the weights fails, however small it is", async () => {
  const judged = await judgedProduct([copies.Q4_0, original], NAME, normal, {
    change: (ours) => ours.forEach((value, i) => ours[i] = value + 0.3 * (i % 384 === 192 ? 1 : 0)),
  });
  assert.equal(judged.passed, false);
  assert.match(
    roundingText(judged.rounding!),
    /times what is allowed from the product of the files' weights \(Q4_0 for F32\)$/,
  );
  // One position of many, which is none of those that are looked at anyway.
  const many = activations(200, COLUMNS, "normal");
  const one = await judgedProduct([copies.Q8_0, original], NAME, many, {
    change: (ours) => ours.fill(0, 117 * 384, 118 * 384),
  });
  assert.equal(one.passed, false);
  assert.equal(one.place.position, 117);
});

Deno.test("numbers that are only supposed are judged by their spread", async () => {
  const row = rowBytes("Q8_0");
  const broken = await withBytes(copies.Q8_0, NAME, (bytes) => bytes.fill(3, 0, row));
  const supposed = (change: (ours: Float32Array) => void) =>
    judgedProduct([broken, original], NAME, normal, { supposed: true, change });
  const right = await product(copies.Q8_0);
  assert.equal((await supposed((ours) => ours.set(right))).passed, true);
  assert.equal((await supposed(() => {})).passed, false);
});

async function product(file: GgufFile): Promise<Float32Array> {
  let found = new Float32Array();
  await judgedProduct([file, original], NAME, normal, { change: (ours) => found = ours.slice() });
  return found;
}

Deno.test("a block that an importance matrix gave up is no fault, where what matters is right", async () => {
  const type = GGML_TYPES.find(({ name }) => name === "Q4_0")!;
  const x = activations(20, COLUMNS, "massive");
  const given = await withBytes(copies.Q4_0, NAME, (bytes) => {
    // Column 7 as it is in the original, for a scale of 1.4 times the usual.
    const numbers = dequantize(type, bytes);
    const at = 3 * rowBytes("Q4_0");
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, 18);
    const d = numbers[3 * COLUMNS + 7] / 2;
    view.setFloat16(0, d, true);
    for (let i = 0; i < 16; i++) {
      const code = (column: number) =>
        Math.max(0, Math.min(15, Math.round(numbers[3 * COLUMNS + column] / d + 8)));
      view.setUint8(2 + i, code(i) | code(i + 16) << 4);
    }
  });
  for (let t = 0; t < x.T; t++) x.data[t * COLUMNS + 7] = 1000;
  const judged = await judgedProduct([given, original], NAME, x);
  assert.ok(judged.passed, `${judged.share} ${roundingText(judged.rounding!)}`);
});

Deno.test("the same type is held to the same numbers; what is too small to be seen is said", async () => {
  const same = await judgedProduct([copies.Q8_0, await quantized("Q8_0")], NAME, normal);
  assert.deepEqual([same.passed, same.error, same.otherBytes], [true, 0, undefined]);
  const near = await withBytes(copies.Q8_0, NAME, (bytes) => bytes[0] ^= 1);
  const judged = await judgedProduct([near, copies.Q8_0], NAME, normal);
  assert.equal(judged.rounding, undefined);
  assert.equal(judged.otherBytes!.tensor, NAME);
  assert.ok(judged.otherBytes!.largest > 1e-4 && judged.otherBytes!.largest < 1e-3);
  // The report counts those that pass.
  const row = (tensor: string, largest: number, passed = true) => ({
    local: { ...judged, passed, otherBytes: { tensor, largest } },
  });
  const line = (...rows: ReturnType<typeof row>[]) =>
    unseenLine({ rows } as unknown as ParityResult);
  assert.equal(
    line(row("a", 5e-4), row("b", 2e-4), row("a", 5e-4), row("c", 1e-2, false)),
    "2 tensors have other bytes, too close to see: largest relative difference 5e-4, a",
  );
  assert.equal(line(row("a", 1e-2, false)), undefined);
  const far = await withBytes(copies.Q8_0, NAME, (bytes) => bytes[5] ^= 0x40);
  assert.equal((await judgedProduct([far, copies.Q8_0], NAME, normal)).passed, false);
});

Deno.test("what is made of hidden products of rounded weights is not judged, which is no pass", async () => {
  using folder = new Folder();
  const { random } = await faultModels(folder.path);
  const against = `${folder.path}/rounded.gguf`;
  const name = "blk.1.ffn_down.weight";
  await breakFile(random.path, against, async (file) => {
    const { shape, type } = file.tensors.get(name)!;
    const numbers = dequantize(type, await file.readTensor(file.tensors.get(name)!));
    const bytes = () => Promise.resolve(Uint8Array.from(QUANTIZERS.BF16(numbers)));
    const stored = GGML_TYPES.find(({ name }) => name === "BF16")!;
    return { tensors: new Map([[name, { type: stored, shape, bytes }]]) };
  });
  const run = (await ForeignEngine.open(against)).run(random.ids, 0);
  const status = async (shown: RegExp) => {
    const { checkpoints } = await comparedRun(random.path, run, { shown, against });
    const { status, why } = checkpoints.find(({ checkpoint }) => checkpoint.id === "7")!;
    return [status, why];
  };
  assert.deepEqual(await status(/^blk\.1\.out$/), ["skipped", "not judged"]);
  assert.deepEqual(await status(/./), ["pass", undefined]);
});

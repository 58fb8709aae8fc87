/** The layouts of quantized blocks as data, and what misreads them. */
import assert from "node:assert/strict";
import {
  misreadingsOf,
  PACKED_TYPES,
  readAsDescribed,
} from "../../../checkpoints/diagnosis/block_layouts.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { Random, randomBlocks, type RandomType } from "../../../checkpoints/files/random.ts";

for (const name of PACKED_TYPES) {
  const type = GGML_TYPES.find((each) => each.name === name)!;
  const bytes = randomBlocks(name as RandomType, 40 * type.blockSize, 0.1, new Random(1));
  const right = dequantize(type, bytes);

  Deno.test(`${name}: what is described is what dequantize reads, bit for bit`, () => {
    assert.deepEqual(readAsDescribed(name, bytes), right);
  });

  Deno.test(`${name}: each misreading has its own numbers and its own words`, () => {
    const readings = misreadingsOf(name);
    assert.ok(readings.length >= 6, `${readings.length}`);
    const all = [right, ...readings.map(({ read }) => read(bytes))];
    const seen = new Set(all.map((numbers) => numbers.join()));
    assert.equal(seen.size, all.length);
    assert.equal(new Set(readings.map(({ what }) => what)).size, readings.length);
  });
}

/** One block of Q4_0 with the scale 1 and the quants 0 to 15, twice: low nibbles, then high ones. */
const COUNTED = Uint8Array.of(0, 0x3c, ...Array.from({ length: 16 }, (_, i) => i | i << 4));

function q4_0(what: RegExp): number[] {
  const found = misreadingsOf("Q4_0").filter((each) => what.test(each.what));
  assert.equal(found.length, 1, `${found.map(({ what }) => what)}`);
  return Array.from(found[0].read(COUNTED), (number) => number + 0); // no −0
}

Deno.test("misreadings of Q4_0 are what they are called", () => {
  const i = [...Array(32).keys()];
  assert.deepEqual(q4_0(/^without the offset/), i.map((i) => i % 16));
  assert.deepEqual(q4_0(/two's complement/), i.map((i) => i % 16 < 8 ? i % 16 : i % 16 - 16));
  assert.deepEqual(q4_0(/beside each other in a byte's nibbles$/), i.map((i) => (i >> 1) - 8));
});

/** 1 and 2 as 16-bit floats. */
const HALVES = { F16: [0, 0x3c, 0, 0x40], BF16: [0x80, 0x3f, 0, 0x40] };

Deno.test("16-bit floats are misread as each other, and in the other byte order", () => {
  const read = (type: keyof typeof HALVES, what: string) =>
    Array.from(
      misreadingsOf(type).find((each) => each.what === what)!.read(Uint8Array.from(HALVES[type])),
    );
  assert.deepEqual(read("F16", "as BF16"), [2 ** -7, 2]);
  assert.deepEqual(read("BF16", "as F16"), [1.875, 2]);
  for (const type of ["F16", "BF16"] as const) {
    const [, two] = read(type, "the two bytes of each number exchanged");
    assert.ok(two > 0 && two < 1e-5, `${two}`);
  }
});

Deno.test("other types have no misreadings", () => {
  assert.deepEqual(misreadingsOf("F32"), []);
  assert.deepEqual(misreadingsOf("toString"), []);
});

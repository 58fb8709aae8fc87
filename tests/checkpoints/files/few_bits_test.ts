/** Numbers that few bits hold: told from those that need all. */
import assert from "node:assert/strict";
import { fewBits as found, floatHolding } from "../../../checkpoints/files/few_bits.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { roundedBlocks, toBf16 } from "../../../checkpoints/parity/rounded_engines/rounding.ts";

const fewBits = (numbers: Float32Array, columns: number) => found(numbers, columns)?.what;

const COLUMNS = 128;
const ROWS = 48;
const random = new Random(3);
const NUMBERS = Float32Array.from({ length: ROWS * COLUMNS }, () => random.normal());

/** Rounded to so many bits, in blocks of so many numbers. */
function steps(bits: number, block: number): Float32Array {
  const out = new Float32Array(NUMBERS.length);
  for (let first = 0; first < out.length; first += block) {
    const part = NUMBERS.subarray(first, first + block);
    const most = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const step = Math.fround(most / (2 ** (bits - 1) - 1));
    part.forEach((value, i) => out[first + i] = Math.round(value / step) * step);
  }
  return out;
}

Deno.test("32 bits are not few, nor are too few numbers to tell", () => {
  assert.equal(fewBits(NUMBERS, COLUMNS), undefined);
  assert.equal(floatHolding(Float32Array.of(1, 0.5, 2)), undefined);
  assert.equal(fewBits(new Float32Array(COLUMNS), COLUMNS), undefined);
});

Deno.test("floats of 16 and 8 bits", () => {
  assert.equal(fewBits(NUMBERS.map(toBf16), COLUMNS), "bf16");
  assert.equal(fewBits(NUMBERS.map(Math.f16round), COLUMNS), "f16");
  const bits = (count: number) =>
    NUMBERS.map((value) => {
      const unit = 2 ** (Math.max(-6, Math.floor(Math.log2(Math.abs(value)))) - count);
      return Math.round(value / unit) * unit;
    });
  assert.equal(fewBits(bits(3), COLUMNS), "f8 (e4m3)");
  // One more than either has.
  assert.equal(fewBits(bits(4), COLUMNS), "bf16");
  assert.equal(
    floatHolding(Float32Array.from(NUMBERS, (x) => toBf16(1e30 * x)), ["f16"]),
    undefined,
  );
});

Deno.test("equal steps, in all of it or in each row, and tables", () => {
  for (const bits of [2, 3, 4, 5, 6]) {
    assert.equal(fewBits(steps(bits, NUMBERS.length), COLUMNS), `${bits} bits in equal steps`);
  }
  for (const bits of [3, 4, 8]) {
    const expected = `${bits} bits in equal steps in each row`;
    assert.equal(fewBits(steps(bits, COLUMNS), COLUMNS), expected);
  }
  assert.equal(
    fewBits(roundedBlocks(NUMBERS, COLUMNS), COLUMNS),
    "8 bits in equal steps in each row",
  );
  const table = NUMBERS.map((value) => Math.sin(Math.round(value * 20)));
  assert.match(fewBits(table, COLUMNS)!, /^one of \d+ different numbers$/);
});

Deno.test("equal steps in each row, whose products are held in 16 bits", () => {
  for (const bits of [4, 6, 8]) {
    const expected = `${bits} bits in equal steps in each row`;
    assert.equal(fewBits(steps(bits, COLUMNS).map(Math.f16round), COLUMNS), expected);
  }
  const unequal = NUMBERS.map((x) => Math.f16round(Math.sign(x) * 2 ** Math.round(8 * x)));
  assert.match(fewBits(unequal, COLUMNS)!, /^one of \d+ different numbers$/);
});

Deno.test("rounding is not farther off than it is said to be", () => {
  const nmse = (b: Float32Array) =>
    b.reduce((sum, y, i) => sum + (y - NUMBERS[i]) ** 2, 0) /
    NUMBERS.reduce((sum, x) => sum + x * x, 0);
  const ways = [NUMBERS.map(toBf16), NUMBERS.map(Math.f16round)];
  for (const bits of [3, 4, 6, 8]) ways.push(Float32Array.from(steps(bits, COLUMNS)));
  for (const rounded of ways) assert.ok(nmse(rounded) <= found(rounded, COLUMNS)!.nmse);
});

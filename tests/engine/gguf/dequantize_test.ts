import assert from "node:assert/strict";
import { dequantize, f16ToF32, isDequantizable } from "../../../engine/gguf/dequantize.ts";
import { GGML_TYPES, ggmlType } from "../../../engine/gguf/types.ts";
import fixture from "../../fixtures/dequantize.json" with { type: "json" };

function typeNamed(name: string) {
  return GGML_TYPES.find((type) => type.name === name)!;
}

Deno.test("the table of types is ggml's", () => {
  for (const { id, name, blockSize, blockBytes } of fixture.types) {
    const ours = ggmlType(id);
    assert.equal(ours?.name.toLowerCase(), name.toLowerCase(), `type ${id}`);
    assert.deepEqual([ours?.blockSize, ours?.blockBytes], [blockSize, blockBytes], name);
  }
  assert.equal(fixture.types.length, 35);
  assert.equal(ggmlType(4), undefined);
  assert.equal(ggmlType(43), undefined);
});

Deno.test("wide fields lie inside their blocks and do not overlap", () => {
  for (const { name, blockBytes, wide } of GGML_TYPES) {
    let end = 0;
    for (const [offset, width, count] of wide) {
      assert.ok(offset >= end, name);
      end = offset + width * count;
    }
    assert.ok(end <= blockBytes, name);
  }
});

for (const { type: name, blocks, numbers } of fixture.cases) {
  Deno.test(`${name} gives ggml's numbers bit for bit`, () => {
    const type = typeNamed(name);
    const bytes = Uint8Array.fromBase64(blocks);
    const expected = new Uint32Array(Uint8Array.fromBase64(numbers).buffer);
    const found = dequantize(type, bytes);
    assert.deepEqual(new Uint32Array(found.buffer), expected);

    // The same from an odd address, into the middle of an array that is there already.
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const room = new Float32Array(found.length + 2).fill(7);
    const out = room.subarray(1, found.length + 1);
    assert.equal(dequantize(type, shifted.subarray(1), out), out);
    assert.deepEqual(new Uint32Array(out.slice().buffer), expected);
    assert.deepEqual([room[0], room[room.length - 1]], [7, 7]);
  });
}

Deno.test("F32 is taken as it is, from any address", () => {
  const numbers = Float32Array.of(0, -0, 1e-45, -3.5, 3.4028234663852886e38);
  const bytes = new Uint8Array(numbers.byteLength + 3);
  bytes.set(new Uint8Array(numbers.buffer), 3);
  const found = dequantize(typeNamed("F32"), bytes.subarray(3));
  assert.deepEqual(new Uint32Array(found.buffer), new Uint32Array(numbers.buffer));
});

Deno.test("f16ToF32 follows IEEE 754 over all bits", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const value = exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
      ? (fraction ? NaN : Infinity)
      : (1024 + fraction) * 2 ** (exponent - 25);
    assert.ok(Object.is(f16ToF32(bits), sign * value), `bits ${bits}`);
  }
});

Deno.test("what cannot be dequantized is refused by name", () => {
  const type = typeNamed("IQ2_XXS");
  assert.equal(isDequantizable(type), false);
  assert.throws(() => dequantize(type, new Uint8Array(66)), /IQ2_XXS: not yet/);
  assert.throws(() => dequantize(typeNamed("Q4_0"), new Uint8Array(19)), RangeError);
  assert.throws(
    () => dequantize(typeNamed("Q4_0"), new Uint8Array(18), new Float32Array(31)),
    RangeError,
  );
});

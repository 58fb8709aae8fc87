import assert from "node:assert/strict";
import {
  METADATA,
  open,
  refusal,
  SMALL,
  tensor,
  TENSORS,
} from "../../support/models/gguf_samples.ts";
import {
  type TypedValue,
  writeGguf,
  type WriterOptions,
  type WriterTensor,
  type WriterValue,
} from "../../support/models/gguf_writer.ts";
import { Random } from "../../../checkpoints/files/random.ts";

Deno.test("cut off anywhere, a file is refused in one line", async () => {
  const random = new Random(200);
  for (const littleEndian of [true, false]) {
    const bytes = writeGguf({ littleEndian, metadata: METADATA, tensors: TENSORS });
    const offsets = new Set([0, 1, 3, 4, 7, 8, 15, 16, 23, 24, bytes.length - 1]);
    while (offsets.size < 200) offsets.add(random.integer(0, bytes.length));
    for (const offset of offsets) {
      const error = await refusal(() => open(bytes.subarray(0, offset)));
      assert.match(error.message, /truncated|empty|not a GGUF/, `cut at ${offset}`);
    }
  }
});

Deno.test("with any bytes changed, a file is read or refused in one line", async () => {
  const random = new Random(7);
  const whole = writeGguf({ metadata: METADATA, tensors: TENSORS });
  const headerEnd = (await open(whole)).tensors.get("token_embd.weight")!.offset;
  let refused = 0;
  for (let run = 0; run < 3000; run++) {
    const bytes = whole.slice();
    for (let change = random.integer(1, 4); change > 0; change--) {
      bytes[random.integer(0, headerEnd)] = random.bits() % 3 === 0 ? 255 : random.bits();
    }
    try {
      await open(bytes);
    } catch (error) {
      refused++;
      await refusal(() => Promise.reject(error));
    }
  }
  assert.ok(refused > 1000 && refused < 3000, `${refused} of 3000 refused`);
});

Deno.test("an empty tensor overlaps nothing and hides no overlap", async () => {
  const [a, b] = SMALL.tensors!;
  const empty = { name: "none", type: "F32", shape: [0], data: new Uint8Array(0) };
  const wide = tensor("wide", "F32", [16]);
  assert.equal((await open(writeGguf({ tensors: [a, empty, b] }))).tensors.size, 3);
  const inside = writeGguf({ tensors: [wide, { ...empty, offset: 32 }] });
  assert.equal((await open(inside)).tensors.size, 2);
  const hidden = writeGguf({ tensors: [wide, { ...empty, offset: 32 }, { ...b, offset: 32 }] });
  assert.match((await refusal(() => open(hidden))).message, /"wide" and "b" overlap/);
});

/** Bytes of a good file with 8 of them at `offset` replaced by a 64-bit number. */
function with64(bytes: Uint8Array, offset: number, value: bigint): Uint8Array {
  const changed = bytes.slice();
  new DataView(changed.buffer).setBigUint64(offset, value, true);
  return changed;
}

/** Magic, version, two counts: then the first key's length. */
const KEY_LENGTH_AT = 24;
/** After the key's 8 + 3 bytes and the value's type. */
const VALUE_LENGTH_AT = 39;

function smallWith(change: Partial<WriterTensor>): Uint8Array {
  const [first, second] = SMALL.tensors!;
  return writeGguf({ ...SMALL, tensors: [first, { ...second, ...change }] });
}

function deeplyNested(depth: number): TypedValue {
  let value: TypedValue = { type: "array", of: "u8", value: [1] };
  for (let level = 1; level < depth; level++) {
    value = { type: "array", of: "array", value: [value] };
  }
  return value;
}

const small = writeGguf(SMALL);
const withMetadata = (metadata: WriterOptions["metadata"]) => () => writeGguf({ metadata });
const withAlignment = (alignment: WriterValue) => withMetadata({ "general.alignment": alignment });
/** A file with one value, an array that claims to be 2^62 long. */
const withLongArray = (key: WriterValue) => () =>
  with64(writeGguf({ metadata: { key } }), 43, 2n ** 62n);

const REFUSED: readonly [string, () => Uint8Array, RegExp, string?][] = [
  ["an empty file", () => new Uint8Array(0), /empty/],
  ["text", () => new TextEncoder().encode("<html>404</html>"), /not a GGUF file/],
  ["a version from the future", () => writeGguf({ version: 4 }), /version 4 is unknown/],
  ["version 0", () => writeGguf({ version: 0 }), /version 0 is unknown/],
  ["2^63 tensors", () => writeGguf({ tensorCount: 2n ** 63n }), /claims 9223372036854776000 tens/],
  ["10^6 tensors", () => writeGguf({ ...SMALL, tensorCount: 1e6 }), /claims 1000000 tensors/],
  ["one tensor too many", () => writeGguf({ ...SMALL, tensorCount: 3 }), /dimensions|truncated/],
  ["2^64-1 entries", () => writeGguf({ metadataCount: 2n ** 64n - 1n }), /metadata entries/],
  [
    "2^32-1 entries in version 1",
    () => writeGguf({ version: 1, metadataCount: 2 ** 32 - 1 }),
    /4294967295 metadata/,
  ],
  ["a long key", () => with64(small, KEY_LENGTH_AT, 2n ** 40n), /claims 1099511627776 bytes/],
  ["a long string", () => with64(small, VALUE_LENGTH_AT, 500n), /a string claims 500 bytes/],
  ["an empty key", withMetadata({ "": 1 }), /key is empty/],
  [
    "a key twice",
    () => writeGguf({ metadata: { key: 1 }, moreMetadata: [["key", 2]] }),
    /"key" is there twice/,
  ],
  ["an unknown metadata type", () => {
    const bytes = writeGguf(SMALL);
    bytes[35] = 13;
    return bytes;
  }, /"key" has the unknown metadata type 13/],
  ["2^62 numbers in an array", withLongArray(Int32Array.of(1)), /elements in "key"/],
  ["2^62 strings in an array", withLongArray(["a"]), /strings in "key"/],
  ["2^62 arrays in an array", withLongArray(deeplyNested(2)), /arrays in "key"/],
  ["arrays 1000 deep", withMetadata({ key: deeplyNested(1000) }), /nested more than 32 deep/],
  ["alignment 0", withAlignment(0), /alignment is 0/],
  ["alignment 7", withAlignment(7), /alignment is 7/],
  ["alignment in words", withAlignment("32"), /alignment/],
  ["alignment 2^62", withAlignment(2n ** 62n), /alignment/],
  ["five dimensions", () => smallWith({ shape: [1, 1, 1, 1, 1] }), /"b" has 5 dimensions/, "b"],
  [
    "a product of 2^64",
    () => smallWith({ shape: [2 ** 32, 2 ** 32] }),
    /"b" .* impossibly large/,
    "b",
  ],
  ["a dimension of 2^63", () => smallWith({ shape: [2n ** 63n] }), /"b" .* impossibly large/, "b"],
  ["zero times 2^63", () => smallWith({ shape: [0, 2n ** 63n] }), /"b" .* impossibly large/, "b"],
  [
    "more rows than the file has",
    () => smallWith({ shape: [8, 9] }),
    /"b" ends at byte \d+ but the file has/,
    "b",
  ],
  [
    "an unknown tensor type",
    () => smallWith({ type: 99 }),
    /"b" has the unknown ggml type 99/,
    "b",
  ],
  ["a removed tensor type", () => smallWith({ type: 4 }), /"b" has the unknown ggml type 4/, "b"],
  [
    "a row of a part of a block",
    () => smallWith({ type: "Q4_0", shape: [8] }),
    /"b" has 8 columns.*Q4_0.*multiple of 32/,
    "b",
  ],
  ["an offset outside the file", () => smallWith({ offset: 2n ** 40n }), /"b" ends at byte/, "b"],
  ["an offset of 2^64-32", () => smallWith({ offset: 2n ** 64n - 32n }), /"b" ends at byte/, "b"],
  ["an unaligned tensor", () => smallWith({ offset: 4 }), /"b" lies at 4 .*multiple of 32/, "b"],
  ["overlapping tensors", () => smallWith({ offset: 0 }), /"a" and "b" overlap/, "b"],
  ["a tensor twice", () => smallWith({ name: "a" }), /tensor "a" is there twice/, "a"],
  [
    "a name with line breaks",
    () => smallWith({ name: "b\nc\u001b[31m".repeat(99), type: 99 }),
    /unknown ggml type 99/,
  ],
];

for (const [what, make, expected, name] of REFUSED) {
  Deno.test(`refused: ${what}`, async () => {
    const error = await refusal(() => open(make()));
    assert.match(error.message, expected);
    if (name !== undefined) assert.equal(error.tensor, name);
  });
}

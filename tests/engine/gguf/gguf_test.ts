import assert from "node:assert/strict";
import { openGguf, openGgufFile } from "../../../engine/gguf/reader.ts";
import { type ByteSource, bytesSource, fileSource } from "../../../engine/gguf/source.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { METADATA, open, refusal, TENSORS } from "../../support/models/gguf_samples.ts";
import { writeGguf, type WriterOptions, writeSplitGguf } from "../../support/models/gguf_writer.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { Folder } from "../../support/folder.ts";

const VARIANTS: Pick<WriterOptions, "version" | "littleEndian" | "alignment">[] = [];
for (const version of [1, 2, 3]) {
  for (const littleEndian of [true, false]) {
    for (const alignment of [1, 8, 24, 32, 4096]) {
      VARIANTS.push({ version, littleEndian, alignment });
    }
  }
}

for (const variant of VARIANTS) {
  const { version, littleEndian, alignment } = variant;
  const order = littleEndian ? "little" : "big";
  Deno.test(`version ${version}, ${order}-endian, alignment ${alignment}`, async () => {
    const bytes = writeGguf({ ...variant, metadata: METADATA, tensors: TENSORS });
    const file = await open(bytes);
    assert.deepEqual(
      [file.version, file.littleEndian, file.alignment, file.size, file.name],
      [version, littleEndian, alignment, bytes.length, "test.gguf"],
    );
    const expected: Record<string, unknown> = {
      "t.u8": 200,
      "t.i8": -100,
      "t.u16": 60000,
      "t.i16": -30000,
      "t.u32": 4000000000,
      "t.i32": -2000000000,
      "t.f32": Math.fround(0.1),
      "t.bool": true,
      "t.u64": 2 ** 53 - 1,
      "t.u64.large": 2n ** 63n + 1n,
      "t.i64": -5,
      "t.i64.large": -(2n ** 60n),
      "t.f64": 0.1,
      "a.empty": [],
      "a.nested": [Uint8Array.of(1, 2, 3), ["a", "é"], [[true, false], new Int16Array(0)]],
    };
    for (const [key, value] of Object.entries(METADATA)) {
      assert.deepEqual(file.metadata.get(key), key in expected ? expected[key] : value, key);
    }
    assert.deepEqual([...file.tensors.keys()], TENSORS.map(({ name }) => name));
    for (const { name, type, shape, data } of TENSORS) {
      const found = file.tensors.get(name)!;
      assert.deepEqual([found.type.name, found.shape, found.bytes], [type, shape, data.length]);
      assert.equal(found.offset % alignment!, 0);
      assert.deepEqual(await file.readTensor(found), data, name);
      assert.deepEqual(await file.readTensor(found, 5), data.subarray(5), name);
      assert.deepEqual(await file.readTensor(found, 3, 6), data.subarray(3, 9), name);
      assert.deepEqual((await file.readTensor(found, found.bytes, 0)).length, 0);
      await assert.rejects(file.readTensor(found, 1, data.length), RangeError);
      await assert.rejects(file.readTensor(found, -1, 1), RangeError);
    }
  });
}

Deno.test("every type can be listed, with its size", async () => {
  const tensors = GGML_TYPES.map(({ name, blockSize, blockBytes }) => ({
    name,
    type: name,
    shape: [2 * blockSize, 3],
    data: new Uint8Array(6 * blockBytes),
  }));
  const file = await open(writeGguf({ tensors }));
  for (const { name, data } of tensors) {
    assert.equal(file.tensors.get(name)!.type.name, name);
    assert.equal(file.tensors.get(name)!.bytes, data.length, name);
  }
});

Deno.test("bytes in memory are not copied, and a big-endian read leaves them alone", async () => {
  const bytes = writeGguf({ tensors: TENSORS });
  const file = await open(bytes);
  const found = await file.readTensor(file.tensors.get("blocks")!);
  assert.equal(found.buffer, bytes.buffer);

  const big = writeGguf({ tensors: TENSORS, littleEndian: false });
  const before = big.slice();
  const bigFile = await open(big);
  for (const each of bigFile.tensors.values()) await bigFile.readTensor(each);
  assert.deepEqual(big, before);
});

Deno.test("files without tensors and tensors without numbers are files", async () => {
  assert.equal((await open(writeGguf({}))).tensors.size, 0);
  const file = await open(writeGguf({
    tensors: [
      { name: "none", type: "F32", shape: [0, 4], data: new Uint8Array(0) },
      { name: "scalar", type: "F32", shape: [], data: new Uint8Array(4) },
    ],
  }));
  assert.equal(file.tensors.get("none")!.bytes, 0);
  assert.equal(file.tensors.get("scalar")!.bytes, 4);
});

/** Llama 3's vocabulary in size: 128,256 tokens and 280,147 merges. */
function vocabulary(): { tokens: string[]; merges: string[] } {
  const random = new Random(3);
  const letters = [..."abcdefghijklmnopqrstuvwxyzĠĊéüß中文字▁😀"];
  const word = () =>
    Array.from({ length: random.integer(1, 9) }, () => letters[random.integer(0, letters.length)])
      .join("");
  return {
    tokens: Array.from({ length: 128256 }, word),
    merges: Array.from({ length: 280147 }, () => `${word()} ${word()}`),
  };
}

Deno.test("a vocabulary as large as Llama 3's is read once, in a few large pieces", async () => {
  const { tokens, merges } = vocabulary();
  const bytes = writeGguf({
    metadata: {
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": new Int32Array(tokens.length).fill(1),
      "tokenizer.ggml.merges": merges,
    },
  });
  const source = bytesSource("test.gguf", bytes);
  const reads: number[] = [];
  const file = await openGguf({
    ...source,
    read(offset, length) {
      reads.push(length);
      return source.read(offset, length);
    },
  });
  assert.deepEqual(file.metadata.get("tokenizer.ggml.tokens"), tokens);
  assert.deepEqual(file.metadata.get("tokenizer.ggml.merges"), merges);
  // A value in the middle of which a piece ends is read again with the next.
  const read = reads.reduce((sum, length) => sum + length, 0);
  assert.ok(read < 1.1 * bytes.length, `${read} of ${bytes.length} bytes`);
  assert.ok(reads.length <= Math.ceil(bytes.length / 2 ** 20) + 1, `${reads.length} reads`);
});

Deno.test("of a file of a terabyte only the header and the ranges asked for are read", async () => {
  const [columns, rows] = [65536, 2 ** 22];
  const header = writeGguf({
    metadata: { "a.text": "x".repeat(3_000_000) },
    tensors: [
      { name: "first", type: "F32", shape: [columns, rows], data: new Uint8Array(0) },
      {
        name: "second",
        type: "F32",
        shape: [8],
        data: new Uint8Array(0),
        offset: 4 * columns * rows,
      },
    ],
  });
  const reads: [number, number][] = [];
  const dataStart = Math.ceil(header.length / 32) * 32;
  const source: ByteSource = {
    name: "huge.gguf",
    size: dataStart + 4 * columns * rows + 32,
    read(offset, length) {
      reads.push([offset, length]);
      const bytes = new Uint8Array(length);
      if (offset < header.length) bytes.set(header.subarray(offset, offset + length));
      return Promise.resolve(bytes);
    },
    close() {},
  };
  const file = await openGguf(source);
  assert.equal(file.tensors.get("first")!.bytes, 2 ** 40);
  assert.ok(reads.every(([, length]) => length <= 64 * 2 ** 20));
  assert.ok(reads.reduce((sum, [, length]) => sum + length, 0) < 8 * 2 ** 20);
  reads.length = 0;
  await file.readTensor(file.tensors.get("second")!, 4, 8);
  await file.readTensor(file.tensors.get("first")!, 2 ** 40 - 16, 16);
  assert.deepEqual(reads, [[dataStart + 2 ** 40 + 4, 8], [dataStart + 2 ** 40 - 16, 16]]);
});

Deno.test("split files are one file", async () => {
  const shares = [TENSORS.slice(0, 2), TENSORS.slice(2, 3), TENSORS.slice(3)];
  const parts = writeSplitGguf({ metadata: METADATA }, shares);
  const sources = parts.map((bytes, i) => bytesSource(`part ${i}`, bytes));
  const file = await openGguf(sources);
  assert.equal(file.size, parts.reduce((sum, part) => sum + part.length, 0));
  assert.equal(file.metadata.get("t.u8"), 200);
  assert.deepEqual([...file.tensors.values()].map((each) => each.source), [0, 0, 1, 2, 2]);
  for (const { name, data } of TENSORS) {
    assert.deepEqual(await file.readTensor(file.tensors.get(name)!), data, name);
  }

  const swapped = await refusal(() => openGguf([sources[0], sources[2], sources[1]]));
  assert.match(swapped.message, /part 3 of 3, not part 2 of 3/);
  const alone = await refusal(() => openGguf(sources[0]));
  assert.match(alone.message, /split into 3 parts but 1/);
  const unsplit = bytesSource("whole", writeGguf({ tensors: TENSORS }));
  assert.match((await refusal(() => openGguf([unsplit, unsplit]))).message, /1 parts but 2/);
  const twice = writeSplitGguf({}, [TENSORS.slice(0, 1), TENSORS.slice(0, 1)]);
  assert.match(
    (await refusal(() => openGguf(twice.map((bytes) => bytesSource("x", bytes))))).message,
    /also in another part/,
  );
  const short = writeSplitGguf({}, [TENSORS.slice(0, 1), TENSORS.slice(1, 3)]);
  short[1] = writeSplitGguf({}, [[], TENSORS.slice(1, 2)])[1];
  assert.match(
    (await refusal(() => openGguf(short.map((bytes) => bytesSource("x", bytes))))).message,
    /2 tensors instead of 3/,
  );
});

Deno.test("a split file on disk opens from any part, and names a part that is missing", async () => {
  using folder = new Folder();
  const path = (part: number) => folder.at(`m-0000${part}-of-00003.gguf`);
  const shares = [TENSORS.slice(0, 2), TENSORS.slice(2, 3), TENSORS.slice(3)];
  const parts = writeSplitGguf({ metadata: METADATA }, shares);
  for (const [i, part] of parts.entries()) await Deno.writeFile(path(i + 1), part);
  for (const part of [1, 3]) {
    const file = await openGgufFile(path(part));
    assert.equal(file.name, path(1));
    const reads = TENSORS.map(({ name }) => file.readTensor(file.tensors.get(name)!));
    assert.deepEqual(await Promise.all(reads), TENSORS.map(({ data }) => data));
    file.close();
  }
  const other = folder.write("renamed.gguf", parts[0]);
  const renamed = await refusal(() => openGgufFile(other));
  assert.match(renamed.message, /one of 3 parts; its name must end in -0000N-of-00003.gguf/);
  await Deno.remove(path(2));
  const missing = await refusal(() => openGgufFile(path(1)));
  assert.equal(missing.file, path(2));
  assert.match(missing.message, /part of the split file is missing/);
});

Deno.test("a file on disk is read by position, many reads at once", async () => {
  using folder = new Folder();
  const bytes = new Random(5).bytes(100_000);
  const path = folder.write("some", bytes);
  const source = await fileSource(path);
  const offsets = Array.from({ length: 50 }, (_, i) => 1999 * i);
  const reads = await Promise.all(offsets.map((offset) => source.read(offset, 1999)));
  for (const [i, read] of reads.entries()) {
    assert.deepEqual(read, bytes.slice(offsets[i], offsets[i] + 1999));
  }
  await refusal(() => source.read(99_999, 2));
  await refusal(() => source.read(-1, 2));
  await Deno.truncate(path, 50_000);
  assert.match((await refusal(() => source.read(49_990, 20))).message, /became shorter/);
  assert.deepEqual(await source.read(10, 5), bytes.slice(10, 15));
  source.close();
  source.close();
});

Deno.test("no such file, and a folder, are said so", async () => {
  using folder = new Folder();
  assert.match(
    (await refusal(() => openGgufFile(folder.at("none.gguf")))).message,
    /no such file/,
  );
  assert.match((await refusal(() => openGgufFile(folder.path))).message, /a folder/);
});

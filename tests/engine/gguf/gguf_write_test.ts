/** The GGUF writer: copies of files made by the tests' own writer, byte for byte; and what goes wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type GgufFile, openGgufFile } from "../../../engine/gguf/reader.ts";
import { ggufSize, type NewGguf, writeGguf } from "../../../engine/gguf/writer.ts";
import { METADATA, open, TENSORS } from "../../support/models/gguf_samples.ts";
import {
  writeGguf as writeInMemory,
  type WriterOptions,
} from "../../support/models/gguf_writer.ts";
import { Folder } from "../../support/folder.ts";

/** All of a file, its tensors in pieces of a few bytes. */
function contentOf(file: GgufFile, pieceBytes = 100): NewGguf {
  return {
    metadata: file.metadata,
    metadataTypes: file.metadataTypes,
    tensors: [...file.tensors.values()].map((tensor) => ({
      ...tensor,
      async *bytes() {
        for (let at = 0; at < tensor.bytes; at += pieceBytes) {
          yield await file.readTensor(tensor, at, Math.min(pieceBytes, tensor.bytes - at));
        }
      },
    })),
  };
}

async function inFolder(use: (path: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  await use(folder.at("copy.gguf"));
}

const left = (path: string) => [...Deno.readDirSync(join(path, ".."))].map(({ name }) => name);

for (const alignment of [8, 32, 4096]) {
  Deno.test(`a copy is the same file, alignment ${alignment}`, async () => {
    await inFolder(async (path) => {
      const original = writeInMemory({ metadata: METADATA, tensors: TENSORS, alignment });
      const content = contentOf(await open(original));
      const progress: number[] = [];
      await writeGguf(path, content, {
        onProgress(done, total) {
          assert.equal(total, ggufSize(content));
          progress.push(done);
        },
      });
      const copy = await Deno.readFile(path);
      assert.deepEqual(copy.subarray(0, original.length), original);
      assert.ok(copy.subarray(original.length).every((byte) => byte === 0)); // ggml pads the last tensor too
      assert.equal(copy.length, Math.ceil(original.length / alignment) * alignment);
      assert.equal(copy.length, ggufSize(content));
      assert.deepEqual(progress, progress.toSorted((a, b) => a - b));
      assert.deepEqual(left(path), ["copy.gguf"]);
    });
  });
}

Deno.test("what an older or a big-endian file says stays the same", async () => {
  const variants: WriterOptions[] = [{ version: 1 }, { version: 2, littleEndian: false }];
  for (const variant of variants) {
    await inFolder(async (path) => {
      const file = await open(writeInMemory({ ...variant, metadata: METADATA, tensors: TENSORS }));
      await writeGguf(path, contentOf(file, 1 << 20));
      const copy = await openGgufFile(path);
      assert.deepEqual([copy.version, copy.littleEndian], [3, true]);
      assert.deepEqual(copy.metadata, file.metadata);
      assert.deepEqual(copy.metadataTypes, file.metadataTypes);
      for (const tensor of file.tensors.values()) {
        assert.deepEqual(
          await copy.readTensor(copy.tensors.get(tensor.name)!),
          await file.readTensor(tensor),
        );
      }
      copy.close();
    });
  }
});

Deno.test("types are read as the file has them", async () => {
  const { metadataTypes } = await open(writeInMemory({ metadata: METADATA }));
  for (const key of metadataTypes.keys()) {
    const [, array, name] = key.match(/^([at])\.(\w+)/) ?? [];
    const scalars = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bool"];
    if (!scalars.includes(name)) continue;
    assert.equal(metadataTypes.get(key), array === "a" ? `${name}[]` : name, key);
  }
  assert.equal(metadataTypes.get("t.string"), "string");
  assert.equal(metadataTypes.get("a.nested"), "array[]");
});

Deno.test("a write that fails leaves nothing", async () => {
  const content = contentOf(await open(writeInMemory({ metadata: METADATA, tensors: TENSORS })));
  const [first, ...rest] = content.tensors;
  const changed = (bytes: NewGguf["tensors"][number]["bytes"]) => ({
    ...content,
    tensors: [{ ...first, bytes }, ...rest],
  });
  const failures: [NewGguf, RegExp][] = [
    [changed(async function* () {}), /^Cannot write tensor .*: 0 bytes came where \d+ are/],
    [
      changed(async function* () {
        yield new Uint8Array(1);
        throw new Error("unreadable");
      }),
      /^unreadable$/,
    ],
    [
      { ...content, metadataTypes: new Map() },
      /^Cannot write general.architecture: it has no type/,
    ],
    [
      { ...content, metadata: new Map([["t.u8", "text"]]), tensors: [] },
      /^Cannot write text as u8/,
    ],
  ];
  for (const [broken, message] of failures) {
    await inFolder(async (path) => {
      await assert.rejects(writeGguf(path, broken), { message });
      assert.deepEqual(left(path), []);
    });
  }
  await inFolder(async (path) => {
    await Deno.writeTextFile(path, "older");
    await assert.rejects(
      writeGguf(path, content, { signal: AbortSignal.abort() }),
      { name: "AbortError" },
    );
    assert.equal(await Deno.readTextFile(path), "older");
    assert.deepEqual(left(path), ["copy.gguf"]);
  });
});

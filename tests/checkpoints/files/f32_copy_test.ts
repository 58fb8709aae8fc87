/** 32-bit copies: exact, made once, whole or not at all. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { f32Copy } from "../../../checkpoints/files/f32_copy.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GgufError, openGguf, openGgufFile } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { ModelError } from "../../../models/mod.ts";
import { writeGguf, writeSplitGguf } from "../../support/models/gguf_writer.ts";
import { METADATA, TENSORS } from "../../support/models/gguf_samples.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

/** A folder of one's own, with a cache in it. */
class Bench extends Folder {
  readonly told: [bytes: number, path: string][] = [];
  readonly options = {
    env: (name: string) => name === "LAMINA_HOME" ? this.at("home") : undefined,
    onSpace: (bytes: number, path: string) => void this.told.push([bytes, path]),
  };

  file(name: string, bytes: Uint8Array): { name: string; path: string } {
    return { name: name.replace(".gguf", ""), path: this.write(name, bytes) };
  }

  copies(): string[] {
    return [...Deno.readDirSync(this.at("home/f32"))].map(({ name }) => name)
      .filter((name) => !name.endsWith(".lock"));
  }
}

Deno.test("every tensor is there as F32 with ggml's numbers, and all metadata", async () => {
  using bench = new Bench();
  const metadata = { ...METADATA, "general.file_type": 15 };
  const bytes = writeGguf({ metadata, tensors: TENSORS, littleEndian: false });
  const path = await f32Copy({ name: "a/b c", bytes }, bench.options);
  assert.match(path, /a_b_c-[0-9a-f]{16}\.gguf$/);
  const original = await openGguf(bytesSource("original", bytes));
  const copy = await openGgufFile(path);
  assert.deepEqual(copy.metadata, new Map([...original.metadata, ["general.file_type", 0]]));
  assert.deepEqual(copy.metadataTypes, original.metadataTypes);
  assert.deepEqual([...copy.tensors.keys()], [...original.tensors.keys()]);
  for (const { name, type, shape } of original.tensors.values()) {
    const tensor = copy.tensors.get(name)!;
    assert.deepEqual([tensor.type.name, tensor.shape], ["F32", shape]);
    const numbers = dequantize(type, await original.readTensor(original.tensors.get(name)!));
    assert.deepEqual(await copy.readTensor(tensor), new Uint8Array(numbers.buffer));
  }
  copy.close();
  assert.deepEqual(bench.told, [[Deno.statSync(path).size, path]]);
});

Deno.test("a large tensor goes in pieces", async () => {
  using bench = new Bench();
  const type = (name: string) => name.startsWith("token_embd") ? "Q4_K" : "F16";
  const bytes = randomLlama({ layers: 1, width: 256, vocab: 33000, type, tied: true });
  const path = await f32Copy({ name: "large", bytes }, bench.options);
  const original = await openGguf(bytesSource("original", bytes));
  const copy = await openGgufFile(path);
  const [from, to] = [original, copy].map(({ tensors }) => tensors.get("token_embd.weight")!);
  const numbers = dequantize(from.type, await original.readTensor(from));
  assert.equal(Buffer.compare(await copy.readTensor(to), new Uint8Array(numbers.buffer)), 0);
  copy.close();
});

Deno.test("the same content is copied once, by many callers at once too", async () => {
  using bench = new Bench();
  const bytes = randomLlama({ type: "F16" });
  const model = bench.file("one.gguf", bytes);
  const paths = await Promise.all([1, 2, 3].map(() => f32Copy(model, bench.options)));
  assert.deepEqual(new Set(paths).size, 1);
  assert.equal(await f32Copy(model, bench.options), paths[0]);
  assert.equal(bench.told.length, 1);
  assert.equal(bench.copies().length, 1);

  // Another content under the same name has a copy of its own.
  Deno.writeFileSync(model.path, randomLlama({ type: "F16", seed: 2 }));
  Deno.utimeSync(model.path, 1, 1);
  assert.notEqual(await f32Copy(model, bench.options), paths[0]);
});

Deno.test("the content names a copy, whatever a record beside the file says", async () => {
  using bench = new Bench();
  const [first, second] = ["first.gguf", "second.gguf"].map((name) => {
    const model = bench.file(name, randomLlama({ type: "F16" }));
    Deno.writeTextFileSync(`${model.path}.sha256`, `${"ab".repeat(32)}  ${name}\n`);
    return model;
  });
  const one = await f32Copy(first, bench.options);
  assert.equal(await f32Copy({ ...second, name: "first" }, bench.options), one);
  assert.doesNotMatch(one, /abab/);
  const bytes = Deno.readFileSync(first.path);
  assert.equal(await f32Copy({ name: "first", bytes }, bench.options), one);
});

Deno.test("a file that changes while it is copied leaves no copy", async () => {
  using bench = new Bench();
  const model = bench.file("some.gguf", randomLlama({ type: "F16" }));
  const onProgress = () => Deno.utimeSync(model.path, 1, 1);
  await assert.rejects(f32Copy(model, { ...bench.options, onProgress }), {
    name: ModelError.name,
    message: "some: its file has changed since it was opened; open it again",
  });
  assert.deepEqual(bench.copies(), []);
});

Deno.test("a file that is all F32 is its own copy; a split or old one isn't", async () => {
  using bench = new Bench();
  const own = bench.file("own.gguf", randomLlama({ type: "F32" }));
  assert.equal(await f32Copy(own, bench.options), own.path);
  assert.deepEqual(bench.told, []);

  const tensors = TENSORS.filter(({ type }) => type === "F32");
  const parts = writeSplitGguf({ metadata: METADATA }, [tensors, [{ ...tensors[0], name: "b" }]]);
  const [part] = parts.map((bytes, i) => bench.file(`split-0000${i + 1}-of-00002.gguf`, bytes));
  const old = bench.file("old.gguf", writeGguf({ version: 1, metadata: METADATA, tensors }));
  for (const model of [part, old]) {
    const copy = await openGgufFile(await f32Copy(model, bench.options));
    assert.deepEqual([copy.version, [...copy.metadata.keys()]], [3, Object.keys(METADATA)]);
    copy.close();
  }
  assert.equal(bench.told.length, 2);
});

Deno.test("a type that cannot be dequantized is named", async () => {
  using bench = new Bench();
  const tensors = [{ name: "w", type: "IQ2_S", shape: [256], data: new Uint8Array(82) }];
  await assert.rejects(f32Copy({ name: "iq", bytes: writeGguf({ tensors }) }, bench.options), {
    name: GgufError.name,
    message: /^iq: the tensor w has type IQ2_S, of which no 32-bit copy can be made yet;/,
  });
});

Deno.test("a disk without room is said in one line, and nothing is left on it", async (t) => {
  const model = { name: "some", bytes: randomLlama({ type: "F16" }) };
  const write = Deno.FsFile.prototype.write;
  await t.step("while writing", async () => {
    using bench = new Bench();
    let writes = 0;
    Deno.FsFile.prototype.write = async function (bytes) {
      if (writes++ < 9) return await write.call(this, bytes);
      throw Object.assign(new Error("full"), { code: "ENOSPC" });
    };
    try {
      await assert.rejects(f32Copy(model, bench.options), (error) =>
        error instanceof ModelError &&
        /^some: the disk is full at .*LAMINA_HOME to a folder on another disk$/.test(
          error.message,
        ));
    } finally {
      Deno.FsFile.prototype.write = write;
    }
    assert.deepEqual(bench.copies(), []);
    assert.equal(bench.told.length, 1);
  });

  await t.step({
    name: "beforehand",
    ignore: Deno.build.os !== "linux", // elsewhere such a file would not be sparse
    async fn() {
      using bench = new Bench();
      const rows = 2 ** 31; // 4 TiB as Q8_0 are 15 TiB as F32
      const bytes = writeGguf({
        metadata: METADATA,
        tensors: [{ name: "w", type: "Q8_0", shape: [2048, rows], data: new Uint8Array(0) }],
      });
      const sparse = bench.file("sparse.gguf", bytes);
      Deno.truncateSync(sparse.path, 2048 / 32 * 34 * rows + 4096);
      await assert.rejects(f32Copy(sparse, bench.options), (error) =>
        error instanceof ModelError &&
        /^sparse: its weights as 32-bit floats take 17592\.2 GB and the disk with .* has [\d.]+ GB left;/
          .test(error.message));
      assert.deepEqual(bench.copies(), []);
      assert.equal(bench.told[0][0] > 2 ** 44, true);
    },
  });
});

Deno.test("an interrupted copy leaves nothing", async () => {
  using bench = new Bench();
  const abort = new AbortController();
  await assert.rejects(
    f32Copy({ name: "some", bytes: randomLlama({ type: "F16" }) }, {
      ...bench.options,
      onProgress: () => abort.abort(),
      signal: abort.signal,
    }),
    { name: "AbortError" },
  );
  assert.deepEqual(bench.copies(), []);
});

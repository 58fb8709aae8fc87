/** Every way in which llama.cpp as a reference can fail, and what of its libraries is checked. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { LlamaCppOptions } from "../../../checkpoints/references/llamacpp/reference.ts";
import { checkLayout, type LayoutFacts } from "../../../checkpoints/references/llamacpp/layout.ts";
import { LlamaCppClient } from "../../../checkpoints/references/llamacpp/client.ts";
import {
  llamaCppLibrary as fetchLibrary,
  llamaCppPackage,
} from "../../../checkpoints/references/llamacpp/library.ts";
import { findModel } from "../../../models/mod.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import {
  failure,
  library,
  live,
  randomModel,
  withReference,
} from "../../support/engines/llamacpp_reference.ts";
import { Folder } from "../../support/folder.ts";

Deno.test({
  ...live,
  name: "what it cannot do is one line",
  async fn(t) {
    const tiny = await findModel("tiny");
    const request = { ids: [1], generate: 0, steps: [0], points: ["logits"] };
    const running = (options: LlamaCppOptions, more = {}) =>
      failure(() =>
        withReference(options, async (reference) => {
          await reference.run({ ...request, ...more });
        })
      );
    await t.step("a library that is missing", async () => {
      const line = await running({ model: tiny, library: "/no/such/folder" });
      assert.equal(line, "llama.cpp: there is no library ggml-base in /no/such/folder");
    });
    await t.step("a library that cannot be fetched", async () => {
      using home = new Folder();
      const before = Deno.env.get("npm_config_registry");
      Deno.env.set("npm_config_registry", "http://127.0.0.1:9/"); // where nobody listens
      const env = (name: string) => name === "LAMINA_HOME" ? home.path : undefined;
      const line = await running({ model: tiny, env });
      assert.match(line, /^llama\.cpp: its library cannot be fetched: npm(\.cmd)?: .*ECONNREFUSED/);
      if (before === undefined) Deno.env.delete("npm_config_registry");
      else Deno.env.set("npm_config_registry", before);
    });
    await t.step("an id that is none, and no ids", async () => {
      assert.match(
        await running({ model: tiny }, { ids: [1, 1 << 20] }),
        /it knows no id 1048576$/,
      );
      assert.match(await running({ model: tiny }, { ids: [] }), /no ids were given$/);
    });
    await t.step("a hang", async () => {
      assert.match(await running({ model: tiny, timeout: 1 }), /no sign of life for 0.001 s/);
    });
    await t.step("an abort of its own", async () => {
      // llama.cpp asserts that there is a vocabulary.
      using folder = new Folder();
      const path = folder.write("none.gguf", randomLlama());
      const client = new LlamaCppClient(await fetchLibrary(), {});
      const line = await failure(() => client.tokenize(path, ["Hello"]));
      assert.match(line, /its process (died of SIGABRT|ended with exit code).*GGML_ASSERT/);
    });
    await t.step({
      name: "a process that is killed",
      ignore: Deno.build.os !== "linux", // to find it
      async fn() {
        await withReference({ model: tiny }, async (reference) => {
          const line = failure(() => reference.run({ ...request, generate: 5000 }));
          await new Promise((resolve) => setTimeout(resolve, 300));
          for (const { name: id } of Deno.readDirSync("/proc")) {
            const read = (file: string) => Deno.readTextFile(`/proc/${id}/${file}`).catch(() => "");
            const isOurs = (await read("stat")).split(" ")[3] === String(Deno.pid);
            if (!isOurs || !(await read("cmdline")).includes("llamacpp/process.ts")) continue;
            Deno.kill(Number(id), "SIGKILL");
          }
          assert.match(await line, /its process died of SIGKILL$/);
        });
      },
    });
    await t.step("a file that it cannot load", async () => {
      const model = randomModel({ file: { version: 1 } });
      assert.match(await running({ model, asIs: true }), /it cannot load .*model\.gguf: .*version/);
    });
    await t.step("a caller that gives up", async () => {
      await withReference({ model: tiny }, async (reference) => {
        const abort = new AbortController();
        const run = reference.run({ ...request, generate: 5000, signal: abort.signal });
        setTimeout(() => abort.abort(new Error("enough")), 400);
        await assert.rejects(run, { message: "enough" });
      });
    });
    await t.step("another version", async () => {
      using folder = new Folder();
      for (const { name } of Deno.readDirSync(library!)) {
        if (!/(ggml|llama)(-base)?(\.v[\d.]+)?\.(so|dylib|dll)$/.test(name)) continue;
        const bytes = await Deno.readFile(join(library!, name));
        folder.write(name, replaced(bytes, "0.5.0-dev\0", "0.4.9-dev\0"));
      }
      const line = await running({ model: tiny, library: folder.path });
      assert.match(line, /its library is version 0\.4\.9-dev, and this needs v0\.5\.0$/);
    });
  },
});

/** All places of a text in a file, overwritten with one of the same length. */
function replaced(bytes: Uint8Array<ArrayBuffer>, from: string, to: string): Uint8Array {
  const [old, other] = [from, to].map((text) => new TextEncoder().encode(text));
  for (let at = bytes.indexOf(old[0]); at >= 0; at = bytes.indexOf(old[0], at + 1)) {
    if (old.every((byte, i) => bytes[at + i] === byte)) bytes.set(other, at);
  }
  return bytes;
}

Deno.test("structures of another layout are refused, by name", () => {
  const contextParams = new Uint8Array(160);
  const modelParams = new Uint8Array(80);
  const [context, model] = [contextParams, modelParams].map(({ buffer }) => new DataView(buffer));
  const ints = [512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, -1, -1, -1, -1];
  ints.forEach((value, i) => context.setInt32(4 * i, value, true));
  [0, 0, -1, -1, -1, -1].forEach((value, i) => context.setFloat32(56 + 4 * i, value, true));
  context.setFloat32(84, -1, true);
  [104, 108].forEach((at) => context.setInt32(at, 1, true));
  [129, 130, 131, 132].forEach((at) => context.setUint8(at, 1));
  [-1, 1, -1, 1].forEach((value, i) => model.setInt32(16 + 4 * i, value, true));
  model.setUint8(74, 1);
  const quantizeParams = new Uint8Array(64);
  const quantize = new DataView(quantizeParams.buffer);
  [0, 7, 43, 43].forEach((value, i) => quantize.setInt32(4 * i, value, true));
  quantize.setUint8(17, 1);
  quantize.setBigUint64(56, 1n << 33n, true);
  const right: LayoutFacts = {
    version: "0.5.0-dev",
    tensorOverhead: 368,
    contextParams,
    quantizeParams,
    modelParams,
  };
  checkLayout(right);

  const changed = (struct: Uint8Array, at: number) => struct.with(at, struct[at] + 1);
  const wrong: [Partial<LayoutFacts>, RegExp][] = [
    [{ version: "0.6.0" }, /^its library is version 0\.6\.0, and this needs v0\.5\.0$/],
    [{ tensorOverhead: 376 }, /^its library's ggml_tensor has another layout than v0\.5\.0$/],
    [{ modelParams: changed(modelParams, 72) }, /llama_model_params has another layout/],
    [{ contextParams: changed(contextParams, 52) }, /llama_context_params has another layout/],
    [{ contextParams: changed(contextParams, 152) }, /llama_context_params has another layout/],
    [{ quantizeParams: changed(quantizeParams, 17) }, /llama_model_quantize_params has another/],
  ];
  for (const [facts, message] of wrong) {
    assert.throws(() => checkLayout({ ...right, ...facts }), { message });
  }
});

Deno.test("each platform has its package", () => {
  const packages = ([
    ["linux", "x86_64", false],
    ["linux", "aarch64", false],
    ["darwin", "aarch64", false],
    ["darwin", "x86_64", false],
    ["windows", "x86_64", true],
    ["linux", "aarch64", true],
    ["freebsd", "x86_64", false],
  ] as const).map(([os, arch, vulkan]) => llamaCppPackage(os, arch, vulkan));
  assert.deepEqual(packages, [
    "@node-llama-cpp/linux-x64",
    "@node-llama-cpp/linux-arm64",
    "@node-llama-cpp/mac-arm64-metal",
    "@node-llama-cpp/mac-x64",
    "@node-llama-cpp/win-x64-vulkan",
    undefined,
    undefined,
  ]);
});

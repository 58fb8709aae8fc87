/** Loading: the same file once on the device, nothing left behind, and what happens without a device. */
import assert from "node:assert/strict";
import { openDevice } from "../../../inspect/run/loading.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { randomLlama, writeEmptyLlama } from "../../support/models/random_llama.ts";
import { deno } from "../../support/command.ts";
import { Folder } from "../../support/folder.ts";

/** A software GPU too. */
const WEBGPU = { backend: "webgpu" } as const;

async function withModelFile(run: (path: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  const model = randomLlama({ layers: 2, seed: 5, type: "Q4_0", vocab: 300 });
  await run(folder.write("model.gguf", model));
}

Deno.test("the same file loaded five times takes the device memory of one", async () => {
  await withModelFile(async (path) => {
    const device = await openDevice();
    const before = device.allocated;
    const first = await loadModel(path, WEBGPU);
    const one = device.allocated - before;
    assert.equal(one, first.weightBytes);
    const all = [first, ...await Promise.all([1, 2, 3, 4].map(() => loadModel(path, WEBGPU)))];
    assert.equal(device.allocated - before, one);
    for (const model of all.slice(1)) model.dispose();
    assert.equal(device.allocated - before, one, "one user is left");
    first.dispose();
    first.dispose();
    assert.equal(device.allocated, before);
    await assert.rejects(first.run([[1]]), /Cannot run: the model was disposed/);
    assert.throws(() => first.generate([1]), /disposed/);
  });
});

Deno.test("a load that is aborted frees what it had put on the device", async () => {
  await withModelFile(async (path) => {
    const device = await openDevice();
    const before = device.allocated;
    const controller = new AbortController();
    const load = loadModel(path, {
      ...WEBGPU,
      signal: controller.signal,
      onProgress: (_phase, done) => done > 0 && controller.abort(new Error("interrupted")),
    });
    await assert.rejects(load, /interrupted/);
    assert.equal(device.allocated, before);
    using model = await loadModel(path, WEBGPU);
    assert.ok(model.weightBytes > 0, "it loads again afterwards");
  });
});

Deno.test("a device that is lost while a model loads says so; the next load is on a fresh one", async () => {
  await withModelFile(async (path) => {
    const device = await openDevice();
    const load = loadModel(path, { ...WEBGPU, onProgress: () => device.gpu.destroy() });
    await assert.rejects(load, { name: "DeviceError", message: /^the GPU device was closed/ });
    assert.equal(device.allocated, 0);
    using model = await loadModel(path, WEBGPU);
    assert.notEqual(await openDevice(), device);
    assert.ok(model.weightBytes > 0);
  });
});

Deno.test("progress counts every byte of the tensors, in order", async () => {
  await withModelFile(async (path) => {
    const seen: [number, number | undefined][] = [];
    using _model = await loadModel(path, {
      onProgress: (phase, done, total) => phase === "load" && seen.push([done, total]),
    });
    const [done, total] = seen.at(-1)!;
    assert.equal(done, total);
    assert.ok(seen.every(([value], i) => i === 0 || value > seen[i - 1][0]));
  });
});

const linux = Deno.build.os === "linux";

Deno.test({
  name: "loading takes the memory of the device copy and 512 MiB, of 2 GB too" +
    (linux ? "" : " (only Linux says how much a process has had)"),
  ignore: !linux,
  async fn() {
    using folder = new Folder();
    const path = folder.at("large.gguf");
    const large = { layers: 18, width: 2048, ffnWidth: 5632, heads: 16, vocab: 32000 };
    await writeEmptyLlama(path, { ...large, type: "F16" });
    const script = new URL("../../support/processes/load_process.ts", import.meta.url).pathname;
    const { code, out, err } = await deno([
      "run",
      "-q",
      "-A",
      "--no-check",
      script,
      path,
      "webgpu",
    ]);
    assert.equal(code, 0, err);
    const { weights, peak } = JSON.parse(out);
    assert.ok(weights > 2e9, `${weights} bytes of weights`);
    const beside = (peak - weights) / 2 ** 20;
    assert.ok(beside < 512, `${beside} MiB beside the device copy`);
  },
});

Deno.test("matrices above the binding limit are split by rows, with the same results", async () => {
  await withModelFile(async (path) => {
    using model = await loadModel(path, WEBGPU);
    const whole = await model.run([[5, 9, 200]], { capture: ["logits"] });
    model.dispose();
    const device = await openDevice();
    const limit = device.limit;
    // Small enough that the embedding and the FFN fall into several parts.
    Object.defineProperty(device, "limit", { value: 4096, configurable: true });
    try {
      using parts = await loadModel(path, WEBGPU);
      const split = await parts.run([[5, 9, 200]], { capture: ["logits"] });
      const [a, b] = [whole, split].map((run) => run.tensor("logits").toFloat32Array());
      a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-5));
      const prompt = Array.from({ length: 40 }, (_, i) => i * 7);
      assert.equal((await parts.run([prompt])).top(1).length, 1);
    } finally {
      Object.defineProperty(device, "limit", { value: limit, configurable: true });
    }
  });
});

/** As on a machine without a driver: the loader finds none. */
const NO_DRIVER = {
  VK_DRIVER_FILES: "/nonexistent.json",
  VK_ICD_FILENAMES: "/nonexistent.json",
  DENO_WEBGPU_BACKEND: "vulkan",
};

Deno.test("without a driver generate.ts runs on the CPU; --backend webgpu is an error that says what to do", async () => {
  const command = ["run", "--quiet", "--no-prompt", "generate.ts", "--max-tokens", "4"];
  const run = (...args: string[]) => deno([...command, ...args, "Once"], { env: NO_DRIVER });
  const auto = await run("--stats");
  assert.equal(auto.code, 0, auto.err);
  assert.match(auto.err, /^device +CPU, \d+ threads?$/m);
  assert.match(auto.out, /^Once.+/);
  const quiet = await run();
  assert.deepEqual([quiet.code, quiet.err, quiet.out], [0, "", auto.out]);
  const forced = await run("--backend", "webgpu");
  assert.equal(forced.code, 1);
  assert.match(forced.err, /^error: no WebGPU device: .*task doctor --software-gpu.*\n$/);
});

Deno.test("a software GPU is taken only when it is asked for", async () => {
  await withModelFile(async (path) => {
    const { info } = await openDevice();
    using auto = await loadModel(path);
    using asked = await loadModel(path, WEBGPU);
    assert.equal(auto.backend, info.fallback ? "cpu" : "webgpu");
    assert.equal(asked.backend, "webgpu");
    assert.equal(asked.device?.fallback, info.fallback);
  });
});

Deno.test("a real GPU that does not open is told, and the CPU goes on", async () => {
  using folder = new Folder();
  const preload = folder.write(
    "card.ts",
    `const info = { vendor: "1", device: "2", description: "a card", isFallbackAdapter: false };
     const requestDevice = () => Promise.reject(new Error("no memory"));
     navigator.gpu.requestAdapter = () =>
       Promise.resolve({ info, features: new Set(), limits: {}, requestDevice } as never);`,
  );
  const command = ["run", "-q", "--no-prompt", "--preload", preload, "generate.ts"];
  const run = (...args: string[]) => deno([...command, "--max-tokens", "4", ...args, "Once"]);
  const { code, out, err } = await run();
  assert.equal(err, "the GPU does not open: running on the CPU (./denow task doctor says more)\n");
  assert.equal(code, 0);
  assert.match(out, /^Once.+/);
  assert.match(
    (await run("--backend", "webgpu")).err,
    /^error: the GPU device did not open: .*no memory/,
  );
});

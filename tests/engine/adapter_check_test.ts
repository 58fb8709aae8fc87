/** The check at the first load on an adapter: made once, remembered, and fatal where a kernel is wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readConfig } from "../../engine/plan/tensors.ts";
import { forward } from "../../engine/plan/forward.ts";
import { AdapterError, ensureAdapterChecked } from "../../engine/webgpu/check/adapter_check.ts";
import { type KernelVariant, variantName } from "../../engine/check/variants.ts";
import { usedVariants } from "../../engine/webgpu/check/kernel_variants.ts";
import { compileAhead } from "../../engine/webgpu/compile_ahead.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { webgpuEngine } from "../../engine/webgpu/engine.ts";
import { builtIn } from "../../engine/webgpu/tuning/tuning.ts";
import { usedSteps } from "../../engine/webgpu/used_steps.ts";
import { layOutPlanes, loadWeights, type Memory } from "../../engine/model/weights.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { randomFile, type RandomLlamaOptions } from "../support/models/random_llama.ts";
import { deno } from "../support/command.ts";
import { Folder } from "../support/folder.ts";

function variant(name: string, packing?: string): KernelVariant {
  return {
    kernel: KERNELS.get(name)!,
    packing: packing ? PACKINGS.get(packing) : undefined,
    taps: false,
  };
}

const VARIANTS = [variant("add"), variant("rms"), variant("embed", "F16")];

/** A fresh device, as in a new process, and how many submissions it got. */
async function openCounted() {
  const device = await Device.open();
  const { queue } = device.gpu;
  const counted = { device, submissions: 0, [Symbol.dispose]: () => device.dispose() };
  const submit = queue.submit.bind(queue);
  queue.submit = (buffers) => {
    counted.submissions++;
    submit(buffers);
  };
  return counted;
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  await run(folder.path);
}

async function rejected(promise: Promise<void>): Promise<AdapterError> {
  const error = await promise.then(() => undefined, (error) => error);
  assert.ok(error instanceof AdapterError, String(error));
  assert.ok(!error.message.includes("\n"));
  return error;
}

Deno.test("kernels are checked once in a process", async () => {
  using counted = await openCounted();
  await ensureAdapterChecked(counted.device, VARIANTS);
  assert.equal(counted.submissions, 1);
  await ensureAdapterChecked(counted.device, VARIANTS.slice(1));
  assert.equal(counted.submissions, 1);
  await ensureAdapterChecked(counted.device, [...VARIANTS, variant("store")]);
  assert.equal(counted.submissions, 2, "another kernel is checked");
  assert.equal(counted.device.allocated, 0);
});

Deno.test("a file remembers them for the next process, in a folder that is made for it", async () => {
  await withFolder(async (folder) => {
    const cacheFile = join(folder, "new", "folder", "kernels.txt");
    {
      using counted = await openCounted();
      await ensureAdapterChecked(counted.device, VARIANTS, { cacheFile });
      assert.equal(counted.submissions, 1);
    }
    const lines = (await Deno.readTextFile(cacheFile)).trimEnd().split("\n");
    assert.deepEqual(lines.map((line) => line.replace(/ [0-9a-f]{16}$/, "")), [
      "add",
      "embed F16",
      "rms",
    ]);
    using counted = await openCounted();
    await ensureAdapterChecked(counted.device, VARIANTS, { cacheFile });
    assert.equal(counted.submissions, 0, "nothing runs");
    await ensureAdapterChecked(counted.device, [variant("store")], { cacheFile });
    assert.equal((await Deno.readTextFile(cacheFile)).trimEnd().split("\n").length, 4);
    const names = [];
    for await (const { name } of Deno.readDir(join(folder, "new", "folder"))) names.push(name);
    assert.deepEqual(names, ["kernels.txt"], "no unfinished file stays");
  });
});

Deno.test("progress is told while kernels are compiled, and nothing where none is", async () => {
  using counted = await openCounted();
  const told: number[][] = [];
  const onProgress = (done: number, total: number) => told.push([done, total]);
  await ensureAdapterChecked(counted.device, VARIANTS, { onProgress });
  const [[, total]] = told;
  assert.ok(total >= VARIANTS.length);
  assert.deepEqual(told, Array.from({ length: total + 1 }, (_, done) => [done, total]));
  await ensureAdapterChecked(counted.device, VARIANTS, { onProgress: () => assert.fail() });
});

Deno.test("another driver is checked again", async () => {
  await withFolder(async (folder) => {
    const cacheFile = join(folder, "kernels.txt");
    for (const driver of ["Mesa 25.0.7", "Mesa 25.0.8"]) {
      using counted = await openCounted();
      Object.defineProperty(counted.device.info, "driver", { value: driver });
      await ensureAdapterChecked(counted.device, VARIANTS, { cacheFile });
      assert.equal(counted.submissions, 1, driver);
    }
  });
});

Deno.test("a wrong kernel is refused by name, with what to do, also where its right packing had passed", async () => {
  await withFolder(async (folder) => {
    const cacheFile = join(folder, "kernels.txt");
    const right = KERNELS.get("rms")!;
    const wrong = { ...right, wgsl: right.wgsl.replace("= sqrt(", "= 1.01 * sqrt(") };
    using first = await openCounted();
    await ensureAdapterChecked(first.device, [variant("rms")], { cacheFile });
    using counted = await openCounted();
    const variants = [variant("add"), { kernel: wrong, taps: false }];
    for (let i = 0; i < 2; i++) {
      const error = await rejected(ensureAdapterChecked(counted.device, variants, { cacheFile }));
      assert.equal(error.kernel, "rms");
      assert.equal(error.adapter, counted.device.info.description);
      assert.match(error.message, /kernel rms is off by [\d.e-]+ at rms\[\d+\], allowed is/);
      assert.match(error.message, /use the CPU backend .*\.\/denow task doctor/);
    }
    assert.doesNotMatch(await Deno.readTextFile(cacheFile), /add/, "what failed is not remembered");
  });
});

Deno.test("a kernel that the device refuses is named, with its packing", async () => {
  using counted = await openCounted();
  const embed = KERNELS.get("embed")!;
  const wrong = { ...embed, wgsl: embed.wgsl.replace("ids[token]", "nonsense") };
  const variants = [variant("add"), { kernel: wrong, packing: PACKINGS.get("Q8_0"), taps: false }];
  const error = await rejected(ensureAdapterChecked(counted.device, variants));
  assert.deepEqual([error.kernel, error.packing], ["embed", "Q8_0"]);
  assert.match(error.message, /kernel embed for Q8_0 was refused \(.*nonsense/);
  assert.doesNotMatch(error.message, /wrongly/);
});

Deno.test("a file that cannot be read or written only means that the check is made again", async () => {
  await withFolder(async (folder) => {
    const file = join(folder, "file");
    await Deno.writeTextFile(file, "not what it should be\n\u0000\n");
    for (const cacheFile of [folder, join(file, "below.txt"), file]) {
      using counted = await openCounted();
      await ensureAdapterChecked(counted.device, [variant("add")], { cacheFile });
      assert.equal(counted.submissions, 1, cacheFile);
    }
  });
});

Deno.test("no permission is needed", async () => {
  const script = new URL("../support/processes/adapter_process.ts", import.meta.url);
  const { code, out, err } = await deno(["run", "--quiet", "--no-prompt", script.href]);
  assert.equal(err, "");
  assert.deepEqual([code, out], [0, "checked\n"]);
});

/** Planes without a device: only how they lie counts. */
const PLANES: Memory<Uint32Array> = {
  create: (words) => new Uint32Array(words),
  layOut: (group, create) => layOutPlanes(group, 2 ** 31, create),
  writer: () => {
    const done = () => Promise.resolve();
    return { write: done, writeRows: done, flush: done, close: done };
  },
  destroy() {},
};

Deno.test("a model's variants are the kernels that its passes run, for the packings of its weights", async () => {
  const pairsOf = async (options: RandomLlamaOptions) => {
    const file = await randomFile({ layers: 2, ...options });
    const config = readConfig(file);
    const weights = await loadWeights(file, forward(config), PLANES);
    return usedVariants(forward(config), weights).map(variantName).sort();
  };
  const others = [
    ...["argmax", "attention", "attention_few", "attention_split", "attention_merge"],
    ...["rms_norm", "rope_store", "sample", "take_rows"],
  ];
  const products = (...packings: string[]) =>
    packings.flatMap((packing) => [packing, packing.replace(" ", "_many ")]);
  assert.deepEqual(
    await pairsOf({ type: "F16" }),
    [
      ...others,
      "embed F16",
      "linear F16",
      "linear_qkv_rope_normed F16",
      "linear_qkv_many F16",
      ...products("linear_residual F16"),
      "linear_glu_normed F16",
      "linear_glu_many F16",
    ].sort(),
  );
  const mixed = await pairsOf({
    width: 256,
    ffnWidth: 256,
    type: (name) => /attn_v|ffn_down|^output/.test(name) ? "Q6_K" : "Q4_K",
  });
  assert.deepEqual(
    mixed,
    [
      ...others,
      "embed Q4_K",
      "linear_many Q4_K",
      "linear_many Q6_K",
      "linear Q6_K", // the logits
      ...products("linear_residual Q4_K", "linear_residual Q6_K"),
      "linear_normed Q4_K", // q and k
      "linear_normed Q6_K", // v
      "linear_glu_normed Q4_K",
      "linear_glu_many Q4_K",
    ].sort(),
  );
});

Deno.test("a device with 8 storage buffers a stage is checked for the kernels that it runs, and runs", async () => {
  const device = await Device.open(undefined, { maxStorageBuffersPerShaderStage: 8 });
  const file = await randomFile({ layers: 2 });
  const engine = await webgpuEngine(file, readConfig(file), device, { adapterCheck: {} });
  const session = engine.session({ capacity: 20 });
  await session.pass({ ids: [1, 2, 3], wanted: ["argmax"] });
  await session.pass({ ids: "next", wanted: ["sample"] });
  device.check();
  session.dispose();
  engine.dispose();
  device.dispose();
});

Deno.test("pipelines that are made while weights stream in are those that generation uses", async () => {
  const device = await Device.open();
  const { gpu } = device;
  const made: string[] = [];
  const create = gpu.createComputePipeline.bind(gpu);
  gpu.createComputePipeline = (descriptor) => {
    made.push(descriptor.label!);
    return create(descriptor);
  };
  const file = await randomFile({ layers: 2 });
  const config = readConfig(file);
  const plan = forward(config);
  const { promise, resolve } = Promise.withResolvers<void>();
  let unread = true;
  const weights = await loadWeights(file, forward(config), device, {
    onLayout(weights) {
      const { maxStorageBuffersPerShaderStage: buffers } = gpu.limits;
      const steps = usedSteps(plan, weights, buffers);
      compileAhead(device, weights, steps, builtIn(device), new AbortController().signal)
        .then(resolve);
    },
    onProgress: () => unread = false,
  });
  assert.equal(unread, false);
  await promise;
  const ahead = new Set(made.splice(0));
  assert.match([...ahead][0], /^embed /, "in the order of use");
  const aborted = new AbortController();
  aborted.abort();
  device.forgetPipelines();
  const steps = usedSteps(plan, weights);
  await compileAhead(device, weights, steps, builtIn(device), aborted.signal);
  assert.deepEqual(made, []);
  await compileAhead(
    device,
    weights,
    usedSteps(plan, weights),
    builtIn(device),
    new AbortController().signal,
  );
  assert.deepEqual(new Set(made.splice(0)), ahead);
  weights.destroy();
  const engine = await webgpuEngine(file, config, device);
  const session = engine.session({ capacity: 200 });
  await session.pass({ ids: Array.from({ length: 20 }, (_, i) => i), wanted: ["argmax"] });
  for (let i = 0; i < 3; i++) await session.pass({ ids: "next", wanted: ["sample", "argmax"] });
  assert.deepEqual(made, [], "nothing is left to be made");

  session.dispose();
  engine.dispose();
  device.dispose();
});

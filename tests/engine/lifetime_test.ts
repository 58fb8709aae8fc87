/** Who holds what, and until when: runs that are left early, models that are disposed of under them, memory that comes back. */
import assert from "node:assert/strict";
import type { Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { chosenIds } from "../../inspect/run/decoding.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { DisposedError, loadModel, type Model } from "../../inspect/run/model.ts";
import type { Point } from "../../inspect/points/points.ts";
import { Collector } from "../../inspect/run/runner.ts";
import { randomLlama } from "../support/models/random_llama.ts";
import { Folder } from "../support/folder.ts";

const PROMPT = "Once upon a time there was a little girl";
const BACKENDS = ["webgpu", "cpu"] as const;

async function ids(generation: ReturnType<Model["generate"]>): Promise<number[]> {
  for await (const _ of generation);
  return generation.ids;
}

/** What two models of this file share, it shares with no other test. */
async function withModelFile(run: (path: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  const model = randomLlama({ layers: 2, seed: 5, type: "Q4_0", vocab: 300 });
  await run(folder.write("model.gguf", model));
}

/** Waits for something that other work brings about. */
async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 100, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

for (const backend of BACKENDS) {
  Deno.test(`a generation with a function, left early, leaves no trace (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const plain = () => ids(model.generate(PROMPT, { maxTokens: 5, ignoreEos: true }));
    const expected = await plain();
    for (let round = 0; round < 10; round++) {
      let calls = 0;
      const generation = model.generate(PROMPT, {
        maxTokens: 8,
        ignoreEos: true,
        edit: [["blk.*.ffn_act", (view) => {
          calls++;
          return view.map((x) => 3 * x);
        }]],
      });
      for await (const _ of generation) if (generation.ids.length === 2) break;
      assert.equal(calls, 2 * model.config.layers, "it is called for no step that nobody wants");
      assert.deepEqual(await plain(), expected, `round ${round}`);
    }
  });

  Deno.test(`a disposed session runs nothing any more (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const session = model.engine.session({ capacity: 16 });
    const calls: number[] = [];
    const edits: Edit[] = [0, 1].map((layer) => ({
      kind: "function",
      point: `blk.${layer}.out`,
      apply: () => void calls.push(layer),
    }));
    const passes = [[5], [6], [7]].map((ids) => session.pass({ ids, edits }));
    const settled = Promise.allSettled([...passes, session.pass({ ids: [8] })]);
    // Let the first of them begin.
    await Promise.resolve();
    session.dispose();
    const called = calls.length;
    const [, ...others] = await settled;
    for (const each of others) {
      assert.ok(each.status === "rejected" && each.reason instanceof DisposedError);
      assert.match(each.reason.message, /^Cannot run a pass: the session was disposed$/);
    }
    assert.equal(calls.length, called);

    const steps = model.engine.session({ capacity: 4 });
    const run = steps.steps({ ids: [1, 2] });
    await run.run(0, 1);
    steps.dispose();
    await assert.rejects(session.pass({ ids: [1] }), DisposedError);
    await assert.rejects(run.run(1, 2), DisposedError);
    await assert.rejects(run.read("token_embd"), DisposedError);
    assert.throws(() => session.steps({ ids: [1] }), DisposedError);
    run.dispose();
    session.dispose();
  });

  Deno.test(`disposing of a model ends what is under way, and nothing else (${backend})`, async () => {
    await withModelFile(async (path) => {
      const device = backend === "webgpu" ? await openDevice() : undefined;
      const before = device?.allocated;
      const options = { backend };
      const other = await loadModel(path, options);
      const prompt = [3, 1, 4, 1, 5];
      const long = Array.from({ length: 200 }, (_, i) => i);
      const expected = await ids(other.generate(prompt, { maxTokens: 8 }));
      const expectedRun = (await other.run([prompt])).top(1);

      for (const temperature of [0, 0.5]) {
        const model = await loadModel(path, options);
        const generation = model.generate(prompt, { maxTokens: 8, temperature });
        await assert.rejects(async () => {
          for await (const _ of generation) if (generation.ids.length === 2) model.dispose();
        }, { name: "DisposedError", message: /the model was disposed; load it again/ });
        assert.equal(generation.ids.length, 2);
      }
      {
        const model = await loadModel(path, options);
        const generation = model.generate(prompt, { maxTokens: 8 });
        model.dispose();
        await assert.rejects(ids(generation), DisposedError);
      }
      {
        const model = await loadModel(path, options);
        const pending = model.run([long]);
        model.dispose();
        await assert.rejects(pending, DisposedError);
      }
      {
        const model = await loadModel(path, options);
        const stepper = await model.stepper(prompt);
        const first = await stepper.next();
        model.dispose();
        await assert.rejects(stepper.next(), DisposedError);
        assert.equal(stepper.value, first?.output, "what it had made stays");
        stepper.close();
      }
      assert.deepEqual((await other.run([prompt])).top(1), expectedRun);
      assert.deepEqual(await ids(other.generate(prompt, { maxTokens: 8 })), expected);
      const reading = other.weightRows("output.weight");
      other.dispose();
      assert.equal((await reading).length, 300 * other.config.width, "a read under way as well");
      await eventually(() => device?.allocated === before, "the weights are freed");
      using again = await loadModel(path, options);
      assert.deepEqual(await ids(again.generate(prompt, { maxTokens: 8 })), expected);
    });
  });

  Deno.test(`a pass that had begun finishes though its model is disposed of (${backend})`, async () => {
    await withModelFile(async (path) => {
      const device = backend === "webgpu" ? await openDevice() : undefined;
      const before = device?.allocated;
      const model = await loadModel(path, { backend });
      const edits: Edit[] = ["blk.0.out", "blk.1.out"].map((point) => ({
        kind: "function",
        point,
        apply: ({ data }) => data.map((x) => 2 * x),
      }));
      const one = model.engine.session({ capacity: 4 });
      const expected = (await one.pass({ ids: [1, 2], edits })).get("logits")!.data;
      const two = model.engine.session({ capacity: 4 });
      const begun = two.pass({ ids: [1, 2], edits });
      await Promise.resolve();
      const behind = two.pass({ ids: [3], edits });
      model.dispose();
      await assert.rejects(behind, DisposedError);
      assert.deepEqual((await begun).get("logits")!.data, expected);
      await eventually(() => device?.allocated === before, "the weights are freed behind it");
    });
  });

  Deno.test(`a captured tensor keeps its own bytes only (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const run = await model.run(PROMPT, {
      capture: ["blk.3.out", "blk.1.attn_probs"],
      positions: [-1],
    });
    for (const point of run.captured) {
      const [{ data }] = run.pieces(point);
      assert.equal(data.buffer.byteLength, data.byteLength, point);
    }
  });

  Deno.test(`a function is told the position of the first row it gets (${backend})`, async () => {
    using model = await loadModel("tiny", { backend });
    const seen: [string, number, number][] = [];
    const see = (point: string) =>
      [
        point,
        (view: { shape: readonly number[] }, start: number) =>
          void seen.push([point, start, view.shape[0]]),
      ] as const;
    const edit = [see("blk.1.out"), see("output_norm"), see("logits")];
    const generation = model.generate(PROMPT, { maxTokens: 2, ignoreEos: true, edit });
    await ids(generation);
    const { length } = generation.promptIds;
    assert.deepEqual(seen, [
      ["blk.1.out", 0, length],
      ["output_norm", length - 1, 1],
      ["logits", length - 1, 1],
      ["blk.1.out", length, 1],
      ["output_norm", length, 1],
      ["logits", length, 1],
    ]);
    seen.length = 0;
    await model.run(PROMPT, { edit });
    assert.deepEqual(seen.map(([, start]) => start), [0, 0, 0], "a run gives all rows");
  });
}

const FAILURES: readonly [string, (gpu: GPUDevice) => void, RegExp][] = [
  ["refused a command", (gpu) => {
    // There is no such usage, and no error scope is open.
    gpu.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  }, /^the GPU device refused a command: .+; load the model again/],
  ["was lost", (gpu) => gpu.destroy(), /^the GPU device was closed; load the model again/],
];

for (const [how, fail, message] of FAILURES) {
  Deno.test(`after a device ${how} models are loaded on a fresh one`, async () => {
    const failed = await openDevice();
    const model = await loadModel("tiny", { backend: "webgpu" });
    const plain = (model: Model) => ids(model.generate(PROMPT, { maxTokens: 4 }));
    const expected = await plain(model);
    const begun = model.run(PROMPT);
    await new Promise((resolve) => setTimeout(resolve, 2));
    fail(failed.gpu);
    // It may have come through before.
    await begun.catch((error) => assert.match(error.message, message));
    await assert.rejects(model.run(PROMPT), { name: "DeviceError", message });

    const [fresh, same] = await Promise.all([openDevice(), openDevice()]);
    assert.notEqual(fresh, failed);
    assert.equal(fresh, same);
    const again = await loadModel("tiny", { backend: "webgpu" });
    assert.deepEqual(await plain(again), expected);
    model.dispose();
    assert.equal(failed.allocated, 0);
    using third = await loadModel("tiny", { backend: "webgpu" });
    again.dispose();
    assert.deepEqual(await plain(third), expected);
  });
}

Deno.test("the pool of buffers is bounded, and empty when models are gone", async () => {
  const device = await openDevice();
  const before = device.allocated;
  const model = await loadModel("tiny", { backend: "webgpu" });
  for (const length of [1, 3, 17, 40, 100, 128, 150, 257, 400]) {
    const prompt = Array.from({ length }, (_, i) => 260 + i);
    await model.run([prompt], { capture: ["blk.*.attn_probs"] });
    const mebibytes = (device.allocated - model.weightBytes) / 2 ** 20;
    assert.ok(mebibytes < 192, `${length}: ${mebibytes} MiB beside the weights`);
  }
  model.dispose();
  assert.equal(device.allocated, before);
});

Deno.test("buffers that the pool has no room for are destroyed, those not used for long first", async () => {
  const device = await openDevice();
  device.trim();
  const before = device.allocated;
  const usage = GPUBufferUsage.STORAGE;
  const size = 2 ** 26;
  const [old, ...others] = [size * 1.25, size, size, size].map((bytes) =>
    device.borrow(bytes, usage)
  );
  for (const buffer of [old, ...others]) device.giveBack(buffer);
  assert.ok(device.allocated - before <= 2 ** 27);
  const again = [device.borrow(size, usage), device.borrow(size, usage)];
  assert.ok(again.every((buffer) => others.includes(buffer)));
  for (const buffer of again) device.giveBack(buffer);
  device.trim();
  assert.equal(device.allocated, before);
});

Deno.test("runs of one kind take over what the first one set up", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const { gpu } = await openDevice();
  const run = async (...ids: number[]) =>
    (await model.run([ids], { capture: ["blk.*.out"] })).top(5);
  const expected = await run(1, 300, 400, 500);
  const { createBindGroup } = gpu;
  let made = 0;
  gpu.createBindGroup = (descriptor) => {
    made++;
    return createBindGroup.call(gpu, descriptor);
  };
  try {
    await run(1, 600, 300, 310, 320, 330);
    assert.deepEqual(await run(1, 300, 400, 500), expected);
  } finally {
    gpu.createBindGroup = createBindGroup;
  }
  assert.equal(made, 0);
});

/** A session that computes nothing, and counts the passes whose tensors are about. */
class CountingSession implements Session {
  readonly capacity = 100;
  readonly maxTokens = 2;
  readonly hasNext = true;
  position = 0;
  started = 0;
  mostHeld = 0;
  constructor(readonly numbers: number, readonly taken: () => number) {}

  async pass({ wanted = [] }: PassRequest): Promise<Map<string, HostTensor>> {
    this.started++;
    this.mostHeld = Math.max(this.mostHeld, this.started - this.taken());
    await Promise.resolve();
    return new Map(wanted.map((name) => {
      const size = name === "blk.0.out" ? this.numbers : 1;
      return [name, { shape: [1, size], data: new Float32Array(size) }];
    }));
  }

  check(): void {}
  rewind(): void {}
  restore(): void {}
  dispose(): void {}
  steps(): never {
    throw new Error("not asked for");
  }
}

/** Decodes into a slow sink; gives the session and the most passes that were held at a time. */
async function decodeSlowly(
  numbers: number,
  greedy: boolean,
  { edits = [], count = 10 }: { edits?: Edit[]; count?: number } = {},
) {
  let taken = 0;
  const writing: number[] = [];
  const session = new CountingSession(numbers, () => taken);
  const sink = {
    async write() {
      await new Promise((resolve) => setTimeout(resolve, 2));
      writing.push(session.started - taken);
      taken++;
    },
  };
  const point = { name: "blk.0.out", shape: ["T", numbers], axes: ["position", "feature"] };
  const decoding = {
    session,
    prompt: [1, 2, 3, 4, 5],
    count,
    collector: new Collector([point as unknown as Point], sink),
    captureEvery: 1,
    edits,
    sampling: { temperature: greedy ? 0 : 1 },
    ahead: true,
  };
  let ids = 0;
  for await (const _ of chosenIds(decoding)) ids++;
  assert.equal(ids, count);
  assert.equal(taken, 3 + count - 1, "three passes of the prompt, one of each id but the last");
  return { held: session.mostHeld, writing };
}

Deno.test("into a sink, at most two passes' captures are held; they are written while the next pass runs", async () => {
  const large = await decodeSlowly(2 ** 23, true);
  assert.equal(large.held, 2);
  const sampled = await decodeSlowly(2 ** 23, false);
  assert.equal(sampled.held, 2);
  assert.ok(sampled.writing.filter((held) => held === 2).length >= 9, "written behind the passes");
  assert.ok(
    (await decodeSlowly(10, true, { count: 100 })).held > 2,
    "small ones run further ahead",
  );
});

Deno.test("with a function in the way no step is begun before it is asked for", async () => {
  const edit: Edit = { kind: "function", point: "blk.0.out", apply() {} };
  assert.equal(
    (await decodeSlowly(10, true, { edits: [edit] })).writing.slice(2).every((n) => n === 1),
    true,
  );
});

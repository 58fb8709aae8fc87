/** Decoding without waiting: ids chosen on the device while the next steps run are those chosen one by one, here. */
import assert from "node:assert/strict";
import type { Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import { nextId, SAMPLING_DEFAULTS, type SamplingOptions } from "../../engine/sampling.ts";
import { chosenIds } from "../../inspect/run/decoding.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { loadModel, type Model } from "../../inspect/run/model.ts";
import { Collector } from "../../inspect/run/runner.ts";
import { uniform } from "../../kernels/sampling/random.ts";

const PROMPT = "Once upon a time there was a little girl";

const OPTIONS: Record<string, SamplingOptions> = {
  greedy: {},
  temperature: { temperature: 1, seed: 1 },
  cold: { temperature: 0.3, seed: 2 },
  hot: { temperature: 2, seed: 2 ** 53 - 1 },
  "top-k": { temperature: 1, topK: 5, seed: 3 },
  "top-p": { temperature: 1, topP: 0.9, seed: 4 },
  "min-p": { temperature: 1, minP: 0.1, seed: 5 },
  "repeat penalty": { repeatPenalty: 1.3 },
  "repeat penalty and window": { temperature: 1, repeatPenalty: 1.5, repeatWindow: 3, seed: 6 },
  all: { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.02, repeatPenalty: 1.1, seed: 7 },
};

/** Ids one by one: logits are read back, and the CPU chooses. */
async function stepwise(
  model: Model,
  ids: readonly number[],
  count: number,
  options: SamplingOptions,
) {
  const session = model.engine.session({ capacity: ids.length + count });
  const history = [...ids];
  let pass = await session.pass({ ids });
  for (let n = 1;; n++) {
    const id = nextId(pass.get("logits")!.data, history, options);
    history.push(id);
    if (n === count) break;
    pass = await session.pass({ ids: [id] });
  }
  session.dispose();
  return history.slice(ids.length);
}

for (const [name, options] of Object.entries(OPTIONS)) {
  Deno.test(`the same ids ahead as one by one, in sampling here: ${name}`, async () => {
    for (const backend of ["webgpu", "cpu"] as const) {
      using model = await loadModel("tiny", { backend });
      const maxTokens = backend === "cpu" ? 12 : 150;
      const generation = model.generate(PROMPT, { maxTokens, ignoreEos: true, ...options });
      for await (const _ of generation);
      assert.deepEqual(
        generation.ids,
        await stepwise(model, generation.promptIds, maxTokens, options),
        backend,
      );
    }
  });
}

Deno.test("a pass chooses what the CPU chooses of its logits, over 3,000 draws", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const session = model.engine.session({ capacity: 100 });
  const V = model.config.vocabSize;
  let draws = 0;
  const ids = Array.from({ length: 30 }, (_, i) => Math.floor(uniform(11, i) * V));
  for (const [n, options] of Object.values(OPTIONS).entries()) {
    for (let round = 0; round < 3; round++) {
      session.rewind(0);
      // Three prompts' worth of different logits, a hundred seeds.
      const prompt = ids.slice(round * 10, round * 10 + 10);
      const passes: Promise<Map<string, HostTensor>>[] = [];
      for (let seed = 0; seed < 100; seed++) {
        session.rewind(Math.min(session.position, 9));
        const first = session.position === 0 ? prompt : prompt.slice(9);
        const sampling = { ...options, seed };
        passes.push(session.pass({ ids: first, wanted: ["sample", "logits"], sampling }));
      }
      for (const [seed, pass] of passes.entries()) {
        const tensors = await pass;
        const logits = tensors.get("logits")!.data;
        const expected = nextId(logits, prompt, { ...options, seed });
        assert.equal(
          tensors.get("sample")!.data[0],
          expected,
          `${Object.keys(OPTIONS)[n]}, seed ${seed}`,
        );
        draws++;
      }
    }
  }
  assert.equal(draws, 3000);
  session.dispose();
});

Deno.test("ids behind a cache that was made elsewhere are unknown: no penalty counts them", async () => {
  for (const backend of ["webgpu", "cpu"] as const) {
    using model = await loadModel("tiny", { backend });
    const session = model.engine.session({ capacity: 20 });
    const ids = [...model.tokenizer!.encode(PROMPT)];
    await session.pass({ ids });
    session.restore(ids.length, new Map());
    const sampling = { repeatPenalty: 100 };
    const pass = await session.pass({ ids: [5], wanted: ["sample", "logits"], sampling });
    const history = [...ids.fill(Infinity), 5];
    const expected = nextId(pass.get("logits")!.data, history, sampling);
    assert.equal(pass.get("sample")!.data[0], expected, backend);
    session.dispose();
  }
});

/** A device with steps of 1 ms, whose results are looked for every 10. */
class PolledSession implements Session {
  readonly capacity = 1000;
  readonly maxTokens = 100;
  readonly hasNext = true;
  position = 0;
  inFlight = 0;
  mostInFlight = 0;
  #done = 0;

  async pass({ ids, wanted = [] }: PassRequest): Promise<Map<string, HostTensor>> {
    this.position += ids === "next" ? 1 : ids.length;
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    this.#done = Math.max(this.#done, performance.now()) + 1;
    const done = this.#done;
    do await new Promise((resolve) => setTimeout(resolve, 10)); while (performance.now() < done);
    this.inFlight--;
    return new Map(wanted.map((name) => [name, { shape: [1, 1], data: new Float32Array(1) }]));
  }

  check(): void {}
  rewind(): void {}
  restore(): void {}
  dispose(): void {}
  steps(): never {
    throw new Error("not asked for");
  }
}

Deno.test("looking for results every 10 ms does not show in how fast tokens come", async () => {
  const time = async (ahead: boolean) => {
    const session = new PolledSession();
    const started = performance.now();
    const ids = await takeSome(session, [1], 300, Infinity, ahead);
    assert.equal(ids.length, 300);
    return { session, ms: performance.now() - started };
  };
  const waiting = await time(false);
  assert.equal(waiting.session.mostInFlight, 1);
  const ahead = await time(true);
  assert.ok(ahead.session.mostInFlight <= 32);
  // 300 steps of 1 ms, and 10 for each or for a few of them.
  assert.ok(ahead.ms * 3 < waiting.ms, `${ahead.ms} ms against ${waiting.ms}`);
});

/** Decodes, and stops after some ids. */
async function takeSome(
  session: Session,
  prompt: number[],
  count: number,
  stopAfter = Infinity,
  ahead = true,
) {
  const ids: number[] = [];
  const collector = new Collector([]);
  const sampling = { ...SAMPLING_DEFAULTS, temperature: 1, seed: 8 };
  const all = chosenIds({
    session,
    prompt,
    count,
    collector,
    captureEvery: 1,
    edits: [],
    sampling,
    ahead,
  });
  for await (const id of all) {
    ids.push(id);
    if (ids.length === stopAfter) break;
  }
  return ids;
}

Deno.test("steps behind the last id that was taken are discarded, and the session goes on from there", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const prompt = [...model.tokenizer!.encode(PROMPT)];
  const open = () => model.engine.session({ capacity: 200 });
  const whole = await takeSome(open(), prompt, 60);
  assert.equal(whole.length, 60);
  for (const stopAfter of [1, 2, 3, 30]) {
    const session = open();
    const some = await takeSome(session, prompt, 60, stopAfter);
    assert.deepEqual(some, whole.slice(0, stopAfter));
    assert.equal(session.position, prompt.length + stopAfter - 1);
    // What was chosen further on is no choice any more; behind the prompt nothing had begun.
    assert.equal(session.hasNext, stopAfter === 1);
    // The last id is the next one to run: the same draws follow.
    const rest = await takeSome(session, some.slice(-1), 60 - stopAfter);
    assert.deepEqual(rest, whole.slice(stopAfter));
    session.dispose();
  }
});

Deno.test("end-of-text in the middle and a consumer that leaves end a generation at their token", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const options = { temperature: 1.5, maxTokens: 200 };
  const eos = model.tokenizer!.endOfGeneration;
  let ended = 0;
  for (let seed = 0; seed < 12 && ended < 2; seed++) {
    const stopped = model.generate(PROMPT, { ...options, seed });
    for await (const _ of stopped);
    const free = model.generate(PROMPT, { ...options, seed, ignoreEos: true });
    for await (const _ of free) if (free.ids.length === stopped.ids.length) break;
    assert.deepEqual(free.ids, stopped.ids);
    assert.equal(free.finishReason, free.ids.length === 200 ? "max-tokens" : "aborted");
    if (stopped.finishReason !== "end-of-text") continue;
    assert.equal(stopped.ids.findIndex((id) => eos.has(id)), stopped.ids.length - 1);
    ended++;
  }
  assert.equal(ended, 2, "seeds that end in the middle");
});

Deno.test("captures of steps that run ahead have the bits of those that run one by one", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const capture = ["blk.0.out", "blk.2.attn_probs", "blk.4.k_rope", "logits"];
  const options = { temperature: 1, seed: 9, maxTokens: 40, ignoreEos: true };
  const generation = model.generate(PROMPT, { ...options, capture });
  for await (const _ of generation);
  const { promptIds, ids, run } = generation;
  const session = model.engine.session({ capacity: 100 });
  for (let step = 0; step < 40; step++) {
    const next = step === 0 ? promptIds : [ids[step - 1]];
    const tensors = await session.pass({ ids: next, rows: next.length, wanted: capture });
    for (const point of capture) {
      const piece = run.pieces(point)[step];
      assert.deepEqual([piece.step, piece.start], [step, session.position - next.length]);
      assert.deepEqual(piece.data, tensors.get(point)!.data, `${point}, step ${step}`);
    }
  }
  session.dispose();
});

Deno.test("logits from which nothing can be chosen are an error, and what came before stays", async () => {
  using model = await loadModel("tiny");
  for (const sampling of [{}, { temperature: 1 }]) {
    const broken = model.generate(PROMPT, {
      ...sampling,
      maxTokens: 20,
      ignoreEos: true,
      edit: [["output_norm", (view) => broken.ids.length < 3 ? view : view.map(() => NaN)]],
    });
    await assert.rejects(async () => {
      for await (const _ of broken);
    }, { name: "LogitsError" });
    assert.equal(broken.ids.length, 3);
  }
});

Deno.test("generations leave memory where it was", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const generate = async (seed: number) => {
    const generation = model.generate(PROMPT, {
      temperature: 1,
      seed,
      maxTokens: 100,
      ignoreEos: true,
    });
    for await (const _ of generation) if (generation.ids.length === 90) break;
  };
  for (let seed = 0; seed < 3; seed++) await generate(seed);
  const device = await openDevice();
  const before = device.allocated;
  for (let seed = 0; seed < 10; seed++) await generate(seed);
  // How many steps are in flight depends on the machine: each has a buffer of 256 bytes to be read back from.
  assert.ok(device.allocated <= before + 32 * 256, `${device.allocated - before} bytes more`);
});

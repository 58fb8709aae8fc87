/** What an id is drawn from: ours against llama.cpp's samplers, live, and what a comparison of the two says. */
import assert from "node:assert/strict";
import { candidatesPart, checkSampler } from "../../../checkpoints/parity/sampler.ts";
import { LlamaCppClient } from "../../../checkpoints/references/llamacpp/client.ts";
import { candidates } from "../../../engine/sampling.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";

const WITH = { topK: 40, topP: 0.95, minP: 0.05, temperature: 0.8 };
const random = new Random(3);

function normal(count: number, spread: number, mean = 0): Float32Array {
  return Float32Array.from({ length: count }, () => mean + spread * random.normal());
}

function runOf(logits: readonly Float32Array[]) {
  const passes = logits.map((data, step) => ({
    ...{ step, start: step, ids: [0] },
    tensors: new Map([["logits", { shape: [1, data.length], data }]]),
  }));
  return { passes };
}

const library = await llamaCppLibrary();
Deno.test({
  name: "sampler: llama.cpp's leaves the same candidates with the same probabilities",
  ignore: library === undefined,
  async fn() {
    const llama = new LlamaCppClient(library!, {});
    const sample = (logits: readonly Float32Array[]) => llama.sample(logits, WITH);
    const logits = [0.1, 0.5, 1, 2, 4, 8].flatMap((spread) =>
      [0, -20, 30].map((mean) => normal(5000, spread, mean))
    );
    const theirs = await sample(logits);
    const counts = new Set(theirs.map(({ ids }) => ids.length));
    assert.ok(counts.size > 3 && Math.max(...counts) > 20, `${[...counts]}`);
    const [check] = await checkSampler({ sample }, { name: "prompt" }, runOf(logits));
    assert.deepEqual([check.passed, check.checkpoint], [true, "11"], check.what);
  },
});

Deno.test("sampler: another temperature, another order and another filter are told", async () => {
  const logits = normal(2000, 2);
  const own = candidates(logits, WITH);
  assert.equal(candidatesPart(logits, own, own), undefined);
  const judged = async (options: Partial<typeof WITH>) => {
    const sample = (all: readonly Float32Array[]) =>
      Promise.resolve(all.map((each) => candidates(each, { ...WITH, ...options })));
    const [check] = await checkSampler({ sample }, { name: "prompt" }, runOf([logits]));
    return check;
  };
  assert.equal((await judged({})).passed, true);
  assert.match(
    (await judged({ temperature: 0.81 })).what,
    /^the sampler gives \d+ the probability/,
  );
  assert.match((await judged({ minP: 0.2 })).what, /^the sampler leaves \d+ candidates here, /);
  // Temperature first, as transformers has it.
  const warm = logits.map((logit) => logit / 0.8);
  const first = candidates(warm, { ...WITH, temperature: 1 });
  assert.notEqual(candidatesPart(logits, own, first), undefined);
});

Deno.test("sampler: a candidate at the edge of a filter is nobody's fault", () => {
  const logits = Float32Array.from([0, Math.log(0.05) + 1e-7, -20, -21]);
  const both = { ids: [0, 1], probabilities: [0.9765, 0.0235] };
  const one = { ids: [0], probabilities: [1] };
  assert.equal(candidatesPart(logits, both, one), undefined);
  assert.equal(candidatesPart(logits, one, both), undefined);
  const clear = Float32Array.from([0, -2.5, -20, -21]);
  assert.match(candidatesPart(clear, both, one)!, /2 candidates here, 1 there: 1 here alone$/);
});

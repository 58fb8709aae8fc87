/** Whole passes: the GPU, the CPU with the kernels' twins, and the oracle agree. */
import { forward } from "../../engine/plan/forward.ts";
import assert from "node:assert/strict";
import type { Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import type { Config } from "../../engine/model/config.ts";
import { oracle, oracleGreedy, type OracleResult } from "../../engine/oracle/oracle.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { loadWeights } from "../../engine/model/weights.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { Random } from "../../checkpoints/files/random.ts";
import type { RandomLlamaOptions } from "../support/models/random_llama.ts";
import { type BothEngines, bothEngines } from "../support/models/random_model.ts";

/** Seen is 3e-6 at most (weights and activations near 1). */
const LOGITS = 3e-5;
/** Of the largest number of a point. Seen is 7e-7. */
const POINTS = 1e-5;

function prompt({ vocabSize }: Config, length: number): number[] {
  const random = new Random(length);
  return Array.from({ length }, () => random.integer(0, vocabSize));
}

/** The largest difference; of scores only what a query may see counts. */
function worst(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(found.length, expected.length);
  let largest = 0;
  for (let i = 0; i < found.length; i++) {
    if (expected[i] === -Infinity || expected[i] < -1e29) assert.ok(found[i] < -1e29);
    else largest = Math.max(largest, Math.abs(found[i] - expected[i]));
    assert.ok(!Number.isNaN(found[i]));
  }
  return largest;
}

function assertLogits(found: HostTensor, expected: OracleResult["logits"], what: string): void {
  const error = worst(found.data, expected.flatMap((row) => [...row]));
  assert.ok(error < LOGITS, `${what}: logits are off by ${error}`);
}

/** The prompt in one pass with logits of all rows, then greedy ids, each from the device's own choice. */
async function generate(session: Session, ids: readonly number[], count: number) {
  const first = await session.pass({ ids, rows: ids.length, wanted: ["logits"] });
  session.rewind(session.position - 1);
  let pass = await session.pass({ ids: [ids.at(-1)!], wanted: ["logits", "argmax"] });
  const chosen: number[] = [];
  for (let i = 0; i < count; i++) {
    chosen.push(pass.get("argmax")!.data[0]);
    pass = await session.pass({ ids: "next", wanted: ["logits", "argmax"] });
  }
  return { logits: first.get("logits")!, last: pass.get("logits")!, chosen };
}

async function assertAgree(model: BothEngines, length: number, count: number): Promise<void> {
  const ids = prompt(model.config, length);
  const { logits } = await oracle(model.file, ids, { rows: "all" });
  const greedy = await oracleGreedy(model.file, ids, count);
  const after = await oracle(model.file, [...ids, ...greedy.ids]);
  // A choice between nearly equal logits says nothing.
  const certain = greedy.margins.findIndex((margin) => margin < LOGITS);
  assert.ok(certain < 0, `choose another seed: margin ${greedy.margins[certain]}`);
  for (const engine of [model.gpu, model.cpu]) {
    const session = engine.session({ capacity: length + count });
    const found = await generate(session, ids, count);
    session.dispose();
    assertLogits(found.logits, logits, engine.backend);
    assert.deepEqual(found.chosen, greedy.ids, engine.backend);
    assertLogits(found.last, after.logits, `${engine.backend} after ${count} ids`);
  }
}

for (const type of PACKINGS.keys()) {
  Deno.test(`${type} weights: GPU, CPU and oracle agree`, async () => {
    using model = await bothEngines({
      layers: 1,
      width: 256,
      heads: 4,
      kvHeads: 2,
      ffnWidth: 256,
      vocab: 50,
      type,
      seed: 3,
    });
    // Few positions: the products for many are compiled in the tests below, for some types.
    await assertAgree(model, 4, 3);
  });
}

Deno.test("types as people mix them: GPU, CPU and oracle agree", async () => {
  using model = await bothEngines({
    layers: 2,
    width: 256,
    heads: 4,
    kvHeads: 2,
    ffnWidth: 256,
    vocab: 50,
    type: (name) => /attn_v|ffn_down|^output/.test(name) ? "Q6_K" : "Q4_K",
  });
  await assertAgree(model, 5, 2);
});

Deno.test("a vector that is stored as [n, 1] is a vector", async () => {
  using model = await bothEngines({
    ...{ layers: 1, width: 32, heads: 2, vocab: 40, biases: true, seed: 4 },
    tensors: (tensors) =>
      tensors.map(({ shape, ...rest }) => ({ ...rest, shape: shape[1] ? shape : [...shape, 1] })),
  });
  await assertAgree(model, 4, 3);
});

const SMALL = { width: 64, heads: 4, ffnWidth: 96, vocab: 80, type: "F16", seed: 21 };

/**
 * What a llama may be, each with a prompt of many positions. Half floats, as in `tiny`: what compiling costs on a software
 * driver is then paid once for all tests.
 */
const FAMILY: Readonly<Record<string, RandomLlamaOptions>> = {
  "as many key/value heads as heads, three layers": { ...SMALL, layers: 3 },
  "grouped queries, tied output, biases": { ...SMALL, kvHeads: 2, tied: true, biases: true },
  "one key/value head, RoPE factors, another base": {
    ...SMALL,
    kvHeads: 1,
    ropeFactors: true,
    ropeBase: 500000,
  },
  "RoPE over a part of the head, linear scaling": { ...SMALL, ropeWidth: 6, ropeFactor: 4 },
  "rows that are no multiple of four, odd layers": {
    ...SMALL,
    layers: 5,
    width: 30,
    heads: 3,
    ffnWidth: 37,
    vocab: 41,
  },
  "heads wider than the width divided among them": {
    ...SMALL,
    headWidth: 80,
    heads: 3,
    kvHeads: 3,
  },
  "heads wider than the fused kernel's": { ...SMALL, layers: 1, headWidth: 260, heads: 2 },
};

for (const [name, options] of Object.entries(FAMILY)) {
  Deno.test(`GPU, CPU and oracle agree: ${name}`, async () => {
    using model = await bothEngines(options);
    await assertAgree(model, 13, 4);
  });
}

Deno.test("every point has the oracle's value on both backends", async () => {
  for (
    const options of [FAMILY["as many key/value heads as heads, three layers"], {
      ...SMALL,
      kvHeads: 2,
      biases: true,
      ropeFactors: true,
    }]
  ) {
    using model = await bothEngines(options);
    const ids = prompt(model.config, 7);
    const { points } = await oracle(model.file, ids, { rows: "all", points: () => true });
    assert.ok(points.size > 50);
    // All at once, and one after the other, where fused kernels leave their taps off.
    const all = [...points.keys()];
    const one = all.filter((name) => !/_product|attn_out|ffn_gate|ffn_up|ffn_out/.test(name));
    for (const engine of [model.gpu, model.cpu]) {
      const session = engine.session({ capacity: 7 });
      for (const wanted of [all, ...one.slice(0, 20).map((name) => [name])]) {
        session.rewind(0);
        const found = await session.pass({ ids, rows: ids.length, wanted });
        assert.deepEqual([...found.keys()], wanted);
        for (const [name, { shape, data }] of found) {
          const expected = points.get(name)!;
          assert.deepEqual(shape, expected.shape, name);
          const finite = expected.data.filter(Number.isFinite);
          const size = finite.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          const error = worst(data, expected.data) / size;
          assert.ok(error < POINTS, `${engine.backend} ${name}: ${error}`);
        }
      }
      session.dispose();
    }
  }
});

Deno.test("looking changes nothing: with any points wanted the logits have the same bits", async () => {
  using model = await bothEngines({ ...SMALL, kvHeads: 2 });
  const ids = prompt(model.config, 7);
  const logits = async (wanted: string[]) => {
    const session = model.gpu.session({ capacity: 7 });
    const found = await session.pass({ ids, wanted: [...wanted, "logits"] });
    session.dispose();
    return found.get("logits")!.data;
  };
  const plain = await logits([]);
  // Scores and probabilities are seen by other kernels, which round in another order.
  const seen = [...planValues(model.gpu.plan).keys()]
    .filter((name) => !/attn_scores|attn_probs|^logits/.test(name));
  assert.deepEqual(await logits(seen), plain);
  for (
    const name of ["blk.0.k_rope", "blk.1.attn_norm_rms", "blk.1.attn_norm_pre", "blk.0.attn_out"]
  ) {
    assert.deepEqual(await logits([name]), plain, name);
  }
  const withProbs = await logits(["blk.0.attn_probs", "blk.1.attn_scores"]);
  assert.ok(worst(withProbs, plain) < 1e-5);
});

Deno.test("a prompt in several passes, a rewound one, and one id at a time give the same", async () => {
  using model = await bothEngines({ ...SMALL, layers: 2, kvHeads: 2 });
  const ids = prompt(model.config, 200);
  const { logits: [expected] } = await oracle(model.file, ids);
  for (const engine of [model.gpu, model.cpu]) {
    const session = engine.session({ capacity: 210 });
    assert.ok(session.maxTokens < ids.length, "the prompt is longer than a pass");
    const chunks = async (from: number, size: number) => {
      let found: HostTensor | undefined;
      for (let at = from; at < ids.length; at += size) {
        found = (await session.pass({ ids: ids.slice(at, at + size) })).get("logits");
      }
      return found!;
    };
    const whole = await chunks(0, session.maxTokens);
    assertLogits(whole, [expected], engine.backend);
    assert.equal(session.position, 200);

    session.rewind(150);
    assert.equal(session.position, 150);
    await session.pass({ ids: [1, 2, 3] }); // another continuation, which is forgotten
    session.rewind(150);
    assertLogits(await chunks(150, 7), [expected], `${engine.backend}, rewound`);
    session.rewind(190);
    assertLogits(await chunks(190, 1), [expected], `${engine.backend}, one by one`);

    session.rewind(0);
    assert.deepEqual((await chunks(0, session.maxTokens)).data, whole.data, "the same bits");
    session.dispose();
  }
});

Deno.test("passes that are started together run in order", async () => {
  using model = await bothEngines(SMALL);
  const ids = prompt(model.config, 6);
  for (const engine of [model.gpu, model.cpu]) {
    const slow = engine.session({ capacity: 32 });
    const expected: number[][] = [];
    await slow.pass({ ids, wanted: ["argmax"] });
    for (let i = 0; i < 5; i++) {
      const found = await slow.pass({ ids: "next", wanted: ["argmax", "logits"] });
      expected.push([...found.get("logits")!.data]);
    }
    const quick = engine.session({ capacity: 32 });
    const started = [quick.pass({ ids, wanted: ["argmax"] })];
    for (let i = 0; i < 5; i++) {
      started.push(quick.pass({ ids: "next", wanted: ["argmax", "logits"] }));
    }
    const found = (await Promise.all(started)).slice(1).map((
      each,
    ) => [...each.get("logits")!.data]);
    assert.deepEqual(found, expected);
    slow.dispose();
    quick.dispose();
  }
});

Deno.test("a pass waits for one that stops at a function", async () => {
  using model = await bothEngines(SMALL);
  const ids = prompt(model.config, 6);
  for (const engine of [model.gpu, model.cpu]) {
    const session = engine.session({ capacity: 16 });
    const edit = { kind: "function", point: "blk.0.out", apply: () => {} } as const;
    const first = session.pass({ ids: ids.slice(0, 3), edits: [edit] });
    const second = session.pass({ ids: ids.slice(3) });
    await first;
    const { logits } = await oracle(model.file, ids);
    assertLogits((await second).get("logits")!, logits, engine.backend);
    assert.equal(session.position, 6);
    session.dispose();
  }
});

Deno.test('"next" is the choice of the last row, whatever rows were asked for', async () => {
  using model = await bothEngines(SMALL);
  const ids = prompt(model.config, 6);
  const greedy = await oracleGreedy(model.file, ids, 1);
  const { logits } = await oracle(model.file, [...ids, ...greedy.ids]);
  for (const engine of [model.gpu, model.cpu]) {
    const session = engine.session({ capacity: 16 });
    const all = await session.pass({ ids, rows: 4, wanted: ["argmax"] });
    assert.notEqual(all.get("argmax")!.data[0], greedy.ids[0], "rows choose differently");
    const next = await session.pass({ ids: "next" });
    assertLogits(next.get("logits")!, logits, engine.backend);
    session.dispose();
  }
});

Deno.test("sessions of one model do not disturb each other", async () => {
  using model = await bothEngines(SMALL);
  const [a, b] = [prompt(model.config, 5), prompt(model.config, 9)];
  for (const engine of [model.gpu, model.cpu]) {
    const [one, other] = [engine.session({ capacity: 12 }), engine.session({ capacity: 24 })];
    await one.pass({ ids: a.slice(0, 4) });
    await other.pass({ ids: b.slice(0, 8) });
    const last = [await one.pass({ ids: [a[4]] }), await other.pass({ ids: [b[8]] })];
    for (const [i, ids] of [a, b].entries()) {
      const { logits } = await oracle(model.file, ids);
      assertLogits(last[i].get("logits")!, logits, engine.backend);
    }
    one.dispose();
    other.dispose();
  }
});

Deno.test("loading and disposing five times leaves the device's memory where it was", async () => {
  const device = await openDevice();
  const round = async () => {
    using model = await bothEngines({ ...SMALL, type: "F16" }, device);
    const session = model.gpu.session({ capacity: 40 });
    await session.pass({ ids: prompt(model.config, 20) });
    session.dispose();
    return device.allocated;
  };
  const after = await round(); // buffers of sessions stay in a pool
  for (let i = 0; i < 5; i++) assert.equal(await round(), after);
});

Deno.test("matrices split by rows give the same bits", async () => {
  const device = await Device.open();
  const options = { ...SMALL, layers: 2, kvHeads: 2, vocab: 301 };
  const logits = async () => {
    using model = await bothEngines(options, device);
    const session = model.gpu.session({ capacity: 24 });
    const ids = prompt(model.config, 12);
    const found = await session.pass({
      ids,
      wanted: ["logits", "token_embd", "blk.1.head_result"],
    });
    const one = await session.pass({ ids: [300] });
    session.dispose();
    return [...found.values(), ...one.values()].map(({ data }) => data);
  };
  const whole = await logits();
  Object.defineProperty(device, "limit", { value: 3000 });
  using model = await bothEngines(options, device);
  const weights = await loadWeights(model.file, forward(model.config), device);
  assert.equal(weights.matrices.get("output.weight")!.parts.length, 14); // rows of 128 bytes
  assert.equal(weights.matrices.get("blk.0.attn_q.weight")!.parts.length, 3);
  weights.destroy();
  assert.deepEqual(await logits(), whole);
});

Deno.test("what cannot be run is refused in one line, and changes nothing", async () => {
  using model = await bothEngines(SMALL);
  const bad: readonly (readonly [PassRequest, RegExp])[] = [
    [{ ids: [] }, /no tokens/],
    [{ ids: [3, 80] }, /token id 80 \(number 2 of 2\): ids go from 0 to 79/],
    [{ ids: [-1] }, /token id -1/],
    [{ ids: [1.5] }, /token id 1\.5/],
    [{ ids: [NaN] }, /token id NaN/],
    [{ ids: new Array(21).fill(0) }, /at most 20|holds 20/],
    [{ ids: new Array(19).fill(0) }, /19 more positions after 2: the session holds 20/],
    [{ ids: [1], rows: 0 }, /logits for 0 rows/],
    [{ ids: [1], rows: 2 }, /logits for 2 rows/],
    [{ ids: [1], wanted: ["blk.9.out"] }, /blk\.9\.out: the plan has no such point/],
    [{ ids: "next" }, /"next"/], // the pass before chose no id
  ];
  for (const engine of [model.gpu, model.cpu]) {
    const session = engine.session({ capacity: 20 });
    await assert.rejects(session.pass({ ids: "next" }), /no pass has run/);
    await session.pass({ ids: [1, 2] });
    for (const [request, message] of bad) {
      await assert.rejects(session.pass(request), (error) => {
        assert.ok(error instanceof RangeError, `${engine.backend}: ${error}`);
        assert.match(error.message, message);
        assert.ok(!error.message.includes("\n"));
        return true;
      });
      assert.equal(session.position, 2);
    }
    for (const position of [-1, 3, 0.5, NaN]) {
      assert.throws(() => session.rewind(position), RangeError);
    }
    const { logits } = await oracle(model.file, [1, 2, 3]);
    const found = await session.pass({ ids: [3] });
    assertLogits(found.get("logits")!, logits, engine.backend);
    session.dispose();
  }
});

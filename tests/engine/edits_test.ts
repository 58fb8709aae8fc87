/** Interventions, resumed passes and step runs: the same on both backends, and without a trace afterwards. */
import assert from "node:assert/strict";
import type { Engine, HostTensor, PassRequest } from "../../engine/backend.ts";
import { readConfig } from "../../engine/model/config.ts";
import { cpuEngine } from "../../engine/cpu/engine.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { webgpuEngine } from "../../engine/webgpu/engine.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { randomFile } from "../support/random_llama.ts";

const IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const POINTS = ["blk.0.head_out", "blk.0.out", "blk.1.attn_probs", "blk.1.out", "logits"];

async function engines(): Promise<{ gpu: Engine; cpu: Engine }> {
  const file = await randomFile({
    layers: 3,
    width: 64,
    ffnWidth: 96,
    heads: 4,
    kvHeads: 2,
    vocab: 64,
    type: "Q8_0",
    seed: 11,
  });
  const config = readConfig(file);
  return {
    gpu: await webgpuEngine(file, config, await openDevice()),
    cpu: await cpuEngine(file, config),
  };
}

async function run(
  engine: Engine,
  request: Partial<PassRequest> = {},
): Promise<Map<string, HostTensor>> {
  const session = engine.session({ capacity: 32 });
  try {
    return await session.pass({ ids: IDS, rows: IDS.length, wanted: POINTS, ...request });
  } finally {
    session.dispose();
  }
}

function worst(a: HostTensor, b: HostTensor): number {
  assert.deepEqual(a.shape, b.shape);
  return a.data.reduce((most, value, i) => Math.max(most, Math.abs(value - b.data[i])), 0);
}

function assertClose(a: Map<string, HostTensor>, b: Map<string, HostTensor>, limit: number): void {
  for (const [name, tensor] of a) {
    const difference = worst(tensor, b.get(name)!);
    assert.ok(difference <= limit, `${name}: ${difference}`);
  }
}

const vector = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
const rows = Float32Array.from({ length: 3 * 64 }, (_, i) => Math.cos(i));

const EDITS: Record<string, Edit[]> = {
  "a head zeroed": [{ kind: "linear", point: "blk.0.head_out", where: { heads: [2] }, scale: 0 }],
  "features scaled at positions": [
    {
      kind: "linear",
      point: "blk.1.out",
      where: { features: [0, 5, 63], positions: [2, 10] },
      scale: 3,
    },
  ],
  "a vector added": [{ kind: "linear", point: "blk.0.out", scale: 1, vector }],
  "rows replaced": [
    { kind: "linear", point: "blk.0.out", scale: 0, rows: { data: rows, firstPosition: 4 } },
  ],
  "attention to the first key off in one head": [
    { kind: "linear", point: "blk.1.attn_probs", where: { heads: [1], features: [0] }, scale: 0 },
  ],
  "attention rows replaced in a head": [
    {
      kind: "linear",
      point: "blk.1.attn_probs",
      where: { heads: [1] },
      scale: 0,
      rows: { data: rows.slice(0, 2 * 4 * 11).map(Math.abs), firstPosition: 9, keys: 11 },
    },
  ],
  "two on one point, in order": [
    { kind: "linear", point: "blk.0.out", scale: 2 },
    { kind: "linear", point: "blk.0.out", scale: 1, vector },
  ],
  "a function": [
    {
      kind: "function",
      point: "blk.0.ffn_act",
      apply: ({ data }) => data.map((x) => Math.max(x, 0)),
    },
  ],
  "a function after a scale": [
    { kind: "linear", point: "blk.0.out", scale: 0.5 },
    { kind: "function", point: "blk.0.out", apply: ({ data }) => void data.fill(1, 0, 64) },
  ],
  "logits": [{ kind: "linear", point: "logits", where: { features: [7] }, scale: 0 }],
};

Deno.test("edits: both backends agree, and differ from the plain run", async (t) => {
  const { gpu, cpu } = await engines();
  const plain = await run(gpu);
  for (const [name, edits] of Object.entries(EDITS)) {
    await t.step(name, async () => {
      const edited = await run(gpu, { edits });
      assertClose(edited, await run(cpu, { edits }), 3e-5);
      assert.ok(
        worst(edited.get("logits")!, plain.get("logits")!) > 1e-3,
        "the edit changed nothing",
      );
    });
  }
  gpu.dispose();
});

Deno.test("edits: what is asked for is what stands there, nothing else", async () => {
  const { gpu } = await engines();
  const plain = (await run(gpu)).get("blk.0.head_out")!;
  const edits: Edit[] = [{
    kind: "linear",
    point: "blk.0.head_out",
    where: { heads: [2], positions: [0, 3] },
    scale: 0,
  }];
  const edited = (await run(gpu, { edits })).get("blk.0.head_out")!;
  edited.data.forEach((value, i) => {
    const [position, head] = [Math.floor(i / 64), Math.floor(i / 16) % 4];
    const zeroed = head === 2 && (position === 0 || position === 3);
    assert.equal(value, zeroed ? 0 : plain.data[i]);
  });
  gpu.dispose();
});

Deno.test("edits leave no trace: plain, edited, plain again; the first and the last are equal bit for bit", async () => {
  const { gpu } = await engines();
  const session = gpu.session({ capacity: 32 });
  const pass = async (edits?: Edit[]) => {
    session.rewind(0);
    return await session.pass({ ids: IDS, rows: IDS.length, wanted: POINTS, edits });
  };
  const first = await pass();
  for (const edits of Object.values(EDITS)) await pass(edits);
  const last = await pass();
  for (const name of POINTS) assert.deepEqual(last.get(name)!.data, first.get(name)!.data);
  session.dispose();
  gpu.dispose();
});

Deno.test("edits hold in decoding, at absolute positions", async () => {
  const { gpu, cpu } = await engines();
  const edits: Edit[] = [
    { kind: "linear", point: "blk.1.out", where: { positions: [11, 12] }, scale: 1, vector },
  ];
  const results: Map<string, HostTensor>[][] = [];
  for (const engine of [gpu, cpu]) {
    const session = engine.session({ capacity: 32 });
    await session.pass({ ids: IDS, wanted: [], edits });
    results.push([
      await session.pass({ ids: [7], wanted: ["logits", "blk.1.out"], edits }),
      await session.pass({ ids: [8], wanted: ["logits", "blk.1.out"], edits }),
      await session.pass({ ids: [9], wanted: ["logits", "blk.1.out"], edits }),
    ]);
    session.dispose();
  }
  results[0].forEach((tensors, i) => assertClose(tensors, results[1][i], 3e-5));
  gpu.dispose();
});

Deno.test("a pass resumed from a residual gives what the whole pass gives", async () => {
  const { gpu, cpu } = await engines();
  for (const engine of [gpu, cpu]) {
    const whole = await run(engine);
    const given = new Map([["blk.1.out", whole.get("blk.1.out")!.data]]);
    const resumed = await run(engine, { given, wanted: ["logits"] });
    assert.deepEqual(resumed.get("logits")!.data, whole.get("logits")!.data);
  }
  gpu.dispose();
});

Deno.test("only the rows asked for come back", async () => {
  const { gpu, cpu } = await engines();
  const wanted = ["blk.0.out", "blk.1.attn_probs", "blk.2.cache_k", "logits"];
  for (const engine of [gpu, cpu]) {
    const whole = await run(engine, { wanted });
    const some = await run(engine, { wanted, positions: [10, 2, 3] });
    assert.deepEqual(some.get("blk.0.out")!.shape, [3, 64]);
    assert.deepEqual(some.get("blk.1.attn_probs")!.shape, [4, 3, 11]);
    assert.deepEqual(some.get("blk.2.cache_k")!.positions, [10, 2, 3]);
    for (const [i, position] of [10, 2, 3].entries()) {
      assert.deepEqual(
        some.get("logits")!.data.slice(i * 64, (i + 1) * 64),
        whole.get("logits")!.data.slice(position * 64, (position + 1) * 64),
      );
      assert.deepEqual(
        some.get("blk.1.attn_probs")!.data.slice((2 * 3 + i) * 11, (2 * 3 + i + 1) * 11),
        whole.get("blk.1.attn_probs")!.data.slice(
          (2 * 11 + position) * 11,
          (2 * 11 + position + 1) * 11,
        ),
      );
    }
  }
  gpu.dispose();
});

Deno.test("step runs: any step again, with a value changed on the way", async () => {
  const { gpu, cpu } = await engines();
  for (const engine of [gpu, cpu]) {
    const session = engine.session({ capacity: 32 });
    const whole = await session.pass({ ids: IDS, wanted: ["logits", "blk.1.attn_out"] });
    session.rewind(0);
    const steps = session.steps({ ids: IDS });
    const after = steps.plan.findIndex((step) => step.outputs[0]!.name === "blk.1.attn_out") + 1;
    await steps.run(0, after);
    const value = await steps.read("blk.1.attn_out");
    assert.ok(worst(value, whole.get("blk.1.attn_out")!) < 1e-5);
    steps.write("blk.1.attn_out", value.data.map(() => 0));
    await steps.run(after, steps.plan.length);
    assert.ok(worst(await steps.read("logits"), whole.get("logits")!) > 1e-3);
    // Back to the middle: the steps before it need not run again.
    await steps.run(after - 1, steps.plan.length);
    assert.ok(worst(await steps.read("logits"), whole.get("logits")!) < 1e-5);
    steps.finish();
    assert.equal(session.position, IDS.length);
    steps.dispose();
    session.dispose();
  }
  gpu.dispose();
});

Deno.test("head_result: the heads' contributions sum to attn_out", async () => {
  const { gpu, cpu } = await engines();
  const wanted = ["blk.1.head_result", "blk.1.attn_out"];
  const results = [await run(gpu, { wanted }), await run(cpu, { wanted })];
  assertClose(results[0], results[1], 1e-5);
  const { data, shape: [tokens, heads, width] } = results[0].get("blk.1.head_result")!;
  const out = results[0].get("blk.1.attn_out")!.data;
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < width; i++) {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += data[(token * heads + head) * width + i];
      assert.ok(Math.abs(sum - out[token * width + i]) < 1e-5);
    }
  }
  gpu.dispose();
});

Deno.test("edits that cannot be made say why in one line", async () => {
  const { gpu, cpu } = await engines();
  const cases: [Edit, RegExp][] = [
    [
      { kind: "linear", point: "blk.9.out", scale: 0 },
      /Cannot edit blk\.9\.out: the plan has no such point/,
    ],
    [{ kind: "linear", point: "blk.0.cache_k", scale: 0 }, /k_rope and v/],
    [
      { kind: "linear", point: "blk.0.out", scale: 1, vector: new Float32Array(3) },
      /3 numbers, a row has 64/,
    ],
    [
      { kind: "linear", point: "blk.0.q", scale: 0, where: { heads: [4] } },
      /no head 4; they go from 0 to 3/,
    ],
    [{ kind: "linear", point: "blk.0.q", scale: 0, where: { features: [-1] } }, /no feature -1/],
    [
      { kind: "linear", point: "blk.0.q", scale: 0, where: { positions: [32] } },
      /no position 32; they go from 0 to 31/,
    ],
    [{ kind: "linear", point: "blk.0.head_result", scale: 0 }, /nothing in the pass reads it/],
    [
      {
        kind: "linear",
        point: "blk.0.out",
        scale: 0,
        rows: { data: rows.slice(1), firstPosition: 0 },
      },
      /not of 64 numbers/,
    ],
    [
      {
        kind: "linear",
        point: "blk.0.attn_probs",
        scale: 0,
        rows: { data: rows.slice(0, 2 * 4 * 3), firstPosition: 2, keys: 3 },
      },
      /rows given have 3 keys, position 3 sees 4/,
    ],
    [
      { kind: "function", point: "blk.0.q", apply: () => new Float32Array(2) },
      /returned 2 numbers.*704 \(11 × 4 × 16\)/,
    ],
  ];
  for (const engine of [gpu, cpu]) {
    for (const [edit, message] of cases) {
      await assert.rejects(run(engine, { edits: [edit] }), message);
    }
  }
  gpu.dispose();
});

/** Interventions, resumed passes and step runs: the same on both backends, and without a trace afterwards. */
import assert from "node:assert/strict";
import type { Engine } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { bothEngines } from "../support/models/random_model.ts";

const IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const POINTS = ["blk.0.head_out", "blk.0.out", "blk.1.attn_probs", "blk.1.out", "logits"];

const engines = () =>
  bothEngines({
    ...{ layers: 3, width: 64, ffnWidth: 96, heads: 4, kvHeads: 2, vocab: 64 },
    ...{ type: "Q8_0", seed: 11 },
  });

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

/** An edit that scales, and then adds or replaces. */
function linear(
  point: string,
  scale: number,
  more: Omit<Extract<Edit, { kind: "linear" }>, "kind" | "point" | "scale"> = {},
): Edit {
  return { kind: "linear", point, scale, ...more };
}

const EDITS: Record<string, Edit[]> = {
  "a head zeroed": [linear("blk.0.head_out", 0, { where: { heads: [2] } })],
  "features scaled at positions": [
    linear("blk.1.out", 3, { where: { features: [0, 5, 63], positions: [2, 10] } }),
  ],
  "a vector added": [linear("blk.0.out", 1, { vector })],
  "rows replaced": [
    linear("blk.0.out", 0, { rows: { data: rows, firstPosition: 4 } }),
  ],
  "attention to the first key off in one head": [
    linear("blk.1.attn_probs", 0, { where: { heads: [1], features: [0] } }),
  ],
  "attention rows replaced in a head": [
    linear("blk.1.attn_probs", 0, {
      where: { heads: [1] },
      rows: { data: rows.slice(0, 2 * 4 * 11).map(Math.abs), firstPosition: 9, keys: 11 },
    }),
  ],
  "two on one point, in order": [
    linear("blk.0.out", 2),
    linear("blk.0.out", 1, { vector }),
  ],
  "a function": [
    {
      kind: "function",
      point: "blk.0.ffn_act",
      apply: ({ data }) => data.map((x) => Math.max(x, 0)),
    },
  ],
  "a function after a scale": [
    linear("blk.0.out", 0.5),
    { kind: "function", point: "blk.0.out", apply: ({ data }) => void data.fill(1, 0, 64) },
  ],
  "logits": [linear("logits", 0, { where: { features: [7] } })],
};

Deno.test("edits: both backends agree, and differ from the plain run", async (t) => {
  using both = await engines();
  const { gpu, cpu } = both;
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
});

Deno.test("edits: what is asked for is what stands there, nothing else", async () => {
  using both = await engines();
  const { gpu } = both;
  const plain = (await run(gpu)).get("blk.0.head_out")!;
  const edits: Edit[] = [linear("blk.0.head_out", 0, { where: { heads: [2], positions: [0, 3] } })];
  const edited = (await run(gpu, { edits })).get("blk.0.head_out")!;
  edited.data.forEach((value, i) => {
    const [position, head] = [Math.floor(i / 64), Math.floor(i / 16) % 4];
    const zeroed = head === 2 && (position === 0 || position === 3);
    assert.equal(value, zeroed ? 0 : plain.data[i]);
  });
});

Deno.test("edits leave no trace: plain, edited, plain again; the first and the last are equal bit for bit", async () => {
  using both = await engines();
  const { gpu } = both;
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
});

Deno.test("edits hold in decoding, at absolute positions", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
  const edits: Edit[] = [
    linear("blk.1.out", 1, { where: { positions: [11, 12] }, vector }),
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
});

Deno.test("a pass resumed from a residual gives what the whole pass gives", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
  for (const engine of [gpu, cpu]) {
    const whole = await run(engine);
    const given = new Map([["blk.1.out", whole.get("blk.1.out")!.data]]);
    const resumed = await run(engine, { given, wanted: ["logits"] });
    assert.deepEqual(resumed.get("logits")!.data, whole.get("logits")!.data);
  }
});

Deno.test("only the rows asked for come back", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
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
});

Deno.test("step runs: any step again, with a value changed on the way", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
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
});

Deno.test("head_result: the heads' contributions sum to attn_out", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
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
});

Deno.test("edits that cannot be made say why in one line", async () => {
  using both = await engines();
  const { gpu, cpu } = both;
  const cases: [Edit, RegExp][] = [
    [
      linear("blk.9.out", 0),
      /Cannot edit blk\.9\.out: the plan has no such point/,
    ],
    [linear("blk.0.cache_k", 0), /k_rope and v/],
    [
      linear("blk.0.out", 1, { vector: new Float32Array(3) }),
      /3 numbers, a row has 64/,
    ],
    [
      linear("blk.0.q", 0, { where: { heads: [4] } }),
      /no head 4; they go from 0 to 3/,
    ],
    [linear("blk.0.q", 0, { where: { features: [-1] } }), /no feature -1/],
    [
      linear("blk.0.q", 0, { where: { positions: [32] } }),
      /no position 32; they go from 0 to 31/,
    ],
    [linear("blk.0.head_result", 0), /nothing in the pass reads it/],
    [
      linear("blk.0.out", 0, { rows: { data: rows.slice(1), firstPosition: 0 } }),
      /not of 64 numbers/,
    ],
    [
      linear("blk.0.attn_probs", 0, {
        rows: { data: rows.slice(0, 2 * 4 * 3), firstPosition: 2, keys: 3 },
      }),
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
});

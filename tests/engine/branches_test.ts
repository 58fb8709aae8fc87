/** Several sequences in one pass: each as if it ran alone, and none sees another. */
import assert from "node:assert/strict";
import type { Session } from "../../engine/backend.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import { runBranches } from "../../engine/plan/branches.ts";
import { cpuEngine } from "../../engine/cpu/engine.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { webgpuEngine } from "../../engine/webgpu/engine.ts";
import { openDevice, openProcessor } from "../../inspect/run/loading.ts";
import { batchesOf } from "../../inspect/run/runner.ts";
import { add, loadModel, patch, type Run, zero } from "../../mod.ts";
import { randomFile, type RandomLlamaOptions } from "../support/models/random_llama.ts";

async function openGpu(options: RandomLlamaOptions = {}) {
  const file = await randomFile({ layers: 2, ...options });
  return await webgpuEngine(file, readConfig(file), await openDevice());
}

async function openCpu() {
  const file = await randomFile({ layers: 2 });
  return await cpuEngine(file, readConfig(file), openProcessor());
}

function ids(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => 3 + (i * 7 + seed * 11) % 90);
}

function close(actual: HostTensor, expected: HostTensor, what: string): void {
  assert.deepEqual(actual.shape, expected.shape, what);
  assert.deepEqual(actual.positions, expected.positions, what);
  const size = expected.data.reduce((most, x) => Math.max(most, x > -1e29 ? Math.abs(x) : 0), 0);
  expected.data.forEach((value, i) => {
    const error = Math.abs(actual.data[i] - value);
    assert.ok(error <= 2e-5 * size, `${what}[${i}]: ${actual.data[i]} for ${value}`);
  });
}

const LENGTHS = [5, 1, 17, 2, 40];

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`each of several sequences is what it is alone, at every point (${backend})`, async () => {
    const engine = await (backend === "cpu" ? openCpu() : openGpu());
    const wanted = [...planValues(engine.plan).keys()].filter((name) => name !== "sample");
    // From the beginning, and as continuations of the same five positions.
    for (const before of [[], ids(5, 9)]) {
      const begin = async (length: number): Promise<Session> => {
        const session = engine.session({ capacity: before.length + length });
        if (before.length > 0) await session.pass({ ids: before });
        return session;
      };
      const total = LENGTHS.reduce((a, b) => a + b);
      const session = await begin(total);
      const branches = LENGTHS.map((length, i) => ({
        ids: ids(length, i),
        rows: i === 2 ? 3 : 1,
        nextIds: i === 2 ? [7, 90, 11] : [i],
        positions: i === 4 ? [before.length + 1, before.length + 30] : undefined,
      }));
      const together = await runBranches(session, engine.plan, {
        branches,
        wanted,
        whole: ["logits"],
      });
      assert.equal(session.position, before.length, "it stays where it is");
      for (const [i, each] of branches.entries()) {
        const alone = await begin(each.ids.length);
        const expected = await alone.pass({ ...each, wanted, whole: ["logits"] });
        for (const name of wanted) {
          close(together[i].get(name)!, expected.get(name)!, `${i} ${name}`);
        }
        alone.dispose();
      }
      // Afterwards the session goes on as if nothing had been.
      const next = await session.pass({ ids: branches[0].ids });
      const alone = await begin(5);
      const expected = await alone.pass({ ids: branches[0].ids });
      close(next.get("logits")!, expected.get("logits")!, "what follows");
      session.dispose();
      alone.dispose();
    }
    engine.dispose();
  });
}

Deno.test("fused attention of several sequences, too, and a broken one breaks no other", async () => {
  const engine = await openGpu({ kvHeads: 2 });
  const wanted = ["blk.0.head_out", "blk.1.out", "logits"];
  const branches = [50, 3, 60, 8].map((length, i) => ({ ids: ids(length, i), rows: length }));
  const total = branches.reduce((sum, { ids }) => sum + ids.length, 0);
  const session = engine.session({ capacity: total });
  const sound = await runBranches(session, engine.plan, { branches, wanted });
  const { width } = engine.config;
  const alone = engine.session({ capacity: total });
  const streams = await runBranches(alone, engine.plan, { branches, wanted: ["token_embd"] });
  const broken = await runBranches(session, engine.plan, {
    branches: branches.map((branch, i) => {
      const given = i === 1
        ? new Float32Array(3 * width).fill(NaN)
        : streams[i].get("token_embd")!.data;
      return { ...branch, given: new Map([["token_embd", given]]) };
    }),
    wanted,
  });
  for (const i of [0, 2, 3]) {
    for (const name of wanted) close(broken[i].get(name)!, sound[i].get(name)!, `${i} ${name}`);
  }
  assert.ok(broken[1].get("logits")!.data.every(Number.isNaN));
  for (const [i, each] of branches.entries()) {
    const own = engine.session({ capacity: each.ids.length });
    const expected = await own.pass({ ...each, wanted });
    for (const name of wanted) close(sound[i].get(name)!, expected.get(name)!, `${i} ${name}`);
    own.dispose();
  }
  session.dispose();
  alone.dispose();
  engine.dispose();
});

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`branches go on from positions of their own, resumed or not (${backend})`, async () => {
    const engine = await (backend === "cpu" ? openCpu() : openGpu({ kvHeads: 2 }));
    const whole = ids(20, 3);
    const froms = [20, 0, 7, 19, 7];
    const tokens = [4, 9, 13, 1, 2];
    const total = tokens.reduce((a, b) => a + b);
    const session = engine.session({ capacity: whole.length + total });
    await session.pass({ ids: whole });
    const alone = engine.session({ capacity: whole.length + total });
    await alone.pass({ ids: whole });
    const branches = froms.map((from, i) => ({ from, ids: ids(tokens[i], 20 + i) }));
    const resumed = ["blk.0.out", "blk.1.attn_probs"];
    const wanted = ["blk.0.q_rope", "blk.1.cache_k", "blk.1.head_out", "logits", ...resumed];
    const edits = branches.map(({ from }): Edit[] => [
      { kind: "linear", point: "blk.0.q", where: { positions: [from] }, scale: -1 },
    ]);
    for (const edited of [false, true]) {
      const together = await runBranches(session, engine.plan, {
        branches: branches.map((branch, i) => edited ? { ...branch, edits: edits[i] } : branch),
        wanted,
      });
      // From the last one to the first, so that what each goes on from is still there.
      const order = [...branches.keys()].sort((a, b) => froms[b] - froms[a]);
      for (const i of order) {
        alone.rewind(froms[i]);
        const expected = await alone.pass({
          ids: branches[i].ids,
          edits: edited ? edits[i] : [],
          wanted,
        });
        for (const name of wanted) {
          close(together[i].get(name)!, expected.get(name)!, `${i} ${name}`);
        }
      }
      alone.rewind(0);
      await alone.pass({ ids: whole });
      // Resumed from another branch's values, each is what it is alone.
      const given = branches.map((_, i) =>
        new Map(resumed.map((name) => {
          const { data } = together[i].get(name)!;
          return [name, data.map((x) => x * 0.5)];
        }))
      );
      const again = await runBranches(session, engine.plan, {
        branches: branches.map((branch, i) => ({ ...branch, given: given[i] })),
      });
      for (const i of order) {
        alone.rewind(froms[i]);
        const expected = await alone.pass({ ids: branches[i].ids, given: given[i] });
        close(again[i].get("logits")!, expected.get("logits")!, `${i} resumed`);
      }
      alone.rewind(0);
      await alone.pass({ ids: whole });
    }
    await assert.rejects(
      runBranches(session, engine.plan, { branches: [{ ids: [1], from: 21 }] }),
      /Cannot go on from 21 positions: the session has 20/,
    );
    const short = new Map([["blk.0.out", new Float32Array(3)]]);
    await assert.rejects(
      runBranches(session, engine.plan, { branches: [{ ids: [1], given: short }, { ids: [2] }] }),
      /Cannot resume branch 0 from 3 numbers of blk\.0\.out: it has \d+ there/,
    );
    session.dispose();
    alone.dispose();
    engine.dispose();
  });
}

Deno.test("prompts are put together as far as a pass holds them", () => {
  assert.deepEqual(batchesOf([5, 6, 7], 11), [[0, 1], [2]]);
  assert.deepEqual(batchesOf([5, Infinity, 3, 3, 20, 1], 10), [[0], [1], [2, 3], [4], [5]]);
  assert.deepEqual(batchesOf([], 10), []);
});

/** Tensors, tables and figures of a run. */
function same(run: Run, sequence: number, alone: Run): void {
  for (const point of ["blk.1.out", "blk.0.attn_probs", "blk.1.head_out"]) {
    const [ours, theirs] = [run.tensor(point, { sequence }), alone.tensor(point)];
    assert.deepEqual(ours.shape, theirs.shape);
    assert.deepEqual(ours.labels, theirs.labels);
    const [a, b] = [ours.toFloat32Array(), theirs.toFloat32Array()];
    a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 3e-5, `${point} ${i}`));
  }
  const [ours, theirs] = [run.sequences[sequence], alone.sequences[0]];
  assert.deepEqual(ours.ids, theirs.ids);
  ours.surprisals.forEach((value, i) =>
    // Of the first token nothing is predicted.
    assert.ok(i === 0 ? Number.isNaN(value) : Math.abs(value - theirs.surprisals[i]) < 3e-5, `${i}`)
  );
}

Deno.test("a run over several prompts is the runs over each, edits included", async () => {
  using model = await loadModel("tiny");
  const prompts = ["Once upon a time", "The cat sat", "One day, Tom and his dog went to the park"];
  const capture = ["blk.*.out", "blk.0.attn_probs", "blk.*.head_out"];
  const others = [prompts[2], prompts[0], prompts[1]];
  const other = await model.run(others, { capture });
  const changes = [
    ["blk.0.head_out", zero({ head: 1 })],
    ["blk.1.inp", add(new Float32Array(256).fill(0.5), { position: -1 })],
  ] as const;
  for (const edit of [[], changes]) {
    const progress: number[] = [];
    const onProgress = (done: number) => void progress.push(done);
    const run = await model.run(prompts, { capture, edit, onProgress });
    assert.equal(progress.length, 3);
    for (const [i, prompt] of prompts.entries()) {
      same(run, i, await model.run(prompt, { capture, edit }));
    }
  }
  // Each sequence is patched with the other run's of the same number.
  const run = await model.run(prompts, {
    capture,
    edit: [["blk.0.out", patch(other, { position: 1 })]],
  });
  for (const [i, prompt] of prompts.entries()) {
    const own = await model.run(others[i], { capture });
    same(
      run,
      i,
      await model.run(prompt, { capture, edit: [["blk.0.out", patch(own, { position: 1 })]] }),
    );
  }
});

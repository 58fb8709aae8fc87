/**
 * Numbers that are none. A score of −1e30 or less is a mask, wherever it comes from: it weighs 0, and a row of nothing else weighs
 * nothing. NaN stays NaN. Both backends say so, and people see −∞ for a mask everywhere.
 */
import assert from "node:assert/strict";
import { softmaxRows } from "../../engine/oracle/math.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { twinOutputs } from "../../engine/check/results.ts";
import { runKernels } from "../../engine/webgpu/check/kernel_check.ts";
import type { KernelCase } from "../../engine/check/case.ts";
import { type EditList, patch, scale, zero } from "../../inspect/run/interventions.ts";
import { attentionMap } from "../../inspect/figures/attention/map.ts";
import { openDevice } from "../../inspect/run/loading.ts";
import { tableColumns, tableVectors } from "../../inspect/tables/mod.ts";
import { partsOf } from "../../kernels/attention/scoring/seen.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { randomModel } from "../support/models/random_model.ts";

const LEAST_FLOAT = -3.4028234663852886e38;
/** Scores that are masks: our own, −∞, and what other engines write. */
const MASKS = [-1e30, -1e38, LEAST_FLOAT, -Infinity];

// The setting of this device, and that of GPUs.
const DEVICES = [
  await openDevice(),
  await Device.open({ dotLanes: 32, columnLanes: 32, broadcast: false }),
];

/** What a kernel gives in both settings and in its twin. */
async function everywhere(each: Omit<KernelCase, "kind" | "weights" | "parts" | "taps">) {
  const whole: KernelCase = { kind: "real", weights: [], parts: 1, taps: true, ...each };
  const outputs = [twinOutputs(whole)[0]];
  for (const device of DEVICES) {
    const [{ outputs: [output], withinBounds }] = await runKernels(device, [whole]);
    assert.ok(withinBounds);
    outputs.push(output!);
  }
  return outputs;
}

function softmaxCase(rows: readonly (readonly number[])[]) {
  const columns = rows[0].length;
  return {
    kernel: KERNELS.get("softmax")!,
    name: "rows",
    pass: { tokens: rows.length, start: 0, rows: rows.length },
    constants: { columns, causal: 0 },
    inputs: [Float32Array.from(rows.flat())],
    outputs: [rows.length * columns],
  };
}

/** Each row as long as several rounds of the lanes. */
const LENGTH = 300;

Deno.test("softmax: masks weigh 0, and a row of masks nothing", async () => {
  for (const mask of MASKS) {
    const all = Array(LENGTH).fill(mask);
    const two = all.with(70, 3).with(299, 3);
    const deep = all.with(5, -9.9e29); // far down, and the only one that is seen
    for (const probs of await everywhere(softmaxCase([all, two, deep]))) {
      const expected = new Float32Array(3 * LENGTH);
      expected[LENGTH + 70] = expected[LENGTH + 299] = 0.5;
      expected[2 * LENGTH + 5] = 1;
      assert.deepEqual(probs, expected, `${mask}`);
    }
    const exact = softmaxRows(Float64Array.from([...all, ...two]), LENGTH);
    assert.deepEqual(Float32Array.from(exact.subarray(0, LENGTH)), new Float32Array(LENGTH));
    assert.equal(exact[LENGTH + 70], 0.5);
  }
});

Deno.test("softmax: a row with NaN or +∞ is NaN, and its neighbours are not", async () => {
  const negative = new Float32Array(Uint32Array.of(0xffffffff).buffer)[0];
  const sound = Array.from({ length: LENGTH }, (_, i) => i % 7);
  const rows = [NaN, negative, Infinity].flatMap((none) => [sound.with(199, none), sound]);
  rows.push(Array(LENGTH).fill(-Infinity).with(0, NaN));
  const none = rows.map((_, row) => row % 2 === 0);
  const exact = softmaxRows(Float64Array.from(rows.flat()), LENGTH);
  for (const probs of [...await everywhere(softmaxCase(rows)), exact]) {
    probs.forEach((x, i) => assert.equal(Number.isNaN(x), none[Math.floor(i / LENGTH)], `${i}`));
  }
});

const [HEADS, WIDTH] = [2, 8];

/** Attention of queries of which some see only masks, or NaN. Scores of query t are `kinds[t]` everywhere; 1 for numbers. */
function attentionInputs(kinds: readonly number[], start: number) {
  const slots = start + kinds.length;
  const q = new Float32Array(kinds.length * HEADS * WIDTH);
  kinds.forEach((kind, t) => {
    for (let head = 0; head < HEADS; head++) q[(t * HEADS + head) * WIDTH + 1] = kind;
  });
  const keys = new Float32Array(slots * WIDTH).map((_, i) => i % WIDTH === 1 ? 1 : 0);
  const values = new Float32Array(slots * WIDTH).map((_, i) => 1 + i % WIDTH);
  return [q, keys, values];
}

Deno.test("fused attention: a query that sees nothing mixes 0, and NaN stays NaN", async () => {
  const kinds = [1, LEAST_FLOAT, -2e30, NaN, Infinity, -1e30, 1];
  for (const start of [0, 40, 300]) {
    const pass = { tokens: kinds.length, start, rows: 1 };
    const nothing = { window: 0, chunk: 0, cap: 0, max_bias: 0, value_width: 0 };
    const constants = { heads: HEADS, kv_heads: 1, head_width: WIDTH, scale: 1, ...nothing };
    const inputs = attentionInputs(kinds, start);
    const mixes = kinds.length * HEADS * WIDTH;
    const each = { name: "queries", pass, constants };
    const branchGaps = new Float32Array(2 * kinds.length).map((_, i) => i % 2 ? start : 0);
    const runs = new Map<string, Float32Array[]>();
    const run = async (name: string, inputs: Float32Array[], length: number) => {
      const outputs = await everywhere({
        ...each,
        kernel: KERNELS.get(name)!,
        inputs,
        outputs: [length],
      });
      runs.set(name, outputs);
      return outputs;
    };
    await run("attention", inputs, mixes);
    await run("attention_branches", [...inputs, branchGaps], mixes);
    const { count } = partsOf(pass);
    if (count === 1) await run("attention_few", inputs, mixes);
    else {
      const parts = await run("attention_split", inputs, mixes / WIDTH * count * (WIDTH + 4));
      runs.delete("attention_split");
      const merged = [];
      for (const part of parts) merged.push(...await run("attention_merge", [part], mixes));
      runs.set("attention_merge", merged);
    }
    for (const [name, outputs] of runs) {
      for (const output of outputs) {
        output.forEach((x, i) => {
          const kind = kinds[Math.floor(i / WIDTH / HEADS)];
          const expected = kind === 1 ? 1 + i % WIDTH : Number.isFinite(kind) ? 0 : NaN;
          const what = `${name} after ${start}, score ${kind}: ${x}`;
          assert.ok(Object.is(x, expected) || Math.abs(x - expected) < 1e-5, what);
        });
      }
    }
  }
});

Deno.test("an edit with a scale of NaN gives NaN; one of 0 removes it", async () => {
  const none = { operand: 0, operand_columns: 2, first_position: 0 };
  const all = { some_heads: 0, some_features: 0, some_positions: 0 };
  const edited = (scale: number) =>
    everywhere({
      kernel: KERNELS.get("edit")!,
      name: "edit",
      pass: { tokens: 2, start: 0, rows: 1 },
      constants: { heads: 1, features: 2, scale, ...none, ...all },
      inputs: [Float32Array.of(1, -2, NaN, 0), new Float32Array(1), new Float32Array(1)],
      outputs: [4],
    });
  for (const output of await edited(NaN)) assert.deepEqual(output, new Float32Array(4).fill(NaN));
  for (const output of await edited(-0)) assert.deepEqual(output, new Float32Array(4));
});

const MODEL = { layers: 2, width: 32, heads: 4, kvHeads: 2, ffnWidth: 48, vocab: 64, seed: 5 };
const IDS = [5, 17, 42, 8, 63, 29];

for (const backend of ["cpu", "webgpu"] as const) {
  Deno.test(`a row masked whole (${backend}): weights and mix are 0, people see −∞`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const capture = ["blk.0.attn_scores", "blk.0.attn_probs", "blk.0.head_out"];
    for (const mask of MASKS) {
      const hide: EditList[number] = ["blk.0.attn_scores", (scores) => {
        scores.data.fill(mask, 2 * 6, 3 * 6); // head 0, query 2
        scores.data[4 * 6 + 1] = mask; // query 4, key 1
      }];
      const masked = await model.run([IDS], { capture, edit: [hide] });
      // Another run's mask, one that is scaled, and one that other edits leave alone.
      const patched = await model.run([IDS], {
        capture,
        edit: [["blk.0.attn_scores", patch(masked)]],
      });
      const scaled = await model.run([IDS], {
        capture,
        edit: [hide, ["blk.0.attn_scores", scale(0.5, { head: 0 })]],
      });
      const negated = await model.run([IDS], {
        capture,
        edit: [hide, ["blk.0.attn_scores", scale(-1, { head: 0 })]],
      });
      for (const run of [masked, patched, scaled, negated]) {
        const row = (
          point: string,
          query: number,
        ) => [...run.tensor(`blk.0.${point}`).at({ head: 0, query }).toFloat32Array()];
        assert.deepEqual(row("attn_scores", 2), Array(6).fill(-Infinity), `${mask}`);
        assert.deepEqual(row("attn_probs", 2), Array(6).fill(0), `${mask}`);
        const mix = run.tensor("blk.0.head_out").at({ head: 0, position: 2 });
        assert.deepEqual([...mix.toFloat32Array()], Array(8).fill(0));
        assert.deepEqual([row("attn_scores", 4)[1], row("attn_probs", 4)[1]], [-Infinity, 0]);
        assert.ok(Math.abs(row("attn_probs", 4).reduce((a, b) => a + b) - 1) < 1e-6);
        assert.ok(run.sequences[0].lastLogits!.every(Number.isFinite));
        // Tables list the keys up to the query: here of head 0, query after query.
        const vectors = tableVectors(run.table("blk.0.attn_scores"));
        assert.deepEqual([...vectors[2]], Array(3).fill(-Infinity));
        assert.equal(vectors[4][1], -Infinity);
        for (const source of [run, run.table("blk.0.attn_scores")]) {
          const { caption } = attentionMap(source, { layer: 0, head: 0, kind: "attn_scores" });
          assert.match(caption, /: 4 NaN or infinite numbers are left empty/);
        }
      }
      const replaced = await model.run([IDS], {
        capture,
        edit: [hide, ["blk.0.attn_scores", zero({ head: 0 })]],
      });
      const even = replaced.tensor("blk.0.attn_probs").at({ head: 0, query: 2 }).toFloat32Array();
      assert.deepEqual([...even], [1, 1, 1, 0, 0, 0].map((x) => Math.fround(x / 3)));

      const stepper = await model.stepper(IDS);
      await stepper.until("blk.0.attn_scores");
      await stepper.edit(({ data }) => void data.fill(mask, 2 * 6, 3 * 6));
      const seen = stepper.value.at({ head: 0, query: 2 }).toFloat32Array();
      assert.deepEqual([...seen], Array(6).fill(-Infinity));
    }
  });

  Deno.test(`NaN at any point (${backend}) reaches the logits`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model } = random;
    const { point } = tableColumns(await model.points());
    const editable = Array.from(point as ArrayLike<string>)
      .filter((name) => !/cache_|head_result|^probs$/.test(name));
    assert.ok(editable.length > 30);
    for (const name of editable) {
      const edit: EditList = [[name, scale(NaN)]];
      const { sequences } = await model.run([IDS], { edit });
      assert.ok(sequences[0].lastLogits!.every(Number.isNaN), name);
    }
  });
}

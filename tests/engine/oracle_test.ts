import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { RANDOM_TYPES } from "../../checkpoints/files/random.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import { type GgufFile, openGguf } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { oracle, oracleGreedy } from "../../engine/oracle/oracle.ts";
import { ropeTable, rotate } from "../../engine/oracle/rope.ts";
import fixture from "../fixtures/oracle.json" with { type: "json" };
import { ORACLE_MODELS, positionRows } from "../support/models/oracle_models.ts";
import {
  randomFile,
  randomLlama,
  type RandomLlamaOptions,
} from "../support/models/random_llama.ts";
import { BLOCK_POINTS, OUTER_POINTS, sized } from "../support/tables/point_table.ts";

function openRandom(options: RandomLlamaOptions): Promise<GgufFile> {
  return randomFile(options);
}

function floats(base64: string): Float32Array {
  return new Float32Array(Uint8Array.fromBase64(base64).buffer);
}

/** Largest difference, as a multiple of the largest magnitude in the reference. */
function relativeError(found: readonly number[], reference: Float32Array): number {
  assert.equal(found.length, reference.length);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < found.length; i++) {
    difference = Math.max(difference, Math.abs(found[i] - reference[i]));
    magnitude = Math.max(magnitude, Math.abs(reference[i]));
  }
  return difference / magnitude;
}

for (const [i, golden] of fixture.models.entries()) {
  const model = ORACLE_MODELS[i];
  Deno.test(`llama.cpp's numbers: ${golden.name}`, async () => {
    assert.equal(model.name, golden.name);
    const bytes = randomLlama(model.options);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    assert.equal(sha256, golden.sha256, "the model changed: make oracle.json again");
    const file = await openGguf(bytesSource(model.name, bytes));

    const { logits, points } = await oracle(file, model.ids, {
      ropeTable: "ggml",
      rows: "all",
      points: (name) => Object.hasOwn(golden.points, name),
    });
    // llama.cpp computes in 32 bits, with a relative precision of 6e-8; seen is 5e-7 at most.
    const tolerance = 1e-6;
    for (const [name, base64] of Object.entries(golden.points)) {
      const found = positionRows(points.get(name)!, name, model.positions);
      const error = relativeError(found, floats(base64));
      assert.ok(error < tolerance, `${name}: ${error}`);
    }
    const chosen = model.positions.flatMap((t) => [...logits[t]]);
    const error = relativeError(chosen, floats(golden.logits));
    assert.ok(error < tolerance, `logits: ${error}`);

    const greedy = await oracleGreedy(file, model.ids, model.greedy, { ropeTable: "ggml" });
    assert.deepEqual(greedy.ids, golden.greedy);
    for (const [step, margin] of golden.margins.entries()) {
      assert.ok(Math.abs(greedy.margins[step] - margin) < 1e-4, `margin ${step}`);
    }
  });
}

Deno.test("ggml's RoPE table is ggml's: the exact one is farther from it 400 positions on", async () => {
  const golden = fixture.models[2];
  const model = ORACLE_MODELS[2];
  const file = await openRandom(model.options);
  async function error(name: "blk.0.q_rope" | "blk.0.k_rope", ropeTable: "exact" | "ggml") {
    const points = (each: string) => each === name;
    const result = await oracle(file, model.ids, { ropeTable, points });
    const found = positionRows(result.points.get(name)!, name, model.positions);
    return relativeError(found, floats(golden.points[name]!));
  }
  for (const name of ["blk.0.q_rope", "blk.0.k_rope"] as const) {
    const [exact, ggml] = [await error(name, "exact"), await error(name, "ggml")];
    // Even one rounding step of ggml's left out gives 5e-7.
    assert.ok(ggml < 2e-7, `${name}: ${ggml}`);
    assert.ok(exact > 10 * ggml, `${name}: ${exact} against ${ggml}`);
  }
});

Deno.test("the exact RoPE table is its formula", async () => {
  const file = await openRandom({ width: 32, heads: 4, ropeBase: 100, ropeFactor: 2 });
  const factors = Float32Array.of(1, 2, 4, 8);
  const table = ropeTable(readConfig(file).ropes[0], factors, "exact", 5, 2);
  for (const t of [0, 1]) {
    for (const i of [0, 1, 2, 3]) {
      const angle = (5 + t) * Math.pow(100, -i / 4) / factors[i] / 2;
      assert.ok(Math.abs(table.cos[4 * t + i] - Math.cos(angle)) < 1e-12);
      assert.ok(Math.abs(table.sin[4 * t + i] - Math.sin(angle)) < 1e-12);
    }
  }
});

const FAMILY: RandomLlamaOptions = {
  layers: 2,
  width: 32,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 48,
  vocab: 40,
  biases: true,
};
const IDS = [3, 1, 4, 1, 5, 9, 2, 6];

Deno.test("the points have the shapes of the design and belong together", async () => {
  const file = await openRandom(FAMILY);
  const { logits, points } = await oracle(file, IDS, { points: () => true, rows: "all" });
  const [T, S, D, F, H, Hkv, d, V] = [8, 8, 32, 48, 4, 2, 8, 40];
  const sizes = { T, S, R: T, D, F, H, Hkv, d, V };
  const rows = [0, 1].flatMap((layer) =>
    BLOCK_POINTS.map(([kind, , , shape]) => [`blk.${layer}.${kind}`, sized(shape, sizes)] as const)
  ).filter(([name]) => !name.endsWith("head_result")); // that only a plan makes
  const ends = OUTER_POINTS.map(([name, , , shape]) => [name, sized(shape, sizes)] as const);
  const shapes = Object.fromEntries([...rows, ...ends]);
  const all = [...points].map(([name, { shape }]) => [name, shape] as const);
  const found = Object.fromEntries(all.filter(([name]) => !name.endsWith("_product")));
  assert.deepEqual(found, shapes);
  // What has a bias has a product in front of it.
  const products = all.filter(([name]) => name.endsWith("_product"));
  assert.equal(products.length, 2 * 4);
  for (const [name, shape] of products) assert.deepEqual(shape, shapes[name.slice(0, -8)]);
  for (const [name, { shape, data }] of points) {
    assert.equal(data.length, shape.reduce((a, b) => a * b), name);
  }
  assert.deepEqual(logits.length, T);
  assert.deepEqual(logits[3], points.get("logits")!.data.slice(3 * V, 4 * V));

  const scores = points.get("blk.1.attn_scores")!.data;
  const probs = points.get("blk.1.attn_probs")!.data;
  for (let row = 0; row < H * T; row++) {
    let sum = 0;
    for (let s = 0; s < S; s++) {
      const visible = s <= row % T;
      assert.equal(Number.isFinite(scores[row * S + s]), visible);
      assert.equal(probs[row * S + s] > 0, visible);
      sum += probs[row * S + s];
    }
    assert.ok(Math.abs(sum - 1) < 1e-12);
  }
  // The first position is not turned.
  const [q, qRope] = [points.get("blk.1.q")!.data, points.get("blk.1.q_rope")!.data];
  assert.deepEqual(qRope.slice(0, H * d), q.slice(0, H * d));
  assert.notDeepEqual(qRope.slice(H * d), q.slice(H * d));
});

Deno.test("a later id changes nothing before it, and the last row alone is the same row", async () => {
  const file = await openRandom(FAMILY);
  const whole = await oracle(file, IDS, { rows: "all" });
  const shorter = await oracle(file, IDS.slice(0, 5), { rows: "all" });
  assert.deepEqual(shorter.logits, whole.logits.slice(0, 5));
  const last = await oracle(file, IDS);
  assert.deepEqual(last.logits, whole.logits.slice(7));
  assert.equal(last.points.size, 0);
});

Deno.test("generation with kept keys and values is the pass over the longer sequence", async () => {
  for (const ropeTable of ["exact", "ggml"] as const) {
    const file = await openRandom(FAMILY);
    const { ids, margins } = await oracleGreedy(file, IDS, 12, { ropeTable });
    const { logits } = await oracle(file, [...IDS, ...ids], { rows: "all", ropeTable });
    for (const [step, id] of ids.entries()) {
      const [best, second] = [...logits[IDS.length - 1 + step].keys()]
        .map((index) => ({ index, logit: logits[IDS.length - 1 + step][index] }))
        .sort((a, b) => b.logit - a.logit);
      assert.equal(id, best.index);
      assert.ok(Math.abs(best.logit - second.logit - margins[step]) < 1e-12);
    }
  }
});

Deno.test("weights of any type give what their numbers in F32 give", async () => {
  for (const type of RANDOM_TYPES.filter((each) => each !== "F32")) {
    const options = { ...FAMILY, width: 256, ffnWidth: 256, layers: 1, type, seed: 5 };
    const file = await openRandom(options);
    const numbers = new Map<string, Uint8Array>();
    for (const tensor of file.tensors.values()) {
      const data = dequantize(tensor.type, await file.readTensor(tensor));
      numbers.set(tensor.name, new Uint8Array(data.buffer as ArrayBuffer));
    }
    const copy = await openRandom({
      ...options,
      tensors: (list) =>
        list.map((each) => ({ ...each, type: "F32", data: numbers.get(each.name)! })),
    });
    assert.equal(copy.tensors.get("token_embd.weight")!.type.name, "F32");
    assert.deepEqual((await oracle(file, IDS)).logits, (await oracle(copy, IDS)).logits, type);
  }
});

Deno.test("RoPE of half style and of a part of the head", async () => {
  const file = await openRandom({ ...FAMILY, headWidth: 8, ropeWidth: 4 });
  const [adjacent] = readConfig(file).ropes;
  const table = ropeTable(adjacent, undefined, "exact", 3, 1);
  const [c0, s0, c1, s1] = [Math.cos(3), Math.sin(3), Math.cos(0.03), Math.sin(0.03)];
  const x = Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const close = (found: Float64Array, expected: number[]) =>
    found.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-12, `${found}`));
  close(
    rotate(x, 1, 8, adjacent, table),
    [c0 - 2 * s0, s0 + 2 * c0, 3 * c1 - 4 * s1, 3 * s1 + 4 * c1, 5, 6, 7, 8],
  );
  close(
    rotate(x, 1, 8, { ...adjacent, style: "half" }, table),
    [c0 - 3 * s0, 2 * c1 - 4 * s1, s0 + 3 * c0, 2 * s1 + 4 * c1, 5, 6, 7, 8],
  );
});

Deno.test("no ids, and ids outside the vocabulary, are refused", async () => {
  const file = await openRandom(FAMILY);
  await assert.rejects(oracle(file, []), /no ids/);
  for (const id of [40, -1, 1.5, NaN]) await assert.rejects(oracle(file, [id]), RangeError);
});

/** llama.cpp as a reference, live: its tensors against the 64-bit oracle, its ids, and every way in which it can fail. */
import assert from "node:assert/strict";
import { AWKWARD_TEXTS } from "../../../checkpoints/parity/beginning/awkward_texts.ts";
import { join } from "node:path";
import { compareTensors, localAllowance } from "../../../checkpoints/parity/compare.ts";
import type { ReferenceRun } from "../../../checkpoints/references/reference.ts";
import { makeScratch } from "../../../checkpoints/files/scratch.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { oracle, oracleGreedy } from "../../../engine/oracle/oracle.ts";
import { findModel } from "../../../models/mod.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { ORACLE_MODELS } from "../../support/models/oracle_models.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import {
  failure,
  library,
  live,
  PROMPT,
  randomModel,
  shownPoints,
  withReference,
} from "../../support/engines/llamacpp_reference.ts";

/** Compares every tensor of every pass with the oracle's pass over all positions up to there. */
async function assertExact(file: GgufFile, run: ReferenceRun, all: number[]): Promise<void> {
  for (const { step, start, ids, tensors } of run.passes) {
    const end = start + ids.length;
    assert.deepEqual(ids, all.slice(start, end));
    const { points } = await oracle(file, all.slice(0, end), {
      ropeTable: "ggml",
      rows: "all",
      points: (point) => tensors.has(point),
    });
    for (const [point, tensor] of tensors) {
      const exact = rowsFrom(point, points.get(point)!, start);
      const found = compareTensors(point, tensor, exact, localAllowance(point), start);
      assert.ok(
        found.passed,
        `step ${step}, ${point}: ${JSON.stringify(found.place)} ${found.share}`,
      );
    }
  }
}

/** The rows of a pass from position `start` on, of a tensor of all positions. */
function rowsFrom(
  point: string,
  { shape, data }: { shape: readonly number[]; data: Float64Array },
  start: number,
) {
  if (start === 0 || /cache_/.test(point)) return { shape, data };
  if (/attn_(scores|probs)$/.test(point)) {
    const [heads, rows, keys] = shape;
    const kept = data.filter((_, i) => Math.floor(i / keys) % rows >= start);
    return { shape: [heads, rows - start, keys], data: kept };
  }
  const width = data.length / shape[0];
  return { shape: [shape[0] - start, ...shape.slice(1)], data: data.slice(start * width) };
}

Deno.test({
  ...live,
  name:
    "tiny: every tensor, in the prompt and while decoding, is the oracle's within the tolerances",
  async fn() {
    const model = await findModel("tiny");
    await withReference({ model }, async (reference, config, file) => {
      assert.match(reference.provenance.version, /^v0\.5\.0 \(@node-llama-cpp\/.+ 3\.22\.1\)$/);
      assert.match(reference.provenance.device, /^CPU/);
      const { name, weights, rope, activations } = reference.provenance;
      assert.deepEqual(
        [name, weights, rope, activations],
        ["llama.cpp", "F32 copy of tiny", "ggml", "f32"],
      );
      const ids = createTokenizer(file.metadata).encode(PROMPT);
      const points = [...shownPoints(config), "blk.0.attn_norm_rms", "blk.0.head_result", "probs"];
      const run = await reference.run({ ids, generate: 8, steps: [0, 1, 8], points });
      assert.deepEqual(run.passes.map(({ step }) => step), [0, 1, 8]);
      for (const { tensors } of run.passes) {
        assert.deepEqual(new Set(tensors.keys()), new Set(shownPoints(config)));
      }
      const T = ids.length;
      const { heads: H, kvHeads: Hkv, headWidth: d, width: D, ffnWidth: F, vocabSize: V } = config;
      const shapes: [string, number[], number[]][] = [
        ["token_embd", [T, D], [1, D]],
        ["blk.1.q_rope", [T, H, d], [1, H, d]],
        ["blk.1.k", [T, Hkv, d], [1, Hkv, d]],
        ["blk.1.cache_v", [T, Hkv, d], [T + 8, Hkv, d]],
        ["blk.1.attn_scores", [H, T, T], [H, 1, T + 8]],
        ["blk.1.head_out", [T, H, d], [1, H, d]],
        ["blk.1.ffn_act", [T, F], [1, F]],
        ["logits", [T, V], [1, V]],
      ];
      for (const [point, prompt, decoding] of shapes) {
        assert.deepEqual(run.passes[0].tensors.get(point)!.shape, prompt, point);
        assert.deepEqual(run.passes[2].tensors.get(point)!.shape, decoding, point);
      }
      const greedy = await oracleGreedy(file, ids, 9, { ropeTable: "ggml" });
      assert.deepEqual(run.ids, greedy.ids);
      run.margins.forEach((margin, i) => assert.ok(Math.abs(margin - greedy.margins[i]) < 1e-3));
      await assertExact(file, run, [...ids, ...run.ids]);
    });
  },
});

for (const { name, options, ids } of ORACLE_MODELS) {
  Deno.test({
    ...live,
    name: `${name}: every tensor is the oracle's within the tolerances`,
    async fn() {
      const model = randomModel({ ...options, layers: 2 });
      await withReference({ model }, async (reference, config, file) => {
        const points = shownPoints(config);
        const run = await reference.run({ ids, generate: 3, steps: [0, 3], points });
        assert.equal(run.passes[0].tensors.size, points.length);
        await assertExact(file, run, [...ids, ...run.ids]);
      });
    },
  });
}

Deno.test({
  ...live,
  name: "biases in the FFN are in gate, up and ffn_out",
  async fn() {
    const random = new Random(3);
    const bias = (name: string, size: number) => {
      const numbers = Float32Array.from({ length: size }, () => random.normal());
      return {
        name: `${name}.bias`,
        type: "F32",
        shape: [size],
        data: new Uint8Array(numbers.buffer),
      };
    };
    const model = randomModel({
      layers: 1,
      biases: true,
      tensors: (list) => [
        ...list,
        bias("blk.0.ffn_gate", 128),
        bias("blk.0.ffn_up", 128),
        bias("blk.0.ffn_down", 64),
      ],
    });
    await withReference({ model }, async (reference, config, file) => {
      const points = shownPoints(config);
      const run = await reference.run({ ids: [1, 2, 3], generate: 0, steps: [0], points });
      assert.equal(run.passes[0].tensors.size, points.length);
      await assertExact(file, run, [1, 2, 3]);
    });
  },
});

Deno.test({
  ...live,
  name: "only what is wanted comes, and forced ids are run instead of its own",
  async fn() {
    await withReference({ model: await findModel("tiny") }, async (reference) => {
      const request = { ids: [1, 400, 300], generate: 4, steps: [2, 4], points: ["blk.3.out"] };
      const own = await reference.run(request);
      assert.deepEqual(own.passes.map(({ step, start }) => [step, start]), [[2, 4], [4, 6]]);
      assert.deepEqual([...own.passes[0].tensors.keys()], ["blk.3.out"]);
      assert.equal(own.ids.length, 5);
      assert.deepEqual(own.passes[1].ids, [own.ids[3]]);

      const same = await reference.run({ ...request, forced: own.ids.slice(0, 4) });
      assert.deepEqual(same, own);
      const other = await reference.run({ ...request, forced: [own.ids[0], 5] });
      assert.deepEqual(other.ids.slice(0, 2), own.ids.slice(0, 2)); // its own choices are told
      assert.deepEqual(other.passes[0].ids, [5]);
      assert.deepEqual(other.passes[1].ids, [other.ids[3]]); // where none is forced its own are run
      assert.deepEqual(await reference.run({ ...request, steps: [] }), { ...own, passes: [] });
    });
  },
});

Deno.test({
  ...live,
  name: "its tokenizer gives our ids; where there is no vocabulary there is none",
  async fn() {
    const model = await findModel("tiny");
    await withReference({ model }, async (reference, _config, file) => {
      const tokenizer = createTokenizer(file.metadata);
      const texts = ["Hello", "", " a  b\n", "<s> x </s>", "naïve 🙂\u0000", PROMPT]
        .concat(AWKWARD_TEXTS.map((text) => text.toWellFormed()));
      const expected = texts.map((text) => tokenizer.encode(text));
      assert.deepEqual(await reference.tokenize!(texts), expected);
    });
    await withReference({ model: randomModel({}) }, (reference) => {
      assert.equal(reference.tokenize, undefined);
      return Promise.resolve();
    });
  },
});

Deno.test({
  ...live,
  name: "as it is: on the file itself, with what that rounds",
  async fn() {
    // Of F16 weights it depends on the processor whether activations are rounded.
    const types: [type: string, activations: string, least: number, most: number][] = [
      ["F32", "f32", 0, 0],
      ["F16", "f16", 0, 0.01],
      ["BF16", "bf16", 1e-4, 0.1],
      ["Q4_0", "q8", 1e-4, 0.5],
    ];
    const request = { ids: [1, 2, 3], generate: 0, steps: [0], points: ["logits"] };
    for (const [type, activations, least, most] of types) {
      const model = randomModel({ type });
      const logits: (Float32Array | Float64Array)[] = [];
      for (const asIs of [true, false]) {
        await withReference({ model, asIs }, async ({ provenance, run }) => {
          assert.equal(provenance.weights, asIs ? "random as it is" : "F32 copy of random");
          assert.equal(provenance.activations, asIs ? activations : "f32");
          logits.push((await run(request)).passes[0].tensors.get("logits")!.data);
        });
      }
      const off = Math.max(...logits[0].map((value, i) => Math.abs(value - logits[1][i])));
      assert.ok(off >= least && off <= most, `${type}: ${off}`);
    }
  },
});

Deno.test({
  ...live,
  name: "numbers that are none are delivered",
  async fn() {
    const model = randomModel({
      layers: 1,
      tensors: (list) =>
        list.map((each) =>
          each.name === "blk.0.ffn_norm.weight"
            ? { ...each, data: new Uint8Array(new Float32Array(64).fill(NaN).buffer) }
            : each
        ),
    });
    await withReference({ model }, async (reference, config) => {
      const points = shownPoints(config);
      const run = await reference.run({ ids: [1, 2], generate: 1, steps: [0], points });
      const { tensors } = run.passes[0];
      assert.ok(tensors.get("blk.0.ffn_inp")!.data.every(Number.isFinite));
      assert.ok(tensors.get("blk.0.ffn_norm")!.data.every(Number.isNaN));
      assert.ok(tensors.get("logits")!.data.every(Number.isNaN));
      assert.deepEqual(run.margins, [NaN, NaN]);
    });
  },
});

Deno.test({
  ...live,
  name: "layers in windows give the numbers of the whole",
  async fn(t) {
    const cases: [string, number, number][] = [["tiny", 2, 8], ["smollm2-135m", 10, 2]];
    for (const [name, window, generate] of cases) {
      await t.step(name, async () => {
        const model = await findModel(name);
        const told: number[] = [];
        const onSpace = (bytes: number) => told.push(bytes);
        await withReference({ model }, async (whole, config, file) => {
          const ids = createTokenizer(file.metadata).encode(PROMPT);
          const points = shownPoints(config);
          const request = { ids, generate, steps: [0, 1, generate], points };
          const expected = await whole.run(request);
          const forced = expected.ids.slice(0, generate);
          const windowed = { model, window, onSpace };
          await withReference(windowed, async (reference) => {
            const { weights } = reference.provenance;
            assert.equal(weights, `F32 copy of ${name}, ${window} layers at a time`);
            assert.deepEqual(await reference.tokenize!([PROMPT]), [[...ids]]);
            const found = await reference.run({ ...request, forced });
            assertSame(found, expected);
            assert.equal(told.length, 1);

            // Part by part, forwards and back, with what earlier requests left.
            const choices = { ids: expected.ids, margins: expected.margins };
            for (const layer of [0, window, config.layers - 1, 1]) {
              const some = points.filter((point) => point.startsWith(`blk.${layer}.`));
              const part = await reference.run({ ...request, forced, points: some });
              const isLast = layer === config.layers - 1;
              assertSame(part, {
                passes: expected.passes.map((pass) => ({
                  ...pass,
                  tensors: new Map([...pass.tensors].filter(([point]) => some.includes(point))),
                })),
                ...(isLast ? choices : { ids: [], margins: [] }),
              });
            }
            const none = ["blk.99.out", "blk.0.attn_norm_rms"];
            const nothing = await reference.run({ ...request, forced, points: none });
            const passes = expected.passes.map((pass) => ({ ...pass, tensors: new Map() }));
            assertSame(nothing, { passes, ...choices });
            const end = await reference.run({ ...request, forced, points: [], steps: [] });
            assertSame(end, { passes: [], ...choices });
            assert.match(
              await failure(() => reference.run({ ...request, forced: [] })),
              /windows need the ids of all \d decoding steps, and 0 are given$/,
            );
            assert.match(
              await failure(() => reference.run({ ...request, forced: forced.with(0, 1e9) })),
              /it knows no id 1000000000$/,
            );
          });
        });
      });
    }
  },
});

function assertSame(found: ReferenceRun, expected: ReferenceRun): void {
  assert.deepEqual([found.ids, found.margins], [expected.ids, expected.margins]);
  assert.deepEqual(found.passes.map(({ step }) => step), expected.passes.map(({ step }) => step));
  found.passes.forEach(({ start, ids, tensors }, i) => {
    const pass = expected.passes[i];
    assert.deepEqual([start, ids], [pass.start, pass.ids]);
    assert.deepEqual(new Set(tensors.keys()), new Set(pass.tensors.keys()));
    for (const [point, { shape, data }] of tensors) {
      const other = pass.tensors.get(point)!;
      assert.deepEqual(shape, other.shape);
      assert.ok(data.every((value, at) => Object.is(value, other.data[at])), point);
    }
  });
}

Deno.test({
  ...live,
  name: "a budget chooses the windows, and nothing of them is left",
  async fn() {
    const home = await Deno.makeTempDir({ prefix: "lamina-windows-" });
    const env = (name: string) => name === "LAMINA_HOME" ? home : Deno.env.get(name);
    // A layer is 164 KB, embedding and output matrix 25 KB each.
    const model = randomModel({ layers: 5, type: "Q8_0" });
    const request = { ids: [3, 1, 3], generate: 1, forced: [7], steps: [1], points: ["logits"] };
    const runs: ReferenceRun[] = [];
    for (
      const [budget, said] of [[1e6, /random$/], [3.6e5, /2 layers at a time/], [1, /1 layers at/]]
    ) {
      const options = { model, env, budget: budget as number, library };
      await withReference(options, async (reference) => {
        assert.match(reference.provenance.weights, said as RegExp);
        runs.push(await reference.run(request));
      });
      // Then there is a whole copy, which is no reason to run windows.
      await Deno.remove(join(home, "f32"), { recursive: true });
    }
    assertSame(runs[1], runs[0]);
    assertSame(runs[2], runs[0]);
    await Deno.remove(home, { recursive: true });
  },
});

Deno.test("a scratch folder goes with its owner, or with the next one", async () => {
  const parent = await Deno.makeTempDir({ prefix: "lamina-scratch-" });
  const names = () => [...Deno.readDirSync(parent)].map(({ name }) => name);
  await Deno.mkdir(join(parent, "scratch-abandoned"));
  await Deno.writeTextFile(join(parent, "scratch-abandoned", "large"), "");
  {
    await using one = await makeScratch(parent);
    await using other = await makeScratch(parent);
    assert.deepEqual(
      new Set(names().map((name) => join(parent, name))),
      new Set([one.path, other.path]),
    );
  }
  assert.deepEqual(names(), []);
  await Deno.remove(parent);
});

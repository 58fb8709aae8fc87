/** llama.cpp as a reference, live: its tensors against the 64-bit oracle, its ids, and every way in which it can fail. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { compareTensors, localAllowance } from "../../../checkpoints/parity/compare.ts";
import {
  type Reference,
  ReferenceFailure,
  type ReferenceRun,
} from "../../../checkpoints/references/reference.ts";
import {
  type LlamaCppOptions,
  llamaCppReference,
} from "../../../checkpoints/references/llamacpp/reference.ts";
import { checkLayout, type LayoutFacts } from "../../../checkpoints/references/llamacpp/ffi.ts";
import { LlamaCppClient } from "../../../checkpoints/references/llamacpp/client.ts";
import {
  llamaCppLibrary as fetchLibrary,
  llamaCppPackage,
} from "../../../checkpoints/references/llamacpp/library.ts";
import { makeScratch } from "../../../checkpoints/files/scratch.ts";
import { type Config, readConfig } from "../../../engine/model/config.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { oracle, oracleGreedy } from "../../../engine/oracle/oracle.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import { findModel, type FoundModel } from "../../../models/mod.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { llamaCppLibrary } from "../../support/llamacpp_library.ts";
import { ORACLE_MODELS } from "../../support/oracle_models.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { randomLlama, type RandomLlamaOptions } from "../../support/random_llama.ts";

const library = (await llamaCppLibrary())?.folder;
const live = { ignore: library === undefined };

const KINDS = [
  ...["attn_norm_pre", "attn_norm", "q", "k", "v", "q_rope", "k_rope", "cache_k", "cache_v"],
  ...["attn_scores", "attn_probs", "head_out", "attn_out", "ffn_inp", "ffn_norm_pre", "ffn_norm"],
  ...["ffn_gate", "ffn_up", "ffn_act", "ffn_out", "out"],
];

/** All that llama.cpp shows. */
function shownPoints({ layers }: Config): string[] {
  const blocks = Array.from(
    { length: layers },
    (_, layer) => KINDS.map((kind) => `blk.${layer}.${kind}`),
  );
  return ["token_embd", ...blocks.flat(), "output_norm_pre", "output_norm", "logits"];
}

/** A random model's bytes, as a found model. */
function randomModel(options: RandomLlamaOptions): FoundModel {
  return { name: "random", bytes: randomLlama(options) };
}

async function withReference(
  options: LlamaCppOptions,
  use: (reference: Reference, config: Config, file: GgufFile) => Promise<void>,
): Promise<void> {
  // Copies of what is made for a test go with it.
  const home = options.model.name === "random" ? await Deno.makeTempDir() : undefined;
  const env = (name: string) => name === "LAMINA_HOME" ? home : undefined;
  const reference = await llamaCppReference(home ? { library, env, ...options } : options);
  const file = await openFound(options.model);
  try {
    await use(reference, readConfig(file), file);
  } finally {
    file.close();
    await reference.close();
    if (home) await Deno.remove(home, { recursive: true });
  }
}

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

async function failure(work: () => Promise<unknown>): Promise<string> {
  const error: unknown = await work().then(() => undefined, (reason) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.doesNotMatch(error.message, /\n/);
  assert.match(error.message, /^llama\.cpp: /);
  return error.message;
}

const PROMPT = "Once upon a time there was a little girl who had a red ball.";

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
      for (const text of ["Hello", "", " a  b\n", "<s> x </s>", "naïve 🙂\u0000", PROMPT]) {
        assert.deepEqual(await reference.tokenize!(text), [...tokenizer.encode(text)], text);
      }
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
            assert.deepEqual(await reference.tokenize!(PROMPT), [...ids]);
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

Deno.test({
  ...live,
  name: "what it cannot do is one line",
  async fn(t) {
    const tiny = await findModel("tiny");
    const request = { ids: [1], generate: 0, steps: [0], points: ["logits"] };
    const running = (options: LlamaCppOptions, more = {}) =>
      failure(() =>
        withReference(options, async (reference) => {
          await reference.run({ ...request, ...more });
        })
      );
    await t.step("a library that is missing", async () => {
      const line = await running({ model: tiny, library: "/no/such/folder" });
      assert.equal(line, "llama.cpp: there is no library ggml-base in /no/such/folder");
    });
    await t.step("a library that cannot be fetched", async () => {
      const home = await Deno.makeTempDir();
      const before = Deno.env.get("npm_config_registry");
      Deno.env.set("npm_config_registry", "http://127.0.0.1:9/"); // where nobody listens
      const env = (name: string) => name === "LAMINA_HOME" ? home : undefined;
      const line = await running({ model: tiny, env });
      assert.match(line, /^llama\.cpp: its library cannot be fetched: npm(\.cmd)?: .*ECONNREFUSED/);
      if (before === undefined) Deno.env.delete("npm_config_registry");
      else Deno.env.set("npm_config_registry", before);
      await Deno.remove(home, { recursive: true });
    });
    await t.step("an id that is none, and no ids", async () => {
      assert.match(
        await running({ model: tiny }, { ids: [1, 1 << 20] }),
        /it knows no id 1048576$/,
      );
      assert.match(await running({ model: tiny }, { ids: [] }), /no ids were given$/);
    });
    await t.step("a hang", async () => {
      assert.match(await running({ model: tiny, timeout: 1 }), /no sign of life for 0.001 s/);
    });
    await t.step("an abort of its own", async () => {
      // llama.cpp asserts that there is a vocabulary.
      const path = await Deno.makeTempFile({ suffix: ".gguf" });
      await Deno.writeFile(path, randomLlama());
      const client = new LlamaCppClient(await fetchLibrary(), {});
      const line = await failure(() => client.tokenize(path, "Hello"));
      assert.match(line, /its process (died of SIGABRT|ended with exit code).*GGML_ASSERT/);
      await Deno.remove(path);
    });
    await t.step({
      name: "a process that is killed",
      ignore: Deno.build.os !== "linux", // to find it
      async fn() {
        await withReference({ model: tiny }, async (reference) => {
          const line = failure(() => reference.run({ ...request, generate: 5000 }));
          await new Promise((resolve) => setTimeout(resolve, 300));
          for (const { name: id } of Deno.readDirSync("/proc")) {
            const read = (file: string) => Deno.readTextFile(`/proc/${id}/${file}`).catch(() => "");
            const isOurs = (await read("stat")).split(" ")[3] === String(Deno.pid);
            if (!isOurs || !(await read("cmdline")).includes("llamacpp_process")) continue;
            Deno.kill(Number(id), "SIGKILL");
          }
          assert.match(await line, /its process died of SIGKILL$/);
        });
      },
    });
    await t.step("a file that it cannot load", async () => {
      const model = randomModel({ file: { version: 1 } });
      assert.match(await running({ model, asIs: true }), /it cannot load .*model\.gguf: .*version/);
    });
    await t.step("a caller that gives up", async () => {
      await withReference({ model: tiny }, async (reference) => {
        const abort = new AbortController();
        const run = reference.run({ ...request, generate: 5000, signal: abort.signal });
        setTimeout(() => abort.abort(new Error("enough")), 400);
        await assert.rejects(run, { message: "enough" });
      });
    });
    await t.step("another version", async () => {
      const folder = await Deno.makeTempDir({ prefix: "lamina-llama-" });
      for (const { name } of Deno.readDirSync(library!)) {
        if (!/(ggml|llama)(-base)?(\.v[\d.]+)?\.(so|dylib|dll)$/.test(name)) continue;
        const bytes = await Deno.readFile(join(library!, name));
        await Deno.writeFile(join(folder, name), replaced(bytes, "0.5.0-dev\0", "0.4.9-dev\0"));
      }
      const line = await running({ model: tiny, library: folder });
      assert.match(line, /its library is version 0\.4\.9-dev, and this needs v0\.5\.0$/);
      await Deno.remove(folder, { recursive: true });
    });
  },
});

/** All places of a text in a file, overwritten with one of the same length. */
function replaced(bytes: Uint8Array<ArrayBuffer>, from: string, to: string): Uint8Array {
  const [old, other] = [from, to].map((text) => new TextEncoder().encode(text));
  for (let at = bytes.indexOf(old[0]); at >= 0; at = bytes.indexOf(old[0], at + 1)) {
    if (old.every((byte, i) => bytes[at + i] === byte)) bytes.set(other, at);
  }
  return bytes;
}

Deno.test("structures of another layout are refused, by name", () => {
  const contextParams = new Uint8Array(160);
  const modelParams = new Uint8Array(80);
  const [context, model] = [contextParams, modelParams].map(({ buffer }) => new DataView(buffer));
  const ints = [512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, -1, -1, -1, -1];
  ints.forEach((value, i) => context.setInt32(4 * i, value, true));
  [0, 0, -1, -1, -1, -1].forEach((value, i) => context.setFloat32(56 + 4 * i, value, true));
  context.setFloat32(84, -1, true);
  [104, 108].forEach((at) => context.setInt32(at, 1, true));
  [129, 130, 131, 132].forEach((at) => context.setUint8(at, 1));
  [-1, 1, -1, 1].forEach((value, i) => model.setInt32(16 + 4 * i, value, true));
  model.setUint8(74, 1);
  const quantizeParams = new Uint8Array(64);
  const quantize = new DataView(quantizeParams.buffer);
  [0, 7, 43, 43].forEach((value, i) => quantize.setInt32(4 * i, value, true));
  quantize.setUint8(17, 1);
  quantize.setBigUint64(56, 1n << 33n, true);
  const right: LayoutFacts = {
    version: "0.5.0-dev",
    tensorOverhead: 368,
    contextParams,
    quantizeParams,
    modelParams,
  };
  checkLayout(right);

  const changed = (struct: Uint8Array, at: number) => struct.with(at, struct[at] + 1);
  const wrong: [Partial<LayoutFacts>, RegExp][] = [
    [{ version: "0.6.0" }, /^its library is version 0\.6\.0, and this needs v0\.5\.0$/],
    [{ tensorOverhead: 376 }, /^its library's ggml_tensor has another layout than v0\.5\.0$/],
    [{ modelParams: changed(modelParams, 72) }, /llama_model_params has another layout/],
    [{ contextParams: changed(contextParams, 52) }, /llama_context_params has another layout/],
    [{ contextParams: changed(contextParams, 152) }, /llama_context_params has another layout/],
    [{ quantizeParams: changed(quantizeParams, 17) }, /llama_model_quantize_params has another/],
  ];
  for (const [facts, message] of wrong) {
    assert.throws(() => checkLayout({ ...right, ...facts }), { message });
  }
});

Deno.test("each platform has its package", () => {
  const packages = ([
    ["linux", "x86_64", false],
    ["linux", "aarch64", false],
    ["darwin", "aarch64", false],
    ["darwin", "x86_64", false],
    ["windows", "x86_64", true],
    ["linux", "aarch64", true],
    ["freebsd", "x86_64", false],
  ] as const).map(([os, arch, vulkan]) => llamaCppPackage(os, arch, vulkan));
  assert.deepEqual(packages, [
    "@node-llama-cpp/linux-x64",
    "@node-llama-cpp/linux-arm64",
    "@node-llama-cpp/mac-arm64-metal",
    "@node-llama-cpp/mac-x64",
    "@node-llama-cpp/win-x64-vulkan",
    undefined,
    undefined,
  ]);
});

/** Folders of somebody else's tensors: every format, order and name by value, and every way in which they can be wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { folderReference } from "../../../checkpoints/references/engine_folder/engine_folder.ts";
import { decodeNpy, readNpy, writeNpy } from "../../../checkpoints/files/npy.ts";
import { permuted, sizeOf } from "../../../checkpoints/files/permute.ts";
import {
  ReferenceFailure,
  type ReferenceRequest,
  type ReferenceRun,
} from "../../../checkpoints/references/reference.ts";
import { findModel } from "../../../models/mod.ts";
import { toHalf } from "../../../inspect/points/points.ts";
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { pointTable } from "../../../inspect/tables/mod.ts";
import { writeTable } from "../../../inspect/tables/files.ts";
import huggingFace from "../../fixtures/aliases_huggingface.json" with { type: "json" };
import llamaCpp from "../../fixtures/aliases_llamacpp.json" with { type: "json" };
import { ALIAS_IDS, ALIAS_MODEL } from "../../support/alias_model.ts";
import { Folder } from "../../support/folder.ts";
import { needed } from "../../support/needed.ts";
import { pyTorch, run as runProgram } from "../../support/python_venv.ts";
import { randomLlama } from "../../support/random_llama.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { modelOf, type RandomModel, randomModel } from "../../support/random_model.ts";
import type { Run } from "../../../inspect/run/run.ts";

const IDS = [1, 5, 9, 2, 7];
const T = IDS.length;
const [H, HKV, WIDTH, D, F, V] = [4, 2, 16, 64, 128, 96];
const GENERATED = 3;
const POINTS = ["blk.*", "token_embd", "output_norm", "logits"];

const { model, config, run } = await made();

/** A prompt and three generated tokens on a model of two layers, all points. */
async function made() {
  const { model }: RandomModel = await randomModel({ kvHeads: HKV, seed: 3 });
  const generation = model.generate(IDS, { capture: POINTS, maxTokens: GENERATED });
  // deno-lint-ignore no-unused-vars -- the run is what is wanted
  for await (const token of generation);
  return { model, config: model.config, run: generation.run };
}

function request(points: readonly string[], options: Partial<ReferenceRequest> = {}) {
  return { ids: IDS, generate: 0, steps: [0], points, ...options };
}

/** The numbers of a point in one step, as the run has them. */
function numbers(
  of: Run,
  point: string,
  step = 0,
): { shape: readonly number[]; data: Float32Array } {
  return of.pieces(point).find((piece) => piece.step === step)!;
}

/** Numbers of a run whose hidden keys do not count. */
function visible(
  point: string,
  { shape, data }: { shape: readonly number[]; data: ArrayLike<number> },
) {
  if (!/attn_(scores|probs)$/.test(point)) return Array.from(data);
  const [, queries, keys] = shape;
  return Array.from(data).filter((_, i) => {
    const query = Math.floor(i / keys) % queries;
    return i % keys <= query + keys - queries;
  });
}

function assertHolds(found: ReferenceRun, of: Run, points: readonly string[], step = 0): void {
  const pass = found.passes.find((pass) => pass.step === step)!;
  assert.deepEqual([...pass.tensors.keys()].sort(), [...points].sort());
  for (const point of points) {
    const expected = numbers(of, point, step);
    const tensor = pass.tensors.get(point)!;
    assert.deepEqual(tensor.shape, expected.shape, point);
    assert.deepEqual(visible(point, tensor), visible(point, expected), point);
  }
}

/** Writes a `.npy` file and gives its entry for the manifest. */
async function npy(
  folder: Folder,
  file: string,
  shape: readonly number[],
  data: Float32Array,
  axes?: readonly string[],
) {
  await writeNpy(folder.at(file), shape, data);
  return { file, shape, axes };
}

function manifest(tensors: Record<string, unknown>, more: Record<string, unknown> = {}) {
  return JSON.stringify({
    format: "lamina-engine-tensors",
    version: 1,
    model: "random",
    prompt_ids: IDS,
    passes: [{ step: 0, start: 0, ids: IDS, tensors }],
    ...more,
  });
}

/** The folder must be refused, or its run, with one line that names the folder and matches. */
async function refused(folder: Folder, message: RegExp, asked = request(["blk.0.q", "logits"])) {
  const error: unknown = await folderReference(folder.path, config)
    .then((reference) => reference.run(asked)).then(() => undefined, (reason) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.match(error.message, message);
  assert.ok(!/[\r\n]/.test(error.message) && error.message.length < 400, error.message);
}

/** `checkpoint_<name>.bin` in bytes; counts may lie. */
function bin(data: Float32Array, shape: readonly number[], dimensions = shape.length): Uint8Array {
  const bytes = new Uint8Array(4 + 8 * shape.length + data.byteLength);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, dimensions, true);
  shape.forEach((size, i) => view.setBigInt64(4 + 8 * i, BigInt(size), true));
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 4 + 8 * shape.length);
  return bytes;
}

Deno.test("engine folder: what task capture writes comes back, prompt and steps, all points", async () => {
  using folder = new Folder();
  const sink = new ArrowSink(folder.path);
  // deno-lint-ignore no-unused-vars -- the sink takes what is made
  for await (const token of model.generate(IDS, { capture: POINTS, maxTokens: GENERATED, sink }));
  const reference = await folderReference(folder.path, config);
  const [{ ids }] = run.sequences;
  assert.deepEqual(reference.promptIds, IDS);
  assert.deepEqual(reference.generatedIds, ids.slice(T));
  const points = [...new Set(run.captured)];
  assert.ok(points.length > 40);
  const found = await reference.run(request(points, { generate: 2, steps: [0, 1, 2, 64] }));
  assert.deepEqual(found.passes.map(({ step, start, ids }) => [step, start, ids.length]), [
    [0, 0, T],
    [1, T, 1],
    [2, T + 1, 1],
  ]);
  for (const step of [0, 1, 2]) assertHolds(found, run, points, step);
  assert.deepEqual(found.ids, ids.slice(T, T + 3));
  assert.equal(found.margins.length, 3);
  assert.ok(found.margins.every((margin) => margin > 0), `${found.margins}`);
});

Deno.test("engine folder: tables of several layers, of some positions, and of aliases", async () => {
  using folder = new Folder();
  await writeTable(folder.at("all.arrow"), run.tables("blk.*.ffn_gate"));
  await writeTable(folder.at("halves.arrow"), run.table("model.layers.1.self_attn.q_proj"));
  const scores = model.pointList.find(({ name }) => name === "blk.0.attn_scores")!;
  const unscaled = run.pieces(scores.name).map((piece) => ({
    ...piece,
    data: piece.data.map((value) => value * 4), // √16
  }));
  const meta = { ...run.meta, alias: "kq-0" };
  await writeTable(folder.at("s.arrow"), pointTable([scores], unscaled, meta, () => undefined));
  const reference = await folderReference(folder.path, config);
  const points = ["blk.0.ffn_gate", "blk.1.ffn_gate", "blk.1.q", "blk.0.attn_scores"];
  assertHolds(await reference.run(request(points)), run, points);

  using some = new Folder();
  const sink = new ArrowSink(some.path);
  await model.run([IDS], { capture: ["blk.0.q", "blk.0.attn_probs"], positions: [1, -1], sink });
  const partly = (await (await folderReference(some.path, config))
    .run(request(["blk.0.q", "blk.0.attn_probs"]))).passes[0].tensors;
  const q = partly.get("blk.0.q")!;
  assert.deepEqual([q.shape, q.positions], [[2, H, WIDTH], [1, 4]]);
  const row = H * WIDTH;
  assert.deepEqual(q.data.slice(row), numbers(run, "blk.0.q").data.slice(4 * row));
  assert.deepEqual(partly.get("blk.0.attn_probs")!.positions, [1, 4]);
});

Deno.test("engine folder: a manifest's axes are permuted, batches dropped, heads parted, keys cut off", async () => {
  using folder = new Folder();
  const q = numbers(run, "blk.0.q");
  const probs = numbers(run, "blk.0.attn_probs");
  const padded = new Float32Array(H * T * 8);
  for (let row = 0; row < H * T; row++) {
    padded.set(probs.data.subarray(row * T, row * T + T), row * 8);
  }
  const out = numbers(run, "blk.1.out");
  const logits = numbers(run, "logits");
  const tensors = {
    "blk.0.q": await npy(
      folder,
      "q.npy",
      [1, H, T, WIDTH],
      permuted(q.data, q.shape, [1, 0, 2]),
      ["batch", "head", "position", "feature"],
    ),
    "blk.0.k": await npy(folder, "k.npy", [1, T, HKV * WIDTH], numbers(run, "blk.0.k").data),
    "blk.0.v": await npy(
      folder,
      "v.npy",
      [HKV * WIDTH, T],
      permuted(numbers(run, "blk.0.v").data, [T, HKV * WIDTH], [1, 0]),
      ["feature", "position"],
    ),
    "blk.0.attn_probs": await npy(folder, "p.npy", [H, T, 8], padded),
    "blk.0.cache_k": await npy(
      folder,
      "cache.npy",
      [1, HKV, T, WIDTH],
      permuted(numbers(run, "blk.0.cache_k").data, [T, HKV, WIDTH], [1, 0, 2]),
      ["batch", "head", "position", "feature"],
    ),
    "l_out-1": await npy(folder, "out.npy", [D, T], permuted(out.data, [T, D], [1, 0]), [
      "feature",
      "position",
    ]),
    logits: await npy(folder, "logits.npy", [V], logits.data.slice(-V)),
    "blk.1.ffn_up": {
      ...await npy(folder, "up.npy", [2, F], numbers(run, "blk.1.ffn_up").data.slice(F, 3 * F)),
      positions: [1, 2],
    },
  };
  folder.write(
    "manifest.json",
    manifest(tensors, { engine: "mine", activations: "bf16", dtype: null }),
  );
  const reference = await folderReference(folder.path, config);
  const { provenance } = reference;
  assert.deepEqual([provenance.name, provenance.activations, provenance.rope], [
    "mine",
    "bf16",
    "exact",
  ]);
  const whole = [
    ...["q", "k", "v", "attn_probs", "cache_k"].map((kind) => `blk.0.${kind}`),
    "blk.1.out",
  ];
  assertHolds(await reference.run(request(whole)), run, whole);
  const found = await reference.run(request(["logits", "blk.1.ffn_up"]));
  const { tensors: partly } = found.passes[0];
  assert.deepEqual([partly.get("logits")!.shape, partly.get("logits")!.positions], [[1, V], [
    T - 1,
  ]]);
  assert.deepEqual(partly.get("blk.1.ffn_up")!.positions, [1, 2]);
  // Its own choice is what its logits say, by as much as they say.
  const sorted = logits.data.slice(-V).sort();
  assert.deepEqual(found.ids, [logits.data.slice(-V).indexOf(sorted[V - 1])]);
  assert.deepEqual(found.margins, [sorted[V - 1] - sorted[V - 2]]);
});

Deno.test("engine folder: the manifest's row order holds for all names", async () => {
  using folder = new Folder();
  const halves = (point: string) => toHalf(numbers(run, point).data, WIDTH);
  const tensors = {
    "Qcur-0": await npy(folder, "q.npy", [T, H, WIDTH], halves("blk.0.q_rope")),
    "blk.0.k": await npy(folder, "k.npy", [T, HKV, WIDTH], halves("blk.0.k")),
    "model.layers.0.self_attn.v_proj": await npy(
      folder,
      "v.npy",
      [T, HKV, WIDTH],
      numbers(run, "blk.0.v").data,
    ),
  };
  const points = ["blk.0.q_rope", "blk.0.k", "blk.0.v"];
  folder.write("manifest.json", manifest(tensors, { rope: "half" }));
  assertHolds(await (await folderReference(folder.path, config)).run(request(points)), run, points);

  const own = await npy(folder, "k2.npy", [T, HKV, WIDTH], numbers(run, "blk.0.k").data);
  const names = { "model.layers.0.self_attn.k_proj": own };
  folder.write("manifest.json", manifest(names, { rope: "adjacent" }));
  assertHolds(
    await (await folderReference(folder.path, config)).run(request(["blk.0.k"])),
    run,
    ["blk.0.k"],
  );
});

Deno.test("engine folder: names of llama.cpp and Hugging Face, by the values of these engines", async () => {
  using aliases = await modelOf(randomLlama(ALIAS_MODEL));
  const points = aliases.model.pointList;
  const own = await aliases.model.run([[...ALIAS_IDS]], {
    capture: points.map(({ name }) => name),
  });
  for (const fixture of [llamaCpp.aliases, huggingFace.aliases]) {
    using folder = new Folder();
    const written = new Set<string>();
    for (const [alias, base64] of Object.entries<string>(fixture)) {
      const point = points.find((point) => point.aliases.includes(alias))!;
      if (written.has(point.name)) continue;
      written.add(point.name);
      const data = new Float32Array(Uint8Array.fromBase64(base64).buffer);
      await writeNpy(folder.at(`${alias}.npy`), numbers(own, point.name).shape, data);
    }
    assert.ok(written.size > 15);
    const reference = await folderReference(folder.path, aliases.model.config);
    const found = await reference.run(request([...written], { ids: ALIAS_IDS }));
    for (const [name, tensor] of found.passes[0].tensors) {
      const expected = visible(name, numbers(own, name));
      const largest = Math.max(...expected.map(Math.abs));
      visible(name, tensor).forEach((value, i) =>
        assert.ok(Math.abs(value - expected[i]) <= 1e-5 * largest, `${name} ${i}`)
      );
    }
    assert.equal(found.passes[0].tensors.size, written.size);
  }
});

Deno.test("engine folder: checkpoint_<name>.bin, with ggml's shape and with its reverse", async () => {
  using folder = new Folder();
  const { data } = numbers(run, "blk.0.q");
  folder.write("checkpoint_Qcur-0#pre_rope.bin", bin(data, [WIDTH, H, T]));
  folder.write("checkpoint_blk.1.q.bin", bin(numbers(run, "blk.1.q").data, [T, H, WIDTH]));
  folder.write("checkpoint_attn_norm-1.bin", bin(numbers(run, "blk.1.attn_norm").data, [D, T]));
  const points = ["blk.0.q", "blk.1.q", "blk.1.attn_norm"];
  const reference = await folderReference(folder.path, config);
  assert.equal(reference.promptIds, undefined);
  assertHolds(await reference.run(request(points)), run, points);
  // One position: ggml leaves out the ones at the end.
  using one = new Folder();
  one.write("checkpoint_blk.0.out.bin", bin(new Float32Array(D).fill(NaN), [D]));
  const { passes } = await (await folderReference(one.path, config))
    .run(request(["blk.0.out"], { ids: [3] }));
  assert.deepEqual(passes[0].tensors.get("blk.0.out")!.shape, [1, D]);
  assert.ok(Number.isNaN(passes[0].tensors.get("blk.0.out")!.data[5]));
});

Deno.test("engine folder: folders and manifests that are wrong are one line", async () => {
  using folder = new Folder();
  await refused(folder, /: no manifest.json and no \.arrow, \.npy or \.bin file in it$/);
  const none = await folderReference(folder.at("none"), config).catch((error) => error);
  assert.equal(none.message, "none: no such folder");

  const wrong = (text: string, message: RegExp) => {
    folder.write("manifest.json", text);
    return refused(folder, message);
  };
  await wrong("{,\n}", /: manifest\.json: not JSON: /);
  await wrong("[]", /manifest\.json: the whole is no object/);
  await wrong('{"format": "gguf"}', /format is "gguf"/);
  await wrong(manifest({}, { version: 2 }), /version is 2; this Lamina reads version 1/);
  await wrong(manifest({}, { rope: "odd" }), /rope is "odd"; it must be one of adjacent, half/);
  await wrong(
    manifest({}, { prompt_ids: [1, -1] }),
    /prompt_ids is \[1,-1\]; it must be a list of/,
  );
  await wrong(manifest({}, { passes: [{ step: 0 }] }), /passes\[0\]\.start is missing/);
  await wrong(manifest({}, { prompt_ids: [1] }), /step 0 ran ids that are not those of prompt_ids/);
  await wrong(
    manifest({ "blk.0.qq": { file: "q.npy" } }),
    /manifest\.json: No point "blk\.0\.qq" .*did you mean blk\.0\.q/,
  );
  await wrong(manifest({ "blk.*.q": { file: "q.npy" } }), /"blk\.\*\.q" is a pattern, not a point/);
  await wrong(
    manifest({ "blk.0.q": { file: "../q.npy" } }),
    /\.\.\/q\.npy is outside of the folder/,
  );
  await wrong(
    manifest({ "blk.0.q": { file: "q.txt" } }),
    /q\.txt is no \.arrow, \.npy or \.bin file/,
  );
  await wrong(manifest({ "blk.0.q": { file: "none.npy" } }), /: none\.npy: no such file/);
  await wrong(
    manifest({ "blk.0.q": { file: "a.npy" }, "Qcur-0#pre_rope": { file: "b.npy" } }),
    /blk\.0\.q \(a\.npy\) and Qcur-0#pre_rope \(b\.npy\) are the same point/,
  );
  await wrong(
    manifest({ "blk.0.q": { file: "a.npy", positions: [9] } }),
    /tensors\.blk\.0\.q\.positions leave the pass/,
  );
  folder.write("manifest.json", manifest({}));
  await refused(
    folder,
    /it holds the prompt \[1, 5, 9, 2, 7\], not \[1, 2\]/,
    request([], { ids: [1, 2] }),
  );
  const passes = [{ step: 1, start: T, ids: [4], tensors: {} }];
  folder.write("manifest.json", manifest({}, { passes }));
  const forced = { generate: 1, steps: [1], forced: [8] };
  await refused(folder, /its pass of step 1 ran token 4, not 8/, request([], forced));
});

Deno.test("engine folder: files that are wrong are one line that names them", async () => {
  using folder = new Folder();
  const q = numbers(run, "blk.0.q").data;
  const wrong = async (file: string, bytes: Uint8Array, message: RegExp) => {
    folder.write(file, bytes);
    await refused(folder, message);
    Deno.removeSync(folder.at(file));
  };
  const good = bin(q, [WIDTH, H, T]);
  await wrong("q.bin", good, /: q\.bin: No point "q"/);
  const file = "checkpoint_blk.0.q.bin";
  const named = (text: string) => new RegExp(`: checkpoint_blk\\.0\\.q\\.bin: ${text}`);
  await wrong(
    file,
    good.subarray(0, good.length - 1),
    named("shape .* needs 1280 bytes of numbers, the file has 1279"),
  );
  await wrong(file, good.subarray(0, 20), named("it ends within its header"));
  await wrong(file, good.subarray(0, 2), named("it ends within its header"));
  await wrong(file, bin(q, [WIDTH, H, T], 1e9), named("1000000000 dimensions"));
  await wrong(file, bin(q, [WIDTH, H, 2 ** 53]), named("shape .* needs \\d+ bytes"));
  await wrong(file, bin(q, [-WIDTH, -H, T]), named("shape \\[-16, -4, 5\\]"));
  await wrong(
    file,
    bin(q, [WIDTH, T, H]),
    named(
      "shape \\[4, 5, 16\\] where blk\\.0\\.q has \\[position 5, head 4, feature 16\\]; name its axes",
    ),
  );

  const bytes = new Uint8Array(await npyBytes([T, H, WIDTH], q));
  const text = (from: string, to: string) => {
    const header = String.fromCharCode(...bytes.subarray(0, 128)).replace(
      from,
      to.padEnd(from.length),
    );
    return Uint8Array.from(
      [...header].map((c) => c.charCodeAt(0)).concat([...bytes.subarray(128)]),
    );
  };
  const at = (name: string) => new RegExp(`: blk\\.0\\.q\\.npy: ${name}`);
  await wrong("blk.0.q.npy", bytes.subarray(0, 5), at("no \\.npy file"));
  await wrong("blk.0.q.npy", bytes.subarray(0, 9), at("it ends within its header"));
  await wrong("blk.0.q.npy", bytes.subarray(0, 90), at("it ends within its header"));
  await wrong(
    "blk.0.q.npy",
    bytes.subarray(0, 900),
    at("shape .* needs 1280 bytes of numbers, the file has 772"),
  );
  await wrong("blk.0.q.npy", text("'<f4'", "'<i4'"), at('numbers of type "<i4"; write float32'));
  await wrong("blk.0.q.npy", text("'shape'", "'shope'"), at("a damaged \\.npy header"));
  await wrong(
    "blk.0.q.npy",
    text("(5, 4, 16)", "(999999999)"),
    at("shape .* needs 3999999996 bytes"),
  );

  await writeTable(folder.at("whole.arrow"), run.table("blk.0.q"));
  const arrow = Deno.readFileSync(folder.at("whole.arrow"));
  Deno.removeSync(folder.at("whole.arrow"));
  await wrong(
    "blk.0.q.arrow",
    arrow.subarray(0, arrow.length / 2),
    /: blk\.0\.q\.arrow: a damaged/,
  );
  await wrong(
    "blk.0.q.arrow",
    new Uint8Array(100),
    /: blk\.0\.q\.arrow: no message of an Arrow stream/,
  );
  const cut = run.table("blk.0.q").slice(0, 7);
  await writeTable(folder.at("blk.0.q.arrow"), cut);
  await refused(folder, /: blk\.0\.q\.arrow: 7 rows where blk\.0\.q needs 8/);
  await writeTable(folder.at("blk.0.q.arrow"), run.table("blk.0.q").select(["value"]) as never);
  await refused(folder, /: blk\.0\.q\.arrow: it has no column /);
});

Deno.test("engine folder: damaged bytes give numbers or one line, in little memory and time", async () => {
  using whole = new Folder();
  await writeTable(whole.at("blk.0.attn_probs.arrow"), run.table("blk.0.attn_probs"));
  await writeNpy(
    whole.at("blk.0.attn_probs.npy"),
    [H, T, T],
    numbers(run, "blk.0.attn_probs").data,
  );
  const probs = numbers(run, "blk.0.attn_probs");
  whole.write("checkpoint_blk.0.attn_probs.bin", bin(probs.data, [T, T, H]));
  const random = new Random(12);
  const { rss } = Deno.memoryUsage();
  for (const name of whole.names()) {
    const bytes = Deno.readFileSync(whole.at(name));
    for (let i = 0; i < 150; i++) {
      using folder = new Folder();
      const damaged = bytes.slice(0, i % 3 === 0 ? random.integer(0, bytes.length) : undefined);
      // Headers and the metadata at the end are where damage does harm.
      const near = () =>
        Math.floor(Math.min(...[0, 0, 0].map(() => random.uniform(0, bytes.length))));
      for (let flips = 0; flips < 3; flips++) {
        const at = random.bits() % 2 ? near() : bytes.length - 1 - near();
        damaged[at] = random.bits();
      }
      folder.write(name, damaged);
      const error = await folderReference(folder.path, config)
        .then((reference) => reference.run(request(["blk.0.attn_probs"])))
        .then(() => undefined, (reason) => reason);
      assert.ok(
        error === undefined || error instanceof ReferenceFailure,
        `${name}: ${error?.stack}`,
      );
    }
  }
  assert.ok(Deno.memoryUsage().rss - rss < 2 ** 28);
});

async function npyBytes(shape: readonly number[], data: Float32Array): Promise<Uint8Array> {
  using folder = new Folder();
  await writeNpy(folder.at("x.npy"), shape, data);
  return Deno.readFileSync(folder.at("x.npy"));
}

Deno.test("npy: what is written is read, and what NumPy wrote in other types and orders", async () => {
  using folder = new Folder();
  const data = Float32Array.from({ length: 24 }, (_, i) => i - 7.5);
  for (const shape of [[24], [2, 3, 4], [1, 24, 1], [0, 4]]) {
    const some = data.subarray(0, sizeOf(shape));
    await writeNpy(folder.at("x.npy"), shape, some);
    const bytes = Deno.readFileSync(folder.at("x.npy"));
    assert.equal(bytes.length % 64, some.byteLength % 64, "numbers begin on a multiple of 64");
    assert.deepEqual(await readNpy(folder.at("x.npy")), { shape, data: some.slice() });
  }
  await assert.rejects(writeNpy(folder.at("x.npy"), [5], data), RangeError);
  const wide = Float64Array.of(Math.PI, NaN, -0);
  await writeNpy(folder.at("x.npy"), [3], wide);
  assert.deepEqual((await readNpy(folder.at("x.npy"))).data, wide);

  // numpy.save of NumPy 1.26: np.arange(6).reshape(2, 3), as '>f4', as asfortranarray of '<f2', and of version 2.0.
  const header = (descr: string, fortran: string) =>
    `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': (2, 3), }`.padEnd(117) + "\n";
  const file = (version: number, head: string, numbers: Uint8Array) => {
    const length = version === 1 ? [head.length, 0] : [head.length, 0, 0, 0];
    const prefix = [0x93, ...new TextEncoder().encode("NUMPY"), version, 0, ...length];
    return Uint8Array.from([...prefix, ...new TextEncoder().encode(head), ...numbers]);
  };
  const big = new Uint8Array(24);
  for (let i = 0; i < 6; i++) new DataView(big.buffer).setFloat32(4 * i, i, false);
  assert.deepEqual(decodeNpy(file(1, header(">f4", "False"), big)), {
    shape: [2, 3],
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
  const halves = new Uint8Array(Float16Array.of(0, 3, 1, 4, 2, 5).buffer);
  assert.deepEqual(decodeNpy(file(2, header("<f2", "True"), halves)), {
    shape: [2, 3],
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
});

const output = (program: string, ...args: string[]) => runProgram(program, args);

const DUMPERS = new URL("../../../checkpoints/references/engine_folder/dumpers/", import.meta.url);
const dumper = (name: string) =>
  join(import.meta.dirname!, "../../../checkpoints/references/engine_folder/dumpers", name);

/** What each dumper's test writes: q [2, 2, 16] counting up, in halves, and logits of a generated token. */
async function assertDumped(folder: Folder): Promise<void> {
  const reference = await folderReference(folder.path, config);
  assert.deepEqual(reference.promptIds, [1, 5]);
  const found = await reference.run({
    ids: [1, 5],
    generate: 1,
    steps: [0, 1],
    points: ["blk.0.q", "logits"],
  });
  const counted = Float32Array.from({ length: 2 * H * WIDTH }, (_, i) => i / 4);
  const q = found.passes[0].tensors.get("blk.0.q")!;
  assert.deepEqual(q.shape, [2, H, WIDTH]);
  assert.deepEqual(toHalf(q.data, WIDTH), counted);
  assert.deepEqual(found.passes[1].tensors.get("logits")!.shape, [1, V]);
  assert.deepEqual(found.passes.map(({ step, start, ids }) => [step, start, ids]), [
    [0, 0, [1, 5]],
    [1, 2, [9]],
  ]);
}

Deno.test("dumpers: each is under 40 lines", async () => {
  for (const name of ["dump.py", "dump.h", "dump.rs"]) {
    const text = await Deno.readTextFile(new URL(name, DUMPERS));
    assert.ok(text.trimEnd().split("\n").length < 40, name);
    assert.ok(text.split("\n").every((line) => line.length <= 140), `${name} has long lines`);
  }
});

const python = await needed("python3", () => output("python3", "--version"));
Deno.test({
  name: "dumpers: dump.py, with what torch has of a tensor",
  ignore: python === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.py",
      `import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from dump import Dump

class Tensor:  # the part of torch.Tensor that dump.py uses
    def __init__(self, numbers, shape): self.numbers, self.shape = numbers, shape
    detach = float = cpu = lambda self: self
    def reshape(self, _): return self
    def tolist(self): return self.numbers

class Module:
    def __init__(self, out): self.out, self.hooks = out, []
    def register_forward_hook(self, hook): self.hooks.append(hook)
    def run(self): [hook(self, (), self.out) for hook in self.hooks]

class Model:
    def __init__(self, modules): self.modules = modules
    def named_modules(self): return self.modules.items()

q = Tensor([i / 4 for i in range(${2 * H * WIDTH})], (1, 2, ${H * WIDTH}))
model = Model({"": Module(None), "model": Module(None), "model.layers.0.self_attn.q_proj": Module(q),
               "model.layers.0.self_attn": Module(None), "model.layers.0": Module((Tensor([0.0] * ${
        2 * D
      }, (1, 2, ${D})),))})
dump = Dump(sys.argv[2], "random")
dump.attach(model)
dump.begin(0, 0, [1, 5])
for module in model.modules.values(): module.run()
dump.begin(1, 2, [9])
dump.tensor("logits", Tensor([0.5] * ${V}, (1, 1, ${V})), ["batch", "position", "feature"])
dump.end([9, 4])
`,
    );
    await output("python3", program, dumper(""), folder.path);
    await assertDumped(folder);
    assert.deepEqual((await folderReference(folder.path, config)).generatedIds, [9, 4]);
  },
});

const torch = await pyTorch();
Deno.test({
  name: "dumpers: dump.py's attach takes a Hugging Face model",
  ignore: torch === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    code.write("tiny.gguf", (await findModel("tiny")).bytes!);
    const program = code.write(
      "use.py",
      `import sys, torch, transformers
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from dump import Dump
model = transformers.AutoModelForCausalLM.from_pretrained(
    sys.argv[3], gguf_file="tiny.gguf", dtype=torch.float32, attn_implementation="eager")
dump = Dump(sys.argv[2], "tiny")
dump.attach(model)
dump.begin(0, 0, ${JSON.stringify(IDS)})
with torch.no_grad():
    out = model(torch.tensor([${JSON.stringify(IDS)}]), output_attentions=True)
for layer, attention in enumerate(out.attentions):
    dump.tensor(f"attentions[{layer}]", attention)
dump.end()
`,
    );
    const { command, args } = torch!
      .start([program, dumper(""), folder.path, code.path]);
    await output(command, ...args);

    using tiny = await modelOf((await findModel("tiny")).bytes!);
    const reference = await folderReference(folder.path, tiny.model.config);
    const kinds = ["attn_norm", "q", "k", "v", "attn_probs", "attn_out", "ffn_norm", "ffn_gate"];
    const points = [
      ...[0, 4].flatMap((layer) =>
        [...kinds, "ffn_up", "ffn_out", "out"].map((kind) => `blk.${layer}.${kind}`)
      ),
      ...["token_embd", "output_norm", "logits"],
    ];
    const own = await tiny.model.run([IDS], { capture: points });
    const { passes, ids } = await reference.run(request(points));
    assert.deepEqual([...passes[0].tensors.keys()].sort(), points.toSorted());
    for (const [name, tensor] of passes[0].tensors) {
      const expected = visible(name, numbers(own, name));
      const largest = Math.max(...expected.map(Math.abs));
      visible(name, tensor).forEach((value, i) =>
        assert.ok(Math.abs(value - expected[i]) <= 1e-4 * largest, `${name} ${i}`)
      );
    }
    assert.deepEqual(ids, [own.top(1)[0].id]);
  },
});

const cc = await needed("C compiler", () => output("cc", "--version"));
Deno.test({
  name: "dumpers: dump.h",
  ignore: cc === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.c",
      `#include "dump.h"
int main(int count, char **args) {
    static float q[${2 * H * WIDTH}], logits[${V}];
    int prompt[] = {1, 5}, next[] = {9};
    (void)count;
    for (int i = 0; i < ${2 * H * WIDTH}; i++) q[i] = i / 4.0f;
    if (dump_begin(args[1], "random", "half", prompt, 2)) return 1;
    dump_pass(0, 0, prompt, 2);
    if (dump_tensor("blk.0.q", q, 3, (int64_t[]){2, ${H}, ${WIDTH}})) return 1;
    if (dump_tensor("blk.0.out", q, 2, (int64_t[]){2, ${D}})) return 1;
    dump_pass(1, 2, next, 1);
    if (dump_tensor("logits", logits, 2, (int64_t[]){1, ${V}})) return 1;
    return dump_end();
}
`,
    );
    const flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-I", dumper("")];
    await output("cc", ...flags, program, "-o", code.at("use"));
    await output(code.at("use"), folder.path);
    await assertDumped(folder);
  },
});

const rustc = await needed("Rust compiler", () => output("rustc", "--version"));
Deno.test({
  name: "dumpers: dump.rs",
  ignore: rustc === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.rs",
      `#[path = ${JSON.stringify(dumper("dump.rs"))}]
mod dump;
fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap();
    let mut dump = dump::Dump::new(folder, "random", "half", &[1, 5])?;
    // [head, position, feature]
    let q: Vec<f32> = (0..${2 * H * WIDTH})
        .map(|i| (i / ${2 * WIDTH}, i / ${WIDTH} % 2, i % ${WIDTH}))
        .map(|(head, position, feature)| ((position * ${H} + head) * ${WIDTH} + feature) as f32 / 4.0)
        .collect();
    dump.pass(0, 0, &[1, 5]);
    dump.tensor("blk.0.q", &q, &[${H}, 2, ${WIDTH}], &["head", "position", "feature"])?;
    dump.tensor("blk.0.out", &q, &[2, ${D}], &[])?;
    dump.pass(1, 2, &[9]);
    dump.tensor("logits", &vec![0.5; ${V}], &[1, ${V}], &[])?;
    dump.end()
}
`,
    );
    await output("rustc", "--edition", "2021", "-Dwarnings", program, "-o", code.at("use"));
    await output(code.at("use"), folder.path);
    await assertDumped(folder);
  },
});

/** Folders of somebody else's tensors: every format, order and name by value, and every way in which they can be wrong. */
import assert from "node:assert/strict";
import { folderReference } from "../../../checkpoints/references/engine_folder/engine_folder.ts";
import { writeNpy } from "../../../checkpoints/files/npy.ts";
import { permuted } from "../../../checkpoints/files/permute.ts";
import { toHalf } from "../../../inspect/points/points.ts";
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { pointTable } from "../../../inspect/tables/mod.ts";
import { writeTable } from "../../../inspect/tables/files.ts";
import huggingFace from "../../fixtures/aliases_huggingface.json" with { type: "json" };
import llamaCpp from "../../fixtures/aliases_llamacpp.json" with { type: "json" };
import { ALIAS_IDS, ALIAS_MODEL } from "../../support/models/alias_model.ts";
import { Folder } from "../../support/folder.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { modelOf } from "../../support/models/random_model.ts";
import {
  assertHolds,
  bin,
  config,
  D,
  F,
  GENERATED,
  H,
  HKV,
  IDS,
  manifest,
  model,
  npy,
  numbers,
  POINTS,
  request,
  run,
  T,
  V,
  visible,
  WIDTH,
} from "../../support/engines/engine_folder_samples.ts";

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

/** `task reference`: what it writes, and how it fails; with the permissions of its task. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { MANIFEST, parseManifest } from "../../../checkpoints/references/engine_folder/manifest.ts";
import { readNpy } from "../../../checkpoints/files/npy.ts";
import { oracleReference } from "../../../checkpoints/references/oracle.ts";
import {
  isReference,
  modelOnDisk,
  openReference,
  REFERENCES,
} from "../../../checkpoints/references/mod.ts";
import denoJson from "../../../deno.json" with { type: "json" };
import { openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { oracle, oracleGreedy } from "../../../engine/oracle/oracle.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { readArrow } from "../../../inspect/tables/files.ts";
import { findModel } from "../../../models/mod.ts";
import { pyTorch } from "../../support/engines/python_venv.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { tableRows } from "../../support/tables/table_rows.ts";
import { deno } from "../../support/command.ts";
import { Folder } from "../../support/folder.ts";

const environment = await pyTorch();

/** A folder, and the command run with its task's permissions. */
class Bench extends Folder {
  readonly out = this.at("out");

  run(...args: string[]) {
    assert.match(
      denoJson.tasks.reference.command,
      /-P=reference checkpoints\/commands\/reference\.ts$/,
    );
    const command = [
      "run",
      "-q",
      "--no-prompt",
      "-P=reference",
      "checkpoints/commands/reference.ts",
    ];
    return deno([...command, ...args]);
  }

  async good(...args: string[]) {
    const result = await this.run(...args, "--out", this.out);
    assert.equal(result.code, 0, result.err);
    return result;
  }

  async bad(code: 1 | 2, line: RegExp, ...args: string[]): Promise<void> {
    const result = await this.run(...args);
    assert.match(result.err, line);
    assert.match(result.err, /^error: [^\n]+\n$/);
    assert.equal(result.code, code);
    assert.equal(result.out, "");
  }

  /** Files below the folder that was written. */
  get files(): string[] {
    const below = (folder: string): string[] =>
      [...Deno.readDirSync(join(this.out, folder))].flatMap(({ name, isDirectory }) =>
        isDirectory ? below(join(folder, name)) : [join(folder, name)]
      );
    return below("").sort();
  }
}

async function tiny() {
  return await openGguf(bytesSource("tiny", (await findModel("tiny")).bytes!));
}

Deno.test("Arrow: the tables of a capture, which also say whose numbers they are", async () => {
  using bench = new Bench();
  const { out } = await bench.good(
    ...["--reference", "oracle", "--generate", "2", "--points", "blk.1.{q,attn_probs,cache_k}"],
    "Once upon",
  );
  const names = ["blk.1.attn_probs", "blk.1.cache_k", "blk.1.q"];
  assert.deepEqual(bench.files, names.map((name) => `${name}.arrow`));
  for (const name of bench.files) assert.ok(out.includes(name));

  using model = await loadModel("tiny", { backend: "cpu" });
  const generation = model.generate("Once upon", { capture: names, maxTokens: 3, ignoreEos: true });
  for await (const _ of generation);
  for (const name of names) {
    const ours = generation.run.table(name);
    const table = await readArrow(join(bench.out, `${name}.arrow`));
    assert.equal(`${table.schema.fields}`, `${ours.schema.fields}`);
    const expected = tableRows(ours);
    for (const [row, { value, ...index }] of tableRows(table).entries()) {
      const { value: own, ...columns } = expected[row];
      assert.deepEqual(index, columns);
      assert.equal(value.length, own.length);
      own.forEach((x: number, i: number) => assert.ok(Math.abs(x - value[i]) < 1e-4));
    }
    assert.equal(table.numRows, ours.numRows);
    const { reference, reference_version, weights, device, ...rest } = Object.fromEntries(
      table.metadata,
    );
    assert.deepEqual([reference, reference_version, weights], ["oracle", denoJson.version, "tiny"]);
    assert.equal(device, "CPU, 64-bit floats");
    const { device: _, ids, ...same } = Object.fromEntries(ours.metadata);
    assert.deepEqual(rest, { ...same, ids: rest.ids });
    // Those that ran; a generation also knows the last choice.
    assert.deepEqual(JSON.parse(rest.ids)[0], JSON.parse(ids)[0].slice(0, -1));
  }
});

Deno.test("npy: a file per point and step, and the manifest of an engine's folder", async () => {
  using bench = new Bench();
  const { out, err } = await bench.good(
    ...["--reference", "oracle", "--generate", "1", "--format", "npy", "--json"],
    ...["--points", "blk.0.{k_rope,attn_scores},logits", "--prompt-ids", "1,447,463"],
  );
  assert.equal(err, "");
  const points = ["blk.0.attn_scores", "blk.0.k_rope", "logits"];
  assert.deepEqual(bench.files, [
    MANIFEST,
    ...[0, 1].flatMap((step) => points.map((point) => join(`step${step}`, `${point}.npy`))),
  ]);
  const file = await tiny();
  const greedy = await oracleGreedy(file, [1, 447, 463], 2);
  const ids = [1, 447, 463, greedy.ids[0]];
  const { points: expected } = await oracle(file, ids, { rows: "all", points: () => true });
  const line = JSON.parse(out);
  assert.deepEqual(line.prompt_ids, [1, 447, 463]);
  assert.deepEqual(line.ids, greedy.ids);
  assert.equal(line.reference.name, "oracle");
  assert.equal(line.files.length, 7);

  const json = await Deno.readTextFile(join(bench.out, MANIFEST));
  const manifest = parseManifest(json);
  assert.equal(JSON.parse(json).dtype, "f32");
  const { rope, angles, activations, engine, prompt_ids, passes } = manifest;
  assert.deepEqual(
    { rope, angles, activations, engine, prompt_ids, ids: manifest.ids },
    {
      rope: "adjacent",
      angles: "exact",
      activations: "f32",
      engine: "oracle",
      prompt_ids: [1, 447, 463],
      ids: greedy.ids,
    },
  );
  assert.deepEqual(
    passes.map(({ step, start, ids }) => ({ step, start, ids })),
    [{ step: 0, start: 0, ids: ids.slice(0, 3) }, { step: 1, start: 3, ids: ids.slice(3) }],
  );
  const { axes, shape, file: path } = passes[0].tensors["blk.0.attn_scores"];
  assert.deepEqual([axes, shape], [["head", "query", "key"], [8, 3, 3]]);
  const scores = await readNpy(join(bench.out, path));
  assert.deepEqual(scores.shape, shape);
  scores.data.forEach((score, i) => {
    const [head, query, key] = [Math.floor(i / 9), Math.floor(i / 3) % 3, i % 3];
    const value = expected.get("blk.0.attn_scores")!.data[(head * 4 + query) * 4 + key];
    assert.equal(score, key > query ? -Infinity : Math.fround(value));
  });
  const logits = await readNpy(join(bench.out, passes[1].tensors.logits.file));
  assert.deepEqual(logits.shape, [1, 1024]);
  assert.deepEqual(logits.data, Float32Array.from(expected.get("logits")!.data.subarray(3 * 1024)));
});

Deno.test({
  name: "PyTorch's tensors",
  ignore: environment === undefined,
  async fn() {
    using bench = new Bench();
    const args = ["--reference", "pytorch", "--points", "blk.4.attn_norm*", "Once upon a time"];
    const { err } = await bench.good(...args);
    assert.equal(
      err.replace(/PyTorch 2\S+ \(transformers 5\S+\)/, "VERSION"),
      "PyTorch does not show blk.*.attn_norm_rms, blk.*.attn_norm_pre\n" +
        "VERSION on tiny.gguf, dequantized to F32\n",
    );
    const { metadata, numRows } = await readArrow(join(bench.out, "blk.4.attn_norm.arrow"));
    assert.equal(metadata.get("reference"), "PyTorch");
    assert.equal(numRows, 5);
    const none = ["--reference", "pytorch", "--points", "blk.0.head_result", "x"];
    await bench.bad(1, /PyTorch shows none of these points$/m, ...none, "--out", bench.out);
  },
});

Deno.test("a file without a vocabulary runs on ids", async () => {
  using bench = new Bench();
  const path = bench.write("random.gguf", randomLlama());
  const base = ["--model", path, "--reference", "oracle", "--points", "logits"];
  await bench.good(...base, "--prompt-ids", "1,2,3");
  const rows = tableRows(await readArrow(join(bench.out, "logits.arrow")));
  assert.deepEqual(rows.map(({ token }) => token), ["1", "2", "3"]);
  await bench.bad(2, /random has no vocabulary/, ...base, "--out", bench.out, "text");
});

Deno.test("wrong usage and failures are one line", async () => {
  using bench = new Bench();
  const { out } = bench;
  await bench.bad(2, /give either a PROMPT or --prompt-ids/, "--out", out);
  await bench.bad(2, /--out is missing/, "Hello");
  await bench.bad(2, /must be one of llama\.cpp, .*oracle; it is "hf:"/, "--reference", "hf:", "x");
  const oracle = ["--reference", "oracle", "--out", out];
  await bench.bad(2, /--as-is is for llama\.cpp/, ...oracle, "--as-is", "Hello");
  await bench.bad(
    1,
    /No point "blk\.0\.atn_probs"/,
    ...oracle,
    "--points",
    "blk.0.atn_probs",
    "Hello",
  );
  await bench.bad(1, /the vocabulary has 1024/, ...oracle, "--prompt-ids", "99999");
});

Deno.test("references are opened by name", async () => {
  for (const spec of [...REFERENCES, "hf:some/folder"]) assert.ok(isReference(spec), spec);
  for (const spec of ["", "hf:", "llamacpp", "pytorch:cuda"]) assert.ok(!isReference(spec), spec);
  const model = await findModel("tiny");
  await using disk = await modelOnDisk(model);
  const file = await tiny();
  const options = { file, model, path: disk.path };
  assert.equal(Deno.statSync(disk.path).size, file.size);
  assert.equal((await openReference("oracle", options)).provenance.rope, "exact");
  assert.equal(
    (await openReference("oracle", { ...options, rope: "ggml" })).provenance.rope,
    "ggml",
  );
  await assert.rejects(openReference("pytorhc", options), /there are llama\.cpp, /);
  await assert.rejects(openReference("oracle", { ...options, asIs: true }), /Only llama\.cpp/);
});

Deno.test("the oracle as a reference: every step has the rows of a pass of its own", async () => {
  const file = await tiny();
  const reference = oracleReference(file);
  const points = ["blk.2.q_rope", "blk.2.cache_v", "blk.2.attn_probs", "logits"];
  const request = { ids: [1, 447, 463], generate: 3, steps: [0, 1, 3], points };
  const own = await reference.run(request);
  const { ids, margins } = await oracleGreedy(file, request.ids, 4);
  assert.deepEqual(own.ids, ids);
  margins.forEach((margin, i) => assert.ok(Math.abs(margin - own.margins[i]) < 1e-9));
  assert.deepEqual(
    own.passes.map(({ step, start, ids }) => [step, start, ...ids]),
    [[0, 0, 1, 447, 463], [1, 3, ids[0]], [3, 5, ids[2]]],
  );
  assert.deepEqual(
    own.passes.map(({ tensors }) => points.map((point) => tensors.get(point)!.shape)),
    [
      [[3, 8, 32], [3, 4, 32], [8, 3, 3], [3, 1024]],
      [[1, 8, 32], [4, 4, 32], [8, 1, 4], [1, 1024]],
      [[1, 8, 32], [6, 4, 32], [8, 1, 6], [1, 1024]],
    ],
  );
  for (const head of [0, 7]) {
    const row = own.passes[2].tensors.get("blk.2.attn_probs")!.data.slice(head * 6, head * 6 + 6);
    assert.ok(Math.abs(Array.from(row).reduce((a, b) => a + b) - 1) < 1e-12);
  }
  // Forced ids run; the choices stay its own.
  const forced = await reference.run({ ...request, forced: [5] });
  assert.equal(forced.ids[0], ids[0]);
  assert.deepEqual(forced.passes[1].ids, [5]);
  const longer = await oracleGreedy(file, [1, 447, 463, 5], 3);
  assert.deepEqual(forced.ids.slice(1), longer.ids);
});

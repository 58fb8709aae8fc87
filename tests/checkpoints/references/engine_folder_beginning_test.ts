/** What a folder of somebody's tensors begins with: what it lacks, other shapes, a log of ids, a prompt and what a template made of it. */
import assert from "node:assert/strict";
import { parity } from "../../../mod.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { writeNpy } from "../../../checkpoints/files/npy.ts";
import { verifyProof } from "../../../checkpoints/parity/reports/proof.ts";
import { deno } from "../../support/command.ts";
import { Folder } from "../../support/folder.ts";
import { breakFile, metadata } from "../../support/models/broken_files.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());

const MODEL = folder.at("model.gguf");
const TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]";
await Deno.writeFile(
  folder.at("plain.gguf"),
  randomLlama({
    layers: 3,
    heads: 4,
    kvHeads: 2,
    vocab: 352,
    vocabulary: "llama",
    contextLength: 128,
    metadata: { "tokenizer.ggml.add_bos_token": true },
  }),
);
await breakFile(folder.at("plain.gguf"), MODEL, metadata("tokenizer.chat_template", TEMPLATE));

const file = await openGgufFile(MODEL);
file.close();
const tokenizer = createTokenizer(file.metadata);
const encode = (text: string) => tokenizer.encode(text);

/** What our own engine makes of some ids, as somebody's folder. */
const PROMPT = "hello";
const IDS = encode(PROMPT);
const run = await (async () => {
  const model = await loadModel(MODEL);
  const generation = model.generate(IDS, {
    capture: ["blk.*", "token_embd", "output_norm", "logits"],
    maxTokens: 4,
    ignoreEos: true,
  });
  // deno-lint-ignore no-unused-vars -- the run is what is wanted
  for await (const token of generation);
  return { run: generation.run, dispose: () => model.dispose() };
})();
const GENERATED = run.run.ids.slice(IDS.length);

interface DumpOptions {
  /** The points that are written. */
  readonly points?: RegExp;
  readonly steps?: readonly number[];
  readonly manifest?: Record<string, unknown>;
  /** Another shape of what is written. */
  readonly shaped?: (point: string, shape: readonly number[]) => readonly number[];
}

let count = 0;

async function dump({ points = /./, steps = [0], manifest, shaped }: DumpOptions): Promise<string> {
  const dir = folder.at(`dump${++count}`);
  await Deno.mkdir(dir);
  const passes = [];
  for (const step of steps) {
    const tensors: Record<string, { file: string }> = {};
    for (const point of new Set(run.run.captured)) {
      const piece = run.run.pieces(point).find((each) => each.step === step);
      if (!piece || !points.test(point)) continue;
      const name = `${step}.${point}.npy`;
      const shape = shaped?.(point, piece.shape) ?? piece.shape;
      const size = shape.reduce((a, b) => a * b, 1);
      const data = new Float32Array(size);
      data.set(piece.data.subarray(0, size));
      await writeNpy(`${dir}/${name}`, shape, data);
      tensors[point] = { file: name };
    }
    passes.push({
      step,
      start: step === 0 ? 0 : IDS.length + step - 1,
      ids: step === 0 ? IDS : [GENERATED[step - 1]],
      tensors,
    });
  }
  await Deno.writeTextFile(
    `${dir}/manifest.json`,
    JSON.stringify({
      format: "lamina-engine-tensors",
      version: 1,
      model: "random",
      prompt_ids: IDS,
      ...(passes.length > 0 ? { passes } : {}),
      ids: GENERATED,
      ...manifest,
    }),
  );
  return dir;
}

Deno.test("folder: what it does not show is said first: layers, kinds, steps", async () => {
  const dir = await dump({
    points: /^blk\.[01]\.(?!cache)|token_embd/,
    steps: [0, 1],
  });
  const report = await parity(MODEL, PROMPT, { engine: dir });
  assert.ok(report.passed, `${report}`);
  assert.equal(report.absent.length, 2);
  assert.match(
    report.absent[0],
    /^the folder shows \d+ of \d+ points: blk\.0 to 1 of 3 blocks, no cache_k, cache_v, output_norm, logits; not judged: KV cache, logits$/,
  );
  assert.equal(report.absent[1], "the folder shows tensors of step 0 to 1, not of 2 to 3");
});

Deno.test("folder: what is whole says nothing", async () => {
  const dir = await dump({ steps: [0, 1, 2, 3] });
  const report = await parity(MODEL, PROMPT, { engine: dir });
  assert.ok(report.passed, `${report}`);
  assert.deepEqual([report.absent, report.notes], [[], []]);
  const asked = await parity(MODEL, PROMPT, { engine: dir, generate: 9 });
  assert.deepEqual(asked.absent, ["the folder has 4 generated ids; 9 were asked for"]);
});

Deno.test("folder: tensors of another shape are a report that says what they would fit", async () => {
  const shaped = (point: string, shape: readonly number[]) =>
    point === "blk.1.q" ? [shape[0], 6, shape[2]] : shape;
  const dir = await dump({ shaped });
  const report = await parity(MODEL, PROMPT, { engine: dir });
  const { checkpoint, point, cause, detail } = report.firstDivergence!;
  assert.deepEqual({ checkpoint, point, cause }, {
    checkpoint: "0",
    point: "tensors",
    cause: "absent",
  });
  assert.match(
    detail,
    /: 0\.blk\.1\.q\.npy: shape \[\d+, 6, 16\] where blk\.1\.q has \[position \d+, head 4, feature 16\].*; it would fit head 6 instead of 4$/,
  );
  const joined = await dump({
    shaped: (point, shape) => point === "blk.0.k" ? [shape[0], 64] : shape,
  });
  const other = await parity(MODEL, PROMPT, { engine: joined });
  assert.match(other.firstDivergence!.detail, /; it would fit kv_head 4 instead of 2$/);
  const { code, out, err } = await deno(
    ["task", "-q", "parity", "--model", MODEL, "--engine", dir, "--json", "--determinism", "0"],
    { env: { LAMINA_PROOF_DIR: folder.at("proofs") } },
  );
  assert.equal(code, 1, err);
  const json = JSON.parse(out);
  assert.equal(json.first.cause, "absent");
  assert.deepEqual(await verifyProof(json.proof), []);
});

Deno.test("folder: blocks that the model does not have are a report, under any engine's names", async () => {
  const dir = await dump({});
  const path = `${dir}/manifest.json`;
  const manifest = JSON.parse(await Deno.readTextFile(path));
  const { tensors } = manifest.passes[0];
  for (const name of ["blk.3.attn_out", "l_out-4", "model.layers.3.mlp.down_proj"]) {
    tensors[name] = tensors["blk.0.attn_out"];
  }
  await Deno.writeTextFile(path, JSON.stringify(manifest));
  const report = await parity(MODEL, PROMPT, { engine: dir });
  const line = "the folder shows blk.3.attn_out and 2 more: the model has 3 blocks, 0 to 2";
  const { checkpoint, cause, detail } = report.firstDivergence!;
  assert.deepEqual([checkpoint, cause, detail], ["0", "absent", line]);
  assert.equal(report.absent[0], line);
  assert.ok(report.result.rows.some(({ point }) => point === "blk.2.out"));
});

Deno.test("folder: an engine that ends after an earlier block is found out by its last norm", async () => {
  const dir = await dump({ points: /^blk\.[01]\.out$|output_norm$/ });
  const model = await loadModel(MODEL);
  // What an engine of two blocks makes: the norm of the second one's outcome.
  const { data } = run.run.pieces("blk.1.out").find(({ step }) => step === 0)!;
  const file = await openGgufFile(MODEL);
  const tensor = file.tensors.get("output_norm.weight")!;
  const weight = dequantize(tensor.type, await file.readTensor(tensor));
  file.close();
  const { width, normEpsilon } = model.config;
  model.dispose();
  const end = data.map((x, i) => {
    const row = data.subarray(i - i % width, i - i % width + width);
    const mean = row.reduce((sum, each) => sum + each ** 2, 0) / width;
    return x / Math.sqrt(mean + normEpsilon) * weight[i % width];
  });
  await writeNpy(`${dir}/0.output_norm.npy`, [IDS.length, width], Float32Array.from(end));
  const report = await parity(MODEL, PROMPT, { engine: dir });
  const { point, cause, detail, explained } = report.firstDivergence!;
  assert.deepEqual([point, cause, detail], [
    "output_norm",
    "absent",
    "output_norm is that of blk.1.out: blk.2 left out, of 3 blocks",
  ]);
  assert.ok(explained > 0.99);
});

Deno.test("folder: a log of ids alone is judged: the prompt's ids and the choices", async () => {
  const dir = await dump({ steps: [], manifest: { prompt: PROMPT } });
  const report = await parity(MODEL, undefined, { engine: dir });
  assert.ok(report.passed, `${report}`);
  assert.deepEqual(report.absent, ["the folder shows no tensors: ids alone are judged"]);
  const status = new Map(
    report.result.checkpoints.map(({ checkpoint, status }) => [checkpoint.id, status]),
  );
  assert.deepEqual(["0", "2", "10", "12"].map((id) => status.get(id)), [
    "pass",
    "skipped",
    "pass",
    "pass",
  ]);
  const wrong = await dump({ steps: [], manifest: { ids: GENERATED.with(2, 300) } });
  const found = await parity(MODEL, undefined, { engine: wrong });
  assert.match(
    found.firstDivergence!.detail,
    new RegExp(`choice 3 is ${GENERATED[2]} instead of 300: here it leads by `),
  );
});

Deno.test("folder: ids that part are shown where they do, with their text", async () => {
  const other = encode("help");
  const dir = await dump({ steps: [], manifest: { prompt: PROMPT, prompt_ids: other, ids: [] } });
  const report = await parity(MODEL, undefined, { engine: dir });
  const { point, cause, detail } = report.firstDivergence!;
  assert.deepEqual([point, cause], ["token ids", "unknown"]);
  const at = IDS.findIndex((id, i) => id !== other[i]);
  assert.ok(
    detail.startsWith(
      `id ${at} is ${IDS[at]} ${JSON.stringify(tokenizer.piece(IDS[at]))} instead of ${other[at]} ${
        JSON.stringify(tokenizer.piece(other[at]))
      }, [… `,
    ),
    detail,
  );
});

Deno.test("folder: a chat's text begins the chain: the template, then its ids", async () => {
  const text = "[user] hello\n[assistant]";
  const templated = { prompt: "hello", template_text: text, prompt_ids: encode(text), ids: [] };
  const right = await parity(MODEL, undefined, {
    engine: await dump({ steps: [], manifest: templated }),
  });
  assert.ok(right.passed, `${right}`);
  const begun = { ...templated, template_text: `<s>${text}` };
  const bos = await parity(MODEL, undefined, {
    engine: await dump({ steps: [], manifest: begun }),
  });
  assert.ok(bos.passed, `${bos}`);

  const wrong = "[user]hello\n[assistant]";
  const other = await parity(MODEL, undefined, {
    engine: await dump({
      steps: [],
      manifest: { ...templated, template_text: wrong, prompt_ids: encode(wrong) },
    }),
  });
  const { checkpoint, point, cause, detail } = other.firstDivergence!;
  assert.deepEqual([checkpoint, point, cause], ["0", "chat template", "tokenizer"]);
  assert.match(
    detail,
    /^tokenizer\.chat_template makes another text: they part at character 6: "\[user\] hello\\n/,
  );

  const twice = { ...templated, prompt_ids: [1, ...encode(text)] };
  const doubled = await parity(MODEL, undefined, {
    engine: await dump({ steps: [], manifest: twice }),
  });
  assert.equal(doubled.firstDivergence?.cause, "bos-missing");
});

Deno.test("files: another chat template fails, one that is missing or the same in effect is noted", async () => {
  const against = async (template: string | undefined) => {
    const path = folder.at(`template${++count}.gguf`);
    await breakFile(MODEL, path, metadata("tokenizer.chat_template", template));
    return await parity(path, PROMPT, { against: MODEL, generate: 0, layers: [0, 0] });
  };
  const missing = await against(undefined);
  assert.ok(missing.passed);
  assert.deepEqual(missing.notes, ["only the file there has a chat template"]);
  const same = await against(TEMPLATE.replace("{{ m.role }}", "{{ m['role'] }}"));
  assert.ok(same.passed);
  assert.deepEqual(same.notes, ["the chat templates differ, and give the same text"]);
  const broken = await against("{% for %}");
  assert.ok(broken.passed);
  assert.match(broken.notes[0], /^the chat templates differ, and were not rendered: /);
  const other = await against(TEMPLATE.replace("[assistant]", "[bot]"));
  assert.equal(other.firstDivergence?.point, "chat template");
  assert.match(other.firstDivergence!.detail, /"\[bot\]|\[bot\]" here/);
});

Deno.test("folder: nothing is left open", () => run.dispose());

/** What comes before the numbers: other layers, shapes, hyperparameters and tokenizers are said first, and compared as far as it goes. */
import assert from "node:assert/strict";
import { parity } from "../../../mod.ts";
import type { ParityReport } from "../../../checkpoints/comparisons/parity.ts";
import { compareEngines } from "../../../checkpoints/parity/comparison.ts";
import { laminaReference } from "../../../checkpoints/parity/lamina.ts";
import { firstDivergence } from "../../../checkpoints/diagnosis/first_divergence.ts";
import type { Reference, ReferenceRun } from "../../../checkpoints/references/reference.ts";
import { load } from "../../../inspect/run/loading.ts";
import { reportJson } from "../../../checkpoints/parity/reports/report.ts";
import { verifyProof } from "../../../checkpoints/parity/reports/proof.ts";
import type { MetadataValue } from "../../../engine/gguf/reader.ts";
import { deno } from "../../support/command.ts";
import { Folder } from "../../support/folder.ts";
import { all, breakFile, metadata, without } from "../../support/models/broken_files.ts";
import { randomLlama, type RandomLlamaOptions } from "../../support/models/random_llama.ts";

const TINY = new URL("../../../models/tiny/tiny.gguf", import.meta.url).pathname;
const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
let count = 0;

const USUAL: RandomLlamaOptions = { layers: 3, heads: 4, kvHeads: 2, contextLength: 80, seed: 3 };

function random(options: RandomLlamaOptions = {}): string {
  const path = folder.at(`${++count}.gguf`);
  Deno.writeFileSync(path, randomLlama({ ...USUAL, ...options }));
  return path;
}

async function changed(from: string, key: string, value: MetadataValue | undefined) {
  const path = folder.at(`${++count}.gguf`);
  await breakFile(from, path, metadata(key, value));
  return path;
}

/** tiny's numbers are compared elsewhere: one layer tells that they agree. */
async function compare(model: string, against: string): Promise<ParityReport> {
  const layers = against === TINY ? [0, 0] as const : undefined;
  return await parity(model, undefined, { against, generate: 1, layers });
}

const status = ({ result }: ParityReport) =>
  Object.fromEntries(result.checkpoints.map(({ checkpoint, status }) => [checkpoint.id, status]));

Deno.test("beginning: a file with fewer blocks, or with more, is compared as far as both go", async () => {
  const [three, four] = [random(), random({ layers: 4 })];
  for (
    const [model, against, where, counts] of [
      [three, four, "here", "3 layers here, 4 there"],
      [four, three, "there", "4 layers here, 3 there"],
    ] as const
  ) {
    const report = await compare(model, against);
    const line = `blk.3 is missing ${where}: ${counts}`;
    assert.equal(report.passed, false);
    assert.deepEqual(report.absent, [line]);
    const { checkpoint, point, cause, detail, step } = report.firstDivergence!;
    assert.deepEqual({ checkpoint, point, cause, detail, step }, {
      checkpoint: "0",
      point: "tensors",
      cause: "absent",
      detail: line,
      step: undefined,
    });
    assert.deepEqual(reportJson(report.result, report.first).absent, [line]);
    assert.match(`${report}`, new RegExp(`^with Lamina .*\\nabsent: ${line}\\n`));
    const { result } = report;
    assert.ok(result.rows.some(({ point }) => point === "blk.2.out"));
    assert.ok(!result.rows.some(({ point }) => /^blk\.3|output_norm|logits/.test(point)));
    assert.deepEqual(status(report)["12"], "skipped");
  }
});

Deno.test("beginning: another width is a report, not an error", async () => {
  const report = await compare(random(), random({ width: 96 }));
  assert.equal(report.firstDivergence?.cause, "absent");
  assert.match(
    report.firstDivergence!.detail,
    /^other shapes: token_embd\.weight is \[96, 64\] here, \[96, 96\] there; blk\.0\.attn_norm\.weight \(in 3 layers\) is \[64\] here, \[96\] there; /,
  );
  assert.match(report.absent.join("\n"), /blk\.0\.ffn_down\.weight \(in 3 layers\) is /);
  assert.ok(
    report.notes.some((note) => note === "the files say: llama.embedding_length 64 here, 96 there"),
  );
  const { "0": first, ...others } = status(report);
  assert.equal(first, "fail");
  assert.deepEqual(new Set(Object.values(others)), new Set(["skipped"]));
});

Deno.test("beginning: another FFN, other heads, and the same tensors parted otherwise", async () => {
  const ffn = await compare(random(), random({ ffnWidth: 96 }));
  assert.match(
    ffn.firstDivergence!.detail,
    /other shapes: blk\.0\.ffn_gate\.weight \(in 3 layers\)/,
  );
  const kv = await compare(random(), random({ kvHeads: 4 }));
  assert.match(kv.firstDivergence!.detail, /other shapes: blk\.0\.attn_k\.weight \(in 3 layers\)/);
  const heads = await compare(random(), random({ heads: 8, kvHeads: 4, headWidth: 8 }));
  const { cause, detail } = heads.firstDivergence!;
  assert.equal(cause, "head-grouping");
  assert.match(
    detail,
    /^the same tensors are parted otherwise: heads 4 here, 8 there; kvHeads 2 here, 4 there; /,
  );
});

Deno.test("beginning: a vocabulary of another size stops at the logits", async () => {
  const report = await compare(random({ vocab: 96 }), random({ vocab: 128 }));
  assert.match(
    report.firstDivergence!.detail,
    /^other shapes: token_embd\.weight is \[96, 64\] here, \[128, 64\] there/,
  );
  assert.ok(report.result.rows.some(({ point }) => point === "blk.2.out"));
  assert.equal(status(report)["8"], "skipped");
});

Deno.test("beginning: hyperparameters are said in front, found by the numbers, and pointed to", async () => {
  const model = random();
  const report = await compare(model, await changed(model, "llama.rope.freq_base", 1e6));
  const line = "the files say: llama.rope.freq_base 10000 here, 1000000 there";
  assert.deepEqual(report.notes, [line]);
  assert.deepEqual(report.absent, []);
  const { cause, point, look } = report.firstDivergence!;
  assert.deepEqual([cause, point], ["rope-base", "blk.0.q_rope"]);
  assert.equal(look, `rope.freq_base (rope_theta); ${line}`);
});

Deno.test("beginning: optional tensors of one file are said, and judged by the numbers", async () => {
  const model = random({ biases: true });
  const path = folder.at("without.gguf");
  await breakFile(model, path, without(...[0, 1, 2].map((i) => `blk.${i}.attn_v.bias`)));
  const report = await compare(path, model);
  assert.deepEqual(report.absent, [
    "blk.0.attn_v.bias (in 3 layers) is missing here: there it is [32]",
  ]);
  assert.deepEqual([report.firstDivergence!.cause, report.firstDivergence!.point], [
    "bias-missing",
    "blk.0.v",
  ]);
});

Deno.test("beginning: copies that are healthy are not accused", async () => {
  const reordered = folder.at("reordered.gguf");
  await breakFile(TINY, reordered, (file) => ({
    // Taken away and added again, keys stand in another order.
    metadata: new Map([...file.metadata].reverse()),
  }));
  const noted = folder.at("noted.gguf");
  await breakFile(
    TINY,
    noted,
    all(
      metadata("general.description", "notes"),
      metadata("tokenizer.ggml.padding_token_id", 0),
      metadata("llama.context_length", 64),
    ),
  );
  for (const path of [reordered, noted]) {
    const report = await compare(path, TINY);
    assert.ok(report.passed, `${report}`);
    assert.deepEqual(report.absent, []);
    assert.deepEqual(report.notes, []);
  }
});

Deno.test("beginning: a wrong tokenizer fails the foundation though the numbers agree", async () => {
  const path = await changed(TINY, "tokenizer.ggml.bos_token_id", 2);
  const report = await compare(path, TINY);
  const { cause, point, detail } = report.firstDivergence!;
  assert.deepEqual([cause, point], ["tokenizer", "token ids"]);
  assert.match(detail, /^tokenizer\.ggml\.bos_token_id is 2 here, 1 there; /);
  assert.equal(status(report)["0"], "fail");
});

Deno.test("beginning: task parity leaves a bundle that verifies, without an exception", async () => {
  const [model, against] = [random(), random({ width: 96 })];
  const { code, out, err } = await deno(
    ["task", "-q", "parity", "--model", model, "--against", against, "--json"],
    { env: { LAMINA_PROOF_DIR: folder.at("proofs") } },
  );
  assert.equal(code, 1, err);
  const report = JSON.parse(out);
  assert.equal(report.first.cause, "absent");
  assert.ok(report.absent.length > 3);
  assert.deepEqual(report.failures, []);
  assert.deepEqual(await verifyProof(report.proof), []);
});

Deno.test("beginning: a reference that stops early has not shown that it agrees", async () => {
  const model = await load(random(), { backend: "cpu" });
  const { engine } = model;
  const provenance = { version: "", device: "", weights: "", rope: "exact" } as const;
  const whole = laminaReference(engine, { provenance });
  const cases = [{ name: "prompt", ids: [1, 5, 9], generate: 3, steps: [0, 1], oracle: false }];
  const judged = async (part: (run: ReferenceRun) => Partial<ReferenceRun>) => {
    const run: Reference["run"] = async (request) => {
      const full = await whole.run(request);
      return { ...full, ...part(full) };
    };
    const result = await compareEngines(engine, { ...whole, run }, cases);
    const first = await firstDivergence(
      { engine, file: model.file, judging: {} },
      whole,
      cases,
      result,
    );
    return first?.explanation;
  };
  assert.equal(await judged(() => ({})), undefined);
  const fewer = await judged(({ ids }) => ({ ids: ids.slice(0, 2) }));
  assert.deepEqual([fewer!.cause, fewer!.detail], ["absent", "the reference chose 2 of 4 ids"]);
  const stopped = await judged(({ passes }) => ({ passes: passes.slice(0, 1) }));
  assert.deepEqual([stopped!.cause, stopped!.detail], [
    "absent",
    "the reference did not run step 1",
  ]);
  model.release();
});

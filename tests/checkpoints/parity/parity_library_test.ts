/** Comparing and diagnosing as a notebook does it: through mod.ts, with live llama.cpp. Skipped where that cannot be had. */
import assert from "node:assert/strict";
import {
  breakModel,
  diagnose,
  loadModel,
  parity,
  referenceRun,
  tableColumns,
  threeWay,
} from "../../../mod.ts";
import { extractReference } from "../../../checkpoints/references/reference_run.ts";
import { writeNpyFolder } from "../../../checkpoints/references/extract.ts";
import { findModel } from "../../../models/mod.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import { Folder } from "../../support/folder.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";

const ignore = await llamaCppLibrary() === undefined;
const PROMPT = "Once upon a time there was a little dog.";

interface Displayed {
  [display: symbol]: () => Record<string, string>;
}

/** What a notebook cell shows. */
function displayed(value: object): Record<string, string> {
  return (value as Displayed)[Symbol.for("Jupyter.display")]();
}

Deno.test({
  name: "a comparison with llama.cpp shows itself, has tables, and its tensors side by side",
  ignore,
  async fn() {
    using model = await loadModel("tiny");
    const progress: [number, number, string][] = [];
    const report = await parity(model, PROMPT, {
      layers: [1, 2],
      generate: 1,
      onProgress: (...each) => void progress.push(each),
    });
    assert.ok(report.passed, `${report}`);
    assert.equal(report.firstDivergence, undefined);
    assert.equal(report.reference.name, "llama.cpp");
    assert.ok(report.ratio!.median < 3);
    assert.match(progress.at(-1)![2], /^long prompt: layers 1 to 2$/);
    assert.ok(progress.every(([done, total]) => done < total));

    const { layer, verdict, error, tolerance, share, passed, oracle_ratio } = tableColumns(
      report.table(),
    ) as Record<string, (number & string & boolean)[]>;
    assert.deepEqual(new Set(layer.filter((each) => each !== null)), new Set([1, 2]));
    assert.deepEqual(new Set(verdict), new Set(["local", "cumulative"]));
    assert.ok(passed.every((each) => each));
    for (const [i, each] of share.entries()) {
      assert.ok(each <= 1 && (each === 0 || Math.abs(error[i] / tolerance[i] - each) < 1e-9));
    }
    const ratios = oracle_ratio.filter((each) => each !== null).sort((a, b) => a - b);
    assert.ok(ratios[ratios.length >> 1] < 3);
    assert.equal(report.checkpointTable().numRows, 14);

    const shown = displayed(report);
    assert.equal(shown["text/plain"], `${report}`);
    assert.equal(shown["text/html"].match(/<tr /g)!.length, 14);

    const worst = await report.worst({ step: 0, case: "prompt" });
    assert.deepEqual([worst.step, worst.case], [0, "prompt"]);
    const [height, width] = [worst.rows, worst.columns].map(({ places }) => places.length);
    assert.equal(worst.ours.length, height * width);
    assert.equal(worst.referenceName, "llama.cpp");
    const { row, column, ours, reference } = worst.worst;
    assert.equal(worst.ours[row * width + column], ours);
    assert.equal(worst.reference[row * width + column], reference);
    assert.equal(worst.table().numRows, height * width);

    const probs = await report.pair("blk.2.attn_probs", { step: 0, verdict: "cumulative" });
    assert.equal(probs.rows.axis, "query");
    assert.equal(probs.columns.axis, "key");
    assert.equal(probs.rows.labels[0], "<s>");
    const keys = probs.columns.places.length;
    probs.rows.places.forEach((_, query) => {
      const seen = probs.ours.subarray(query * keys, query * keys + query + 1);
      assert.ok(Math.abs(seen.reduce((sum, p) => sum + p, 0) - 1) < 1e-5);
      assert.ok(probs.ours.subarray(query * keys + query + 1, (query + 1) * keys).every(isNaN));
    });
    await assert.rejects(
      () => report.pair("blk.4.out"),
      /Cannot show blk\.4\.out: it was not compared; table/,
    );
  },
});

Deno.test("a broken copy is found out by its original, tensor by tensor", async () => {
  using folder = new Folder();
  const path = folder.at("a.gguf");
  const { detail } = await breakModel("tiny", path, { cause: "qk-permuted", layer: 2 });
  assert.match(detail, /^layer 2: rows of attn_q and attn_k from adjacent pairs to halves$/);
  const report = await parity(path, PROMPT, { against: "tiny", generate: 1 });
  assert.equal(report.passed, false);
  const { point, layer, cause, explained, step } = report.firstDivergence!;
  assert.deepEqual({ point, layer, cause, step }, {
    point: "blk.2.q",
    layer: 2,
    cause: "qk-permuted",
    step: 0,
  });
  assert.ok(explained > 0.99);
  const { "text/html": html } = displayed(report);
  assert.match(html, /<div>first divergence: blk\.2\.q \(checkpoint 2\)<\/div>/);
  assert.match(html, /<div>cause: qk-permuted: /);
  const pair = await report.pair("blk.2.q", { step: 0 });
  assert.equal(pair.verdict, "local");
  assert.equal(pair.passed, false);
  // A head's numbers are the same ones in another order.
  const sorted = (values: Float32Array) => values.slice(0, pair.columns.places.length).sort();
  const [ours, theirs] = [sorted(pair.ours), sorted(pair.reference)];
  ours.forEach((value, i) => assert.ok(Math.abs(value - theirs[i]) < 1e-4));
  assert.ok(pair.difference.some((each) => Math.abs(each) > 0.1));
  assert.equal((await report.worst()).passed, false);
});

Deno.test("a broken copy is diagnosed without a reference, and mended", async () => {
  using folder = new Folder();
  const [broken, mended] = [folder.at("a.gguf"), folder.at("b.gguf")];
  await breakModel("tiny", broken, { cause: "gate-up-swapped" });
  const report = await diagnose(broken);
  assert.equal(report.found?.cause, "gate-up-swapped");
  assert.ok(report.found!.loss < report.loss);
  const { outcome, cause } = tableColumns(report.table());
  assert.deepEqual([outcome[0], cause[0]], ["found", "gate-up-swapped"]);
  assert.match(displayed(report)["text/html"], /gate-up-swapped/);
  await report.mend(mended);
  await assert.rejects(() => report.mend(broken), /is the file itself/);
  using right = await loadModel("tiny");
  using again = await loadModel(mended);
  assert.deepEqual((await again.run(PROMPT)).top(3), (await right.run(PROMPT)).top(3));
});

Deno.test({
  name: "llama.cpp's own tensors are a run, and stand beside ours and the oracle's",
  ignore,
  async fn() {
    using model = await loadModel("tiny");
    const capture = ["blk.*.attn_probs", "blk.1.out", "logits"];
    const theirs = await referenceRun(model, PROMPT, { capture, generate: 2 });
    const ours = await model.run([theirs.ids.slice(0, -1)], { capture });
    assert.equal(theirs.ids.length, theirs.sequences[0].promptLength + 3);
    assert.equal(theirs.captured.length, 7);
    for (const point of ["blk.1.out", "blk.3.attn_probs", "logits"]) {
      const [a, b] = [ours, theirs].map((run) => run.tensor(point));
      assert.deepEqual(a.shape, b.shape);
      const [x, y] = [a, b].map((view) => view.toFloat32Array());
      assert.ok(x.every((value, i) => Math.abs(value - y[i]) < 1e-3), point);
      assert.ok(x.some((value, i) => value !== y[i]), `${point}: bit for bit the same`);
    }
    assert.equal(theirs.top(1)[0].id, ours.top(1)[0].id);
    assert.equal(theirs.top(1)[0].id, theirs.ids.at(-1));
    assert.ok(Math.abs(theirs.loss() - ours.loss()) < 0.5);
    const { metadata } = theirs.table("blk.1.out");
    assert.equal(metadata.get("reference"), "llama.cpp");

    const points = ["blk.1.attn_probs", "blk.1.attn_norm_rms"];
    const table = await threeWay(model, PROMPT, { points });
    const columns = tableColumns(table) as Record<string, (number | null)[]>;
    const T = theirs.sequences[0].promptLength;
    assert.equal(table.numRows, model.config.heads * T * (T + 1) / 2 + T);
    columns.oracle.forEach((value, i) => {
      assert.ok(Math.abs(columns.ours[i]! - value!) < 1e-4);
      const isShown = (columns.kind[i] as unknown) === "attn_probs";
      assert.equal(columns.reference[i] === null, !isShown);
    });
    assert.ok(columns.ours.some((value, i) => value !== columns.oracle[i]));
  },
});

Deno.test({
  name: "somebody's folder of tensors is judged",
  ignore,
  async fn() {
    using folder = new Folder();
    const found = await findModel("tiny");
    const file = await openFound(found);
    try {
      await writeNpyFolder(folder.path, await extractReference({ found, file }, PROMPT));
    } finally {
      file.close();
    }
    const report = await parity("tiny", PROMPT, { engine: folder.path });
    assert.ok(report.passed, `${report}`);
    const manifest = JSON.parse(Deno.readTextFileSync(folder.at("manifest.json")));
    manifest.prompt_ids[3] = manifest.passes[0].ids[3] += 1;
    folder.write("manifest.json", JSON.stringify(manifest));
    const other = await parity("tiny", PROMPT, { engine: folder.path });
    assert.equal(other.firstDivergence?.point, "token ids");
  },
});

Deno.test({
  name: "an abort ends a comparison at once, and the model stays usable",
  ignore,
  async fn() {
    using model = await loadModel("tiny");
    const stop = new AbortController();
    const reason = new Error("enough");
    const onProgress = (_done: number, _total: number, what: string) => {
      if (what.startsWith("prompt")) setTimeout(() => stop.abort(reason), 50);
    };
    await assert.rejects(
      () => parity(model, PROMPT, { signal: stop.signal, onProgress }),
      (error) => error === reason,
    );
    assert.equal((await model.run(PROMPT)).top(1).length, 1);
  },
});

Deno.test("what cannot be compared is said in one line", async () => {
  await assert.rejects(
    () => parity("tiny", "Hello", { reference: "llama" }),
    { message: /No reference "llama"; there are llama.cpp, / },
  );
  await assert.rejects(
    () => parity("tiny", "Hello", { reference: "oracle", layers: [3, 5] }),
    { message: "Cannot compare layers 3 to 5: the model has 0 to 4" },
  );
  await assert.rejects(
    () => breakModel("tiny", "/nowhere/a.gguf", { cause: "haste" }),
    { message: /^Cannot put in "haste": one of qk-permuted, / },
  );
});

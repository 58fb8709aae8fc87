/** Quantized copies by llama.cpp's own quantizer, and what they cost. Skipped where llama.cpp cannot be had. */
import assert from "node:assert/strict";
import {
  layerSensitivity,
  loadModel,
  parity,
  quantizationLadder,
  quantizeModel,
  type Table,
  tableColumns,
} from "../../../mod.ts";
import { divergence } from "../../../checkpoints/parity/predictions.ts";
import { mixedFile } from "../../../checkpoints/files/mixed_file.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { Folder } from "../../support/folder.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";

const ignore = await llamaCppLibrary() === undefined;
const TEXT =
  "Once upon a time there was a little dog. He lived in a red house near the river with his friend Tom. " +
  "One day they found a small box under the tree.";

/** The rows of a table as objects. */
function rowsOf(table: Table): Record<string, never>[] {
  const columns = tableColumns(table);
  return Array.from(
    { length: table.numRows },
    (_, i) =>
      Object.fromEntries(
        Object.entries(columns).map(([name, values]) => [name, values[i] as never]),
      ),
  );
}

Deno.test("divergence is that of the definition, and none of a distribution from itself", () => {
  const [p, q] = [[2, 1, 0], [0, 1, 2]].map((logits) => Float32Array.from(logits));
  const sum = Math.E ** 2 + Math.E + 1;
  // p and q have the same normalizer: Σ p·(logit p − logit q).
  assert.ok(Math.abs(divergence(p, q) - (2 * Math.E ** 2 - 2) / sum) < 1e-12);
  assert.equal(divergence(p, p), 0);
  assert.ok(Math.abs(divergence(p, q.map((x) => x + 7)) - divergence(p, q)) < 1e-12);
});

Deno.test({
  name: "a copy is made once, or where it is asked for, and runs",
  ignore,
  async fn() {
    using folder = new Folder();
    const out = folder.at("copy.gguf");
    const progress: number[] = [];
    const onProgress = (done: number, total: number) => void progress.push(done / total);
    assert.equal(await quantizeModel("tiny", "Q4_K_M", { out, onProgress }), out);
    assert.equal(progress.length, 48);
    assert.ok(progress.every((each) => each < 1));
    const cached = await quantizeModel("tiny", "Q4_K_M");
    assert.deepEqual(Deno.readFileSync(cached), Deno.readFileSync(out));
    const { mtime } = Deno.statSync(cached);
    assert.equal(await quantizeModel("tiny", "Q4_K_M"), cached);
    assert.deepEqual(Deno.statSync(cached).mtime, mtime);
    // Of a quantized file by way of 32-bit floats.
    const again = await quantizeModel(out, "Q2_K", { out: folder.at("again.gguf") });
    using model = await loadModel(again);
    assert.equal((await model.run(TEXT)).top(1).length, 1);
    assert.deepEqual(folder.names(), ["again.gguf", "copy.gguf"]);
  },
});

for (const type of ["Q3_K_M", "Q2_K"] as const) {
  Deno.test({
    name: `${type}, as llama.cpp made it, is what llama.cpp computes`,
    ignore,
    async fn() {
      const report = await parity(await quantizeModel("tiny", type), TEXT, { generate: 2 });
      assert.ok(report.passed, `${report}`);
    },
  });
}

Deno.test({
  name: "the ladder: errors, divergence and sizes grow and fall as they must",
  ignore,
  async fn() {
    using model = await loadModel("tiny");
    const types = ["F16", "Q8_0", "Q4_0", "Q2_K", "IQ4_NL"] as const;
    const ladder = await quantizationLadder(model, TEXT, { types });
    const rows = rowsOf(ladder.table());
    assert.deepEqual(rows.map(({ type }) => type), ["base", ...types]);
    const [base, f16, q8, q4, q2, iq4] = rows;
    assert.deepEqual([base, f16].map(({ kl, weight_error }) => [kl, weight_error]), [[0, 0], [
      0,
      0,
    ]]);
    const own = await model.run(TEXT);
    assert.ok(Math.abs(base.loss - own.loss()) < 1e-5);
    assert.ok(Math.abs(base.perplexity - Math.exp(own.loss())) < 1e-4);
    for (const [finer, coarser] of [[f16, q8], [q8, q4], [q4, q2]]) {
      assert.ok(finer.kl < coarser.kl);
      assert.ok(finer.weight_error < coarser.weight_error);
      assert.ok(finer.file_bytes > coarser.file_bytes);
      assert.ok(finer.bits_per_weight > coarser.bits_per_weight);
    }
    assert.ok(q8.kl < 1e-3 && q2.kl > 1e-2);

    // What does not run says so.
    assert.deepEqual({ ...iq4, file_bytes: 0, bits_per_weight: 0 } as unknown, {
      type: "IQ4_NL",
      runs: false,
      file_bytes: 0,
      bits_per_weight: 0,
      weight_error: null,
      kl: null,
      kl_max: null,
      same_top: null,
      loss: null,
      perplexity: null,
      note: "IQ4_NL does not run here yet",
    });

    // A tensor's error, by hand.
    const path = await quantizeModel(model, "Q4_0");
    const file = await openGgufFile(path);
    const name = "blk.3.ffn_gate.weight";
    const tensor = file.tensors.get(name)!;
    const quantized = dequantize(tensor.type, await file.readTensor(tensor));
    file.close();
    const original = await model.weightRows(name);
    let [error, weight] = [0, 0];
    original.forEach((value, i) => {
      error += (quantized[i] - value) ** 2;
      weight += value ** 2;
    });
    const row = rowsOf(ladder.weights()).find(({ type, tensor }) =>
      type === "Q4_0" && tensor === name
    )!;
    assert.ok(Math.abs(row.error - Math.sqrt(error / weight)) < 1e-9);
    assert.deepEqual([row.layer, row.stored_as], [3, "Q4_0"]);

    // An activation's and a prediction's, by a model of their own.
    using copy = await loadModel(path);
    const capture = ["blk.2.out", "logits"];
    const [a, b] = [await model.run(TEXT, { capture }), await copy.run(TEXT, { capture })];
    const position = 7;
    const [x, y] = [a, b].map((run) => run.tensor("blk.2.out").at({ position }).toFloat32Array());
    const length = (values: Float32Array) => Math.hypot(...values);
    const expected = length(x.map((value, i) => value - y[i])) / length(x);
    const found = rowsOf(ladder.activations()).find((each) =>
      each.type === "Q4_0" && each.layer === 2 && each.position === position
    )!;
    assert.ok(Math.abs(found.error - expected) < 1e-5);
    const prediction = rowsOf(ladder.predictions()).find((each) =>
      each.type === "Q4_0" && each.position === position
    )!;
    const [p, q] = [a, b].map((run) => run.tensor("logits").at({ position }).toFloat32Array());
    assert.ok(Math.abs(prediction.kl - divergence(p, q)) < 1e-6);
    assert.ok(Math.abs(prediction.surprisal - b.sequences[0].surprisals[position]) < 1e-4);

    const shown = (ladder as unknown as Record<symbol, () => Record<string, string>>)
      [Symbol.for("Jupyter.display")]();
    assert.match(shown["text/html"], /IQ4_NL does not run here yet/);
  },
});

Deno.test({
  name: "a layer's quantization alone, and a copy with that layer restored",
  ignore,
  async fn() {
    const types = ["F16", "Q2_K"] as const;
    const rows = rowsOf(await layerSensitivity("tiny", TEXT, { types }));
    assert.equal(rows.length, 2 * 6 * 2);
    assert.ok(rows.slice(0, 12).every(({ kl, share }) => kl === 0 && share === null));
    const q2 = rows.slice(12);
    assert.deepEqual(
      q2.filter(({ mode }) => mode === "only").map(({ part, layer }) => [part, layer] as unknown),
      [["outside", null], ...[0, 1, 2, 3, 4].map((layer) => [`blk.${layer}`, layer])],
    );
    for (const { mode, kl, kl_all, share } of q2) {
      assert.ok(kl > 0);
      assert.ok(
        Math.abs(share - (mode === ("only" as never) ? kl / kl_all : 1 - kl / kl_all)) < 1e-12,
      );
    }
    // One part alone costs less than everything.
    assert.ok(q2.every(({ mode, share }) => mode !== ("only" as never) || share < 1));

    // Layer 3 quantized and nothing else, as a file of its own.
    using folder = new Folder();
    const path = folder.at("mixed.gguf");
    await Deno.writeFile(
      folder.at("tiny.gguf"),
      (await import("../../../models/embedded.ts")).tiny,
    );
    const file = await openGgufFile(folder.at("tiny.gguf"));
    const copy = await openGgufFile(await quantizeModel("tiny", "Q2_K"));
    const mixed = mixedFile(file, copy, (name) => name.startsWith("blk.3."));
    const { writeGguf } = await import("../../../engine/gguf/writer.ts");
    await writeGguf(path, {
      ...mixed,
      tensors: [...mixed.tensors.values()].map((tensor) => ({
        ...tensor,
        bytes: async function* () {
          yield await mixed.readTensor(tensor);
        },
      })),
    });
    file.close();
    copy.close();
    using one = await loadModel(path);
    const found = q2.find(({ part, mode }) =>
      part === ("blk.3" as never) && mode === ("only" as never)
    )!;
    assert.ok(Math.abs(found.loss - (await one.run(TEXT)).loss()) < 1e-5);

    const kinds = rowsOf(await layerSensitivity("tiny", TEXT, { types: ["Q4_0"], by: "kind" }));
    assert.deepEqual(
      [...new Set(kinds.map(({ part }) => part as string))].sort(),
      ["attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up", "outside"],
    );
  },
});

Deno.test({
  name: "an abort leaves no half copy, and what cannot be made is said",
  ignore,
  async fn() {
    using folder = new Folder();
    const stop = new AbortController();
    const reason = new Error("enough");
    await assert.rejects(
      () =>
        quantizeModel("tiny", "Q6_K", {
          out: folder.at("a.gguf"),
          signal: stop.signal,
          onProgress: () => stop.abort(reason),
        }),
      (error) => error === reason,
    );
    assert.deepEqual(folder.names(), []);
    await assert.rejects(
      () => quantizeModel("tiny", "Q4" as never),
      { name: "RangeError", message: /^Cannot quantize to "Q4"; there are F32, F16, / },
    );
    await assert.rejects(() => quantizationLadder("tiny", [1]), /a text of two or more/);
  },
});

/** Each analysis against a few lines of plain 64-bit sums over the oracle's points, or against a closed form. */
import assert from "node:assert/strict";
import { oracle, type OraclePoint } from "../../../engine/oracle/oracle.ts";
import { attentionStatistics } from "../../../inspect/analyses/attention.ts";
import { directLogitAttribution } from "../../../inspect/analyses/direct_logit_attribution.ts";
import { inductionScores, repeatedRandomTokens } from "../../../inspect/analyses/induction.ts";
import { logitLens, tokenProbabilities } from "../../../inspect/analyses/logit_lens.ts";
import { nearestTokens } from "../../../inspect/analyses/nearest_tokens.ts";
import { neuronDirection, neuronTokens, topNeurons } from "../../../inspect/analyses/neurons.ts";
import { patchingSweep } from "../../../inspect/analyses/patching_sweep.ts";
import { residualNorms } from "../../../inspect/analyses/residual_norms.ts";
import { surprisal } from "../../../inspect/analyses/surprisal.ts";
import { NotCapturedError } from "../../../inspect/run/run.ts";
import type { RandomLlamaOptions } from "../../support/models/random_llama.ts";
import { randomModel } from "../../support/models/random_model.ts";
import { tableRows } from "../../support/tables/table_rows.ts";

const D = 32;
const V = 64;
const LAYERS = 3;
const HEADS = 4;
const FFN = 48;
const MODEL = {
  layers: LAYERS,
  width: D,
  heads: HEADS,
  kvHeads: 2,
  ffnWidth: FFN,
  vocab: V,
  biases: true,
  seed: 31,
};
const IDS = [5, 17, 42, 8, 8, 63, 0, 29, 17];
const BACKENDS = ["cpu", "webgpu"] as const;

function close(found: number, expected: number, what: string, tolerance = 1e-5): void {
  const difference = Math.abs(found - expected);
  assert.ok(
    difference <= tolerance * Math.max(1, Math.abs(expected)),
    `${what}: ${found}, expected ${expected}`,
  );
}

function row({ data, shape }: OraclePoint, ...places: number[]): Float64Array {
  const width = shape.slice(places.length).reduce((a, b) => a * b, 1);
  const index = places.reduce((sum, place, i) => sum * shape[i] + place, 0);
  return data.slice(index * width, (index + 1) * width);
}

function softmax(logits: Float64Array): Float64Array {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0);
}

/** U·(x / rms(x) ⊙ w), as the paper has it. */
function unembed(x: Float64Array, scale: Float32Array, output: Float32Array): Float64Array {
  const rms = Math.sqrt(dot(x, x) / D + 1e-5);
  const normed = x.map((value, i) => value / rms * scale[i]);
  return Float64Array.from({ length: V }, (_, id) => dot(output.slice(id * D, id * D + D), normed));
}

function order(values: ArrayLike<number>): number[] {
  return Array.from(values).map((_, i) => i).sort((a, b) => values[b] - values[a] || a - b);
}

for (const backend of BACKENDS) {
  Deno.test(`logit lens and token probabilities against the oracle (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const { model, file } = random;
    const { points } = await oracle(file, IDS, { points: () => true, rows: "all" });
    const [scale, output] = await Promise.all(
      ["output_norm.weight", "output.weight"].map(random.weight),
    );
    const lens = tableRows(await logitLens(model, IDS, { top: 3 }));
    assert.equal(lens.length, (1 + LAYERS) * IDS.length * 3);
    const chosen = tableRows(
      await tokenProbabilities(model, IDS, {
        tokens: [7, 60],
        layers: [-1, 1],
        positions: [-1, 2],
      }),
    );
    assert.deepEqual(chosen.map(({ layer, position }) => [layer, position]), [
      [-1, 2],
      [-1, 2],
      [-1, 8],
      [-1, 8],
      [1, 2],
      [1, 2],
      [1, 8],
      [1, 8],
    ]);
    for (
      const { layer, position, rank, predicted_id, logit, value, token_id } of [...lens, ...chosen]
    ) {
      const x = row(points.get(layer < 0 ? "token_embd" : `blk.${layer}.out`)!, position);
      const logits = unembed(x, scale, output);
      assert.equal(order(logits)[rank], predicted_id);
      assert.equal(token_id, IDS[position]);
      close(logit, logits[predicted_id], "logit");
      close(value, softmax(logits)[predicted_id], "probability");
    }
    assert.deepEqual(chosen.slice(0, 2).map(({ predicted_id }) => predicted_id), [7, 60]);
  });

  Deno.test(`the lens of the last layer is what the model says itself (${backend})`, async () => {
    using random = await randomModel(MODEL, backend);
    const run = await random.model.run([IDS, IDS.slice(2, 5)], {
      capture: ["blk.*.out", "logits"],
    });
    const lens = tableRows(await logitLens(random.model, run, { top: V, layers: [LAYERS - 1] }));
    assert.equal(lens.length, V * (IDS.length + 3));
    for (const { sequence, position, predicted_id, logit } of lens) {
      const own = run.tensor("logits", { sequence }).at({ position, feature: predicted_id }).item();
      close(logit, own, `token ${predicted_id} at ${position}`, 1e-6);
    }
  });
}

Deno.test("direct logit attribution: each part against the oracle, their sum is the logit", async () => {
  using random = await randomModel(MODEL);
  const { model, file } = random;
  const { points, logits } = await oracle(file, IDS, { points: () => true, rows: "all" });
  const scale = await random.weight("output_norm.weight");
  const output = await random.weight("output.weight");
  for (const position of [-1, 3]) {
    const place = position < 0 ? position + IDS.length : position;
    const rows = tableRows(
      await directLogitAttribution(model, IDS, { token: 11, against: 40, position }),
    );
    assert.equal(rows.length, 1 + LAYERS * (HEADS + 2));
    const x = row(points.get(`blk.${LAYERS - 1}.out`)!, place);
    const rms = Math.sqrt(dot(x, x) / D + 1e-5);
    const contribution = (part: ArrayLike<number>) =>
      Array.from(part).reduce(
        (sum, value, i) => sum + value / rms * scale[i] * (output[11 * D + i] - output[40 * D + i]),
        0,
      );
    for (const { component, layer, head, value, position } of rows) {
      assert.equal(position, place);
      if (component === "embedding") {
        close(value, contribution(row(points.get("token_embd")!, place)), "embedding");
      } else if (component === "ffn") {
        close(value, contribution(row(points.get(`blk.${layer}.ffn_out`)!, place)), "ffn");
      } else if (component === "attention bias") {
        close(value, contribution(await random.weight(`blk.${layer}.attn_output.bias`)), "bias");
      } else {
        const mixed = row(points.get(`blk.${layer}.head_out`)!, place, head);
        const weight = await random.weight(`blk.${layer}.attn_output.weight`);
        const result = Array.from(
          { length: D },
          (_, i) => dot(mixed, weight.slice(i * D + head * mixed.length)),
        );
        close(value, contribution(result), `head ${head} of layer ${layer}`);
      }
    }
    const sum = rows.reduce((sum, { value }) => sum + value, 0);
    close(sum, logits[place][11] - logits[place][40], "sum");
  }
  const single = tableRows(await directLogitAttribution(model, IDS, { token: 11 }));
  close(single.reduce((sum, { value }) => sum + value, 0), logits.at(-1)![11], "one logit");
});

Deno.test("surprisal and entropy against the oracle; null where there is none", async () => {
  using random = await randomModel(MODEL);
  const { logits } = await oracle(random.file, IDS, { rows: "all" });
  const run = await random.model.run([IDS], { capture: ["logits"] });
  const rows = tableRows(surprisal(run));
  assert.deepEqual(rows.map(({ token_id }) => token_id), IDS);
  assert.deepEqual([rows[0].surprisal, rows[0].entropy], [null, null]);
  for (const { position, surprisal, entropy } of rows.slice(1)) {
    const probs = softmax(logits[position - 1]);
    close(surprisal, -Math.log(probs[IDS[position]]), "surprisal");
    close(entropy, -probs.reduce((sum, p) => sum + p * Math.log(p), 0), "entropy");
  }
  const without = tableRows(surprisal(await random.model.run([IDS])));
  assert.deepEqual(without.map(({ surprisal }) => surprisal), rows.map((row) => row.surprisal));
  assert.ok(without.every(({ entropy }) => entropy === null));
});

Deno.test("surprisal and residual norms of a generation know its steps", async () => {
  using random = await randomModel(MODEL);
  const generation = random.model.generate(IDS, {
    maxTokens: 4,
    ignoreEos: true,
    capture: ["blk.1.out"],
  });
  for await (const _ of generation);
  assert.deepEqual(tableRows(surprisal(generation.run)).map(({ step }) => step), [
    ...IDS.map(() => 0),
    1,
    2,
    3,
    4,
  ]);
  const norms = tableRows(residualNorms(generation.run));
  assert.deepEqual(norms.slice(-3).map(({ step, position }) => [step, position]), [
    [1, 9],
    [2, 10],
    [3, 11],
  ]);
});

Deno.test("residual norms against the oracle", async () => {
  using random = await randomModel(MODEL);
  const { points } = await oracle(random.file, IDS, { points: () => true });
  const run = await random.model.run([IDS], {
    capture: ["token_embd", "blk.*.{ffn_inp,out,ffn_out}"],
  });
  const rows = tableRows(residualNorms(run));
  assert.equal(rows.length, (1 + 2 * LAYERS) * IDS.length);
  const written = tableRows(residualNorms(run, { kinds: ["ffn_out"] }));
  assert.equal(written.length, LAYERS * IDS.length);
  for (const { point, position, value } of [...rows, ...written]) {
    const x = row(points.get(point)!, position);
    close(value, Math.sqrt(dot(x, x)), `${point} ${position}`);
  }
  assert.throws(() => residualNorms(run, { kinds: ["attn_out"] }), NotCapturedError);
});

Deno.test("attention statistics against the oracle", async () => {
  using random = await randomModel(MODEL);
  const { points } = await oracle(random.file, IDS, { points: () => true });
  const run = await random.model.run([IDS], { capture: ["blk.*.attn_probs"] });
  const rows = tableRows(attentionStatistics(run));
  assert.equal(rows.length, LAYERS * HEADS);
  for (const { layer, head, entropy, previous_token, first_token, self } of rows) {
    const queries = Array.from(
      { length: IDS.length - 1 },
      (_, i) => row(points.get(`blk.${layer}.attn_probs`)!, head, i + 1),
    );
    const mean = (figure: (probs: Float64Array, query: number) => number) =>
      queries.reduce((sum, probs, i) => sum + figure(probs, i + 1), 0) / queries.length;
    close(
      entropy,
      mean((probs) => -probs.reduce((s, p) => p > 0 ? s + p * Math.log(p) : s, 0)),
      "entropy",
    );
    close(previous_token, mean((probs, query) => probs[query - 1]), "previous");
    close(first_token, mean((probs) => probs[0]), "first");
    close(self, mean((probs, query) => probs[query]), "self");
  }
});

/** Without queries all keys are equal: attention is 1 / (position + 1). */
const UNIFORM: RandomLlamaOptions = {
  ...MODEL,
  biases: false,
  vocab: 300,
  vocabulary: "llama",
  tensors(tensors) {
    for (const { name, data } of tensors) if (name.includes("attn_q.")) data.fill(0);
    return tensors;
  },
};

Deno.test("attention statistics and induction scores of uniform attention, in closed form", async () => {
  using random = await randomModel(UNIFORM);
  const { model } = random;
  const length = 7;
  const positions = Array.from({ length: 2 * length + 1 }, (_, i) => i);
  const mean = (from: number, figure: (position: number) => number) =>
    positions.slice(from).reduce((sum, p) => sum + figure(p), 0) / (positions.length - from);

  const scores = tableRows(await inductionScores(model, { length, seeds: [3, 4] }));
  assert.equal(scores.length, LAYERS * HEADS);
  for (const { induction, previous_token } of scores) {
    close(induction, mean(length + 1, (position) => 1 / (position + 1)), "induction");
    close(previous_token, mean(1, (position) => 1 / (position + 1)), "previous");
  }
  const ids = repeatedRandomTokens(model, { length, seed: 3 });
  const run = await model.run([ids], { capture: ["blk.0-1.attn_probs"] });
  for (const { entropy, first_token, self } of tableRows(attentionStatistics(run))) {
    close(entropy, mean(1, (position) => Math.log(position + 1)), "entropy");
    close(first_token, mean(1, (position) => 1 / (position + 1)), "first");
    close(self, mean(1, (position) => 1 / (position + 1)), "self");
  }
});

Deno.test("induction scores against the oracle's diagonal", async () => {
  using random = await randomModel({ ...MODEL, vocab: 300, vocabulary: "llama" });
  const { model, file } = random;
  const [length, seed] = [6, 5];
  const ids = repeatedRandomTokens(model, { length, seed });
  const { points } = await oracle(file, ids, { points: () => true });
  for (
    const { layer, head, induction } of tableRows(
      await inductionScores(model, { length, seeds: [seed] }),
    )
  ) {
    let sum = 0;
    for (let i = 0; i < length; i++) {
      const second = ids.lastIndexOf(ids[1 + i]);
      const afterFirst = ids.indexOf(ids[1 + i]) + 1;
      sum += row(points.get(`blk.${layer}.attn_probs`)!, head, second)[afterFirst];
    }
    close(induction, sum / length, `head ${head} of layer ${layer}`);
  }
});

Deno.test("repeated random tokens: BOS, different ordinary ones, twice; another seed, others", async () => {
  using random = await randomModel({ ...MODEL, vocab: 300, vocabulary: "llama" });
  const { model } = random;
  const ids = repeatedRandomTokens(model, { length: 20, seed: 1 });
  assert.equal(ids[0], 1);
  assert.deepEqual(ids.slice(1, 21), ids.slice(21));
  assert.equal(new Set(ids.slice(1)).size, 20);
  assert.ok(ids.slice(1).every((id) => id >= 259), "no control tokens, no bytes");
  assert.deepEqual(repeatedRandomTokens(model, { length: 20, seed: 1 }), ids);
  assert.notDeepEqual(repeatedRandomTokens(model, { length: 20, seed: 2 }), ids);
  assert.throws(() => repeatedRandomTokens(model, { length: 42 }), /takes from 2 to 41/);
});

Deno.test("top neurons against a sort of the oracle's activations", async () => {
  using random = await randomModel(MODEL);
  const { points } = await oracle(random.file, IDS, { points: () => true });
  const run = await random.model.run([IDS], { capture: ["blk.*.ffn_act"] });
  const rows = tableRows(topNeurons(run, { top: 7 }));
  assert.equal(rows.length, 7 * IDS.length);
  for (const position of IDS.keys()) {
    const all = Array.from(
      { length: LAYERS },
      (_, layer) => Array.from(row(points.get(`blk.${layer}.ffn_act`)!, position)),
    ).flat();
    const expected = order(all.map(Math.abs)).slice(0, 7);
    const here = rows.filter((row) => row.position === position);
    assert.deepEqual(here.map(({ layer, neuron }) => layer * FFN + neuron), expected);
    here.forEach(({ value }, i) => close(value, all[expected[i]], "activation"));
  }
});

Deno.test("a neuron's tokens and a direction's nearest tokens against plain sums, on quantized weights", async () => {
  using random = await randomModel({ ...MODEL, ffnWidth: 64, type: "Q8_0" });
  const { model } = random;
  const down = await random.weight("blk.1.ffn_down.weight");
  const scale = await random.weight("output_norm.weight");
  const output = await random.weight("output.weight");
  const column = Float32Array.from({ length: D }, (_, i) => down[i * 64 + 37]);
  assert.deepEqual(await neuronDirection(model, { layer: 1, neuron: 37 }), column);
  const scaled = Array.from(
    { length: V },
    (_, id) => Array.from({ length: D }, (_, i) => output[id * D + i] * scale[i]),
  );
  const rises = scaled.map((vector) => dot(vector, column));
  const cosines = scaled.map((vector, id) =>
    rises[id] / Math.sqrt(dot(vector, vector) * dot(column, column))
  );
  const tokens = tableRows(await neuronTokens(model, { layer: 1, neuron: 37 }, { top: 9 }));
  assert.deepEqual(tokens.map(({ token_id }) => token_id), order(rises).slice(0, 9));
  for (const { token_id, dot, cosine } of tokens) {
    close(dot, rises[token_id], "dot", 1e-9);
    close(cosine, cosines[token_id], "cosine", 1e-9);
  }
  const like = tableRows(await nearestTokens(model, column, { top: V }));
  assert.deepEqual(like.map(({ token_id }) => token_id), order(cosines));

  const embedding = await random.weight("token_embd.weight");
  const own = tableRows(
    await nearestTokens(model, embedding.slice(23 * D, 24 * D), { space: "embedding", top: 1 }),
  );
  assert.equal(own[0].token_id, 23);
  close(own[0].cosine, 1, "cosine with itself", 1e-12);
  await assert.rejects(nearestTokens(model, [1, 2]), /the model's width is 32/);
  await assert.rejects(neuronTokens(model, { layer: 3, neuron: 0 }), /3 layers of 64 neurons/);
});

Deno.test("with a tied output the embedding is what tokens are compared with", async () => {
  using random = await randomModel({ ...MODEL, tied: true });
  const rows = tableRows(await directLogitAttribution(random.model, IDS, { token: 3 }));
  const { logits: [last] } = await oracle(random.file, IDS);
  close(rows.reduce((sum, { value }) => sum + value, 0), last[3], "logit");
});

Deno.test("rows of a weight", async () => {
  using random = await randomModel({ ...MODEL, ffnWidth: 64, type: "Q4_0" });
  const { model } = random;
  const whole = await random.weight("blk.2.ffn_up.weight");
  assert.deepEqual(await model.weightRows("blk.2.ffn_up.weight"), whole);
  assert.deepEqual(
    await model.weightRows("blk.2.ffn_up.weight", { first: 5, count: 3 }),
    whole.slice(5 * D, 8 * D),
  );
  assert.equal((await model.weightRows("output_norm.weight")).length, D);
  await assert.rejects(
    model.weightRows("blk.2.ffn_upp.weight"),
    /did you mean blk\.2\.ffn_up\.weight/,
  );
  await assert.rejects(model.weightRows("output.weight", { first: 60, count: 5 }), /it has 64/);
});

Deno.test("what was not captured is named", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], { capture: ["blk.0.q"] });
  await assert.rejects(logitLens(random.model, run), /capture: \["blk\.\*\.out"\]/);
  assert.throws(() => attentionStatistics(run), /capture: \["blk\.\*\.attn_probs"\]/);
  assert.throws(() => topNeurons(run), /capture: \["blk\.\*\.ffn_act"\]/);
  await assert.rejects(
    directLogitAttribution(random.model, run, { token: 1 }),
    NotCapturedError,
  );
});

Deno.test("analyses take what a run takes: ids, or a list of them for a ragged batch", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  const options = { token: 11 };
  const alone = tableRows(await directLogitAttribution(model, IDS, options));
  assert.deepEqual(tableRows(await directLogitAttribution(model, [IDS], options)), alone);
  assert.deepEqual(
    tableRows(await directLogitAttribution(model, Int32Array.from(IDS) as never, options)),
    alone,
  );
  const batch = [IDS.slice(0, 4), IDS];
  const second = tableRows(
    await directLogitAttribution(model, batch, { ...options, sequence: 1 }),
  );
  second.forEach(({ value, position, sequence }, i) => {
    close(value, alone[i].value, `row ${i}`);
    assert.deepEqual([position, sequence], [alone[i].position, 1]);
  });
  const lens = tableRows(await logitLens(model, batch, { top: 1 }));
  assert.equal(lens.length, (1 + LAYERS) * (4 + IDS.length));
  assert.equal(
    tableRows(await tokenProbabilities(model, [IDS], { tokens: [1] })).length,
    (1 + LAYERS) * IDS.length,
  );
  const whole = await patchingSweep(
    model,
    { clean: [IDS], corrupted: IDS.with(2, 1) },
    { metric: [3, 4], layers: [0] },
  );
  assert.equal(whole.numRows, IDS.length);
});

Deno.test("what is no run and no prompt is named", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  for (const wrong of [undefined, null, 7, {}, [], [[]], [{}], [[1], 2], new Map()]) {
    for (
      const analysis of [
        directLogitAttribution(model, wrong as never, { token: 1 }),
        logitLens(model, wrong as never),
        tokenProbabilities(model, wrong as never, { tokens: [1] }),
      ]
    ) {
      await assert.rejects(analysis, /^PromptError: (Cannot run|The prompt is empty)[^\n]*$/);
    }
  }
  for (const analysis of [attentionStatistics, residualNorms, surprisal, topNeurons]) {
    for (const wrong of [IDS, [IDS], "Once", undefined, null, {}]) {
      assert.throws(() => analysis(wrong as never), {
        name: "TypeError",
        message: /^Cannot analyse [^\n]*: give a run, of model\.run\(prompt, \{ capture: … \}\)$/,
      });
    }
  }
  const batch = [IDS, IDS];
  for (const pair of [{ clean: batch, corrupted: IDS }, { clean: IDS, corrupted: batch }]) {
    await assert.rejects(
      patchingSweep(model, pair, { metric: [3, 4] }),
      /Cannot patch a batch of 2 sequences: give one prompt for each run$/,
    );
  }
});

Deno.test("a lens can be aborted, and tells how far it is", async () => {
  using random = await randomModel(MODEL);
  const controller = new AbortController();
  const seen: number[] = [];
  await assert.rejects(
    logitLens(random.model, IDS, {
      signal: controller.signal,
      onProgress(done, total) {
        assert.equal(total, (1 + LAYERS) * IDS.length);
        seen.push(done);
        if (done === 2) controller.abort();
      },
    }),
    { name: "AbortError" },
  );
  assert.deepEqual(seen, [1, 2]);
});

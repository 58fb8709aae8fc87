/** What may be asked of a run or a generation, and what the views and tables of a finished one say. */
import assert from "node:assert/strict";
import { attentionStatistics } from "../../../inspect/analyses/attention.ts";
import { directLogitAttribution } from "../../../inspect/analyses/direct_logit_attribution.ts";
import { logitLens } from "../../../inspect/analyses/logit_lens.ts";
import { surprisal } from "../../../inspect/analyses/surprisal.ts";
import type { PieceSink } from "../../../inspect/run/capture.ts";
import type { GenerateOptions } from "../../../inspect/run/generation.ts";
import { scale, zero } from "../../../inspect/run/interventions.ts";
import { DisposedError, loadModel, type Model } from "../../../inspect/run/model.ts";
import { PositionError } from "../../../inspect/run/positions.ts";
import { NotCapturedError, SeveralPointsError } from "../../../inspect/run/run.ts";
import type { RunOptions } from "../../../inspect/run/runner.ts";
import type { Table } from "../../../inspect/tables/mod.ts";
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { randomModel } from "../../support/models/random_model.ts";
import { tableRows } from "../../support/tables/table_rows.ts";
import { Folder } from "../../support/folder.ts";

const MODEL = {
  layers: 3,
  width: 32,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 48,
  vocab: 64,
  seed: 7,
};
const IDS = [5, 17, 42, 8, 8, 63, 0, 29, 17];

Deno.test("keys that a query does not see are hidden, whatever edits made of them", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], {
    capture: ["blk.1.{attn_scores,attn_probs}"],
    edit: [
      ["blk.1.attn_scores", scale(0.5)],
      ["blk.1.attn_probs", (view) => view.add(1)],
    ],
  });
  for (const [point, hidden] of [["attn_scores", -Infinity], ["attn_probs", 0]] as const) {
    const dense = run.tensor(`blk.1.${point}`);
    for (const query of IDS.keys()) {
      const row = dense.at({ head: 2, query }).toFloat32Array();
      row.forEach((value, key) => {
        if (key > query) assert.equal(value, hidden, `${point} ${query} ${key}`);
        else assert.ok(Number.isFinite(value) && value !== 0);
      });
    }
  }
});

async function generate(model: Model, options: GenerateOptions, ids: readonly number[] = IDS) {
  const generation = model.generate(ids, { maxTokens: 6, ignoreEos: true, ...options });
  for await (const _ of generation);
  return generation.run;
}

function close(a: ArrayLike<number>, b: ArrayLike<number>, what: string): void {
  assert.equal(a.length, b.length, what);
  Array.from(a).forEach((value, i) =>
    assert.ok(Object.is(value, b[i]) || Math.abs(value - b[i]) < 2e-5, `${what}: ${value} ${b[i]}`)
  );
}

for (
  const [temperature, backend] of [[0, "cpu"], [0.7, "cpu"], [0, "webgpu"], [
    0.7,
    "webgpu",
  ]] as const
) {
  Deno.test(`a generation's captured logits give what a run over its ids gives (temperature ${temperature}, ${backend})`, async () => {
    using random = await randomModel({ ...MODEL, contextLength: 512 }, backend);
    const { model } = random;
    // Longer than one pass.
    const prompt = Array.from({ length: 150 }, (_, i) => (i * 37) % 64);
    const run = await generate(model, {
      temperature,
      capture: ["logits", "output_norm", "probs"],
    }, prompt);
    const ran = run.ids.slice(0, -1);
    assert.equal(ran.length, 155);
    const whole = await model.run([ran], { capture: ["logits", "output_norm", "probs"] });
    for (const point of ["logits", "output_norm", "probs"]) {
      const [found, expected] = [run.tensor(point), whole.tensor(point)];
      assert.deepEqual(found.shape, expected.shape);
      close(found.toFloat32Array(), expected.toFloat32Array(), point);
    }
    close(run.sequences[0].lastLogits!, whole.sequences[0].lastLogits!, "last logits");
    close(
      run.sequences[0].surprisals.slice(0, -1),
      whole.sequences[0].surprisals,
      "surprisals",
    );
    const last = run.top(64).find(({ id }) => id === run.ids.at(-1))!;
    close([run.sequences[0].surprisals.at(-1)!], [-Math.log(last.probability)], "last surprisal");
    assert.ok(Math.abs(run.logitDiff(3, 5) - whole.logitDiff(3, 5)) < 1e-5);
    const known = run.sequences[0].surprisals.slice(1);
    close([run.loss()], [known.reduce((a, b) => a + b) / known.length], "loss");
  });
}

Deno.test("a generation's estimate is what it takes, with logits at all or some positions", async () => {
  using random = await randomModel(MODEL);
  for (const temperature of [0, 1]) {
    for (
      const options of [{}, { captureEvery: 2 }, { positions: [-1, 1, 10] }, { positions: -1 }]
    ) {
      const capture = ["logits", "blk.0.{out,attn_probs,cache_k}", "output_norm_rms"];
      let told = 0;
      const onCapture = (bytes: number) => void (told = bytes);
      const run = await generate(random.model, { temperature, capture, onCapture, ...options });
      const bytes = run.captured.flatMap((point) => run.pieces(point))
        .reduce((sum, { data }) => sum + 4 * data.length, 0);
      assert.equal(told, bytes, JSON.stringify(options));
      if ("positions" in options) {
        const positions = options.positions === -1 ? [8] : [1, 8, 10];
        assert.deepEqual(run.tensor("logits").shape, [positions.length, 64]);
      }
    }
  }
});

Deno.test("logits that were left out are told from logits that were not asked for", async () => {
  using random = await randomModel(MODEL);
  const sparse = await generate(random.model, { capture: "logits", captureEvery: 4 });
  assert.throws(() => sparse.top(), /after position 13.*positions or captureEvery left them out/);
  const none = await generate(random.model, { capture: "blk.0.out" });
  assert.throws(() => none.top(), NotCapturedError);
  assert.throws(() => none.loss(), /capture: \["logits"\]/);
  // Of the tokens after captured positions there are surprisals.
  const { surprisals } = sparse.sequences[0];
  const known = [...surprisals.keys()].filter((i) => !Number.isNaN(surprisals[i]));
  assert.deepEqual(known, [1, 2, 3, 4, 5, 6, 7, 8, 9, 13]);
});

Deno.test("captureEvery is an integer, 1 or more", async () => {
  using random = await randomModel(MODEL);
  for (const captureEvery of [0, -1, 1.5, NaN]) {
    assert.throws(
      () => random.model.generate(IDS, { captureEvery, capture: ["logits"] }),
      /captureEvery must be an integer, 1 or more/,
    );
  }
});

Deno.test("a generation is iterated once", async () => {
  using random = await randomModel(MODEL);
  const generation = random.model.generate(IDS, { maxTokens: 2 });
  for await (const _ of generation);
  await assert.rejects(async () => {
    for await (const _ of generation);
  }, /Cannot iterate a generation twice/);
  assert.ok(generation.ids.length <= 2);
});

Deno.test("a pattern that fits several captured points is one for tables()", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], { capture: ["blk.1-2.out", "blk.1.q"] });
  for (const show of [() => run.tensor("blk.*.out"), () => run.table("blk.*.out")]) {
    assert.throws(show, (error: unknown) => {
      assert.ok(error instanceof SeveralPointsError);
      assert.deepEqual(error.points, ["blk.1.out", "blk.2.out"]);
      assert.match(error.message, /tables\("blk\.\*\.out"\)/);
      return true;
    });
  }
  assert.equal(run.tensor("blk.0-1.out").name, "blk.1.out");
  assert.equal(run.table("blk.*.q").metadata.get("point"), "blk.1.q");
  assert.throws(() => run.tensor("blk.*.k"), /capture: \["blk\.\*\.k"\]/);
  assert.throws(() => run.tables("blk.1.{q,out}"), /only layers of one kind/);
});

Deno.test("layers stack under the names that were asked for", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], {
    capture: ["token_embd", "blk.*.out", "output_norm", "blk.*.q"],
  });
  for (const pattern of ["blk.*.inp", "blocks.*.hook_resid_pre", "model.layers.*.input"]) {
    const table = run.tables(pattern);
    const rows = tableRows(table);
    assert.deepEqual([...new Set(rows.map(({ layer }) => layer))], [0, 1, 2]);
    assert.equal(table.metadata.get("alias"), pattern);
    assert.equal(table.metadata.get("point"), "token_embd, blk.*.out");
    assert.equal(table.metadata.get("layers"), "[0,1,2]");
    for (const { layer, position, value } of rows) {
      const point = layer === 0 ? "token_embd" : `blk.${layer - 1}.out`;
      assert.deepEqual(value, run.tensor(point).at({ position }).toFloat32Array());
    }
  }
  assert.equal(run.tables("hidden_states[*]").numRows, 4 * IDS.length);
  const one = run.table("blk.2.inp");
  assert.deepEqual(
    ["alias", "point", "layers"].map((key) => one.metadata.get(key)),
    ["blk.2.inp", "blk.1.out", "[2]"],
  );
  assert.equal(tableRows(one)[0].layer, 2);
  assert.match(`${one.preview().facts}`, /as blk\.2\.inp/);
  assert.equal(run.table("blk.1.out").metadata.has("alias"), false);
  assert.equal(run.table("blocks.1.attn.hook_q").metadata.get("alias"), "blocks.1.attn.hook_q");
  assert.equal(run.tensor("blk.2.inp").name, "blk.2.inp");
});

Deno.test("cache views know their slots", async () => {
  using random = await randomModel(MODEL);
  const all = await random.model.run([IDS], { capture: "blk.1.cache_k" });
  const some = await random.model.run([IDS], { capture: "blk.1.cache_k", positions: [3, 7] });
  assert.deepEqual(
    some.tensor("blk.1.cache_k").at({ slot: 7 }).toArray(),
    all.tensor("blk.1.cache_k").at({ slot: 7 }).toArray(),
  );
});

Deno.test("negative sequences count from the last, everywhere", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS, IDS.slice(2)], { capture: ["blk.0.out"] });
  const last = { sequence: -1 };
  assert.deepEqual(
    run.tensor("blk.0.out", last).toArray(),
    run.tensor("blk.0.out", { sequence: 1 }).toArray(),
  );
  assert.equal(run.pieces("blk.0.out", -1).length, 1);
  assert.deepEqual(run.tokens(-1), run.tokens(1));
  assert.deepEqual(run.top(3, last), run.top(3, { sequence: 1 }));
  assert.deepEqual(tableRows(run.topTable(1, last)).map(({ sequence }) => sequence), [1]);
  for (const sequence of [2, -3, 0.5]) {
    assert.throws(() => run.tensor("blk.0.out", { sequence }), /the run has 2/);
    assert.throws(() => run.pieces("blk.0.out", sequence), /the run has 2/);
  }
});

Deno.test("negative positions count from the prompt's end, in a generation too", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  const run = await generate(model, {
    capture: [
      "token_embd",
      "blk.*.{out,head_result,ffn_out}",
      "output_norm_rms",
      "blk.0.attn_probs",
    ],
  });
  const positions = (
    table: Table,
    name = "position",
  ) => [...new Set(tableRows(table).map((row) => row[name]))];
  const last = IDS.length - 1;
  assert.deepEqual(positions(await logitLens(model, run, { positions: [-1] })), [last]);
  assert.deepEqual(positions(await logitLens(model, run, { positions: 11 })), [11]);
  assert.deepEqual(positions(await directLogitAttribution(model, run, { token: 3 })), [last]);
  const attention = run.table("blk.0.attn_probs");
  assert.deepEqual(positions(attention.long({ head: 1, position: -1 }), "query"), [last]);
  assert.deepEqual(positions(attention.long({ head: 1, query: 12, key: -1 }), "key"), [last]);
  assert.deepEqual(positions(run.table("blk.0.out").long({ position: -1 })), [last]);
  for (const wrong of [99, -10, 0.5]) {
    await assert.rejects(logitLens(model, run, { positions: [wrong] }), PositionError);
    await assert.rejects(
      directLogitAttribution(model, run, { token: 3, position: wrong }),
      PositionError,
    );
  }
});

Deno.test("positions that no sequence has are refused before the run", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  for (const wrong of [999, 9, -10, 1.5, NaN]) {
    await assert.rejects(
      model.run([IDS, [1, 2]], { capture: ["blk.0.out"], positions: [0, wrong] }),
      (error: unknown) => {
        assert.ok(error instanceof PositionError && error instanceof RangeError);
        assert.match(error.message, /go from 0 to 8, or from -9 to -1 back/);
        return true;
      },
    );
  }
  const ragged = await model.run([IDS, [1, 2]], { capture: ["blk.0.out"], positions: [5, -1] });
  assert.deepEqual(
    [0, 1].map((sequence) => ragged.pieces("blk.0.out", sequence)[0].positions),
    [[5, 8], [1]],
  );
  const capture = ["blk.0.out"];
  model.generate(IDS, { maxTokens: 4, capture, positions: [12, -9] });
  for (const wrong of [13, -10, 1.5]) {
    assert.throws(
      () => model.generate(IDS, { maxTokens: 4, capture, positions: [wrong] }),
      PositionError,
    );
  }
});

Deno.test("points, tensors and config are tables, until the model is disposed", async () => {
  const random = await randomModel(MODEL);
  const { model } = random;
  const table = await model.points();
  const rows = tableRows(table);
  assert.deepEqual(rows.map(({ point }) => point), model.pointList.map(({ name }) => name));
  const out = rows.find(({ point }) => point === "blk.1.out")!;
  assert.deepEqual([out.shape, out.axes, out.bytes], ['["T",32]', "position × feature", 128]);
  assert.match(out.aliases, /blocks\.1\.hook_resid_post/);
  random[Symbol.dispose]();
  for (const ask of [() => model.points(), () => model.tensorTable(), () => model.configTable()]) {
    await assert.rejects(ask(), DisposedError);
  }
});

Deno.test("every table of a run says which sequence and step a row is of", async () => {
  using random = await randomModel(MODEL);
  const run = await generate(random.model, { capture: ["logits", "blk.0.attn_probs"] });
  const tables = {
    tokens: run.tokenTable(),
    top: run.topTable(2),
    attention: attentionStatistics(run),
    surprisal: surprisal(run),
    point: run.table("logits"),
  };
  for (const [name, table] of Object.entries(tables)) {
    assert.deepEqual(table.schema.names.slice(0, 2), ["sequence", "step"], name);
  }
  const steps = (table: Table) => tableRows(table).map(({ step }) => step);
  assert.deepEqual(steps(tables.tokens), [...IDS.map(() => 0), 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(steps(tables.top), [5, 5]);
  const prompt = attentionStatistics(
    await random.model.run([IDS], { capture: ["blk.0.attn_probs"] }),
  );
  const found = tableRows(tables.attention);
  assert.deepEqual(found.slice(0, 4), tableRows(prompt));
  assert.deepEqual(found.map(({ step }) => step), [0, 1, 2, 3, 4, 5].flatMap((s) => [s, s, s, s]));
});

Deno.test("what is no prompt and no option is refused in one line that says what to give", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  // Notebook cells are not type-checked.
  const cell = (prompt: unknown, options: unknown = {}) =>
    model.run(prompt as string, options as RunOptions);
  const generation = (prompt: unknown, options: unknown = {}) => () =>
    model.generate(prompt as string, options as GenerateOptions);
  await assert.rejects(cell([1, 30]), /Cannot run \[1,30\].*: \[\[1,30\]\]$/);
  await assert.rejects(cell([]), /empty list of prompts/);
  await assert.rejects(cell(7), /Cannot run 7: give a text/);
  await assert.rejects(cell(undefined), /Cannot run undefined: give a text/);
  await assert.rejects(cell([[1], null]), /Cannot run null: give a text/);
  await assert.rejects(cell([[1, "a"]]), /Cannot run token id a/);
  await assert.rejects(cell([IDS], { capture: [3] }), /Cannot capture 3: give names of points/);
  await assert.rejects(cell([IDS], { edit: ["blk.0.out", zero()] }), /list of pairs, edit: \[\[/);
  assert.throws(generation(["Once"]), /Cannot take \["Once"\] as a prompt/);
  assert.throws(generation([[1, 2]]), /one list of ids/);
  assert.throws(generation(IDS, { edit: [zero()] }), /list of pairs/);
  await assert.rejects(() => model.stepper({} as unknown as string), /Cannot take \{\}/);

  const run = await cell([IDS], { capture: "blk.1.out", positions: -1 });
  assert.deepEqual(run.tensor("blk.1.out").shape, [1, 32]);
  assert.deepEqual((await cell([Int32Array.from(IDS)])).ids, IDS);
  assert.throws(() => run.logitDiff(99999, 3), /no token 99999: ids go from 0 to 63/);
  assert.throws(() => run.top(0), /Cannot show the top 0/);
  await assert.rejects(
    directLogitAttribution(model, run, { token: 99999 }),
    /no token 99999/,
  );
});

Deno.test("a sink begins when everything has been found right", async () => {
  using random = await randomModel(MODEL);
  const { model } = random;
  const told: string[] = [];
  const sink: PieceSink = {
    begin: () => void told.push("begin"),
    write: () => Promise.resolve(),
    finish: () => Promise.resolve(void told.push("finish")),
    close: () => Promise.resolve(void told.push("close")),
  };
  const wrong: RunOptions[] = [
    { capture: ["blk.0.oout"] },
    { capture: ["blk.0.out"], positions: [99] },
    { capture: ["blk.0.out"], edit: [["blk.9.out", zero()]] },
  ];
  for (const options of wrong) {
    await assert.rejects(model.run([IDS], { ...options, sink }));
    await assert.rejects(async () => {
      for await (const _ of model.generate(IDS, { maxTokens: 2, ...options, sink }));
    });
  }
  await assert.rejects(model.run([IDS], { sink }), /the sink: nothing is captured/);
  assert.throws(() => model.generate(IDS, { sink }), /the sink: nothing is captured/);
  assert.deepEqual(told, []);
  await model.run([IDS], { capture: ["blk.0.out"], sink });
  assert.deepEqual(told, ["begin", "finish"]);
});

Deno.test("a sink that another generation writes to is left alone", async () => {
  using random = await randomModel(MODEL);
  using folder = new Folder();
  const sink = new ArrowSink(folder.path);
  const options = { maxTokens: 4, ignoreEos: true, capture: ["blk.0.out"], sink };
  for await (const _ of random.model.generate(IDS, options)) {
    await assert.rejects(async () => {
      for await (const _ of random.model.generate(IDS, options));
    }, /make a new sink/);
  }
  assert.deepEqual(sink.files.map(({ rows }) => rows), [IDS.length + 3]);
});

Deno.test("a large capture is announced on stderr unless somebody listens", async () => {
  using random = await randomModel(MODEL);
  const lines: string[] = [];
  const { error } = console;
  console.error = (line: string) => void lines.push(line);
  try {
    const options = { maxTokens: 70_000, capture: ["logits"] };
    const large = { ...MODEL, contextLength: 400_000, vocab: 1000 };
    using wide = await randomModel(large);
    for (const onCapture of [undefined, () => {}]) {
      for await (const _ of wide.model.generate(IDS, { ...options, onCapture })) break;
    }
    await generate(random.model, { capture: ["logits"] });
  } finally {
    console.error = error;
  }
  assert.deepEqual(lines, ["capturing at most 267.1 MiB"]);
});

Deno.test("tokenId means the text to the letter, and takes what top() shows", async () => {
  using model = await loadModel("tiny", { backend: "cpu" });
  const { tokenizer } = model;
  assert.equal(tokenizer.piece(model.tokenId(" time")), " time");
  assert.throws(() => model.tokenId("time"), /not a token by itself: encoding makes it " time"/);
  assert.equal(model.tokenId("\n"), tokenizer.id("<0x0A>"));
  assert.equal(model.tokenId("▁time"), model.tokenId(" time"));
  for (let id = 0; id < tokenizer.size; id++) {
    const text = tokenizer.piece(id);
    const found = model.tokenId(text);
    // Bytes that are tokens of their own too are those tokens.
    assert.equal(tokenizer.piece(found), text);
    if (found !== id) assert.match(tokenizer.piece(id), /^[\x20-\x7e]$/);
  }
});

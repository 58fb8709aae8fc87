/** Following a divergence: what the first wrong operation read and made is in the bundle, and recomputing it says whose number is right. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Random } from "../../../checkpoints/files/random.ts";
import { readNpy, writeNpy } from "../../../checkpoints/files/npy.ts";
import { formulaAt } from "../../../checkpoints/parity/divergence/formula.ts";
import { recompute } from "../../../checkpoints/parity/divergence/recompute.ts";
import { placesOf } from "../../../checkpoints/parity/compare.ts";
import { divergencesOf, verifyProof } from "../../../checkpoints/parity/reports/proof.ts";
import { chainOf } from "../../../checkpoints/diagnosis/activations/chain.ts";
import { WeightReader } from "../../../checkpoints/diagnosis/activations/operation.ts";
import { operationEvidence } from "../../../checkpoints/diagnosis/divergence_evidence.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { readConfig } from "../../../engine/model/config.ts";
import { forward } from "../../../engine/plan/forward.ts";
import type { OperationEvidence } from "../../../checkpoints/parity/divergence/evidence.ts";
import { deno } from "../../support/command.ts";
import {
  diverged,
  retell,
  sign,
  writeReports,
  writtenBundle,
} from "../../support/engines/divergence_bundles.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { dump, ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { Folder } from "../../support/folder.ts";
import {
  blockChanged,
  breakFile,
  type FileFault,
  inHalves,
  mapped,
  metadata,
  without,
} from "../../support/models/broken_files.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const { shape } = random.engine;
/** Few positions are enough where an engine's folder says what ran. */
const IDS = random.ids.slice(0, 20);
let count = 0;
const next = () => folder.at(`${++count}`);

/** The comparison with an engine that is wrong in block 1, or outside of blocks. */
async function withFault(
  mistakes: Mistakes,
  { outside = false, shown = /./ }: { outside?: boolean; shown?: RegExp } = {},
) {
  const dir = next();
  const run = random.engine.run(IDS, 1, { mistakes, where: outside ? "outside" : 1 });
  await dump(run, dir, { without: (point) => !shown.test(point) });
  return await diverged(next(), random.path, IDS, { engine: dir });
}

const made = (
  point: string,
  change: (x: Float32Array, start: number) => Float32Array,
): Mistakes => ({
  made: (each, x, { start }) => each === point ? change(x, start) : x,
});
const times = (name: string, factor: number): Mistakes => ({
  weight: (each, weight) =>
    each === name ? { ...weight, data: weight.data.map((w) => w * factor) } : weight,
});

/** Of every kind of operation a fault: where it shows, its kind, and what the reference's number says of it. */
const FAULTS: Readonly<
  Record<string, {
    readonly mistakes: Mistakes;
    readonly point: string;
    readonly outside?: boolean;
    readonly implied?: RegExp;
  }>
> = {
  embed: {
    mistakes: made("token_embd", (x) => x.map((v) => 2 * v)),
    ...{ point: "token_embd", outside: true },
  },
  scale_columns: {
    mistakes: { epsilon: 3e-2 },
    ...{
      point: "blk.1.attn_norm",
      implied: /^blk\.1\.attn_norm_rms: ε would be 0\.0(3|29\d+|300\d*)$/m,
    },
  },
  "add_bias, after a product with F32": {
    // Each row exchanged with its neighbour.
    mistakes: {
      weight: (name, weight) =>
        name !== "attn_output.weight" ? weight : {
          ...weight,
          data: weight.data.map((_, i) => weight.data[i ^ weight.columns]), // a power of two
        },
    },
    point: "blk.1.attn_out",
    implied:
      /^blk\.1\.attn_out_product: row \d+ of blk\.1\.attn_output\.weight gives it, at all \d+ pos/m,
  },
  "linear, Q8_0": {
    mistakes: {
      weight: (name, weight) =>
        name !== "ffn_up.weight" ? weight : {
          ...weight,
          data: weight.data.map((_, i) => weight.data[(i + weight.columns) % weight.data.length]),
        },
    },
    point: "blk.1.ffn_up",
    implied: /row \d+ of blk\.1\.ffn_up\.weight gives it, at all \d+ positions/,
  },
  add_bias: {
    mistakes: { weight: (name, weight) => name === "attn_k.bias" ? undefined : weight },
    ...{ point: "blk.1.k", implied: /b would be -?0$/ },
  },
  rope: {
    mistakes: { rope: () => ({ factor: 4 }) },
    ...{ point: "blk.1.q_rope", implied: /its pair turned by / },
  },
  store: {
    mistakes: made("cache_v", (x, start) => {
      if (start > 0) return x;
      const width = shape.kvHeads * shape.headWidth;
      const moved = x.slice();
      moved.copyWithin(width, 0, x.length - width);
      return moved;
    }),
    ...{ point: "blk.1.cache_v", implied: /it is what position \d+ wrote/ },
  },
  scores: {
    mistakes: { scale: 0.5 },
    ...{ point: "blk.1.attn_scores", implied: /the scale would be 0\.125$/m },
  },
  softmax: {
    mistakes: { future: 1 },
    ...{ point: "blk.1.attn_probs", implied: /keys that may be seen sum to 0\.\d+/ },
  },
  mix: {
    mistakes: made("head_out", (x) => {
      // Heads backwards.
      const { heads, headWidth } = shape;
      return x.map((_, i) => {
        const head = Math.floor(i / headWidth) % heads;
        return x[i + (heads - 1 - 2 * head) * headWidth];
      });
    }),
    ...{ point: "blk.1.head_out", implied: /head \d with key\/value head \d gives it/ },
  },
  swiglu: {
    mistakes: { activation: (gate, up) => Math.max(0, gate) * up },
    ...{ point: "blk.1.ffn_act", implied: /silu\(g\) would be / },
  },
  add: {
    mistakes: { residual: { ffn_inp: 0 } },
    ...{ point: "blk.1.ffn_inp", implied: /or a -?0$/m },
  },
  "linear, logits": {
    ...{ mistakes: times("output.weight", 1.5), point: "logits", outside: true },
  },
};

for (const [name, { mistakes, point, outside, implied }] of Object.entries(FAULTS)) {
  Deno.test(`an engine's fault in ${name}: ours is right, and its number says why`, async () => {
    const { evidence, report } = await withFault(mistakes, { outside });
    const last = evidence.operations.at(-1)!;
    assert.equal(evidence.point, point);
    assert.equal(last.operation, name.replace(/, .*/, ""));
    const found = recompute(evidence);
    assert.equal(found.right, "ours", found.says);
    assert.ok(Math.abs(found.formula.value! - found.ours) <= found.allowed);
    assert.ok(Math.abs(found.reference - found.ours) > found.allowed);
    assert.equal(found.ours, report.first!.row!.local!.ours);
    assert.equal(found.reference, report.first!.row!.local!.reference);
    if (implied) assert.match(found.implied.join("\n"), implied);
    assertFormulas(evidence);
  });
}

/** At places drawn by a seed each operation's formula gives what its twin made. */
function assertFormulas(evidence: OperationEvidence): void {
  const draw = new Random(3);
  const { start } = evidence.pass;
  for (const operation of evidence.operations) {
    const { output } = operation;
    const placeOf = placesOf(output.name, output, start);
    for (let i = 0; i < 40; i++) {
      const element = draw.integer(0, output.data.length);
      const { value } = formulaAt(operation, operation, evidence.pass, placeOf(element))!;
      const expected = output.data[element];
      assert.ok(
        Math.abs(value! - expected) <= 1e-6 * Math.max(1, Math.abs(expected)),
        `${operation.point}[${element}]: ${value} and ${expected}`,
      );
    }
  }
}

/** Files that are broken, and what is seen side by side. */
const FILES: Readonly<Record<string, readonly [fault: FileFault, point: string, seen: RegExp]>> = {
  "a damaged block": [
    blockChanged("blk.1.ffn_down.weight", 7, (bytes) => bytes.subarray(2).reverse()),
    "blk.1.ffn_out",
    /^blk\.1\.ffn_down\.weight, row 1: \d+ of 192 numbers differ \(columns 3\d to 6\d\)[^]*bytes from 3\d of the row \(Q8_0\):\n\s+here {2}(\w\w ){23}\w\w\n\s+there (\w\w ){23}\w\w$/,
  ],
  "numbers of a norm": [
    mapped("blk.1.attn_norm.weight", (w) => w.map((x, i) => i === 5 ? -x : x)),
    "blk.1.attn_norm",
    /blk\.1\.attn_norm\.weight: 1 of 64 numbers differ \(columns 5 to 5\)/,
  ],
  "a row of the embedding": [
    blockChanged("token_embd.weight", 2 * 120, (bytes) => bytes.subarray(2).reverse()),
    "token_embd",
    /token_embd\.weight, row 120: 32 of 64 numbers differ/,
  ],
  "another epsilon": [
    metadata("llama.attention.layer_norm_rms_epsilon", 1e-3),
    "blk.0.attn_norm_rms",
    /^epsilon: 0\.001 here, 0\.00001 there$/m,
  ],
  "another RoPE base": [
    metadata("llama.rope.freq_base", 1e6),
    "blk.0.q_rope",
    /^RoPE: base 1000000, .* here; base 10000, .* there$/,
  ],
};

for (const [name, [fault, point, seen]] of Object.entries(FILES)) {
  Deno.test(`a broken file, ${name}: each side is right with its own, and both are seen`, async () => {
    const path = folder.at(`${++count}.gguf`);
    await breakFile(random.path, path, fault);
    // One of the prompt's letters has the row that is damaged.
    const { evidence } = await diverged(next(), path, [...random.ids, 120], {
      against: random.path,
      generate: 1,
    });
    assert.equal(evidence.point, point);
    const found = recompute(evidence);
    assert.equal(found.right, "each", found.says);
    assert.ok(Math.abs(found.other!.value! - found.reference) <= found.allowed);
    assert.match(found.files.join("\n"), seen);
    assertFormulas(evidence);
  });
}

Deno.test("behind what is not shown, each operation is there as it was computed", async () => {
  const mistakes = times("ffn_up.weight", 1.5);
  const { evidence } = await withFault(mistakes, { shown: /\.out$/ });
  assert.equal(evidence.point, "blk.1.out");
  const points = evidence.operations.map(({ point }) => point);
  assert.deepEqual([points[0], points.at(-1)], ["blk.1.attn_norm_rms", "blk.1.out"]);
  assert.ok(points.includes("blk.1.cache_k") && points.includes("blk.1.ffn_up"));
  assertFormulas(evidence);
  const found = recompute(evidence);
  assert.equal(found.right, "ours");
  assert.match(
    found.says,
    / is not what 2\d operations, blk\.1\.attn_norm_rms to blk\.1\.out, make/,
  );
  assert.deepEqual(found.before.map(({ point }) => point), [
    "blk.1.attn_out_product",
    "blk.1.attn_out",
    "blk.1.ffn_inp",
    "blk.1.ffn_out",
  ]);
});

Deno.test("files that differ before the last operation are both right, each with its own", async () => {
  const path = folder.at(`${++count}.gguf`);
  // The product is not shown: q is what a bias is added to.
  await breakFile(random.path, path, inHalves("blk.1.attn_q.weight", shape.headWidth, 12));
  const against = { against: random.path, generate: 1 };
  const { evidence } = await diverged(next(), path, random.ids, against);
  assert.deepEqual(evidence.operations.map(({ point }) => point), ["blk.1.q_product", "blk.1.q"]);
  const found = recompute(evidence);
  assert.equal(found.right, "each", found.says);
  assert.ok(Math.abs(found.other!.value! - found.reference) <= found.allowed);
  assert.match(found.files.join("\n"), /^blk\.1\.attn_q\.weight, row \d+: 64 of 64 numbers differ/);
  assert.match(found.implied.join("\n"), /^blk\.1\.q_product: row \d+ of .* gives it/);

  // A bias that one file has not makes the point by other operations: nobody is called wrong.
  const biased = folder.at(`${++count}.gguf`);
  await breakFile(random.path, biased, without(...[0, 1, 2].map((i) => `blk.${i}.attn_v.bias`)));
  const other = await diverged(next(), biased, random.ids, against);
  assert.equal(other.evidence.point, "blk.0.v");
  assert.equal(recompute(other.evidence).right, "unknown");
});

Deno.test("while decoding, the position of the step is recomputed with the cache before it", async () => {
  const mistakes = made("attn_scores", (x, start) => start > 0 ? x.map((v) => v * 0.9) : x);
  const { evidence } = await withFault(mistakes);
  assert.deepEqual([evidence.step, evidence.point], [1, "blk.1.attn_scores"]);
  assert.deepEqual(evidence.pass, { tokens: 1, start: IDS.length, rows: 1 });
  assert.equal(recompute(evidence).right, "ours");
  assertFormulas(evidence);
});

Deno.test("of a large matrix the worst rows are kept; the others are in the model's file", async () => {
  const path = folder.write("wide.gguf", randomLlama({ layers: 1, vocab: 20_000, type: "Q8_0" }));
  const engine = await ForeignEngine.open(path);
  const ids = [3, 1, 4, 15, 92, 65];
  const wrong = 12_345;
  const mistakes: Mistakes = {
    made: (point, x) => point === "logits" ? x.map((v, i) => i % 20_000 === wrong ? v + 1 : v) : x,
  };
  const dir = next();
  await dump(engine.run(ids, 0, { mistakes, where: "outside" }), dir);
  const { evidence, bundle } = await diverged(next(), path, ids, { engine: dir });
  assert.equal(recompute(evidence).right, "ours");
  const [weight] = evidence.operations.at(-1)!.weights;
  assert.equal(weight.kept?.length, 64);
  assert.ok(weight.kept.includes(wrong));
  assert.match(evidence.leftOut.join("\n"), /^output\.weight: all rows but 64 \(6\.48 MB\)$/);

  const other = Array.from(Array(64).keys()).find((row) => !weight.kept!.includes(row))!;
  const at = ["--json", "--place", `index=${other}`];
  const bare = await deno(["task", "-q", "proof", "recompute", bundle, ...at]);
  assert.equal(JSON.parse(bare.out).recomputed[0].right, "unknown", bare.err);
  const whole = await deno(["task", "-q", "proof", "recompute", bundle, ...at, "--model", path]);
  assert.equal(JSON.parse(whole.out).recomputed[0].right, "both", whole.err);
  const wrongModel = ["--model", random.path];
  const refused = await deno(["task", "-q", "proof", "recompute", bundle, ...wrongModel]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /^error: .*: its output\.weight is not the bundle's$/m);
});

Deno.test("of tensors that are too large the worst position's row is kept, and of that what fits", async () => {
  const file = await openGgufFile(random.path);
  try {
    const config = readConfig(file);
    const plan = forward(config);
    const mistakes = made("attn_scores", (x) => x.map((v) => v * 0.9));
    const run = random.engine.run(random.ids, 0, { mistakes, where: 1 });
    const [pass] = run.passes;
    const point = "blk.1.attn_scores";
    const { report } = await withFault(mistakes);
    const row = report.first!.row!;
    const position = row.local!.place.position;
    const reader = new WeightReader(file);
    const chain = await chainOf({ plan, config, reader, pass, point, position, builder: "exact" });
    const scene = { chain, config, file, provenance: report.reference, row, pass, piece: String };
    const limits = { tensors: 2 ** 30, weights: 2 ** 30, wholeWeight: 2 ** 30 };
    const all = (await operationEvidence(scene, limits))!;
    assert.deepEqual([all.leftOut, recompute(all).right], [[], "ours"]);

    const one = (await operationEvidence(scene, { ...limits, tensors: 40_000 }))!;
    assert.deepEqual(one.pass, { tokens: 1, start: position, rows: 1 });
    assert.deepEqual(one.leftOut, [`the rows of other positions than ${position}: too large`]);
    const [whole, cut] = [recompute(all), recompute(one)];
    assert.deepEqual(cut, whole);
    assert.throws(() => recompute(one, { ...one.place, position: position - 1 }), RangeError);

    const some = (await operationEvidence(scene, { ...limits, tensors: 1_500 }))!;
    assert.match(some.leftOut.join("\n"), /^blk\.1\.cache_k: \d.* kB$/m);
    const unknown = recompute(some);
    assert.equal(unknown.right, "unknown");
    assert.match(unknown.formula.text, /^made of blk\.1\.cache_k, which is too large/);
    assert.equal(await operationEvidence(scene, { ...limits, tensors: 10 }), undefined);

    for (const evidence of [one, some]) {
      const { result, cases, first } = report;
      const bundle = next();
      await writeReports(bundle, random.path, [{ result, cases, first: { ...first!, evidence } }]);
      assert.deepEqual(await verifyProof(bundle), []);
      const read = (await divergencesOf(bundle)).get("divergence") as OperationEvidence;
      assert.deepEqual(recompute(read), recompute(evidence));
    }
  } finally {
    file.close();
  }
});

Deno.test("two references that part have a folder each", async () => {
  const { report } = await withFault(times("ffn_up.weight", 1.5));
  const bundle = next();
  await writeReports(bundle, random.path, [report, report]);
  assert.deepEqual(await verifyProof(bundle), []);
  assert.deepEqual([...(await divergencesOf(bundle)).keys()], ["divergence", "divergence-2"]);
  await Deno.mkdir(join(bundle, "divergence-3"));
  assert.deepEqual(await verifyProof(bundle), ["divergence-3 is not in the manifest"]);
});

Deno.test("ids that differ are both there, with their texts", async () => {
  const dir = next();
  await dump(random.engine.run(random.ids.slice(1), 0), dir);
  const bundle = next();
  await writtenBundle(bundle, random.path, random.prompt, { engine: dir });
  assert.deepEqual(await verifyProof(bundle), []);
  const { code, out } = await deno(["task", "-q", "proof", "recompute", bundle]);
  assert.equal(code, 0);
  assert.match(out, /^token ids \(prompt\)\n {2}of "Somebody told/);
  assert.match(out, /^0 {2}1 "<s>" {2,}\d+ ".*"$/m);
  assert.match(out, /the first that differs is id 0, of \d+ here and \d+ there$/m);
});

Deno.test("recompute: another place, JSON, usage, and what is not there", async () => {
  const { bundle } = await withFault({ rope: () => ({ factor: 4 }) });
  const run = (...args: string[]) => deno(["task", "-q", "proof", "recompute", bundle, ...args]);
  const text = await run();
  assert.equal(text.code, 0, text.err);
  assert.match(text.out, /^blk\.1\.q_rope at layer 1, head \d, position \d+, index \d+ \(prompt\)/);
  assert.match(text.out, /angle = position · base\^\(−2·\d\/12\) = \d/);
  assert.match(text.out, /^ours is right, foreign's is not/m);
  const place = await run("--json", "--place", "head=1,position=0,index=3");
  const [found] = JSON.parse(place.out).recomputed;
  assert.deepEqual(found.place, { layer: 1, head: 1, position: 0, index: 3 });
  assert.equal(found.right, "both"); // nothing turns at position 0
  const usage = await run("--place", "row=1");
  assert.equal(usage.code, 2);
  const outside = await run("--place", "position=1000");
  assert.equal(outside.code, 1);
  assert.match(outside.err, /^error: Cannot recompute .*: it has positions 0 to \d+$/m);
});

Deno.test("a bundle whose divergence was changed is refused, whatever its hashes say", async () => {
  const { bundle } = await withFault(times("ffn_up.weight", 1.5));
  const copy = async () => {
    const to = next();
    await Deno.mkdir(join(to, "divergence"), { recursive: true });
    for (const inner of ["", "divergence"]) {
      for await (const { name, isFile } of Deno.readDir(join(bundle, inner))) {
        if (isFile) await Deno.copyFile(join(bundle, inner, name), join(to, inner, name));
      }
    }
    return to;
  };
  assert.deepEqual(await verifyProof(await copy()), []);
  const changedNumber = async (file: string) => {
    const to = await copy();
    const path = join(to, "divergence", file);
    const { shape, data } = await readNpy(path);
    await writeNpy(path, shape, data.map((value) => value * 1.01));
    assert.deepEqual(await verifyProof(to), [`divergence/${file} was changed`]);
    await sign(to);
    return await verifyProof(to);
  };
  const ours = await changedNumber("ours.blk.1.ffn_up.npy");
  assert.match(ours.join("\n"), /recomputing it says/);
  assert.match(
    ours.join("\n"),
    /divergence: the numbers of blk\.1\.ffn_up are not those of its row/,
  );
  assert.deepEqual(await changedNumber("reference.blk.1.ffn_up.npy"), [
    "divergence: the numbers of blk.1.ffn_up are not those of its row",
  ]);
  assert.match((await changedNumber("input.blk.1.ffn_norm.npy"))[0], /is not what recomputing it/);
  assert.match(
    (await changedNumber("weight.blk.1.ffn_up.weight.npy"))[0],
    /the numbers of blk\.1\.ffn_up\.weight are not those of its bytes/,
  );

  // deno-lint-ignore no-explicit-any -- whatever can stand in JSON
  const told: readonly [(told: any) => unknown, RegExp][] = [
    [() => "nonsense", /divergence: divergence\.json: .*JSON/],
    [() => "[]", /the whole is no object/],
    [(told) => void (told.right = "reference"), /it says .* right is: reference, .*: ours$/],
    [(told) => void (told.place.position--), /at another place than its row says/],
    [(told) => void (told.place.index = 1e9), /Cannot recompute/],
    [(told) => void (told.point = "blk.1.ffn_gate"), /./],
    [(told) => void (told.case = "another"), /blk\.1\.ffn_up is no row/],
    [(told) => void (told.ours.file = "../header.json"), /file is not what it should be/],
    [(told) => void (told.ours.file = "none.npy"), /No such file|os error/],
    [(told) => void (told.operations = []), /./],
    [(told) => void (told.operations[0].operation = "host"), /is no operation that is recomputed/],
    [(told) => void (told.operations[0].operation = "softmax"), /./],
    [(told) => void (told.operations[0].constants.rows = 1e15), /weight 0 is not/],
    [(told) => void (told.operations[0].constants.columns = -1), /columns is -1/],
    [(told) => void (told.operations[0].weights[0].rows = 1e15), /has not the numbers/],
    [(told) => void (told.operations[0].weights[0].type = "Q4_0"), /has not the bytes/],
    [(told) => void (told.operations[0].weights = []), /weight 0 is not/],
    [(told) => void (told.pass.tokens = 1e15), /input 0 has/],
    [(told) => void (told.pass.start = 1e15), /./],
    [(told) => void (told.activations = "q8\x1b[31m"), /activations is not what it should be/],
  ];
  for (const [change, problem] of told) {
    const to = await copy();
    await retell(to, change);
    const problems = await verifyProof(to);
    assert.match(problems.join("\n"), problem, `${change}`);
    assert.ok(problems.every((line) => !/^(TypeError|ReferenceError)/.test(line)));
  }

  // Its words are shown, and nothing in them acts.
  const planted = await copy();
  await retell(planted, (told) => {
    for (const token of told.tokens) token.text = "\x1b[31mred";
    told.leftOut = ["\x1b]0;title\x07"];
  });
  const shown = await deno(["task", "-q", "proof", "recompute", planted]);
  assert.equal(shown.code, 0, shown.err);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(shown.out, /[\x00-\x09\x0b-\x1f]/);
});

Deno.test("a bundle of version 1, which has no divergence, verifies and says that it has none", async () => {
  const dir = next();
  await dump(random.engine.run(IDS, 0), dir);
  const bundle = next();
  await writtenBundle(bundle, random.path, IDS, { engine: dir });
  const path = join(bundle, "header.json");
  const header = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...header, version: 1 }));
  await sign(bundle);
  assert.deepEqual(await verifyProof(bundle), []);
  const { code, err } = await deno(["task", "-q", "proof", "recompute", bundle]);
  assert.equal(code, 1);
  assert.match(err, /^error: .*: nothing in it went wrong, or it was written without what did$/m);
});

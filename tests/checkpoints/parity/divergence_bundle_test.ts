/** Bundles of divergences: what is left out of large ones, what they are read back as, and what is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readNpy, writeNpy } from "../../../checkpoints/files/npy.ts";
import { recompute } from "../../../checkpoints/parity/divergence/recompute.ts";
import { divergencesOf, verifyProof } from "../../../checkpoints/parity/reports/proof.ts";
import { chainOf } from "../../../checkpoints/diagnosis/activations/chain.ts";
import { WeightReader } from "../../../checkpoints/diagnosis/activations/operation.ts";
import { operationEvidence } from "../../../checkpoints/diagnosis/divergence_evidence.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import type { OperationEvidence } from "../../../checkpoints/parity/divergence/evidence.ts";
import { deno } from "../../support/command.ts";
import {
  diverged,
  divergedBy,
  FEW_IDS,
  retell,
  sign,
  writeReports,
  writtenBundle,
} from "../../support/engines/divergence_bundles.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { dump, ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { made, times } from "../../support/faults/engines/mistakes.ts";
import { Folder } from "../../support/folder.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const IDS = random.ids.slice(0, FEW_IDS);
let count = 0;
const next = () => folder.at(`${++count}`);

const withFault = (mistakes: Mistakes, options?: Parameters<typeof divergedBy>[3]) =>
  divergedBy(random, next(), mistakes, options);

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

/** `task model diagnose` on broken copies of models, whose names tell nothing, and on models that are as they should be. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { findModel } from "../../../models/mod.ts";
import denoJson from "../../../deno.json" with { type: "json" };
import {
  all,
  blockChanged,
  breakFile,
  exchanged,
  type FileFault,
  inHalves,
  mapped,
  metadata,
  reordered,
  transposed,
} from "../../support/models/broken_files.ts";
import { quantizeModel } from "../../../checkpoints/quantization/quantize.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { copy } from "../../support/models/diff_samples.ts";
import { nibblesBeside } from "../../support/models/repacked.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { deno } from "../../support/command.ts";

const ROOT = new URL("../../../", import.meta.url);
const TINY = fileURLToPath(new URL("models/tiny/tiny.gguf", ROOT));
const SMOLLM2 = (await findModel("smollm2-135m")).path!;

/** What `--json` prints, as far as it is looked at. */
interface Report {
  readonly loss: number | null;
  readonly foretells: boolean;
  readonly found: { cause: Cause; detail: string; loss: number; look: string } | null;
  readonly also: { cause: Cause; detail: string; loss: number } | null;
  readonly tied: readonly { cause: Cause; detail: string }[];
  readonly improved: readonly { cause: Cause; detail: string }[];
  readonly undecidable: readonly { cause: Cause; detail: string }[];
  readonly mended: string | null;
}

const folder = await Deno.makeTempDir();
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
let count = 0;

function nextPath(): string {
  return join(folder, `${++count}.gguf`);
}

async function broken(fault: FileFault, from = TINY): Promise<string> {
  const path = nextPath();
  await breakFile(from, path, fault);
  return path;
}

/** Runs a script with the permissions of its task. */
function run(script: string, permissions: string, args: readonly string[]) {
  return deno(["run", "-q", "--no-prompt", permissions, script, ...args]);
}

const SCRIPT = "checkpoints/commands/model.ts";

async function diagnose(path: string, ...args: string[]): Promise<Report> {
  const { code, out, err } = await run(SCRIPT, "-P=model", ["diagnose", path, "--json", ...args]);
  assert.equal(err, "");
  assert.equal(out.trimEnd().split("\n").length, 1);
  const report: Report = JSON.parse(out);
  assert.equal(code, report.found ? 1 : 0);
  return report;
}

const config = await (async () => {
  const file = await openGgufFile(TINY);
  file.close();
  return readConfig(file);
})();
const { heads, kvHeads, headWidth, layers } = config;

/** A fault in every layer. */
function everyLayer(fault: (block: string) => FileFault): FileFault {
  return all(...Array.from({ length: layers }, (_, layer) => fault(`blk.${layer}`)));
}

/** What a file for halves has where it should have adjacent pairs. */
function qkInHalves(block: string, width = headWidth): FileFault {
  return all(
    inHalves(`${block}.attn_q.weight`, width),
    inHalves(`${block}.attn_k.weight`, width),
  );
}

/** Adjacent pairs made of rows that are so already: the permutation done twice. */
function qkTwice(block: string): FileFault {
  const order = (row: number) => {
    const i = row % headWidth;
    return row - i + (i % 2) * headWidth / 2 + Math.floor(i / 2);
  };
  return all(
    reordered(`${block}.attn_q.weight`, order),
    reordered(`${block}.attn_k.weight`, order),
  );
}

function normsShifted(by: number): FileFault {
  const shift = (name: string) =>
    mapped(`${name}.weight`, (numbers) => numbers.map((value) => value + by));
  return all(
    everyLayer((block) => all(shift(`${block}.attn_norm`), shift(`${block}.ffn_norm`))),
    shift("output_norm"),
  );
}

function scaled(name: string, factor: number): FileFault {
  return mapped(name, (numbers) => numbers.map((value) => value * factor));
}

/** Numbers of the same size that mean nothing. */
function noise(name: string): FileFault {
  return mapped(name, (numbers) => {
    const random = new Random(3);
    const squares = numbers.reduce((sum, value) => sum + value * value, 0);
    return numbers.map(() => random.normal(Math.sqrt(squares / numbers.length)));
  });
}

/** Query heads in the order of an engine in which head h reads key/value head h mod Hkv. */
function headsDealt(block: string): FileFault {
  const group = heads / kvHeads;
  const order = (i: number) => {
    const head = Math.floor(i / headWidth);
    return ((head % kvHeads) * group + Math.floor(head / kvHeads)) * headWidth + i % headWidth;
  };
  return all(
    reordered(`${block}.attn_q.weight`, order),
    mapped(
      `${block}.attn_output.weight`,
      (numbers, [columns]) => numbers.map((_, i) => numbers[i - i % columns + order(i % columns)]),
    ),
  );
}

const BASE = "llama.rope.freq_base";
const SCALING = "llama.rope.scaling";

/** Faults of tiny that change its loss; undoing them brings the whole of it back. */
const FAULTS: readonly [Cause, string, FileFault][] = [
  ["qk-permuted", "halves", everyLayer((block) => qkInHalves(block))],
  ["qk-permuted", "permuted twice", everyLayer(qkTwice)],
  ["rope-base", "500000 instead of 10000", metadata(BASE, 5e5)],
  [
    "rope-scaling",
    "positions divided by 4",
    all(metadata(`${SCALING}.type`, "linear"), metadata(`${SCALING}.factor`, 4)),
  ],
  ["norm-offset", "one too much", normsShifted(1)],
  ["norm-offset", "one too little", normsShifted(-1)],
  [
    "gate-up-swapped",
    "all layers",
    everyLayer((block) => exchanged(`${block}.ffn_gate.weight`, `${block}.ffn_up.weight`)),
  ],
  ["transposed", "a square one", everyLayer((block) => transposed(`${block}.attn_output.weight`))],
  ["transposed", "an oblong one", everyLayer((block) => transposed(`${block}.ffn_down.weight`))],
  ["head-grouping", "h mod Hkv", everyLayer(headsDealt)],
  ["output-tied", "exchanged", exchanged("token_embd.weight", "output.weight")],
  ["scaled", "the embedding √D times as large", scaled("token_embd.weight", 16)],
  [
    "scaled",
    "attention's output four times as large",
    everyLayer((block) => scaled(`${block}.attn_output.weight`, 4)),
  ],
  [
    "other-tensor",
    "K and V exchanged",
    everyLayer((block) => exchanged(`${block}.attn_k.weight`, `${block}.attn_v.weight`)),
  ],
  ["bos-missing", "flag", metadata("tokenizer.ggml.add_bos_token", false)],
  ["space-prefix", "flag", metadata("tokenizer.ggml.add_space_prefix", false)],
];

let cleanLoss: number;

Deno.test("the embedded model is found to be right; what the loss cannot tell is said", async () => {
  assert.match(denoJson.tasks.model.command, /-P=model checkpoints\/commands\/model\.ts$/);
  const { loss, found, undecidable, foretells } = await diagnose("tiny");
  assert.equal(found, null);
  assert.equal(foretells, true);
  assert.deepEqual(undecidable.map(({ cause }) => cause), ["epsilon"]);
  cleanLoss = loss!;
});

for (const [cause, how, fault] of FAULTS) {
  Deno.test(`${cause} is found: ${how}`, async () => {
    const { loss, found } = await diagnose(await broken(fault));
    assert.equal(found?.cause, cause, found?.detail);
    assert.ok(loss! > cleanLoss + 0.05, `${loss}`);
    assert.ok(Math.abs(found.loss - cleanLoss) < 0.001, `${found.loss}`);
    assert.ok(found.look.length > 0);
  });
}

Deno.test("dequant-block is found with its place", async () => {
  // 8 blocks in a row of 256 numbers.
  const fault = blockChanged("blk.1.attn_v.weight", 8 * 41 + 5, (bytes) => bytes.fill(0x77));
  const { found } = await diagnose(await broken(fault));
  assert.equal(found?.cause, "dequant-block");
  assert.match(found.detail, /^blk\.1\.attn_v\.weight, row 41, columns 160 to 191 /);
  assert.ok(Math.abs(found.loss - cleanLoss) < 0.05, `${found.loss}`);
});

Deno.test("nan is found with its place, in matrices and in norms", async () => {
  const path = await broken(all(
    blockChanged("blk.3.ffn_up.weight", 8 * 154 + 2, (bytes) => bytes.set([0, 0x7e], 6)),
    mapped("blk.4.ffn_norm.weight", (numbers) => numbers.with(77, NaN)),
  ));
  const { loss, found } = await diagnose(path);
  assert.equal(loss, null);
  assert.equal(found?.cause, "nan");
  assert.match(
    found.detail,
    /^blk\.3\.ffn_up\.weight, row 154, columns 64 to 95 and 1 more block,/,
  );
  assert.match(found.detail, /blk\.4\.ffn_norm\.weight/);
  assert.ok(Math.abs(found.loss - cleanLoss) < 0.05, `${found.loss}`);
});

Deno.test("f16-overflow is told from nan", async () => {
  const fault = blockChanged("blk.0.ffn_gate.weight", 9, (bytes) => bytes.set([0, 0x7c], 0));
  const { found } = await diagnose(await broken(fault));
  assert.equal(found?.cause, "f16-overflow");
});

Deno.test("--layers finds what is wrong in one layer only", async () => {
  const path = await broken(qkInHalves("blk.3"));
  const { found } = await diagnose(path, "--layers");
  assert.equal(found?.cause, "qk-permuted");
  assert.match(found.detail, /^layer 3: /);
});

Deno.test("--layers tells K and V that were exchanged from what a transposition would mend", async () => {
  const path = await broken(exchanged("blk.2.attn_k.weight", "blk.2.attn_v.weight"));
  const { found, tied } = await diagnose(path, "--layers");
  assert.equal(found?.cause, "other-tensor", `${JSON.stringify(tied)}`);
  assert.match(found.detail, /^layer 2: attn_k and attn_v exchanged$/);
  assert.ok(Math.abs(found.loss - cleanLoss) < 0.001, `${found.loss}`);
});

/** Faults that no undo is made for: some undos lower the loss, since they dampen what is wrong. */
const UNKNOWN: readonly [string, FileFault, ...string[]][] = [
  ["V is noise everywhere", everyLayer((block) => noise(`${block}.attn_v.weight`))],
  ["K is noise everywhere", everyLayer((block) => noise(`${block}.attn_k.weight`))],
  ["the embedding three times as large", scaled("token_embd.weight", 3)],
  ["ffn_down has the other sign in one layer", scaled("blk.2.ffn_down.weight", -1), "--layers"],
];

for (const [what, fault, ...args] of UNKNOWN) {
  Deno.test(`no cause is named: ${what}`, async () => {
    const mend = nextPath();
    const { found, also, mended } = await diagnose(await broken(fault), "--mend", mend, ...args);
    assert.equal(found, null, found?.detail);
    assert.equal(also, null);
    assert.equal(mended, null);
  });
}

Deno.test("what lowers the loss and mends nothing is said as what it is", async () => {
  const path = await broken(everyLayer((block) => noise(`${block}.attn_v.weight`)));
  const { code, out } = await run(SCRIPT, "-P=model", ["diagnose", path]);
  assert.equal(code, 0);
  assert.match(
    out,
    /^undoing [a-z-]+ \(.*\) lowers the loss from \d+\.\d+ to \d+\.\d+, which is no healthy model's: not the cause$/m,
  );
});

Deno.test("two faults are named together, and mended", async () => {
  const path = await broken(all(
    everyLayer((block) => exchanged(`${block}.attn_k.weight`, `${block}.attn_v.weight`)),
    metadata(BASE, 5e5),
  ));
  const mend = nextPath();
  const { found, also, mended } = await diagnose(path, "--mend", mend);
  assert.deepEqual([found?.cause, also?.cause].sort(), ["other-tensor", "rope-base"]);
  assert.equal(mended, mend);
  assert.ok(Math.abs(also!.loss - cleanLoss) < 0.001, `${also!.loss}`);
  assert.equal((await diagnose(mend)).found, null);
});

Deno.test("block-layout is found: nibbles in another order in all weights", async () => {
  const path = nextPath();
  const bytes = (_name: string, bytes: Uint8Array) => {
    if (bytes.length % 18 === 0) nibblesBeside(bytes);
  };
  await Deno.writeFile(path, copy({ type: "Q4_0", bytes }));
  const { found } = await diagnose(path);
  assert.equal(found?.cause, "block-layout");
  assert.match(found.detail, /^Q4_0 read so: numbers beside each other in a byte's nibbles$/);
  assert.ok(Math.abs(found.loss - cleanLoss) < 0.2, `${found.loss}`);
});

for (const type of ["Q8_0", "Q4_0", "BF16"]) {
  Deno.test(`a healthy ${type} is not accused`, async () => {
    const path = nextPath();
    await Deno.writeFile(path, copy({ type }));
    const { found, tied, improved } = await diagnose(path);
    assert.equal(found, null, found?.detail);
    assert.deepEqual([...tied, ...improved], []);
  });
}

for (const type of ["Q3_K_S", "Q2_K"] as const) {
  Deno.test({
    name: `a healthy ${type} is not accused`,
    ignore: await llamaCppLibrary() === undefined,
    async fn() {
      const { found, tied } = await diagnose(await quantizeModel("tiny", type));
      assert.equal(found, null, found?.detail);
      assert.deepEqual(tied, []);
    },
  });
}

Deno.test("another epsilon changes no loss that could be told from noise: nothing is mended", async () => {
  const path = await broken(metadata("llama.attention.layer_norm_rms_epsilon", 1e-6));
  const mend = nextPath();
  const { found, undecidable, mended } = await diagnose(path, "--mend", mend);
  assert.equal(found, null);
  assert.ok(undecidable.some(({ cause }) => cause === "epsilon"));
  assert.equal(mended, null);
  await assert.rejects(Deno.stat(mend), Deno.errors.NotFound);
});

Deno.test("a model that knows no language is not accused", async () => {
  const path = nextPath();
  await Deno.writeFile(path, randomLlama({ vocab: 352, vocabulary: "llama", kvHeads: 2 }));
  const { found, foretells } = await diagnose(path);
  assert.equal(found, null);
  assert.equal(foretells, false);
});

Deno.test("--mend writes a file that is right again; the report says what to do", async () => {
  const path = await broken(everyLayer((block) => qkInHalves(block)));
  const mended = nextPath();
  const { code, out } = await run(SCRIPT, "-P=model", ["diagnose", path, "--mend", mended]);
  assert.equal(code, 1);
  assert.match(out, /^cause: qk-permuted: /m);
  assert.match(out, new RegExp(`^undone: ${cleanLoss.toFixed(3)} nats with rows of attn_q`, "m"));
  assert.match(out, /^look at: the converter's permutation/m);
  // Whole rows moved: not a bit is lost.
  assert.deepEqual(await Deno.readFile(mended), await Deno.readFile(TINY));

  const generate = (model: string) =>
    run("generate.ts", "-P", ["--model", model, "--max-tokens", "16", "Once upon a time"]);
  const text = await generate(mended);
  assert.equal(text.code, 0, text.err);
  assert.equal(text.out, (await generate(TINY)).out);
});

Deno.test("--mend does not write over the file itself", async () => {
  const path = await broken(metadata("general.name", "as it was"));
  const { code, err } = await run(SCRIPT, "-P=model", ["diagnose", path, "--mend", path]);
  assert.equal(code, 2);
  assert.match(err, /^error: --mend would write over the file itself\n$/);
});

Deno.test("SmolLM2 is found to be right", async () => {
  const { loss, found, foretells } = await diagnose(SMOLLM2);
  assert.equal(found, null);
  assert.equal(foretells, true);
  assert.ok(loss! < 2.5, `${loss}`);
});

/** Its own faults, in blocks of 32 numbers. */
const SMOLLM2_FAULTS: readonly [Cause, RegExp, FileFault][] = [
  [
    "qk-permuted",
    /halves to adjacent pairs/,
    all(...Array.from({ length: 30 }, (_, layer) => qkInHalves(`blk.${layer}`, 64))),
  ],
  [
    "dequant-block",
    /^blk\.1\.attn_v\.weight, row 5, columns 96 to 127 /, // 18 blocks in a row of 576 numbers
    blockChanged("blk.1.attn_v.weight", 18 * 5 + 3, (bytes) => bytes.fill(0x5c, 0, 2)),
  ],
  [
    "nan",
    /^blk\.20\.ffn_down\.weight, row 7, columns 32 to 63 /,
    blockChanged("blk.20.ffn_down.weight", 48 * 7 + 1, (bytes) => bytes.set([0, 0x7e], 2)),
  ],
];

for (const [cause, detail, fault] of SMOLLM2_FAULTS) {
  Deno.test(`${cause} is found in SmolLM2`, async () => {
    const { found } = await diagnose(await broken(fault, SMOLLM2));
    assert.equal(found?.cause, cause, found?.detail);
    assert.match(found.detail, detail);
    assert.ok(found.loss < 2.5, `${found.loss}`);
  });
}

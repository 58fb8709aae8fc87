/**
 * Faults on purpose, in files and in somebody's own engine, judged by the command alone: `task parity` names the point that went wrong
 * first, its checkpoint and the cause; right engines and files are accused of nothing. All faults are tried within one process in
 * engine_faults_test.ts and file_faults_test.ts. Layers are drawn by a seed; files and folders have names without a hint.
 *
 * LAMINA_FAULT_SEED draws others, LAMINA_FAULT_ONLY takes those whose names contain a text.
 */
import { FAMILY_CAUSES } from "../../support/faults/family_causes.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Cause, CAUSES } from "../../../checkpoints/diagnosis/causes.ts";
import { checkpointOf } from "../../../checkpoints/parity/contract.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { findModel } from "../../../models/mod.ts";
import { createTokenizer } from "../../../text/mod.ts";
import {
  blockChanged,
  breakFile,
  type FileFault,
  inHalves,
  metadata,
} from "../../support/models/broken_files.ts";
import { faultModels, GENERATED } from "../../support/models/fault_models.ts";
import { dump, type DumpOptions, type RunOptions } from "../../support/engines/faulty_engine.ts";
import { assertHonest, judged as outcomeOf, type Said } from "../../support/faults/board.ts";
import { ENGINE_FAULTS } from "../../support/faults/engine_faults.ts";
import { type Expected, seen } from "../../support/faults/fault.ts";
import { FILE_FAULTS } from "../../support/faults/file_faults.ts";
import { benchOf, pointOf } from "../../support/faults/trials.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { deno } from "../../support/command.ts";

/** Draws layers and places. */
const SEED = Number(Deno.env.get("LAMINA_FAULT_SEED") ?? 1);
/** The models that the rest is tried on. */
const BOTH = ["tiny", "random"] as const;

/** Commands that run at a time. */
const AT_A_TIME = Math.min(4, navigator.hardwareConcurrency);

const folder = await Deno.makeTempDir();
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const models = await faultModels(folder);
let count = 0;

/** A path that tells nothing. */
function nextPath(suffix = ""): string {
  return join(folder, `${++count}${suffix}`);
}

/** What `parity --json` says. */
interface Report {
  readonly passed: boolean;
  readonly checkpoints: readonly { readonly id: string; readonly status: string }[];
  readonly first: Said | null;
  readonly failures: readonly unknown[];
}

interface Judged {
  readonly code: number;
  readonly report: Report;
}

/** Runs the command. */
async function parity(model: string, ...args: string[]): Promise<Judged> {
  const command = ["task", "-q", "parity", "--model", model, "--json", "--determinism", "0"];
  const env = { LAMINA_PROOF_DIR: join(folder, "proofs") };
  const { code, out, err: errors } = await deno([...command, ...args], { env });
  assert.ok(out.startsWith("{"), `exit code ${code}: ${errors}${out}`);
  const report: Report = JSON.parse(out);
  assert.deepEqual(report.failures, [], errors);
  return { code, report };
}

function assertFound({ code, report }: Judged, expected: Expected): void {
  const { first, passed } = report;
  assert.deepEqual({ code, passed }, { code: 1, passed: false });
  assert.ok(first);
  assertHonest({ ...expected, known: true }, first, outcomeOf(expected, first));
  const status = report.checkpoints.find(({ id }) => id === first.checkpoint)?.status;
  assert.equal(status, "fail");
  const { point } = expected;
  // What parts before the first number is no point.
  if (expected.checkpoint !== "0" || point === "token_embd") {
    assert.equal(checkpointOf(point).id, expected.checkpoint);
  }
}

function assertRight({ code, report: { first, passed } }: Judged): void {
  assert.deepEqual({ code, passed, first }, { code: 0, passed: true, first: null });
}

const waiting: { readonly name: string; readonly fn: () => Promise<void> }[] = [];

/** A step of the test at the end. */
function judged(name: string, fn: () => Promise<void>): void {
  if (name.includes(Deno.env.get("LAMINA_FAULT_ONLY") ?? "")) waiting.push({ name, fn });
}

/** Faults that the command itself judges: one of each way that it goes. All of them are tried in engine_faults_test.ts and file_faults_test.ts. */
const ENGINES: readonly (readonly [keyof typeof ENGINE_FAULTS, string])[] = [
  ["known before", "RoPE's base is an unusual one"],
  ["known before", "positions lag behind while decoding"],
  ["known before", "a block of the output matrix dequantized wrongly"],
  ["known before", "not a number in a weight"],
];
const FILES: readonly (readonly [keyof typeof FILE_FAULTS, string])[] = [
  ["known before", "rows of Q as Hugging Face has them"],
  ["known before", "frequency factors lost"],
  ["known before", "no BOS"],
];

for (const [kind, name] of ENGINES) {
  const fault = ENGINE_FAULTS[kind][name];
  const { where, make, ...rest } = fault;
  const model = models.random;
  const bench = benchOf(model, name, where);
  const expected = { ...rest, point: pointOf(fault.point, where, bench) };
  judged(`engine: ${name}`, async () => {
    const run = model.engine.run(model.ids, GENERATED, {
      mistakes: make(bench),
      where: where === "outside" ? where : bench.layer,
    });
    const dir = nextPath();
    await dump(run, dir);
    assertFound(await parity(model.path, "--engine", dir, model.prompt), expected);
  });
}

for (const [kind, name] of FILES) {
  const fault = FILE_FAULTS[kind][name];
  const { where, make, ...rest } = fault;
  const model = models.random;
  const bench = benchOf(model, name, where);
  const expected = { ...rest, point: pointOf(fault.point, where, bench) };
  judged(`file: ${name}`, async () => {
    const path = nextPath(".gguf");
    await breakFile(model.path, path, make(bench));
    assertFound(await parity(path, "--against", model.path, model.prompt), expected);
  });
}

Deno.test("every cause that is known by name is among the faults, and they are many", () => {
  const kinds = [...Object.values(ENGINE_FAULTS), ...Object.values(FILE_FAULTS)];
  const tried = kinds.flatMap((faults) =>
    Object.values<Expected>(faults).flatMap(({ causes }) => causes)
  ).concat(FAMILY_CAUSES);
  assert.deepEqual(Object.keys(CAUSES).filter((cause) => !tried.includes(cause as Cause)), []);
  // What an engine and a file get wrong in the same way is one fault.
  const names = new Set(kinds.flatMap((faults) => Object.keys(faults)));
  assert.ok(names.size >= 130, `${names.size} faults`);
});

for (const key of BOTH) {
  const { engine, ids, path, prompt } = models[key];
  const judgeIds = async (others: readonly number[]) => {
    const dir = nextPath();
    await dump(engine.run(others, 0), dir);
    return await parity(path, "--engine", dir, prompt);
  };
  const point = "token ids";
  judged(`engine, ${key}, ${point}: no BOS: bos-missing`, async () => {
    const found = await judgeIds(ids.slice(1));
    assertFound(found, seen("0", point, "bos-missing"));
  });
  judged(`engine, ${key}, ${point}: two spaces in front: space-prefix`, async () => {
    const file = await openGgufFile(path);
    const others = createTokenizer(file.metadata).encode(` ${prompt}`);
    file.close();
    assertFound(await judgeIds(others), seen("0", point, "space-prefix"));
  });
  judged(`engine, ${key}, ${point}: another word: unknown`, async () => {
    const found = await judgeIds(ids.with(ids.length >> 1, 300));
    assert.equal(found.report.first?.point, point);
    assert.equal(found.report.first?.cause, "unknown");
  });

  judged(`engine, ${key}, blk.0.q: halves are said to be written: qk-permuted`, async () => {
    const dir = nextPath();
    await dump(models[key].right, dir, { saidRope: "half" });
    assertFound(await parity(path, "--engine", dir, prompt), seen("2", "blk.0.q", "qk-permuted"));
  });

  const name = "another RoPE base, computed in f16";
  const { layer } = benchOf(models[key], name);
  judged(`engine, ${key}, blk.${layer}.q_rope: ${name}: rope-base`, async () => {
    const dir = nextPath();
    const mistakes = { rope: () => ({ base: 5e5 }) };
    const run = engine.run(ids, 0, { mistakes, where: layer, round: Math.f16round });
    await dump(run, dir, { activations: "f16" });
    assertFound(
      await parity(path, "--engine", dir, prompt),
      seen("1B", `blk.${layer}.q_rope`, "rope-base"),
    );
  });
}

/** A right engine's runs and dumps: eight tokens are generated. */
const RIGHT: Readonly<Record<string, RunOptions & DumpOptions>> = {
  "all that it makes": {},
  "the stream alone": { without: (point) => !/\.out$/.test(point) },
  "logits alone": { without: (point) => point !== "logits" },
  "no caches": { without: (point) => /cache_/.test(point) },
  "heads in halves": { rope: "half" },
  "activations in f16": { round: Math.f16round, activations: "f16" },
};
for (const key of ["tiny", "random", "large"] as const) {
  const model = models[key];
  for (const [name, options] of Object.entries(RIGHT)) {
    if (key === "large" && options.round) continue; // its numbers are too large for 16 bits
    judged(`right, ${key}, engine: ${name}: no cause`, async () => {
      const dir = nextPath();
      await dump(model.engine.run(model.ids, 8, options), dir, options);
      assertRight(await parity(model.path, "--engine", dir, model.prompt));
    });
  }
  judged(`right, ${key}, file: no cause`, async () => {
    const path = nextPath(".gguf");
    await Deno.copyFile(model.path, path);
    assertRight(await parity(path, "--against", model.path, model.prompt));
  });
}

Deno.test("the command names what is wrong, and where", async (t) => {
  // Steps that run side by side must not be charged with each other's processes.
  const alone = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      await t.step({ ...next, ...alone });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
});

Deno.test("a larger model's files: layers and places are found among thirty", async (t) => {
  const { path: original } = await findModel("smollm2-135m");
  assert.ok(original, "./denow task model pull smollm2-135m");
  const [good, broken] = [nextPath(".gguf"), nextPath(".gguf")];
  await breakFile(original, good, metadata("llama.context_length", 56));
  const draw = new Random(SEED);
  const layer = draw.integer(0, 30);
  const row = draw.integer(0, 576);
  const faults: [FileFault, Expected][] = [
    [inHalves(`blk.${layer}.attn_k.weight`, 64), seen("2", `blk.${layer}.k`, "qk-permuted")],
    // 1536 columns are 48 blocks.
    [blockChanged(`blk.${layer}.ffn_down.weight`, row * 48 + 7, (bytes) => bytes.reverse()), {
      ...seen("6", `blk.${layer}.ffn_out`, "dequant-block"),
      detail: new RegExp(`ffn_down\\.weight: row ${row}, columns 224 to 255$`),
    }],
  ];
  const ids = Array.from({ length: 50 }, (_, i) => 300 + 7 * i);
  for (const [fault, expected] of faults) {
    await t.step(`${expected.point}: ${expected.causes[0]}`, async () => {
      await breakFile(good, broken, fault);
      const found = await parity(broken, "--against", good, "--prompt-ids", `${ids}`);
      assertFound(found, expected);
    });
  }
});

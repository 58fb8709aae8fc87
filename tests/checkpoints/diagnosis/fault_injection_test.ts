/**
 * Faults on purpose, in files and in somebody's own engine, judged by the command alone: `task parity` names the point that went wrong
 * first, its checkpoint and the cause. Layers are drawn by a seed; files and folders have names without a hint.
 *
 * LAMINA_FAULT_SEED draws others, LAMINA_FAULT_ONLY takes those whose names contain a text, LAMINA_FAULT_SHOW prints what is found.
 */
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
import {
  type Bench,
  type Expected,
  KNOWN_FAULTS,
  UNKNOWN_FAULTS,
} from "../../support/engines/engine_faults.ts";
import { type FaultModel, faultModels, GENERATED } from "../../support/models/fault_models.ts";
import {
  dump,
  type DumpOptions,
  type EngineRun,
  ForeignEngine,
  type RunOptions,
} from "../../support/engines/faulty_engine.ts";
import { BROKEN_FILES } from "../../support/models/file_faults.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { deno } from "../../support/command.ts";

/** Draws layers and places. */
const SEED = Number(Deno.env.get("LAMINA_FAULT_SEED") ?? 1);
/** Ids that are enough to see that a file makes other numbers. */
const FEW = 16;
/** The models that most faults are tried on. */
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
  readonly first: {
    readonly checkpoint: string;
    readonly point: string;
    readonly cause: Cause;
    readonly explained: number;
    readonly detail: string;
    readonly step?: number;
  } | null;
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
  if (Deno.env.has("LAMINA_FAULT_SHOW")) console.log(JSON.stringify(first));
  const { detail, step = 0, ...rest } = expected;
  assert.deepEqual({ code, passed }, { code: 1, passed: false });
  assert.ok(first);
  const { checkpoint, point, cause, explained } = first;
  assert.deepEqual({ checkpoint, point, cause }, rest, JSON.stringify(first));
  assert.equal(report.checkpoints.find(({ id }) => id === checkpoint)?.status, "fail");
  // What parts before the first number is no point.
  if (checkpoint !== "0" || point === "token_embd") {
    assert.equal(checkpointOf(point).id, checkpoint);
    assert.equal(first.step, step);
  }
  if (detail) assert.match(first.detail, detail);
  if (cause === "unknown") assert.equal(explained, 0);
  else assert.ok(explained > 0.99, `explains ${explained}: ${first.detail}`);
}

function assertRight({ code, report: { first, passed } }: Judged): void {
  assert.deepEqual({ code, passed, first }, { code: 0, passed: true, first: null });
}

/** What a fault of this name is made with: each draws for itself, so that a new one does not move the others. */
function benchOf(model: FaultModel, name: string): Bench {
  const seed = [...`${model.name} ${name}`].reduce(
    (sum, letter) => Math.imul(sum, 31) + letter.codePointAt(0)! | 0,
    SEED,
  );
  const draw = new Random(seed);
  const { shape } = model.engine;
  return { model, shape, draw, layer: draw.integer(0, shape.layers) };
}

/** The numbers of a point in a pass of the engine. */
function numbersOf(run: EngineRun, step: number, point: string): Float32Array {
  return run.passes[step].tensors.get(point)!.data;
}

function assertChanged(a: Float32Array, b: Float32Array): void {
  assert.ok(a.some((value, i) => !(Math.abs(value - b[i]) <= 1e-3)), "the fault changes nothing");
}

const waiting: { readonly name: string; readonly fn: () => Promise<void> }[] = [];

/** A step of the test at the end. */
function judged(name: string, fn: () => Promise<void>): void {
  if (name.includes(Deno.env.get("LAMINA_FAULT_ONLY") ?? "")) waiting.push({ name, fn });
}

for (const [name, fault] of Object.entries({ ...KNOWN_FAULTS, ...UNKNOWN_FAULTS })) {
  const { on = BOTH, outside = false, make, ...expected } = fault;
  for (const key of on) {
    const model = models[key];
    const bench = benchOf(model, name);
    const { layer } = bench;
    const point = outside ? expected.point : `blk.${layer}.${expected.point}`;
    judged(`engine, ${key}, ${point}: ${name}: ${expected.cause}`, async () => {
      const mistakes = make(bench);
      const where = outside ? "outside" : layer;
      const run = model.engine.run(model.ids, GENERATED, { mistakes, where });
      const step = expected.step ?? 0;
      assertChanged(numbersOf(run, step, point), numbersOf(model.right, step, point));
      const dir = nextPath();
      await dump(run, dir);
      assertFound(await parity(model.path, "--engine", dir, model.prompt), { ...expected, point });
    });
  }
}

for (const [name, { on = BOTH, where, make, ...expected }] of Object.entries(BROKEN_FILES)) {
  for (const key of on) {
    const model = models[key];
    const bench = benchOf(model, name);
    const layer = where === "first" ? 0 : bench.layer;
    const point = where === "outside" ? expected.point : `blk.${layer}.${expected.point}`;
    judged(`file, ${key}, ${point}: ${name}: ${expected.cause}`, async () => {
      const path = nextPath(".gguf");
      await breakFile(model.path, path, make(bench));
      if (expected.checkpoint !== "0" || point === "token_embd") {
        const broken = await ForeignEngine.open(path);
        const [ours, theirs] = [broken, model.engine].map((engine) =>
          numbersOf(engine.run(model.ids.slice(0, FEW), 0), 0, "logits")
        );
        assertChanged(ours, theirs);
      }
      assertFound(await parity(path, "--against", model.path, model.prompt), {
        ...expected,
        point,
      });
    });
  }
}

Deno.test("every cause that is known by name is among the faults", () => {
  const tried = [KNOWN_FAULTS, UNKNOWN_FAULTS, BROKEN_FILES].flatMap((faults) =>
    Object.values<Expected>(faults).map(({ cause }) => cause)
  );
  assert.deepEqual(Object.keys(CAUSES).filter((cause) => !tried.includes(cause as Cause)), []);
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
    assertFound(found, { checkpoint: "0", point, cause: "bos-missing" });
  });
  judged(`engine, ${key}, ${point}: two spaces in front: space-prefix`, async () => {
    const file = await openGgufFile(path);
    const others = createTokenizer(file.metadata).encode(` ${prompt}`);
    file.close();
    assertFound(await judgeIds(others), { checkpoint: "0", point, cause: "space-prefix" });
  });
  judged(`engine, ${key}, ${point}: another word: unknown`, async () => {
    const found = await judgeIds(ids.with(ids.length >> 1, 300));
    assertFound(found, { checkpoint: "0", point, cause: "unknown" });
  });

  judged(`engine, ${key}, blk.0.q: halves are said to be written: qk-permuted`, async () => {
    const dir = nextPath();
    await dump(models[key].right, dir, { saidRope: "half" });
    assertFound(await parity(path, "--engine", dir, prompt), {
      checkpoint: "2",
      point: "blk.0.q",
      cause: "qk-permuted",
    });
  });

  const name = "another RoPE base, computed in f16";
  const { layer } = benchOf(models[key], name);
  judged(`engine, ${key}, blk.${layer}.q_rope: ${name}: rope-base`, async () => {
    const dir = nextPath();
    const mistakes = { rope: () => ({ base: 5e5 }) };
    const run = engine.run(ids, 0, { mistakes, where: layer, round: Math.f16round });
    await dump(run, dir, { activations: "f16" });
    assertFound(await parity(path, "--engine", dir, prompt), {
      checkpoint: "1B",
      point: `blk.${layer}.q_rope`,
      cause: "rope-base",
    });
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
    [inHalves(`blk.${layer}.attn_k.weight`, 64), {
      checkpoint: "2",
      point: `blk.${layer}.k`,
      cause: "qk-permuted",
    }],
    // 1536 columns are 48 blocks.
    [blockChanged(`blk.${layer}.ffn_down.weight`, row * 48 + 7, (bytes) => bytes.reverse()), {
      checkpoint: "6",
      point: `blk.${layer}.ffn_out`,
      cause: "dequant-block",
      detail: new RegExp(`ffn_down\\.weight: row ${row}, columns 224 to 255$`),
    }],
  ];
  const ids = Array.from({ length: 50 }, (_, i) => 300 + 7 * i);
  for (const [fault, expected] of faults) {
    await t.step(`${expected.point}: ${expected.cause}`, async () => {
      await breakFile(good, broken, fault);
      const found = await parity(broken, "--against", good, "--prompt-ids", `${ids}`);
      assertFound(found, expected);
    });
  }
});

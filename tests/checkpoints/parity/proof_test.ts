/** Proof bundles: they hold what their run made, say what ran, and verify when they are honest. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Determinism } from "../../../checkpoints/parity/determinism.ts";
import { writeNpyFolder } from "../../../checkpoints/references/extract.ts";
import type { Difference } from "../../../checkpoints/parity/compare.ts";
import { parity as compared } from "../../../checkpoints/comparisons/parity.ts";
import {
  promptsOf,
  proofFolder,
  type ProofHeader,
  type ProofResult,
  verifyProof,
  writeProof,
} from "../../../checkpoints/parity/reports/proof.ts";
import { extractReference } from "../../../checkpoints/references/reference_run.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import { findModel } from "../../../models/mod.ts";
import { Folder } from "../../support/folder.ts";
import { deno } from "../../support/command.ts";

const PROMPT = "Once upon a time";

async function parity(args: readonly string[], env: Record<string, string>) {
  const all = ["task", "-q", "parity", "--json", "--backend", "cpu", ...args];
  const { code, out, err } = await deno(all, { env });
  return { code, stdout: out, error: err.trim().split("\n").at(-1)! };
}

/** A folder of tensors as somebody's own engine writes it: the oracle's, of a prompt and one step. */
async function engineFolder(folder: Folder): Promise<readonly number[]> {
  const found = await findModel("tiny");
  const file = await openFound(found);
  try {
    const extract = await extractReference({ found, file }, PROMPT, {
      reference: "oracle",
      generate: 1,
    });
    await writeNpyFolder(folder.path, extract);
    return extract.promptIds;
  } finally {
    file.close();
  }
}

async function headerOf(bundle: string): Promise<ProofHeader> {
  return JSON.parse(await Deno.readTextFile(join(bundle, "header.json")));
}

Deno.test("a bundle of an engine's folder verifies, and names the one prompt that ran", async () => {
  using engine = new Folder();
  using proofs = new Folder();
  const ids = await engineFolder(engine);
  const args = ["--engine", engine.path, "--determinism", "2"];
  const { code, stdout, error } = await parity(args, { LAMINA_PROOF_DIR: proofs.path });
  assert.equal(code, 0, error);
  const { proof, determinism } = JSON.parse(stdout);
  assert.deepEqual(await verifyProof(proof), []);
  const { prompts } = await headerOf(proof);
  assert.deepEqual(prompts, [{ name: "prompt", ids, generate: 2 }]);
  assert.deepEqual(determinism.ids, ids);
  const markdown = await Deno.readTextFile(join(proof, "checkpoints.md"));
  assert.doesNotMatch(markdown, /Hello|long prompt/);

  // The text is told where it is one's own, and its ids were compared with the folder's.
  const given = await parity([...args, PROMPT], { LAMINA_PROOF_DIR: proofs.path });
  const bundle = JSON.parse(given.stdout).proof;
  assert.deepEqual((await headerOf(bundle)).prompts, [
    { name: "prompt", text: PROMPT, ids, generate: 2 },
  ]);
  assert.deepEqual(await verifyProof(bundle), []);
});

Deno.test("a bundle is written once: a run's name that is taken or leads elsewhere is refused first", async () => {
  using proofs = new Folder();
  const run = (name: string) =>
    parity(["--reference", "oracle", "--layers", "0", "--determinism", "0"], {
      LAMINA_PROOF_DIR: proofs.at("proofs"),
      LAMINA_RUN_ID: name,
    });
  const taken = proofs.at("proofs/parity/taken");
  Deno.mkdirSync(taken, { recursive: true });
  Deno.writeTextFileSync(join(taken, "planted.txt"), "x");
  const refused = await run("taken");
  assert.equal(refused.code, 1);
  assert.equal(
    refused.error,
    `error: ${taken} is there already; give another LAMINA_RUN_ID, or none`,
  );
  assert.deepEqual([...Deno.readDirSync(taken)].map(({ name }) => name), ["planted.txt"]);
  for (const name of ["..", ".", ".hidden", "a/b", "a\\b", "a b", "x".repeat(101), "end."]) {
    const { code, error } = await run(name);
    assert.equal(code, 1, name);
    assert.match(error, /^error: LAMINA_RUN_ID .* is no name for a run; use letters, digits, /);
  }
  assert.deepEqual(proofs.names(), ["proofs"]);
  assert.deepEqual([...Deno.readDirSync(proofs.at("proofs"))].map(({ name }) => name), ["parity"]);
});

/** A bundle of the first layer against the oracle, changed before it is signed; what its verification finds. */
async function problemsOf(
  change: (header: ProofHeader, results: readonly ProofResult[]) => [ProofHeader, ProofResult[]],
  plant: (folder: string) => void = () => {},
  repeated?: Determinism,
): Promise<string[]> {
  using proofs = new Folder();
  const folder = await proofFolder(proofs.path, "parity", "one");
  const [header, results] = change(
    {
      ...{ format: "lamina-proof", version: 1, type: "parity", run: "one", time: "", command: [] },
      ...{ lamina: "", deno: "", system: "", model: { name: "tiny" }, device: "", references: [] },
      ...{ prompts: promptsOf([report]), seeds: [], passed: true },
    },
    [report],
  );
  await writeProof(folder, header, results, repeated);
  plant(folder);
  return await verifyProof(folder);
}

const report = await compared("tiny", [1, 2, 3], {
  reference: "oracle",
  backend: "cpu",
  generate: 1,
  layers: [0, 0],
});

Deno.test("a bundle is refused for what it does not say, or says of what did not run", async () => {
  assert.deepEqual(await problemsOf((header, results) => [header, [...results]]), []);
  const prompt = { name: "prompt of another", ids: [1], generate: 0 };
  assert.deepEqual(
    await problemsOf((header) => [{ ...header, prompts: [...header.prompts, prompt] }, [report]]),
    ["the prompt prompt of another did not run"],
  );
  assert.deepEqual(
    await problemsOf((header) => [{ ...header, prompts: header.prompts.slice(1) }, [report]]),
    ["what ran as prompt is not named"],
  );
  const repeated = { asked: 2, runs: 2, processes: 0, ids: [1], tokens: 1, digest: "" };
  assert.deepEqual(
    await problemsOf((header) => [header, [report]], () => {}, { ...repeated, equal: false }),
    ["it says that all passed, and not all did"],
  );
  const planted = await problemsOf((header) => [header, [report]], (folder) => {
    Deno.mkdirSync(join(folder, "more"));
    Deno.symlinkSync("header.json", join(folder, "link"));
  });
  assert.deepEqual(planted.sort(), [
    "link is not in the manifest",
    "more is not in the manifest",
  ]);
});

Deno.test("a bundle's shares are errors over what is allowed, without bounds too", async () => {
  const { rows } = report.result;
  const first = rows.findIndex(({ local }) => local && local.error > 0);
  const problems = (local: Partial<Difference>) =>
    problemsOf((header) => {
      const row = { ...rows[first], local: { ...rows[first].local!, ...local } };
      const result = { ...report.result, rows: rows.with(first, row) };
      return [{ ...header, passed: false }, [{ result, cases: report.cases }]];
    });
  const unlike = /: its share is not its error over what is allowed$/;
  assert.deepEqual(await problems({ allowed: Infinity, share: 0 }), []);
  assert.deepEqual(await problems({ error: Infinity, share: Infinity, passed: false }), []);
  assert.match((await problems({ share: Infinity, passed: false }))[0], unlike);
  assert.match((await problems({ share: 0 }))[0], unlike);
  assert.match((await problems({ error: Infinity }))[0], unlike);
  assert.match((await problems({ error: 0 }))[0], unlike);
  // Where rounding is what it is judged by, of that.
  const rounding = { measure: "block", value: 3, limit: 12, types: "Q4_0 for F32" } as const;
  assert.deepEqual(await problems({ share: 0.25, rounding }), []);
  assert.match((await problems({ share: 0.5, rounding }))[0], unlike);
  assert.match((await problems({ share: 0.25, rounding: { ...rounding, value: 30 } }))[0], unlike);
});

Deno.test("task proof verify prints no control characters of a bundle's names", async () => {
  using proofs = new Folder();
  proofs.write("manifest.json", "{}");
  proofs.write("\x1b[31mred", "x");
  const { code, err: text } = await deno(["task", "-q", "proof", "verify", proofs.path]);
  assert.equal(code, 1);
  assert.match(text, /red is not in the manifest/);
  assert.ok(!text.includes("\x1b"), JSON.stringify(text));
});

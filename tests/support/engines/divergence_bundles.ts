/** Bundles of comparisons that failed, and changes to them that their hashes do not tell. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { ComparisonOptions } from "../../../checkpoints/comparisons/setup.ts";
import { parity, type ParityReport } from "../../../checkpoints/comparisons/parity.ts";
import type { OperationEvidence } from "../../../checkpoints/parity/divergence/evidence.ts";
import {
  divergencesOf,
  promptsOf,
  type ProofResult,
  verifyProof,
  writeProof,
} from "../../../checkpoints/parity/reports/proof.ts";
import { bytesSha256 } from "../../../models/identity.ts";
import type { FaultModel } from "../models/fault_models.ts";
import { filesBelow } from "../files.ts";
import type { Mistakes } from "./engine_mistakes.ts";
import { dump } from "./faulty_engine.ts";

/** A comparison that failed, its bundle written and verified. */
export interface Diverged {
  readonly report: ParityReport;
  readonly bundle: string;
  /** Read back from the bundle. */
  readonly evidence: OperationEvidence;
}

/** Compares, writes the bundle into a folder that is not there yet, verifies it, and reads what went wrong. */
export async function diverged(
  bundle: string,
  model: string,
  prompt: string | readonly number[],
  options: ComparisonOptions,
): Promise<Diverged> {
  const report = await writtenBundle(bundle, model, prompt, options);
  assert.deepEqual(await verifyProof(bundle), [], bundle);
  const evidence = (await divergencesOf(bundle)).get("divergence");
  assert.equal(evidence?.kind, "operation");
  return { report, bundle, evidence: evidence as OperationEvidence };
}

/** Few positions are enough where an engine's folder says what ran. */
export const FEW_IDS = 20;

/**
 * The comparison with an engine that is wrong in block 1, or outside of blocks.
 *
 * @param bundle a folder that is not there yet; the engine's stands beside it
 */
export async function divergedBy(
  { path, engine, ids }: FaultModel,
  bundle: string,
  mistakes: Mistakes,
  { outside = false, shown = /./ }: { readonly outside?: boolean; readonly shown?: RegExp } = {},
): Promise<Diverged> {
  const few = ids.slice(0, FEW_IDS);
  const run = engine.run(few, 1, { mistakes, where: outside ? "outside" : 1 });
  const dir = `${bundle}.engine`;
  await dump(run, dir, { without: (point) => !shown.test(point) });
  return await diverged(bundle, path, few, { engine: dir });
}

/** Compares on the CPU and writes the bundle. */
export async function writtenBundle(
  bundle: string,
  model: string,
  prompt: string | readonly number[],
  options: ComparisonOptions,
): Promise<ParityReport> {
  const report = await parity(model, prompt, { backend: "cpu", ...options });
  await writeReports(bundle, model, [report]);
  return report;
}

/** Writes the bundle of some comparisons of a model. */
export async function writeReports(
  bundle: string,
  model: string,
  reports: readonly ProofResult[],
): Promise<void> {
  await writeProof(bundle, {
    ...{ format: "lamina-proof", version: 2, type: "parity", run: "one", time: "", command: [] },
    ...{ lamina: "", deno: "", system: "", model: { name: model }, device: "", references: [] },
    ...{
      prompts: promptsOf(reports),
      seeds: [],
      passed: reports.every(({ result }) => result.passed),
    },
  }, reports);
}

/** Makes the hashes of a bundle right again: what somebody does who changes it on purpose. */
export async function sign(bundle: string): Promise<void> {
  const manifest: Record<string, unknown> = {};
  for await (const name of filesBelow(new URL(`file://${bundle}/`))) {
    if (name === "manifest.json") continue;
    const bytes = await Deno.readFile(join(bundle, name));
    manifest[name] = { sha256: await bytesSha256(bytes), bytes: bytes.length };
  }
  await Deno.writeTextFile(join(bundle, "manifest.json"), JSON.stringify(manifest));
}

/** Changes what a bundle says of its divergence, and signs it. */
export async function retell(
  bundle: string,
  // deno-lint-ignore no-explicit-any -- whatever can stand in JSON
  change: (told: any) => unknown,
): Promise<void> {
  const path = join(bundle, "divergence", "divergence.json");
  const told = JSON.parse(await Deno.readTextFile(path));
  const changed = change(told) ?? told;
  const text = typeof changed === "string" ? changed : JSON.stringify(changed);
  await Deno.writeTextFile(path, text);
  await sign(bundle);
}

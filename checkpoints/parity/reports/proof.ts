/**
 * Proof bundles: what a comparison leaves, so that somebody else can read it, repeat it and check that it says what its numbers
 * say. A folder `<type>/<run id>/` with
 *
 * - `header.json`: time, command, versions, model and its SHA-256, device, references, prompts with their ids;
 * - `checkpoints.md`: the table for people, and how to repeat it;
 * - `rows.arrow`: a row per reference, case, pass and point: shape, statistics, samples, differences by both verdicts;
 * - `checks.arrow`: what is no tensor: what is absent (without a verdict), ids, choices, the selected row;
 * - `determinism.json`: runs that were repeated bit for bit;
 * - `divergence/`: what the first operation that went wrong read and made, on both sides (of a second reference `divergence-2/`);
 * - `manifest.json`: SHA-256 and size of each of these.
 */
import { dirname, join } from "node:path";
import { escapeMarkdown, markdownCode } from "../../../inspect/escape.ts";
import {
  float64,
  int32,
  rowsTable,
  type Table,
  tableColumns,
  utf8,
} from "../../../inspect/tables/mod.ts";
import { readArrow, writeTable } from "../../../inspect/tables/files.ts";
import { bytesSha256 } from "../../../models/identity.ts";
import { NO_CASE, type ParityCheck } from "../checks.ts";
import { placeText, shareOf } from "../compare.ts";
import { divergenceProblems } from "../divergence/check.ts";
import type { DivergenceEvidence } from "../divergence/evidence.ts";
import { readEvidence, writeEvidence } from "../divergence/files.ts";
import { CHECKPOINTS } from "../contract.ts";
import type { Determinism } from "../determinism.ts";
import type { ParityResult, ParityRow } from "../comparison.ts";
import type { ParityCase } from "../cases.ts";
import { type FirstDivergence, reportText } from "./report.ts";

/** What a bundle says about itself. */
export interface ProofHeader {
  readonly format: "lamina-proof";
  /** 1 was without divergences. */
  readonly version: 1 | 2;
  readonly type: string;
  readonly run: string;
  /** When the run began, in ISO 8601. */
  readonly time: string;
  /** As it was typed. */
  readonly command: readonly string[];
  readonly lamina: string;
  readonly deno: string;
  readonly system: string;
  readonly model: ProofModel;
  /** The other file that it was compared with, where there was one. */
  readonly against?: ProofModel;
  readonly device: string;
  readonly references: readonly ParityResult["provenance"][];
  /** References that were asked for and failed. */
  readonly failures?: readonly { readonly reference: string; readonly message: string }[];
  /** Those that ran, as they ran. */
  readonly prompts: readonly ProofPrompt[];
  /** Greedy choices need none; what is made up is made up the same way every time. */
  readonly seeds: readonly number[];
  readonly passed: boolean;
}

/** A model by its content. */
export interface ProofModel {
  /** As it was asked for. */
  readonly name: string;
  readonly path?: string;
  /** Computed from the bytes; of a split file as {@linkcode Identity} says. */
  readonly sha256?: string;
}

/** A prompt that ran. */
export interface ProofPrompt {
  readonly name: string;
  /** Where it was given as a text. */
  readonly text?: string;
  readonly ids: readonly number[];
  /** Tokens that were run after it. */
  readonly generate: number;
}

/** What one reference gave. */
export interface ProofResult {
  readonly result: ParityResult;
  /** What was run. */
  readonly cases: readonly ParityCase[];
  readonly first?: FirstDivergence;
}

/** A bundle that does not say what it should. */
export class ProofError extends Error {
  override readonly name = "ProofError";
}

const MANIFEST = "manifest.json";

/** Of each file what it held when it was written. */
type ProofManifest = Record<string, { readonly sha256: string; readonly bytes: number }>;

/**
 * A name for a run: `LAMINA_RUN_ID`, else the time and a few random digits.
 *
 * @throws {ProofError} for one that is no plain name of a folder
 */
export function runId(time: Date, given?: string): string {
  if (!given) {
    const stamp = time.toISOString().replace(/[-:]/g, "").replace(/\..*/, "Z");
    return `${stamp}-${crypto.randomUUID().slice(0, 8)}`;
  }
  if (/^\w([\w.-]{0,98}\w)?$/.test(given)) return given;
  throw new ProofError(
    `LAMINA_RUN_ID ${
      JSON.stringify(given)
    } is no name for a run; use letters, digits, _, and . or - ` +
      "within, 100 at most",
  );
}

/**
 * Where a run's bundle goes, a folder that is not there yet.
 *
 * @param root `.proof_bundle`, or `LAMINA_PROOF_DIR`
 * @throws {ProofError} when there is something already
 */
export async function proofFolder(root: string, type: string, run: string): Promise<string> {
  const folder = join(root, type, run);
  if (await Deno.lstat(folder).then(() => true, () => false)) throw taken(folder);
  return folder;
}

function taken(folder: string): ProofError {
  return new ProofError(`${folder} is there already; give another LAMINA_RUN_ID, or none`);
}

/** The prompts of all results, each once. */
export function promptsOf(results: readonly ProofResult[]): ProofPrompt[] {
  const prompts = results.flatMap(({ cases }) =>
    cases.map(({ name, text, ids, generate }): ProofPrompt => ({ name, text, ids, generate }))
  );
  return [...new Map(prompts.map((prompt) => [JSON.stringify(prompt), prompt])).values()];
}

/** The folders of a bundle's divergences, in the order of the references that have one. */
const DIVERGENCE_FOLDER = /^divergence(-[2-9]|-[1-9]\d)?$/;

/** Line that a report ends with: how to look closer at what went wrong first. */
export function recomputeCommand(folder: string): string {
  return `./denow task proof recompute ${shellWord(folder)}`;
}

/**
 * Writes a bundle: these files and no others.
 *
 * @param folder as {@linkcode proofFolder} gives it
 * @throws {ProofError} when it is there already
 */
export async function writeProof(
  folder: string,
  header: ProofHeader,
  results: readonly ProofResult[],
  determinism?: Determinism,
): Promise<void> {
  await Deno.mkdir(dirname(folder), { recursive: true });
  try {
    await Deno.mkdir(folder);
  } catch (error) {
    throw error instanceof Deno.errors.AlreadyExists ? taken(folder) : error;
  }
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  const texts: Record<string, string> = {
    "header.json": json(header),
    "checkpoints.md": markdown(header, results, determinism),
    ...(determinism ? { "determinism.json": json(determinism) } : {}),
  };
  const tables = { "rows.arrow": rowTable(results), "checks.arrow": checkTable(results) };
  for (const [name, text] of Object.entries(texts)) {
    await Deno.writeTextFile(join(folder, name), text);
  }
  for (const [name, table] of Object.entries(tables)) await writeTable(join(folder, name), table);
  const diverged = results.flatMap(({ first }) =>
    first?.evidence ? [{ evidence: first.evidence, explanation: first.explanation }] : []
  );
  for (const [i, { evidence, explanation }] of diverged.entries()) {
    const own = join(folder, i === 0 ? "divergence" : `divergence-${i + 1}`);
    await Deno.mkdir(own);
    await writeEvidence(own, evidence, explanation);
  }
  await Deno.writeTextFile(
    join(folder, MANIFEST),
    json(await manifestOf(folder, await namesIn(folder))),
  );
}

/** What a verification found, one line each; none when all is well. */
export async function verifyProof(folder: string): Promise<string[]> {
  const problems: string[] = [];
  const manifest = await readJson<ProofManifest>(folder, MANIFEST);
  const actual = await manifestOf(folder, await namesIn(folder));
  for (const name of new Set([...Object.keys(manifest), ...Object.keys(actual)])) {
    if (!actual[name]) problems.push(`${name} is missing`);
    else if (!manifest[name]) problems.push(`${name} is not in the manifest`);
    else if (manifest[name].sha256 !== actual[name].sha256) problems.push(`${name} was changed`);
  }
  if (problems.length > 0) return problems;

  const header = await readJson<ProofHeader>(folder, "header.json");
  if (header.format !== "lamina-proof" || !(header.version === 1 || header.version === 2)) {
    return [`header.json is of another format (${header.format} ${header.version})`];
  }
  const rows = tableColumns(await readArrow(join(folder, "rows.arrow")));
  const checks = tableColumns(await readArrow(join(folder, "checks.arrow")));
  const known = new Set<unknown>(CHECKPOINTS.map(({ id }) => id));
  let failed = false;
  for (let i = 0; i < rows.point.length; i++) {
    const where = `${rows.reference[i]}, ${rows.case[i]}, step ${rows.step[i]}, ${rows.point[i]}`;
    if (!known.has(rows.checkpoint[i])) {
      problems.push(`${where}: no checkpoint ${rows.checkpoint[i]}`);
    }
    for (const verdict of ["local", "cumulative"]) {
      const share = rows[`${verdict}_share`][i] as number | null;
      if (share === null) continue;
      const passed = rows[`${verdict}_passed`][i] === 1;
      if (passed !== (share <= 1)) {
        problems.push(`${where}: its ${verdict} verdict is not what its numbers say`);
      }
      const isRounded = rows[`${verdict}_rounding`][i] !== null;
      const [error, allowed] =
        (isRounded ? ["rounding_value", "rounding_limit"] : ["error", "allowed"])
          .map((name) => rows[`${verdict}_${name}`][i] as number);
      const expected = shareOf(error, allowed);
      const consistent = share === expected || Math.abs(share / expected - 1) < 1e-6;
      if (!consistent) problems.push(`${where}: its share is not its error over what is allowed`);
    }
    failed ||= rows.local_passed[i] === 0;
  }
  for (let i = 0; i < checks.what.length; i++) failed ||= checks.passed[i] === 0;
  if (manifest["determinism.json"]) {
    failed ||= !(await readJson<Determinism>(folder, "determinism.json")).equal;
  }
  if (header.passed && failed) problems.push("it says that all passed, and not all did");
  const named = new Set<unknown>(header.prompts.map(({ name }) => name));
  const ran = new Set<unknown>([...rows.case, ...checks.case]);
  ran.delete(NO_CASE);
  for (const name of named.difference(ran)) problems.push(`the prompt ${name} did not run`);
  for (const name of ran.difference(named)) problems.push(`what ran as ${name} is not named`);
  for (const name of divergencesIn(manifest)) {
    const found = await divergenceProblems(join(folder, name), rows);
    problems.push(...found.map((problem) => `${name}: ${problem}`));
  }
  return problems;
}

/** What a verified bundle's divergences can be followed with, by their folders' names. */
export async function divergencesOf(folder: string): Promise<Map<string, DivergenceEvidence>> {
  const names = divergencesIn(await readJson<ProofManifest>(folder, MANIFEST));
  const found = new Map<string, DivergenceEvidence>();
  for (const name of names) found.set(name, (await readEvidence(join(folder, name))).evidence);
  return found;
}

function divergencesIn(manifest: ProofManifest): string[] {
  const folders = Object.keys(manifest).flatMap((name) => name.includes("/") ? dirname(name) : []);
  return [...new Set(folders)].sort();
}

async function readJson<T>(folder: string, name: string): Promise<T> {
  try {
    return JSON.parse(await Deno.readTextFile(join(folder, name)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ProofError(`${join(folder, name)} is missing`);
    }
    throw new ProofError(`${join(folder, name)}: ${(error as Error).message}`);
  }
}

/** All that lies in a bundle but the manifest. */
async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory && DIVERGENCE_FOLDER.test(name)) {
        const files = await Array.fromAsync(Deno.readDir(join(folder, name)));
        // One without files is no divergence.
        names.push(...files.length > 0 ? files.map((file) => `${name}/${file.name}`) : [name]);
      } else if (name !== MANIFEST) names.push(name);
    }
  } catch (error) {
    throw new ProofError(`${folder}: ${(error as Error).message}`);
  }
  return names;
}

async function manifestOf(folder: string, names: readonly string[]): Promise<ProofManifest> {
  const manifest: ProofManifest = {};
  for (const name of names.toSorted()) {
    const path = join(folder, name);
    // A folder or a link has no bytes of the bundle's own.
    const bytes = (await Deno.lstat(path)).isFile ? await Deno.readFile(path) : new Uint8Array();
    manifest[name] = { sha256: await bytesSha256(bytes), bytes: bytes.length };
  }
  return manifest;
}

function markdown(
  header: ProofHeader,
  results: readonly ProofResult[],
  determinism?: Determinism,
): string {
  const { model, time, lamina, device, command, deno, system } = header;
  const lines = [
    `# ${header.type}: ${escapeMarkdown(model.name)}, ${header.passed ? "passed" : "failed"}`,
    "",
    `${time}, Lamina ${lamina}, Deno ${deno}, ${system}; device: ${escapeMarkdown(device)}`,
    "",
    `Model: ${contentText(model)}`,
    ...(header.against ? [`Compared with: ${contentText(header.against)}`] : []),
    "",
    ...header.prompts.map(({ name, text, ids, generate }) =>
      `- ${name}: ${ids.length} ids${
        text === undefined ? "" : `, ${escapeMarkdown(JSON.stringify(text))}`
      }, and ${generate} tokens after it`
    ),
    ...(header.failures ?? []).map(({ message }) => `- not compared: ${escapeMarkdown(message)}`),
  ];
  for (const { result, first } of results) {
    lines.push("", `## ${escapeMarkdown(result.provenance.name)}`);
    lines.push("", markdownCode(reportText(result, first)));
  }
  if (determinism) {
    const { runs, asked, processes, ids, tokens, equal, digest } = determinism;
    lines.push(
      "",
      "## Determinism",
      "",
      `${runs} of ${asked} runs of ${ids.length} ids (the first prompt's) and ${tokens} generated tokens, ${processes} of them in fresh processes: ${
        equal ? "the same bits every time" : "NOT the same bits"
      } (SHA-256 over ids and logits: ${digest}).`,
    );
  }
  lines.push(
    "",
    "## Repeat it",
    "",
    markdownCode(
      [
        command.map(shellWord).join(" "),
        "./denow task proof verify DIR # this folder",
        ...(results.some(({ first }) => first?.evidence)
          ? ["./denow task proof recompute DIR # what went wrong first"]
          : []),
      ].join("\n"),
      "sh",
    ),
    "",
  );
  return lines.join("\n");
}

function contentText({ name, path, sha256 }: ProofModel): string {
  return `${escapeMarkdown(path ?? name)}, SHA-256 ${sha256 ?? "not known"}`;
}

function shellWord(word: string): string {
  return /^[\w./:=@,*-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function rowTable(results: readonly ProofResult[]): Table {
  const rows = results.flatMap(({ result }) =>
    result.rows.map((row) => ({ reference: result.provenance.name, row }))
  );
  const column = (value: (row: ParityRow) => number | undefined) =>
    float64(rows.map(({ row }) => value(row) ?? null));
  const verdict = (name: "local" | "cumulative") => ({
    [`${name}_passed`]: int32(rows.map(({ row }) => row[name] ? (row[name].passed ? 1 : 0) : null)),
    [`${name}_share`]: column((row) => row[name]?.share),
    [`${name}_error`]: column((row) => row[name]?.error),
    [`${name}_allowed`]: column((row) => row[name]?.allowed),
    [`${name}_max_error`]: column((row) => row[name]?.maxError),
    [`${name}_max_relative`]: column((row) => row[name]?.maxRelative),
    [`${name}_cosine`]: column((row) => row[name]?.cosine),
    [`${name}_nmse`]: column((row) => row[name]?.nmse),
    [`${name}_rounding`]: utf8(rows.map(({ row }) => row[name]?.rounding?.measure ?? null)),
    [`${name}_rounding_value`]: column((row) => row[name]?.rounding?.value),
    [`${name}_rounding_limit`]: column((row) => row[name]?.rounding?.limit),
    [`${name}_place`]: utf8(rows.map(({ row }) => row[name] ? placeText(row[name].place) : null)),
    [`${name}_ours`]: column((row) => row[name]?.ours),
    [`${name}_reference`]: column((row) => row[name]?.reference),
    [`${name}_ulps`]: utf8(
      rows.map(({ row }) => row[name] ? JSON.stringify(row[name].ulps) : null),
    ),
  });
  return rowsTable("parity", {
    reference: utf8(rows.map(({ reference }) => reference)),
    case: utf8(rows.map(({ row }) => row.case)),
    step: int32(rows.map(({ row }) => row.step)),
    checkpoint: utf8(rows.map(({ row }) => row.checkpoint)),
    point: utf8(rows.map(({ row }) => row.point)),
    order: int32(rows.map(({ row }) => row.order)),
    shape: utf8(rows.map(({ row }) => JSON.stringify(row.shape))),
    mean: column((row) => row.summary.mean),
    rms: column((row) => row.summary.rms),
    min: column((row) => row.summary.min),
    max: column((row) => row.summary.max),
    samples: utf8(rows.map(({ row }) => JSON.stringify(row.summary.samples))),
    ...verdict("local"),
    ...verdict("cumulative"),
    oracle_rms_ours: column((row) => row.oracle?.ours),
    oracle_rms_reference: column((row) => row.oracle?.reference),
  });
}

function checkTable(results: readonly ProofResult[]): Table {
  type Line = Omit<ParityCheck, "passed"> & { readonly passed: boolean | null };
  // What is absent is no verdict by itself.
  const absence = (what: string): Line => ({
    ...{ checkpoint: "0", case: NO_CASE, passed: null, what, cause: "absent" },
  });
  const rows = results.flatMap(({ result }) =>
    [...result.absent.map(absence), ...result.checks]
      .map((check) => ({ reference: result.provenance.name, check }))
  );
  return rowsTable("checks", {
    reference: utf8(rows.map(({ reference }) => reference)),
    checkpoint: utf8(rows.map(({ check }) => check.checkpoint)),
    case: utf8(rows.map(({ check }) => check.case)),
    passed: int32(
      rows.map(({ check: { passed, judged } }) =>
        passed === null || judged === false ? null : Number(passed)
      ),
    ),
    cause: utf8(rows.map(({ check }) => check.cause ?? null)),
    what: utf8(rows.map(({ check }) => check.what)),
  });
}

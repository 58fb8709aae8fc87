/** From a comparison that failed to the first point that went wrong, and its cause. */
import type { Engine } from "../../engine/backend.ts";
import type { GgufFile, TensorInfo } from "../../engine/gguf/reader.ts";
import { createTokenizer } from "../../text/mod.ts";
import { type Cause, CAUSES, type Explanation, unexplained } from "./causes.ts";
import type { Config } from "../../engine/model/config.ts";
import { layerOf } from "../../base/layer_names.ts";
import { cacheBefore } from "../parity/cache.ts";
import { pointsAround } from "../parity/local.ts";
import { floatHolding, type HalfType } from "../files/few_bits.ts";
import { isAttention } from "../parity/compare.ts";
import { explain } from "./activations/cause.ts";
import type { Chain } from "./activations/chain.ts";
import { operationEvidence } from "./divergence_evidence.ts";
import { normOfOutcome, skippedBlocks } from "./skipped_blocks.ts";
import { pieceOf } from "../../inspect/run/vocabulary.ts";
import type { IdsEvidence } from "../parity/divergence/evidence.ts";
import { localTensor } from "../parity/tensor_pair.ts";
import { compareEngines, type ParityResult, type ParityRow } from "../parity/comparison.ts";
import { comparedSteps, type ParityCase } from "../parity/cases.ts";
import type { ParityCheck } from "../parity/checks.ts";
import type { Reference, ReferencePass } from "../references/reference.ts";
import { judgeOf } from "../parity/judge.ts";
import { failedVerdict, type FirstDivergence } from "../parity/reports/report.ts";

/** Tensors of fewer numbers do not tell in how many bits an engine computes. */
const TELLING = 256;

/** What is needed to look closer. */
export interface Subject {
  readonly engine: Engine;
  readonly file: GgufFile;
  /** The file that the other side runs, where it runs one of its own. */
  readonly other?: GgufFile;
  /** By what the comparison judged. */
  readonly judging: Parameters<typeof judgeOf>[1];
}

/**
 * The first thing that went wrong, and why; undefined where nothing did. The reference runs once more for the tensors around the
 * point.
 */
export async function firstDivergence(
  subject: Subject,
  reference: Reference,
  cases: readonly ParityCase[],
  result: ParityResult,
  signal?: AbortSignal,
): Promise<FirstDivergence | undefined> {
  const early = firstCheck(subject.file, cases, result);
  if (early) return early;
  const row = firstRow(result, cases);
  if (row) {
    const explained = await explainRow(subject, reference, cases, row, result, signal);
    const { explanation, held } = explained;
    if (held) return await undeclared(subject, reference, cases, row, held, signal);
    const look = pointed(explanation, result);
    const { checkpoint, point } = row;
    return { checkpoint, point, row, ...explained, explanation: { ...explanation, look } };
  }
  const check = result.checks.find(({ passed }) => !passed);
  if (!check) return undefined;
  const { checkpoint, what, cause, subject: part } = check;
  const point = part ??
    (checkpoint === "11" ? "probs" : checkpoint === "9" ? "logits" : "token ids");
  const choices = result.choices.find((each) => each.case === check.case);
  const evidence = point === "token ids" && choices
    ? idsEvidence(subject.file, result, { ...check, ...choices, theirs: choices.reference })
    : undefined;
  const explanation = cause ? said(cause, what) : unexplained(what);
  return { checkpoint, point, explanation, evidence };
}

/**
 * An engine all of whose numbers a 16-bit type holds, though it does not say so: judged as one that rounds to that type. What then
 * still fails is what is wrong.
 */
async function undeclared(
  subject: Subject,
  reference: Reference,
  cases: readonly ParityCase[],
  row: ParityRow,
  type: HalfType,
  signal?: AbortSignal,
): Promise<FirstDivergence | undefined> {
  const { engine, file } = subject;
  const told = { ...reference, provenance: { ...reference.provenance, activations: type } };
  const judged = await compareEngines(engine, told, cases, { file, localOnly: true, signal });
  const found = judged.passed ? undefined : await firstDivergence(
    { ...subject, judging: { file } },
    told,
    cases,
    judged,
    signal,
  );
  const declared = `"activations": "${type}" in its manifest`;
  if (found) {
    const { explanation } = found;
    const detail =
      `${explanation.detail} (every number is ${type}, which it does not declare: this is judged as with ${declared})`;
    return { ...found, explanation: { ...explanation, detail } };
  }
  const { checkpoint, point } = row;
  const what = `every number is ${type}; with ${declared}, it passes`;
  return { checkpoint, point, row, explanation: said("rounded", what) };
}

/** What parts before the first number: structure, template, tokenizers, then the ids of a prompt. */
function firstCheck(
  file: GgufFile,
  cases: readonly ParityCase[],
  result: ParityResult,
): FirstDivergence | undefined {
  const failed = result.checks.filter(({ checkpoint, passed }) => checkpoint === "0" && !passed);
  const point = "token ids";
  const known = failed.find(({ cause }) => cause !== undefined);
  if (known) {
    const explanation = said(known.cause!, known.what);
    return { checkpoint: "0", point: known.subject ?? point, explanation };
  }
  // The longest text says most.
  const [ids] = failed.filter(({ ours }) => ours).sort((a, b) => b.ours!.length - a.ours!.length);
  if (!ids) return undefined;
  const text = cases.find(({ name }) => name === ids.case)!.text!;
  const explanation = explainIds(ids, text, file);
  return {
    checkpoint: "0",
    point,
    explanation,
    evidence: idsEvidence(file, result, { ...ids, text }),
  };
}

/** A cause that a check tells by itself. */
function said(cause: Cause, detail: string): Explanation {
  return { ...unexplained(detail), cause, explained: 1, look: CAUSES[cause].look };
}

/** What to look at, with what the files say of it. */
function pointed({ look }: Explanation, { notes, absent }: ParityResult): string {
  const lines = [...notes, ...absent].filter((line) => {
    const names = line.match(/[\w.]+\.[\w.]+/g) ?? [];
    return names.some((name) => {
      const key = name.replace(/^(llama|blk\.\d+)\./, "");
      return look.includes(key) || look.includes(key.replace(/\.\w+$/, ".*"));
    });
  });
  return [look, ...lines].join("; ");
}

/** Both sides' ids with their texts. */
function idsEvidence(
  file: GgufFile,
  { provenance }: ParityResult,
  { checkpoint, case: name, text, ours = [], theirs = [] }: ParityCheck & {
    readonly text?: string;
  },
): IdsEvidence {
  const piece = pieceOf(file);
  const tokens = (ids: readonly number[]) => ids.map((id) => ({ id, text: piece(id) }));
  return {
    ...{ kind: "ids", point: "token ids", checkpoint, referenceName: provenance.name },
    ...{ case: name, text, ours: tokens(ours), reference: tokens(theirs) },
  };
}

/** The first point that fails, of the case that shows it earliest; of several that do so of the longest, which tells most. */
function firstRow(
  { rows, first }: ParityResult,
  cases: readonly ParityCase[],
): ParityRow | undefined {
  if (!first?.local || first.local.passed) return first;
  const found = cases.flatMap(({ name, ids }) => {
    const row = rows.find((each) => each.case === name && each.local?.passed === false);
    return row ? [{ row, length: ids.length }] : [];
  });
  return found.sort((a, b) =>
    a.row.step - b.row.step || a.row.order - b.row.order || b.length - a.length
  )[0].row;
}

async function explainRow(
  { engine, file, other, judging }: Subject,
  reference: Reference,
  cases: readonly ParityCase[],
  row: ParityRow,
  result: ParityResult,
  signal?: AbortSignal,
): Promise<Pick<FirstDivergence, "explanation" | "evidence"> & { readonly held?: HalfType }> {
  const each = cases.find(({ name }) => name === row.case)!;
  const { ids } = each;
  const forced = result.choices.find((each) => each.case === row.case)?.reference;
  const points = result.rows.filter(({ case: name, step }) =>
    name === row.case && step === row.step
  ).map(({ point }) => point);
  const { passes } = await reference.run({
    ...{ ids, generate: row.step, forced, signal },
    // Passes before it tell what the cache held.
    steps: comparedSteps(each).filter((step) => step <= row.step),
    points: [...pointsAround(engine, row.point), ...lastBefore(row.point, points, engine.config)],
  });
  const shown = passes.find(({ step }) => step === row.step);
  if (!shown?.tensors.has(row.point)) {
    return { explanation: unexplained(`${row.point} is not shown`) };
  }
  const held = other || reference.provenance.activations !== "f32" || row.local?.passed !== false
    ? undefined
    : commonHalf(shown.tensors);
  if (held) return { explanation: unexplained(`every number is ${held}`), held };
  const pass = { ...shown, before: cacheBefore(shown, passes, engine.plan) };
  const { config, plan } = engine;
  const { provenance } = reference;
  const { rope, activations = "f32" } = provenance;
  const norm = normOfOutcome(row.point);
  if (norm) {
    const before = failedVerdict(row).rms;
    const skipped = await skippedBlocks(norm, file, config, pass, points, activations, before);
    if (skipped) return { explanation: skipped };
  }
  const isRounded = ({ name, type }: TensorInfo) => other?.tensors.get(name)?.type !== type;
  const rounds = activations !== "f32" || (!!other && [...file.tensors.values()].some(isRounded));
  const { position } = failedVerdict(row).place;
  const { point } = row;
  const judge = judgeOf(provenance, { file, ...judging }, { plan, config, rope });
  let chain = undefined as Chain | undefined;
  const onChain = (made: Chain) => chain = made;
  const explanation = await explain({
    ...{ plan, config, file, other, pass, point, position, rope, judge, rounds, onChain },
  });
  if (!chain) return { explanation };
  const ours = row.local && await localTensor(engine, pass, point, rope);
  const piece = pieceOf(file);
  const scene = { chain, config, file, other, provenance, row, pass, ours, piece };
  return { explanation, evidence: await operationEvidence(scene) };
}

/**
 * Where the block before a point's own does not show its outcome: what is shown of the last one before it that shows anything, so that
 * no more than what lies between has to be computed.
 *
 * @param points all that are shown
 */
function lastBefore(
  point: string,
  points: readonly string[],
  { layers }: Pick<Config, "layers">,
): string[] {
  const next = layerOf(point) ?? (point === "token_embd" ? 0 : layers);
  if (points.includes(`blk.${next - 1}.out`)) return [];
  const last = Math.max(-1, ...points.map((each) => layerOf(each) ?? -1).filter((l) => l < next));
  return points.filter((each) => last < 0 ? each === "token_embd" : layerOf(each) === last);
}

/** The 16-bit type that holds every number of all tensors, what attention does not see left out; undefined where none does. */
function commonHalf(tensors: ReferencePass["tensors"]): HalfType | undefined {
  const numbers = [...tensors].filter(([point]) => !isAttention(point)).map(([, { data }]) => data)
    .filter(({ length }) => length >= TELLING);
  if (numbers.length === 0) return undefined;
  return (["bf16", "f16"] as const).find((type) =>
    numbers.every((data) => floatHolding(data, [type]) !== undefined)
  );
}

/** How the ids of a text differ: a missing or doubled BOS, a space that is or is not put in front, or where else. */
function explainIds(
  { ours = [], theirs = [], what }: ParityCheck,
  text: string,
  file: GgufFile,
): Explanation {
  const same = (a: readonly number[], b: readonly number[]) => `${a}` === `${b}`;
  if (same(ours.slice(1), theirs)) {
    return said("bos-missing", `here ${ours[0]} stands in front, there it does not`);
  }
  if (same(theirs.slice(1), ours)) {
    return said("bos-missing", `there ${theirs[0]} stands in front, here it does not`);
  }
  const found = spaced(text, file).find(({ ids }) => same(ids, theirs));
  return found ? said("space-prefix", found.what) : unexplained(what);
}

/** The ids of a text with another space in front. */
function spaced(text: string, { metadata, name }: GgufFile) {
  const key = "tokenizer.ggml.add_space_prefix";
  const adds = metadata.get(key) ?? true;
  const own = createTokenizer(metadata, name);
  const other = createTokenizer(new Map(metadata).set(key, !adds), name);
  return [
    {
      what: adds
        ? "here a space is put in front, there none"
        : "there a space is put in front, here none",
      ids: other.encode(text),
    },
    { what: "there the text begins with one more space", ids: own.encode(` ${text}`) },
    { what: "there the text begins without its space", ids: own.encode(text.replace(/^ /, "")) },
  ];
}

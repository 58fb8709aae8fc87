/** From a comparison that failed to the first point that went wrong, and its cause. */
import type { Engine } from "../../engine/backend.ts";
import type { GgufFile, TensorInfo } from "../../engine/gguf/reader.ts";
import { createTokenizer } from "../../text/mod.ts";
import { CAUSES, type Explanation, unexplained } from "./causes.ts";
import { pointsAround } from "../parity/local.ts";
import { explain } from "./activations/cause.ts";
import type { Chain } from "./activations/chain.ts";
import { operationEvidence } from "./divergence_evidence.ts";
import { pieceOf } from "../../inspect/run/vocabulary.ts";
import type { ParityCheck } from "../parity/checks.ts";
import type { IdsEvidence } from "../parity/divergence/evidence.ts";
import { localTensor } from "../parity/tensor_pair.ts";
import type { ParityResult, ParityRow } from "../parity/comparison.ts";
import type { ParityCase } from "../parity/cases.ts";
import type { Reference } from "../references/reference.ts";
import { failedVerdict, type FirstDivergence } from "../parity/report.ts";

/** What is needed to look closer. */
export interface Subject {
  readonly engine: Engine;
  readonly file: GgufFile;
  /** The file that the other side runs, where it runs one of its own. */
  readonly other?: GgufFile;
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
  // The longest text says most.
  const ids = result.checks.filter(({ checkpoint, passed }) => checkpoint === "0" && !passed)
    .sort((a, b) => b.ours!.length - a.ours!.length)[0];
  if (ids) {
    const text = cases.find(({ name }) => name === ids.case)!.text!;
    const explanation = explainIds(ids.theirs!, ids.ours!, text, subject.file);
    const evidence = idsEvidence(subject.file, result, { ...ids, text });
    return { checkpoint: "0", point: "token ids", explanation, evidence };
  }
  const row = firstRow(result, cases);
  if (row) {
    const explained = await explainRow(subject, reference, cases, row, result, signal);
    return { checkpoint: row.checkpoint, point: row.point, row, ...explained };
  }
  const check = result.checks.find(({ passed }) => !passed);
  if (!check) return undefined;
  const { checkpoint, what } = check;
  const point = checkpoint === "11" ? "probs" : checkpoint === "9" ? "logits" : "token ids";
  const choices = result.choices.find((each) => each.case === check.case);
  const evidence = point === "token ids" && choices
    ? idsEvidence(subject.file, result, { ...check, ...choices, theirs: choices.reference })
    : undefined;
  return { checkpoint, point, explanation: unexplained(what), evidence };
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
  { engine, file, other }: Subject,
  reference: Reference,
  cases: readonly ParityCase[],
  row: ParityRow,
  result: ParityResult,
  signal?: AbortSignal,
): Promise<Pick<FirstDivergence, "explanation" | "evidence">> {
  const { ids } = cases.find(({ name }) => name === row.case)!;
  const forced = result.choices.find((each) => each.case === row.case)?.reference;
  const { passes } = await reference.run({
    ids,
    generate: row.step,
    forced,
    steps: [row.step],
    points: pointsAround(engine, row.point),
    signal,
  });
  const pass = passes[0];
  if (!pass?.tensors.has(row.point)) {
    return { explanation: unexplained(`${row.point} is not shown`) };
  }
  const { config, plan } = engine;
  const { provenance } = reference;
  const { rope, activations = "f32" } = provenance;
  const isRounded = ({ name, type }: TensorInfo) => other?.tensors.get(name)?.type !== type;
  const rounds = activations !== "f32" || (!!other && [...file.tensors.values()].some(isRounded));
  const { position } = failedVerdict(row).place;
  const { point } = row;
  let chain = undefined as Chain | undefined;
  const onChain = (made: Chain) => chain = made;
  const explanation = await explain({
    ...{ plan, config, file, other, pass, point, position, rope, rounds, onChain },
  });
  if (!chain) return { explanation };
  const ours = row.local && await localTensor(engine, pass, point, rope);
  const piece = pieceOf(file);
  const scene = { chain, config, file, other, provenance, row, pass, ours, piece };
  return { explanation, evidence: await operationEvidence(scene) };
}

/** How the ids of a text differ: a missing or doubled BOS, or a space that is or is not put in front. */
function explainIds(
  theirs: readonly number[],
  ours: readonly number[],
  text: string,
  file: GgufFile,
): Explanation {
  const same = (a: readonly number[], b: readonly number[]) =>
    a.length === b.length && a.every((id, i) => id === b[i]);
  const of = (cause: "bos-missing" | "space-prefix", detail: string): Explanation => ({
    ...unexplained(detail),
    cause,
    explained: 1,
    look: CAUSES[cause].look,
  });
  if (same(ours.slice(1), theirs)) {
    return of("bos-missing", `here ${ours[0]} stands in front, there it does not`);
  }
  if (same(theirs.slice(1), ours)) {
    return of("bos-missing", `there ${theirs[0]} stands in front, here it does not`);
  }
  const found = spaced(text, file).find(({ ids }) => same(ids, theirs));
  return found
    ? of("space-prefix", found.what)
    : unexplained("the ids differ in more than a BOS or a space in front");
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

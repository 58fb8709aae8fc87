/** From a comparison that failed to the first point that went wrong, and its cause. */
import type { Engine } from "../../engine/backend.ts";
import type { GgufFile, TensorInfo } from "../../engine/gguf/reader.ts";
import { createTokenizer } from "../../text/mod.ts";
import { type Cause, CAUSES, type Explanation, unexplained } from "./causes.ts";
import { endsEarly } from "./ends_early.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { pointsAround } from "../parity/local.ts";
import { explain } from "./activations/cause.ts";
import type { ParityResult, ParityRow } from "../parity/comparison.ts";
import type { ParityCase } from "../parity/cases.ts";
import type { ParityCheck } from "../parity/checks.ts";
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
  const early = firstCheck(subject.file, cases, result);
  if (early) return early;
  const row = firstRow(result, cases);
  if (row) {
    const explained = await explainRow(subject, reference, cases, row, result, signal);
    const explanation = { ...explained, look: pointed(explained, result) };
    return { checkpoint: row.checkpoint, point: row.point, row, explanation };
  }
  const check = result.checks.find(({ passed }) => !passed);
  if (!check) return undefined;
  const { checkpoint, what, cause, subject: part } = check;
  const point = part ??
    (checkpoint === "11" ? "probs" : checkpoint === "9" ? "logits" : "token ids");
  return { checkpoint, point, explanation: cause ? said(cause, what) : unexplained(what) };
}

/** What parts before the first number: structure, template, tokenizers, then the ids of a prompt. */
function firstCheck(
  file: GgufFile,
  cases: readonly ParityCase[],
  { checks }: ParityResult,
): FirstDivergence | undefined {
  const failed = checks.filter(({ checkpoint, passed }) => checkpoint === "0" && !passed);
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
  return { checkpoint: "0", point, explanation: explainIds(ids, text, file) };
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
): Promise<Explanation> {
  const { ids } = cases.find(({ name }) => name === row.case)!;
  const forced = result.choices.find((each) => each.case === row.case)?.reference;
  const asked = { ids, generate: row.step, forced, steps: [row.step], signal };
  const points = pointsAround(engine, row.point);
  const { passes: [pass] } = await reference.run({ ...asked, points });
  if (!pass?.tensors.has(row.point)) return unexplained(`${row.point} is not shown`);
  const { config, plan } = engine;
  const { rope, activations = "f32" } = reference.provenance;
  const isEndShown = pass.tensors.has(`blk.${config.layers - 1}.out`);
  if (row.point.startsWith("output_norm") && !isEndShown) {
    const ends = [...planValues(plan).keys()].filter((each) => /^blk\.\d+\.out$/.test(each));
    const { passes: [end] } = await reference.run({ ...asked, points: [...ends, "output_norm"] });
    const early = await endsEarly(file, config, end, activations, failedVerdict(row).rms);
    if (early) return early;
  }
  const isRounded = ({ name, type }: TensorInfo) => other?.tensors.get(name)?.type !== type;
  const rounds = activations !== "f32" || (!!other && [...file.tensors.values()].some(isRounded));
  const { position } = failedVerdict(row).place;
  const { point } = row;
  return await explain({ plan, config, file, other, pass, point, position, rope, rounds });
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

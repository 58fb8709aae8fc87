/** What comes before the numbers: the structure of two files, their chat templates, their tokenizers, and the ids of the prompts. */
import { llamaCppDoes } from "../../engine/model/hyperparameters.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Loaded } from "../../inspect/run/loading.ts";
import { hasVocabulary, pieceOf, tokenizerOf } from "../../inspect/run/vocabulary.ts";
import { diffMetadata } from "../files/diff/metadata.ts";
import { ggufWeights } from "../files/weight_file.ts";
import { AWKWARD_TEXTS } from "../parity/beginning/awkward_texts.ts";
import { compareIds, foundationFault, type ParityCheck } from "../parity/checks.ts";
import { idsPart } from "../parity/beginning/ids.ts";
import { type Beginning, compareStructure } from "../parity/beginning/structure.ts";
import {
  compareTemplated,
  compareTemplates,
  CONVERSATION,
  type Conversation,
} from "../parity/beginning/templates.ts";
import { compareTokenizers } from "../parity/beginning/tokenizers.ts";
import type { ParityCase } from "../parity/cases.ts";
import type { Reference } from "../references/reference.ts";
import type { Setup } from "./setup.ts";

/**
 * Compares what can be compared without a pass.
 *
 * @throws {ReferenceFailure} when the reference's tokenizer fails
 * @throws {TokenizerError} for a vocabulary that cannot be used
 */
export async function compareBeginnings(
  model: Pick<Loaded, "file" | "engine">,
  { reference, cases, other, absent = [], beyond, templated }: Setup,
): Promise<Beginning> {
  const { file } = model;
  const structure = other && compareStructure(sideOf(file), sideOf(other));
  const vocabularies = other ? compareVocabularies(file, other, cases) : {};
  const template = other
    ? await compareTemplates(file, other)
    : await compareTemplated(file, await conversationOf(reference, templated));
  const ids = await compareTexts(file, reference, cases);
  return {
    checks: [
      ...structure?.checks ?? [],
      ...beyond === undefined ? [] : [foundationFault(beyond, "absent", "tensors")],
      ...template.checks,
      ...vocabularies.checks ?? [],
      ...ids.checks,
    ],
    absent: [
      ...structure?.absent ?? [],
      ...beyond === undefined ? [] : [beyond],
      ...absent,
      ...vocabularies.absent ?? [],
    ],
    notes: [...likeNotes(model), ...structure?.notes ?? [], ...template.notes, ...ids.notes],
    comparable: structure?.comparable ?? "all",
  };
}

/** A conversation with the text that the reference's own template made of it; undefined where it shows none. */
async function conversationOf(
  reference: Reference,
  templated: Setup["templated"],
): Promise<Conversation | undefined> {
  if (templated) {
    return { messages: [{ role: "user", content: templated.prompt }], text: templated.text };
  }
  const text = await reference.renderChat?.(CONVERSATION);
  return text === undefined ? undefined : { messages: CONVERSATION, text };
}

/** What both sides compute otherwise than the model was trained with. */
function likeNotes({ file, engine: { config } }: Pick<Loaded, "file" | "engine">): string[] {
  const does = config.like && llamaCppDoes(file);
  return does === undefined ? [] : [`both sides are as llama.cpp computes this file: it ${does}`];
}

function sideOf(file: GgufFile) {
  return { weights: ggufWeights(file), config: readConfig(file) };
}

/** The tokenizers of two files. */
function compareVocabularies(
  ours: GgufFile,
  theirs: GgufFile,
  cases: readonly ParityCase[],
): { readonly checks?: ParityCheck[]; readonly absent?: string[] } {
  const [here, there] = [ours, theirs].map(hasVocabulary);
  if (!here && !there) return {};
  if (!here || !there) {
    const what = `the vocabulary is missing ${here ? "there" : "here"}`;
    return { checks: [foundationFault(what, "absent", "token ids")], absent: [what] };
  }
  const texts = cases.flatMap(({ text }) => text === undefined ? [] : [text]);
  const found = compareTokenizers(ours, theirs, texts);
  if (found) return { checks: [foundationFault(found.what, found.cause, "token ids")] };
  const entries = otherEntries(ours, theirs);
  return {
    checks: entries === undefined ? [] : [foundationFault(entries, "tokenizer", "token ids")],
  };
}

/** What the files say differently of their tokenizers, though no text was found that shows it: they are two tokenizers all the same. */
function otherEntries(ours: GgufFile, theirs: GgufFile): string | undefined {
  const differences = diffMetadata(ggufWeights(ours), ggufWeights(theirs))
    .filter(({ key, matters }) => matters && key.startsWith("tokenizer."));
  if (differences.length === 0) return undefined;
  const entries = differences.map(({ key, a, b }) => `${key} ${a} here, ${b} there`);
  return `${entries.join("; ")}; no text was found that shows it`;
}

/**
 * The ids of the prompts, and of awkward texts where the reference has a tokenizer of its own. One of another kind of file, as
 * transformers' is, follows rules of its own in some awkward texts: what they part in is said.
 */
async function compareTexts(
  file: GgufFile,
  reference: Reference,
  cases: readonly ParityCase[],
): Promise<{ readonly checks: ParityCheck[]; readonly notes: string[] }> {
  const piece = pieceOf(file);
  const told = cases.filter(({ text, ownIds }) => text !== undefined && ownIds !== undefined);
  const checks = told.map((each) => compareIds(each, each.ownIds!, each.ids, piece));
  const notes: string[] = [];
  if (!reference.tokenize || !hasVocabulary(file)) return { checks, notes };
  const own = cases.filter(({ text }) => text !== undefined);
  const tokenizer = tokenizerOf(file);
  const texts = [
    ...own.map(({ text }) => text!),
    ...AWKWARD_TEXTS.map((text) => text.toWellFormed()),
  ];
  const theirs = await reference.tokenize(texts);
  own.forEach((each, i) => checks.push(compareIds(each, each.ids, theirs[i], piece)));
  const parting = AWKWARD_TEXTS.flatMap((text, i) => {
    const ids = { ours: tokenizer.encode(text), theirs: theirs[own.length + i] };
    return `${ids.ours}` === `${ids.theirs}` ? [] : [{ text, ids }];
  });
  if (parting.length > 0) {
    const [{ text, ids }] = parting;
    const what = `${parting.length} of ${AWKWARD_TEXTS.length} awkward texts have other ids: ${
      JSON.stringify(text.slice(0, 40))
    }: ${idsPart(ids, piece)}`;
    if (reference.isOtherTokenizer) notes.push(`${reference.provenance.name}'s tokenizer: ${what}`);
    else checks.push(foundationFault(what, "tokenizer", "token ids"));
  }
  return { checks, notes };
}

/** Chat templates: what two of them make of one conversation, as text. */
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import {
  type ChatMessage,
  ChatTemplateError,
  type Metadata,
  renderChat,
} from "../../../text/mod.ts";
import { foundationFault, NO_CASE, type ParityCheck } from "../checks.ts";

/** What a comparison of templates found. */
export interface TemplateFindings {
  readonly checks: readonly ParityCheck[];
  readonly notes: readonly string[];
}

const KEY = "tokenizer.chat_template";
const NOTHING: TemplateFindings = { checks: [], notes: [] };

/** A conversation, and the text that somebody's template made of it. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** With or without BOS. */
  readonly text: string;
}

/** Something of everything that templates treat in a way of its own: roles, turns, blanks at the ends. */
export const CONVERSATION: readonly ChatMessage[] = [
  { role: "system", content: "You are terse. " },
  { role: "user", content: " Hello!" },
  { role: "assistant", content: "Hi.\n" },
  { role: "user", content: "What is 2 + 2?\n\nThink." },
];

/**
 * Renders one conversation with the templates of two files. Other texts fail checkpoint 0, since chats are other ones. A file without a
 * template, and other templates that give the same text, are noted.
 */
export async function compareTemplates(
  ours: GgufFile,
  theirs: GgufFile,
): Promise<TemplateFindings> {
  const [own, other] = [ours, theirs].map(({ metadata }) => metadata.get(KEY));
  if (own === other) return NOTHING;
  if (own === undefined || other === undefined) {
    return noted(`only the file ${own === undefined ? "there" : "here"} has a chat template`);
  }
  const [a, b] = await rendered(ours.metadata, theirs.metadata);
  if (a.text === undefined || b.text === undefined) {
    return noted(`the chat templates differ, and were not rendered: ${a.problem ?? b.problem}`);
  }
  return a.text === b.text
    ? noted("the chat templates differ, and give the same text")
    : parted(a.text, b.text);
}

/** What the file's template makes of a conversation, against the text of somebody else's. */
export async function compareTemplated(
  { metadata }: GgufFile,
  conversation: Conversation | undefined,
): Promise<TemplateFindings> {
  if (!conversation) return NOTHING;
  const { messages, text: theirs } = conversation;
  if (!metadata.has(KEY)) return noted("the file has no chat template: theirs is not judged");
  const own = await attempt(metadata, messages);
  if (own.text === undefined) return noted(`the chat template was not rendered: ${own.problem}`);
  const [a, b] = [own.text, theirs].map((text) => withoutBos(text, metadata));
  if (a === b) {
    const what = `the chat template gives the same ${a.length} characters`;
    return { checks: [{ checkpoint: "0", case: NO_CASE, passed: true, what }], notes: [] };
  }
  return withoutDates(a) === withoutDates(b)
    ? noted("the chat template writes another day's date")
    : parted(a, b);
}

/** Where two texts part first, with what stands there. */
export function textsPart(ours: string, theirs: string): string {
  let at = 0;
  while (at < ours.length && ours[at] === theirs[at]) at++;
  const around = (text: string) => {
    const from = Math.max(0, at - 20);
    const end = at + 40;
    const [before, after] = [from > 0 ? "…" : "", end < text.length ? "…" : ""];
    return `${before}${JSON.stringify(text.slice(from, end))}${after}`;
  };
  return `they part at character ${at}: ${around(ours)} here, ${around(theirs)} there`;
}

function noted(line: string): TemplateFindings {
  return { checks: [], notes: [line] };
}

function parted(ours: string, theirs: string): TemplateFindings {
  const what = `${KEY} makes another text: ${textsPart(ours, theirs)}`;
  return { checks: [foundationFault(what, "tokenizer", "chat template")], notes: [] };
}

interface Attempt {
  readonly text?: string;
  readonly problem?: string;
}

/** The conversation by both; without the system's message where one takes none. */
async function rendered(ours: Metadata, theirs: Metadata): Promise<readonly [Attempt, Attempt]> {
  let found: readonly [Attempt, Attempt] = [{}, {}];
  for (const messages of [CONVERSATION, CONVERSATION.slice(1)]) {
    found = [await attempt(ours, messages), await attempt(theirs, messages)];
    if (found.every(({ text }) => text !== undefined)) break;
  }
  return found;
}

async function attempt(metadata: Metadata, messages: readonly ChatMessage[]): Promise<Attempt> {
  try {
    return { text: await renderChat(metadata, messages) };
  } catch (error) {
    // The package that reads templates may not be here, and is no part of the question.
    const isExpected = error instanceof ChatTemplateError || error instanceof TypeError ||
      error instanceof Deno.errors.NotCapable;
    if (!isExpected) throw error;
    return { problem: error.message.split("\n")[0] };
  }
}

function withoutBos(text: string, metadata: Metadata): string {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const bos = Array.isArray(tokens)
    ? tokens[Number(metadata.get("tokenizer.ggml.bos_token_id"))]
    : "";
  return typeof bos === "string" && text.startsWith(bos) ? text.slice(bos.length) : text;
}

/** `26 Jul 2024` and its like are of the day. */
function withoutDates(text: string): string {
  return text.replaceAll(
    /\d{1,2} [A-Z][a-z]+ \d{4}|[A-Z][a-z]+ \d{1,2}, \d{4}|\d{4}-\d\d-\d\d/g,
    "",
  );
}

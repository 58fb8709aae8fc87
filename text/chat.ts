import { inFile } from "./error.ts";
import { readKind } from "./kind.ts";
import { type Metadata, optionalString } from "./metadata.ts";
import { readEdges, readTokens } from "./tokenizer/vocabulary.ts";

/** One turn of a conversation. Templates may read further fields, such as `tool_calls`. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, or what else the template knows. */
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

/** How {@linkcode renderChat} fills a template in. */
export interface ChatOptions {
  /** Whether the text ends where the assistant is to speak. Default: true. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables of the template, such as `tools`, or `bos_token` for a bare template. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** The name of the metadata's file, for errors. */
  readonly file?: string;
}

/** A conversation that cannot become a prompt: one line that says why. */
export class ChatTemplateError extends Error {
  override readonly name = "ChatTemplateError";
}

/**
 * Writes a conversation as the text that a model was trained on, with the file's own chat template
 * (`tokenizer.chat_template`, a Jinja template) or a given one. Encode the text with special tokens
 * parsed. The text is what Python's transformers and jinja2 make of the template, so far as a message
 * of JavaScript can say it: a whole number is an int. Where the file wants a BOS token added and the template writes one, too, the text is
 * without it, so that encoding gives exactly one.
 *
 * @param source a GGUF file's metadata, or a template
 * @throws {ChatTemplateError} when there is no template, or it is broken, refuses the messages or takes
 *   more steps or text than any conversation needs
 * @throws {TokenizerError} when the file's own special tokens cannot be read
 */
export async function renderChat(
  source: Metadata | string,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): Promise<string> {
  const { addGenerationPrompt = true, variables = {}, file } = options;
  try {
    const isTemplate = typeof source === "string";
    const template = isTemplate ? source : readTemplate(source);
    const edges = isTemplate ? NO_EDGES : inFile(file, () => readEdgeTexts(source));
    const text = await fillIn(template, {
      messages,
      add_generation_prompt: addGenerationPrompt,
      bos_token: edges.bos,
      eos_token: edges.eos,
      // Python's transformers names these to every template.
      tools: null,
      documents: null,
      ...variables,
    });
    return edges.addBos && text.startsWith(edges.bos) ? text.slice(edges.bos.length) : text;
  } catch (error) {
    if (file === undefined || !(error instanceof ChatTemplateError)) throw error;
    throw new ChatTemplateError(`${file}: ${error.message}`, { cause: error.cause });
  }
}

/** The texts of the tokens that templates put before and after things. */
interface EdgeTexts {
  readonly bos: string;
  readonly eos: string;
  readonly addBos: boolean;
}

const NO_EDGES: EdgeTexts = { bos: "", eos: "", addBos: false };

function readTemplate(metadata: Metadata): string {
  const template = optionalString(metadata, "tokenizer.chat_template");
  if (template !== undefined) return template;
  throw new ChatTemplateError(
    "the file has no chat template (tokenizer.chat_template is missing), and there is no other " +
      "format to fall back on; write the prompt as plain text or take a chat model",
  );
}

function readEdgeTexts(metadata: Metadata): EdgeTexts {
  const tokens = readTokens(metadata);
  const { bos, eos, addBos } = readEdges(metadata, readKind(metadata).defaults, tokens.length);
  return {
    bos: bos === undefined ? "" : tokens[bos],
    eos: eos === undefined ? "" : tokens[eos],
    addBos,
  };
}

async function fillIn(template: string, variables: Record<string, unknown>): Promise<string> {
  // Loaded when it is needed: plain generation does without.
  // A literal here would be downloaded at every first start, whether a template is used or not.
  const specifier: string = ["npm:@huggingface", "jinja@0.5.11"].join("/");
  const parser: typeof import("npm:@huggingface/jinja@0.5.11") = await import(specifier);
  const { LimitFault, parseTemplate, renderTemplate } = await import("./jinja/render.ts");
  let parsed: ReturnType<typeof parseTemplate>;
  try {
    parsed = parseTemplate(template, parser);
  } catch (error) {
    throw new ChatTemplateError(
      `the chat template (tokenizer.chat_template) is broken${detail(error)}; ` +
        "write the prompt as plain text or convert the model again",
      { cause: error },
    );
  }
  try {
    return renderTemplate(parsed, variables);
  } catch (error) {
    const problem = error instanceof LimitFault ? "was stopped" : "does not take these messages";
    throw new ChatTemplateError(`the chat template ${problem}${detail(error)}`, { cause: error });
  }
}

/** What the template engine says, unless it stumbled itself: that helps nobody. */
function detail(error: unknown): string {
  if (error instanceof TypeError) return "";
  // The stack is full.
  if (error instanceof RangeError) return ": it nests too deep";
  const text = error instanceof Error ? error.message : String(error);
  return `: ${text.replace(/\s+/g, " ")}`;
}

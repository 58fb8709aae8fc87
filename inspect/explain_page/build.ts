/** One HTML file with a forward pass in it: nothing is loaded from elsewhere. */
import temml from "npm:temml@0.13.5";
import { formatBytes } from "../format.ts";
import type { Model } from "../run/model.ts";
import { DIVERGING, SEQUENTIAL } from "../figures/drawing/theme.ts";
import { escapeHtml } from "../escape.ts";
import { tokenLabel } from "../figures/drawing/tokens.ts";
import { textsOf } from "./texts/mod.ts";
import { PAPERS } from "./texts/papers.ts";
import { type PageContent, pageContent, type PageData, type PageOptions } from "./data.ts";
import template from "./page/page.html" with { type: "text" };
import pageCss from "./page/page.css" with { type: "text" };
import cardsCss from "./page/cards.css" with { type: "text" };
import numbersJs from "./page/numbers.js" with { type: "text" };
import arithmeticJs from "./page/arithmetic.js" with { type: "text" };
import attentionJs from "./page/attention.js" with { type: "text" };
import elementwiseJs from "./page/elementwise.js" with { type: "text" };
import expertsJs from "./page/experts.js" with { type: "text" };
import recomputeJs from "./page/recompute.js" with { type: "text" };
import domJs from "./page/dom.js" with { type: "text" };
import picturesJs from "./page/pictures.js" with { type: "text" };
import mapJs from "./page/map.js" with { type: "text" };
import viewsJs from "./page/views.js" with { type: "text" };
import cardsJs from "./page/cards.js" with { type: "text" };
import appJs from "./page/app.js" with { type: "text" };
import { FORWARD, type SourceLine, sourceOf } from "./source.ts";
import { summary } from "./summary.ts";

/** A page that was built. */
export interface ExplainedPage {
  readonly html: string;
  readonly content: PageContent;
}

/** The scripts, each after those that it imports from. */
const SCRIPTS = [
  numbersJs,
  arithmeticJs,
  attentionJs,
  elementwiseJs,
  expertsJs,
  recomputeJs,
  domJs,
  picturesJs,
  mapJs,
  viewsJs,
  cardsJs,
  appJs,
];

/** The cards' rules come after those that they refine. */
const STYLES = [pageCss, cardsCss];

/** Dark scales go from the page's ground outwards, as the light ones do. */
const DARK_SCALES = {
  diverging: [
    [0, "#b5dcff"],
    [0.2, "#4f9fdc"],
    [0.4, "#24507a"],
    [0.5, "#1b1f26"],
    [0.6, "#74401f"],
    [0.8, "#dd7f3f"],
    [1, "#ffd3b0"],
  ],
  sequential: [
    [0, "#1b1f26"],
    [0.15, "#1d3a56"],
    [0.35, "#26608f"],
    [0.55, "#4590c8"],
    [0.75, "#88c2ee"],
    [1, "#e4f3ff"],
  ],
};

/** What a reader must know of the numbers, by their bytes. */
const PRECISION = {
  4: "The numbers are the pass's own 32-bit floats",
  3: "The numbers are the pass's own, rounded to 24 bits: about five digits",
  2: "The numbers are the pass's own, rounded to 16-bit floats: about three digits",
};

/**
 * Runs a prompt and builds its page.
 *
 * @throws {ExplainError} for a prompt that is too long for a page
 * @throws {PromptError | CaptureLimitError | DisposedError}
 */
export async function explainPage(
  model: Model,
  prompt: string,
  options: PageOptions = {},
): Promise<ExplainedPage> {
  const content = await pageContent(model, prompt, options);
  const { data, numbers, packed } = content;
  const parts: Record<string, string> = {
    title: escapeHtml(`${data.model.name}: ${prompt}`),
    generator: `Lamina ${data.model.version}`,
    style: `<style>\n${STYLES.join("\n")}\n</style>`,
    summary: summary(data, numbers),
    scripts: [
      `<script type="application/json" id="data">${json(pageData(data, packed))}</script>`,
      `<script type="text/plain" id="numbers">${packed}</script>`,
      `<script type="module">\n${SCRIPTS.map(withoutModules).join("\n")}\n</script>`,
    ].join("\n"),
  };
  return { html: template.replace(/\{\{ (\w+) \}\}/g, (_, part) => parts[part]), content };
}

/** One module of all: they have no name twice. */
function withoutModules(script: string): string {
  return script.replace(/^import [^;]+;\n/gm, "").replace(/^export /gm, "").trim();
}

/** JSON that cannot end the element that it stands in. */
function json(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}

/** The data with the words that go with it. */
function pageData(data: PageData, packed: string) {
  const kinds = [...new Set(data.steps.map(({ kind }) => kind))];
  const texts = textsOf(data.steps);
  const calls = new Map(data.steps.map((step) => [`${step.kind} ${step.operation}`, step]));
  return {
    ...data,
    tokens: data.tokens.map((token) => ({ ...token, label: tokenLabel(token.text, 24) })),
    vocabulary: Object.fromEntries(
      Object.entries(data.vocabulary).map(([id, text]) => [id, tokenLabel(text, 24)]),
    ),
    texts: Object.fromEntries(
      kinds.map((kind) => [kind, {
        ...texts[kind],
        formula: temml.renderToString(texts[kind].formula, { displayMode: true }),
      }]),
    ),
    papers: PAPERS,
    source: {
      forward: FORWARD.map(splitComment),
      steps: Object.fromEntries([...calls].map(([call, step]) => {
        const { line, inner } = sourceOf(step);
        return [call, { line, inner: inner?.map(splitComment) }];
      })),
    },
    scales: { light: { diverging: DIVERGING, sequential: SEQUENTIAL }, dark: DARK_SCALES },
    facts: facts(data),
    about: about(data, packed),
  };
}

function splitComment({ number, text }: SourceLine) {
  const at = text.indexOf("// ");
  return at < 0 ? { number, text } : { number, text: text.slice(0, at), comment: text.slice(at) };
}

function facts({ model, steps, tokens, promptLength }: PageData): string {
  const generated = tokens.length - promptLength;
  return [
    `${model.layers} layers`,
    `width ${model.width}`,
    `${model.heads} heads${
      model.kvHeads === model.heads ? "" : ` over ${model.kvHeads} key/value heads`
    }`,
    `${model.vocabulary.toLocaleString("en")} tokens of vocabulary`,
    `${tokens.length} positions${generated > 0 ? `, ${generated} of them generated` : ""}`,
    `${steps.length} steps`,
  ].join(" · ");
}

function about({ model, width, positions, tokens, logits }: PageData, packed: string): string[] {
  const of = model.sha256 ? ` (SHA-256 ${model.sha256.slice(0, 16)}…)` : "";
  const some = positions.length < tokens.length
    ? `To keep the file small it holds the vectors of the last ${positions.length} of ${tokens.length} positions; keys, values and tokens are there of all.`
    : "It holds every value of every step at all positions.";
  const columns = logits.columns.length < model.vocabulary
    ? ` Of the vocabulary it holds ${logits.columns.length} tokens, the likeliest at each position; sums go over all ${
      model.vocabulary.toLocaleString("en")
    }.`
    : "";
  return [
    `Computed by Lamina ${model.version} on ${model.device}: ${model.name}${of}.`,
    `${PRECISION[width]} (${
      formatBytes(packed.length)
    } in this file). ${some}${columns} Of each matrix it holds one row, with which one number of its product can be computed again.`,
    "The file loads nothing from elsewhere and works without a network.",
  ];
}

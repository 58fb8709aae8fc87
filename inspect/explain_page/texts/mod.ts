/** What a page says about each kind of step: the words of a lecture. Names, shapes, numbers and order come from the plan. */
import { ACTIVATIONS } from "../../../kernels/elementwise/activations.ts";
import { GATINGS } from "../../../kernels/experts/routing/route.ts";
import type { PageStep } from "../steps.ts";
import { neuronText } from "./activations.ts";
import { OTHERS } from "./families.ts";
import { normOf, normText } from "./norms.ts";
import type { StepText } from "./papers.ts";
import { USUAL } from "./usual.ts";

/** Neurons by kind, in words. */
const NEURONS: Readonly<Record<string, string>> = {
  ffn_act: "the neurons",
  ffn_expert_act: "the experts' neurons",
  ffn_shared_act: "the shared FFN's neurons",
};

/**
 * What is said about each kind of step of a page: by what this model computes there, since families differ in it.
 *
 * @throws {RangeError} for a kind of step that nothing is said about
 */
export function textsOf(steps: readonly PageStep[]): Record<string, StepText> {
  const byKind = Map.groupBy(steps, ({ kind }) => kind);
  return Object.fromEntries([...byKind].map(([kind, own]) => [kind, textOf(kind, own, byKind)]));
}

type ByKind = ReadonlyMap<string, readonly PageStep[]>;

function textOf(kind: string, steps: readonly PageStep[], all: ByKind): StepText {
  const [{ operation, constants, weights }] = steps;
  if (Object.hasOwn(NEURONS, kind)) {
    const activation = operation === "xielu" ? "xielu" : ACTIVATIONS[constants.activation];
    return neuronText(activation, operation === "glu", NEURONS[kind]);
  }
  const norm = normOf(kind);
  if (norm !== undefined) {
    const [outcome] = all.get(norm)!;
    const named = (ending: string) => outcome.weights.some(({ name }) => name.endsWith(ending));
    const shape = { weighted: named(".weight"), biased: named(".bias") };
    return normText(kind, { ...shape, centered: all.has(`${norm}_centered`) });
  }
  const text = OTHERS[kind] ?? USUAL[kind];
  if (!text) throw new RangeError(`The page has no words for ${kind}`);
  switch (kind) {
    case "attn_scores":
      return scoresText(text, steps);
    case "attn_probs":
      return weights.length > 0 ? withSinks(text) : text;
    case "ffn_expert_weights":
      return routedText(text, constants);
    case "ffn_up":
      return all.has("ffn_gate") ? text : UNGATED_UP;
    case "out":
      return all.has("attn_resid") ? { ...text, paper: "parallel" } : text;
  }
  if (operation === "clamp") return { ...text, ...limited(constants.limit) };
  if (kind.startsWith("logits") && operation === "scale") return { ...text, ...FACTOR };
  if (kind === "logits" && operation === "cap") return { ...text, ...capped(constants.cap) };
  if (kind === "ffn_out" && operation === "combine") return OTHERS.ffn_experts;
  if (kind === "ffn_out" && operation === "add") return WITH_SHARED;
  if ((operation === "linear" || operation === "linear_experts") && weights.length > 1) {
    return withBias(text);
  }
  return text;
}

const UNGATED_UP: StepText = {
  title: "Up: what each neuron sees",
  group: "ffn",
  formula: String.raw`u = W^{\text{up}} a \in \mathbb{R}^{F}`,
  letters: "a: the normalized vector; F: the width of the FFN",
  paper: "attention",
  what:
    "Each of the F neurons asks whether the vector holds its pattern. There is no gate: the next step bends these numbers themselves.",
  look: "In most layers more than half of the numbers are negative: neurons that stay shut.",
};

const WITH_SHARED: StepText = {
  title: "Experts and shared FFN, added",
  group: "ffn",
  formula: String.raw`y = y_{\text{shared}} + y_{\text{experts}}`,
  letters: "what the FFN of all positions makes, and what the chosen experts make",
  paper: "shared",
  what: "Both together are what the FFN adds to the stream.",
  look: "Tokens with strong neurons have strong rows here.",
};

const FACTOR = {
  title: "Logits times the model's factor",
  formula: String.raw`z \leftarrow c \, z`,
  letters: "c: one number of the whole model",
  what:
    "Makes all scores larger or smaller by the same factor: the order stays, but probabilities get steeper or flatter.",
} as const;

/** Logits behind their cap. */
function capped(cap: number) {
  return {
    title: "Logits, softly capped",
    formula: String.raw`z \leftarrow c \tanh(z / c)`,
    letters: `c: the cap, ${cap}`,
    paper: "gemma2",
    what:
      `Bends the scores so that none gets beyond ±${cap}. Small ones hardly change, and the order stays.`,
  } as const;
}

/** What is limited. */
function limited(limit: number) {
  return {
    formula: String.raw`x \leftarrow \max(-c, \min(x, c))`,
    letters: `x: the product before; c: the limit, ${limit}`,
    what:
      `Cuts off what lies beyond ±${limit}: no single number can then rule the products of attention.`,
  };
}

/** A product that has a bias. */
function withBias(text: StepText): StepText {
  return {
    ...text,
    formula: `\\begin{gathered} ${
      text.formula.replace(/ \\in .*$/, "")
    } \\\\ {} + b \\end{gathered}`,
    letters: `${text.letters}; b: the bias, a learned number for each of the results`,
  };
}

function withSinks(text: StepText): StepText {
  return {
    ...text,
    formula: String
      .raw`p_{h,i,j} = \frac{e^{s_{h,i,j}}}{e^{b_h} + \sum_{j' \le i} e^{s_{h,i,j'}}}`,
    letters: `${text.letters}; b: the head's sink, one learned score`,
    what:
      "Turns the scores of each query into shares. Each head has a sink, a score of its own that takes a share and brings no value: a head that finds nothing can rest there, and the shares of the keys sum to less than 1.",
  };
}

function routedText(text: StepText, { gating, normalize }: PageStep["constants"]): StepText {
  const kind = GATINGS[gating];
  const gate = kind === "sigmoid" ? String.raw`\sigma(r_{e_k})` : String.raw`\exp(r_{e_k})`;
  const over = kind === "softmax_chosen" || normalize
    ? kind === "sigmoid"
      ? String.raw`\sum_{j=1}^{K} \sigma(r_{e_j})`
      : String.raw`\sum_{j=1}^{K} \exp(r_{e_j})`
    : kind === "sigmoid"
    ? undefined
    : String.raw`\sum_{e=1}^{E} \exp(r_e)`;
  return {
    ...text,
    formula: over ? `w_k = \\frac{${gate}}{${over}}` : `w_k = ${gate}`,
    what: `${
      kind === "sigmoid"
        ? "A sigmoid turns each score into a number between 0 and 1, by itself."
        : "A softmax turns the scores of the experts into shares."
    } ${
      kind === "softmax_chosen" || normalize
        ? "The chosen experts' weights sum to 1, whatever the others scored (before the model's factor, if it has one)."
        : "The weights of the chosen ones do not sum to 1: what the others would have had is lost."
    }`,
  };
}

/** Scores: with the caps, biases and windows of this model. */
function scoresText(text: StepText, steps: readonly PageStep[]): StepText {
  const [{ constants: { cap, max_bias, scale, head_width } }] = steps;
  const usual = Math.abs(scale * Math.sqrt(head_width) - 1) < 1e-6;
  const scores = usual
    ? String.raw`\frac{q_{h,i} \cdot k_{g,j}}{\sqrt{d}}`
    : String.raw`\gamma \, q_{h,i} \cdot k_{g,j}`;
  const bent = cap > 0 ? String.raw`c \tanh\Bigl(${scores} / c\Bigr)` : scores;
  const bias = max_bias > 0 ? String.raw` - m_h (i - j)` : "";
  const windows = seenOf(steps);
  const seen = windows.size === 0
    ? String.raw`j \le i`
    : windows.kind === "window"
    ? String.raw`i - w < j \le i`
    : String.raw`\lfloor i / w \rfloor = \lfloor j / w \rfloor, \; j \le i`;
  const letters = [
    text.letters,
    usual ? "" : `γ: the model's scale, ${Number(scale.toPrecision(4))}`,
    cap > 0 ? `c: the cap, ${cap}` : "",
    max_bias > 0 ? "m: the head's slope" : "",
    windows.size > 0 ? `w: ${windows.size} positions` : "",
  ];
  const what = [
    usual ? text.what : text.what.replace(
      /The root of d keeps .*/,
      "A scale of the model's own keeps the numbers in a range where the softmax still has a slope.",
    ),
    cap > 0 ? `Scores are softly capped: none gets beyond ±${cap}.` : "",
    max_bias > 0
      ? "ALiBi takes off a little for each position between query and key, in each head another amount: that is all this model knows of positions."
      : "",
    windows.words,
  ];
  const special = !usual || bent !== scores || bias !== "" || windows.size > 0;
  return {
    ...text,
    formula: special
      ? `\\begin{gathered} s_{h,i,j} = ${bent}${bias} \\\\ ${seen} \\end{gathered}`
      : text.formula,
    letters: letters.filter((part) => part !== "").join("; "),
    what: what.filter((part) => part !== "").join(" "),
    paper: cap > 0 ? "gemma2" : max_bias > 0 ? "alibi" : windows.size > 0 ? "window" : text.paper,
  };
}

/** Which layers see how far, in words. */
function seenOf(steps: readonly PageStep[]) {
  const local = steps.filter(({ constants: { window, chunk } }) => window > 0 || chunk > 0);
  if (local.length === 0) return { size: 0, kind: "window", words: "" } as const;
  const [{ constants: { window, chunk } }] = local;
  const kind = window > 0 ? "window" : "chunk";
  const size = window || chunk;
  const layers = local.length === steps.length
    ? "In all layers"
    : `In ${local.length} of ${steps.length} layers (${listed(local.map(({ layer }) => layer!))})`;
  const words = kind === "window"
    ? `${layers} a query sees the last ${size} positions only, its own included: scores of older keys are −∞.`
    : `${layers} a query sees only the keys of its own chunk of ${size} positions: other scores are −∞.`;
  return { size, kind, words } as const;
}

/** A few numbers, and that there are more. */
function listed(numbers: readonly number[]): string {
  const shown = numbers.slice(0, 6).join(", ");
  return numbers.length > 6 ? `${shown}, …` : shown;
}

/** The words of norms, wherever they stand: RMSNorm, LayerNorm, and what a family leaves out of them. */
import type { StepText } from "./papers.ts";

/** Norms by the kind of their outcome: where they stand, and who reads them. */
const PLACES: Readonly<Record<string, readonly [where: string, feeds: string]>> = {
  attn_norm: ["before attention", "the matrices of queries, keys and values"],
  ffn_norm: ["before the FFN", "the matrices of the FFN"],
  output_norm: ["at the end", "the output matrix"],
  embd_norm: ["of the embedding", "all layers"],
  q_norm: ["of the queries", "the scores"],
  k_norm: ["of the keys", "the scores"],
  attn_post_norm: ["of what attention adds", "the residual stream and what follows"],
  ffn_post_norm: ["of what the FFN adds", "the residual stream and what follows"],
};

/** Kinds of steps that each norm has: its own, and those on its way. */
const PARTS = /_(centered|rms|pre)$/;

/** A norm of this page: whether it takes the mean off, and what it multiplies and adds. */
export interface NormShape {
  readonly centered: boolean;
  readonly weighted: boolean;
  readonly biased: boolean;
}

/** The outcome of the norm that a kind of step belongs to; undefined where it is no norm's. */
export function normOf(kind: string): string | undefined {
  const whole = kind.replace(PARTS, "");
  return Object.hasOwn(PLACES, whole) ? whole : undefined;
}

/** What is said of a step of a norm. */
export function normText(kind: string, { centered, weighted, biased }: NormShape): StepText {
  const whole = normOf(kind)!;
  const [where, feeds] = PLACES[whole];
  const ofHeads = /^[qk]_norm/.test(kind);
  const post = whole.endsWith("post_norm");
  const name = centered ? "LayerNorm" : "RMSNorm";
  const paper = ofHeads ? "qkNorm" : centered ? "layerNorm" : "rmsNorm";
  const common = { group: "norm", paper } as const;
  const read = ofHeads
    ? "the numbers of one head, or of all heads of a position"
    : post
    ? "what this half of the block has made, at one position"
    : "the residual stream at one position";
  const whose = ofHeads ? "row" : "position";
  switch (kind.slice(whole.length)) {
    case "_centered":
      return {
        ...common,
        title: `${name} ${where}: less the mean`,
        formula: String.raw`c_i = x_i - \frac{1}{D}\sum_{j=1}^{D} x_j`,
        letters: `x: ${read}; D: its width`,
        what:
          `Takes the mean of each ${whose} off its numbers, which then sum to 0. RMSNorm leaves this step out, and models do as well.`,
        look: "Nearly the same picture as before: means are small beside the largest numbers.",
      };
    case "_rms":
      return {
        ...common,
        title: `${name} ${where}: the ${centered ? "standard deviation" : "root mean square"}`,
        formula: centered
          ? String.raw`\sigma(c) = \sqrt{\frac{1}{D}\sum_{i=1}^{D} c_i^2 + \epsilon}`
          : String.raw`\operatorname{rms}(x) = \sqrt{\frac{1}{D}\sum_{i=1}^{D} x_i^2 + \epsilon}`,
        letters: `${
          centered ? "c: the numbers less their mean" : `x: ${read}`
        }; D: its width; ε: a small number that keeps the root from zero`,
        what: `Measures how large the vector at each ${whose} is: one number per ${whose}. ${
          centered
            ? "The mean is off already, so that this is the standard deviation."
            : "No mean is taken off, which is what makes RMSNorm cheaper than LayerNorm."
        }`,
        look: ofHeads || post
          ? "Rows with a large number are made smaller, those with a small one larger."
          : "It mostly grows from layer to layer, since every layer adds to the stream. The first position is often far off from the others.",
      };
    case "_pre":
      return { ...common, ...divided(`${name} ${where}: divide by it`, centered, whose) };
    default:
      if (!weighted && !biased) {
        return { ...common, ...divided(`${name} ${where}: divide by it`, centered, whose) };
      }
      return {
        ...common,
        title: `${name} ${where}: ${
          weighted ? `times its weight${biased ? ", plus its bias" : ""}` : "plus its bias"
        }`,
        formula: `a_i = \\bar{x}_i${weighted ? " \\, g_i" : ""}${biased ? " + b_i" : ""}`,
        letters: [
          "x̄: the normalized vector",
          weighted ? "g: one learned gain per feature" : "",
          biased ? "b: one learned shift per feature" : "",
        ].filter((part) => part !== "").join("; "),
        what: `${
          weighted ? "Multiplies every feature by a learned gain." : "Shifts every feature."
        } ${
          post
            ? "What is added to the stream so has a size that was learned, however large the half's own numbers are."
            : ofHeads
            ? "Products of queries and keys so stay in a range that was learned, however large their matrices make them."
            : `The result is what ${feeds} see: never the residual stream itself.`
        }`,
        look:
          "Columns that fade have a small gain: the model has learned to overlook those features.",
      };
  }
}

function divided(title: string, centered: boolean, whose: string) {
  return {
    title,
    formula: centered
      ? String.raw`\bar{x}_i = \frac{c_i}{\sigma(c)}`
      : String.raw`\bar{x}_i = \frac{x_i}{\operatorname{rms}(x)}`,
    letters: "x̄: the normalized vector; its mean square is 1",
    what: `Divides each number by the ${
      centered ? "standard deviation" : "root mean square"
    } of its ${whose}. The direction of the vector stays; its length becomes the same everywhere.`,
    look:
      "Rows that differed in strength before look alike now. A few features stay far larger than the rest.",
  };
}

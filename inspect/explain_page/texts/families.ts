/** The words of steps that a Llama does not have. */
import type { StepText } from "./papers.ts";

const scaled = (what: string, letter: string): StepText => ({
  title: `${what} times the model's factor`,
  group: "residual",
  formula: `${letter} \\leftarrow c \\, ${letter}`,
  letters: `${letter}: what is added to the stream; c: one number of the whole model`,
  paper: "muP",
  what:
    "Makes what is added to the stream smaller by a fixed factor, so that many layers together do not make it too large.",
  look: "The same picture as before: only the scale of the colours is another.",
});

const unclamped = (what: string, letter: string): StepText => ({
  title: `${what}, before they are limited`,
  group: "matrix",
  formula: `${letter} = W^{${letter.toUpperCase()}} a`,
  letters: "a: the normalized vector",
  paper: "attention",
  what: `The product itself. The next step cuts off what lies beyond the model's limit.`,
  look: "Compare with the next step: mostly nothing is cut off at all.",
});

/** One matrix of an expert, or of the FFN that all positions go to. */
function part(title: string, formula: string, letters: string, what: string): StepText {
  const paper = title.includes("shared") ? "shared" : "mixture";
  const look = paper === "shared"
    ? "Here each position has one row, whatever the router chose."
    : "A position has one row for each expert that it went to; rows of one number need not be of one expert.";
  return { title, group: "ffn", formula, letters, paper, what, look };
}

const GATE = part(
  "The chosen experts' gates",
  String.raw`g_{k} = W^{\text{gate}}_{e_k} a`,
  "eₖ: the k-th expert of this position; a: the normalized vector",
  "Each chosen expert asks with a matrix of its own whether the vector holds its patterns. Matrices of other experts are not read.",
);
const UP = part(
  "What the experts' gates let through",
  String.raw`u_{k} = W^{\text{up}}_{e_k} a`,
  "eₖ: the k-th expert of this position; a: the normalized vector",
  "The second matrix of each chosen expert: a strength and a sign for each of its neurons.",
);
const DOWN = part(
  "What each expert makes",
  String.raw`y_{k} = W^{\text{down}}_{e_k} n_k`,
  "eₖ: the k-th expert of this position; nₖ: its neurons",
  "Every active neuron of an expert writes a vector of its own. What the experts make is added up next.",
);

/** By kind of step. */
export const OTHERS: Readonly<Record<string, StepText>> = {
  embd_scaled: {
    title: "The embedding times the model's factor",
    group: "ends",
    formula: String.raw`x \leftarrow c \, x`,
    letters: "c: one number of the whole model; in Gemma the root of the width",
    paper: "gemma",
    what:
      "Makes the embedding's rows larger, so that they count beside what layers add. A matrix that serves as embedding and output has small rows.",
    look: "The same picture as before: only the scale of the colours is another.",
  },
  position_embd: {
    title: "A learned row for each position",
    group: "position",
    formula: String.raw`p_i = P_i \in \mathbb{R}^{D}`,
    letters: "P: the matrix of positions; i: the position",
    paper: "attention",
    what:
      "Each position has a vector of its own, which was learned. There are as many as the model was trained for: it cannot read further.",
    look: "Rows do not depend on the text: another prompt has the same ones.",
  },
  embd_sum: {
    title: "Embedding plus position",
    group: "residual",
    formula: String.raw`x_i \leftarrow x_i + p_i`,
    letters: "x: the token's row; p: the position's row",
    paper: "attention",
    what:
      "Both are added. From here on the stream knows what the token is and where it stands, and attention needs no other sign of positions.",
    look: "The same token has another row at another position now.",
  },
  q_unclamped: unclamped("Queries", "q"),
  k_unclamped: unclamped("Keys", "k"),
  v_unclamped: unclamped("Values", "v"),
  q_scaled: {
    title: "Queries grow with their position",
    group: "position",
    formula: String.raw`q \leftarrow q \, \bigl(1 + \alpha \ln(1 + \lfloor p / L \rfloor)\bigr)`,
    letters: "p: the position; L: a length of the model; α: how fast they grow",
    paper: "llama",
    what:
      "With more keys a softmax gets flatter. Queries of far positions are made larger against that; those of the first L positions stay as they are.",
    look: "The same numbers as before in a short text: the logarithm of 1 is 0.",
  },
  attn_out_scaled: scaled("Attention's result", "y"),
  attn_post_norm_scaled: scaled("Attention's result", "y"),
  ffn_out_scaled: scaled("The FFN's result", "y"),
  ffn_post_norm_scaled: scaled("The FFN's result", "y"),
  attn_resid: {
    title: "Add attention to the residual stream",
    group: "residual",
    formula: String.raw`\tilde{x} = x + y`,
    letters: "x: the stream before the block; y: what attention found",
    paper: "parallel",
    what:
      "In this model attention and FFN stand side by side: both read the same stream, and the FFN has seen nothing of what attention found.",
    look: "Compare with the stream before: few numbers change much.",
  },
  ffn_router: {
    title: "The router: a score for each expert",
    group: "ffn",
    formula: String.raw`r = W^{\text{router}} a \in \mathbb{R}^{E}`,
    letters: "a: the normalized vector; E: how many experts there are",
    paper: "mixture",
    what:
      "The FFN is many FFNs here, the experts. A small matrix compares each position with a vector of each expert: who fits best?",
    look:
      "Positions with the same token mostly score alike: what experts are for is seen in words.",
  },
  ffn_expert_ids: {
    title: "The chosen experts",
    group: "ffn",
    formula: String.raw`e_1, \dots, e_K = \operatorname{top}_K(r)`,
    letters: "K: how many experts a position goes to",
    paper: "mixture",
    what:
      "Each position goes to the K experts that score best. The others are not computed, which is why a model with many experts is as fast as a small one.",
    look: "Numbers are names here, and no sizes: 5 is not more than 3.",
  },
  ffn_expert_weights: {
    title: "How much each expert counts",
    group: "ffn",
    formula: String.raw`w_k = \frac{\exp(r_{e_k})}{\sum \exp(r)}`,
    letters: "r: the router's scores; eₖ: the k-th expert of this position",
    paper: "mixture",
    what:
      "Turns the scores of the chosen experts into shares. Models differ in whether the sum goes over all experts or over the chosen ones.",
    look: "Where the first weight is near the sum, one expert does nearly all.",
  },
  ffn_expert_inp: {
    title: "The vector times the expert's weight",
    group: "ffn",
    formula: String.raw`a_k = w_k \, a`,
    letters: "w: the expert's weight; a: the normalized vector",
    paper: "mixture",
    what: "Weighs what the expert reads. Most models weigh what it makes instead.",
    look: "Rows fade where the router was not sure.",
  },
  ffn_expert_gate: GATE,
  ffn_expert_up: UP,
  ffn_expert_out: DOWN,
  ffn_experts: {
    title: "The experts' results, added up",
    group: "ffn",
    formula: String.raw`y = \sum_{k=1}^{K} w_k \, y_k`,
    letters: "w: the experts' weights; yₖ: what the k-th one makes",
    paper: "mixture",
    what: "Adds what the chosen experts make, each by its weight.",
    look: "Tokens with strong experts have strong rows here.",
  },
  ffn_shared_gate: part(
    "The shared FFN's gate",
    String.raw`g = W^{\text{gate}} a`,
    "a: the normalized vector",
    "Beside the experts there is an FFN that all positions go to: what every token needs does not have to be learned by each expert.",
  ),
  ffn_shared_up: part(
    "What the shared FFN's gate lets through",
    String.raw`u = W^{\text{up}} a`,
    "a: the normalized vector",
    "The second matrix of the FFN that all positions go to.",
  ),
  ffn_shared_out: part(
    "What the shared FFN makes",
    String.raw`y = W^{\text{down}} n`,
    "n: its neurons",
    "Back to the width of the stream.",
  ),
  ffn_shared_router: part(
    "How far the shared FFN opens",
    String.raw`s = w^{\top} a \in \mathbb{R}`,
    "a: the normalized vector; w: one learned vector",
    "One number for each position: how much of the shared FFN it wants.",
  ),
  ffn_shared_weight: part(
    "The shared FFN's weight",
    String.raw`\sigma(s) = \frac{1}{1 + e^{-s}}`,
    "s: the number before",
    "Turns it into a share between 0 and 1.",
  ),
  ffn_shared_weighted: part(
    "The shared FFN's result, weighed",
    String.raw`y \leftarrow \sigma(s) \, y`,
    "y: what the shared FFN makes; σ(s): its weight",
    "The share is taken of what the shared FFN makes.",
  ),
  logits_unscaled: {
    title: "Logits, before the model's factor",
    group: "ends",
    formula: String.raw`z = W^{\text{out}} \, a \in \mathbb{R}^{V}`,
    letters: "V: tokens of the vocabulary",
    paper: "muP",
    what:
      "The vector at each position is compared with a vector for each token of the vocabulary. A factor of the model then makes the scores flatter or steeper.",
    look: "The order of the tokens is that of the logits: the factor does not change it.",
  },
  logits_uncapped: {
    title: "Logits, before their cap",
    group: "ends",
    formula: String.raw`z \in \mathbb{R}^{V}`,
    letters: "V: tokens of the vocabulary",
    paper: "gemma2",
    what:
      "A score for each token of the vocabulary. The next step bends large ones, so that the model is never more sure than the cap allows.",
    look: "The order of the tokens is that of the logits: the cap does not change it.",
  },
};

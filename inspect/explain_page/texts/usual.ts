/** The words of a Llama's steps, norms left out. */
import type { StepText } from "./papers.ts";

/** By kind of step: the name of its point without `blk.<layer>.`. */
export const USUAL: Readonly<Record<string, StepText>> = {
  ids: {
    title: "From text to token ids",
    group: "ends",
    formula: String
      .raw`\text{text} \longrightarrow (t_1, t_2, \dots, t_T)`,
    letters: "t: token ids, from 0 to V − 1; T: how many tokens; V: tokens of the vocabulary",
    paper: "sentencePiece",
    what:
      "The tokenizer cuts the text into pieces of its vocabulary. The model never sees letters: each piece is a number, its place in the list.",
    look:
      "Frequent words are one token, with the space before them; rare ones fall into several. A first token may mark the beginning of the text.",
  },
  token_embd: {
    title: "Embedding",
    group: "ends",
    formula: String.raw`x_i = E[t_i] \in \mathbb{R}^{D}`,
    letters: "E: the embedding matrix [V, D]; t: the token ids",
    paper: "attention",
    what:
      "Each id picks its row of the embedding matrix. This vector starts the residual stream, to which all layers add.",
    look: "The same token has the same row wherever it stands: position is not part of it yet.",
  },
  q: {
    title: "Queries",
    group: "matrix",
    formula: String.raw`q_h = W^{Q}_h \, a \in \mathbb{R}^{d}`,
    letters: "a: the normalized vector; h: a head; d: its width",
    paper: "attention",
    what:
      "Each head asks a question: a matrix turns the vector of a position into what this head looks for in other positions.",
    look:
      "Compare the heads: each has a pattern of its own. Positions with the same token ask alike.",
  },
  k: {
    title: "Keys",
    group: "matrix",
    formula: String.raw`k_g = W^{K}_g \, a \in \mathbb{R}^{d}`,
    letters: "g: a key/value head; several query heads may share it",
    paper: "grouped",
    what:
      "What a position offers to be found by. Query heads compare their question with it. With fewer key heads than query heads the cache is smaller.",
    look:
      "The first position's key often looks unlike all others: heads that find nothing rest on it.",
  },
  v: {
    title: "Values",
    group: "matrix",
    formula: String.raw`v_g = W^{V}_g \, a \in \mathbb{R}^{d}`,
    letters: "g: a key/value head; several query heads may share it",
    paper: "attention",
    what:
      "What a position hands over where it is attended to. Whether it is found depends on the key alone.",
    look:
      "The first position's values are often smaller than all others: who attends to it takes little along.",
  },
  q_rope: {
    title: "RoPE turns the queries",
    group: "position",
    formula: ropeFormula("q"),
    letters:
      "(a, b): pair i of a head's numbers; p: the position; β: the base, which makes later pairs turn slower",
    paper: "roformer",
    what:
      "Turns each pair of numbers by an angle that grows with the position. A product of a query and a key then depends on how far apart they are, not on where they stand.",
    look:
      "Position 0 is not turned at all. The first pairs of each head turn fast, the last ones hardly: compare with the step before.",
  },
  k_rope: {
    title: "RoPE turns the keys",
    group: "position",
    formula: ropeFormula("k"),
    letters:
      "(a, b): pair i of a head's numbers; p: the position; β: the base, which makes later pairs turn slower",
    paper: "roformer",
    what:
      "The same turn for the keys. Values are not turned: position decides who is found, not what is handed over.",
    look:
      "Stripes along the positions in the first pairs: the same content, turned further and further.",
  },
  cache_k: {
    title: "Keys go into the cache",
    group: "position",
    formula: String.raw`K_{\text{cache}}[p] \leftarrow k^{\text{rope}}_p`,
    letters: "p: the position, and the slot of the cache",
    paper: "cache",
    what:
      "Stores the turned keys, a slot for each position. When the next token comes, only its own key is new: nothing else has to be computed again.",
    look:
      "The same numbers as the step before. This and the values are all that later tokens see of earlier ones.",
  },
  cache_v: {
    title: "Values go into the cache",
    group: "position",
    formula: String.raw`V_{\text{cache}}[p] \leftarrow v_p`,
    letters: "p: the position, and the slot of the cache",
    paper: "cache",
    what:
      "Stores the values beside the keys. The two caches are the memory of a conversation, and what long contexts cost.",
    look: "The same numbers as the values above.",
  },
  attn_scores: {
    title: "Attention scores",
    group: "attention",
    formula: String.raw`s_{h,i,j} = \frac{q_{h,i} \cdot k_{g,j}}{\sqrt{d}}, \quad j \le i`,
    letters: "i: the query's position; j: the key's; g: the key head that query head h uses",
    paper: "attention",
    what:
      "Every query meets every key that is not after it: a large product means that they fit. The root of d keeps the numbers in a range where the softmax still has a slope.",
    look:
      "A column of high scores is a token that everybody finds; a diagonal is a head that looks a fixed distance back.",
  },
  attn_probs: {
    title: "Attention weights",
    group: "attention",
    formula: String.raw`p_{h,i,j} = \frac{\exp(s_{h,i,j})}{\sum_{j' \le i} \exp(s_{h,i,j'})}`,
    letters: "the sum goes over the keys up to the query's own position",
    paper: "attention",
    what: "Turns the scores of each query into shares that sum to 1. This is the attention map.",
    look:
      "Click through the heads. Heads that look at the token before, at themselves, at the first token, or at what followed the same token earlier (induction) are easy to tell apart.",
  },
  head_out: {
    title: "Each head mixes values",
    group: "attention",
    formula: String.raw`o_{h,i} = \sum_{j \le i} p_{h,i,j} \, v_{g,j}`,
    letters: "p: the attention weights; v: the values in the cache",
    paper: "attention",
    what:
      "Adds up the values of all positions seen, each by its share. This is the only step in which numbers move from one position to another.",
    look: "A head that rests on the first token has a faint row: its values are small.",
  },
  attn_out: {
    title: "The heads' outputs, joined",
    group: "matrix",
    formula: String.raw`y_i = W^{O} \, [\, o_{1,i};\; o_{2,i};\; \dots;\; o_{H,i} \,]`,
    letters: "[…; …]: the heads' vectors one behind another; H: their number",
    paper: "attention",
    what: "One matrix turns what all heads found into a vector as wide as the residual stream.",
    look: "Rows with strong numbers are positions for which attention had something to say.",
  },
  ffn_inp: {
    title: "Add to the residual stream",
    group: "residual",
    formula: String.raw`\tilde{x} = x + y`,
    letters: "x: the stream before attention; y: what attention found",
    paper: "residual",
    what:
      "Attention's result is added to the stream, not put in its place. So nothing that was known gets lost, and layers can be read as small corrections.",
    look: "Compare with the stream before: few numbers change much.",
  },
  ffn_gate: {
    title: "The FFN's gate",
    group: "ffn",
    formula: String.raw`g = W^{\text{gate}} a \in \mathbb{R}^{F}`,
    letters: "a: the normalized vector; F: the width of the FFN",
    paper: "glu",
    what:
      "Each of the F neurons asks whether the vector holds its pattern. Positions do not see each other here.",
    look:
      "In most layers more than half of the gates are negative: nearly shut. The few that are far above zero belong to this token.",
  },
  ffn_up: {
    title: "What the gate lets through",
    group: "ffn",
    formula: String.raw`u = W^{\text{up}} a \in \mathbb{R}^{F}`,
    letters: "a: the normalized vector; F: the width of the FFN",
    paper: "glu",
    what:
      "A second matrix gives each neuron a strength and a sign, which count where the gate is open.",
    look: "Signs are evenly spread, half and half: the gate decides which of these numbers count.",
  },
  ffn_act: {
    title: "SwiGLU: the neurons",
    group: "ffn",
    formula: String
      .raw`\begin{gathered} n_i = \operatorname{silu}(g_i)\, u_i \\ \operatorname{silu}(g) = \frac{g}{1 + e^{-g}} \end{gathered}`,
    letters: "g: the gate; u: up; silu: near 0 for negative numbers, near g for positive ones",
    paper: "glu",
    what:
      "Multiplies gate and up. This is the only bend in the layer besides the softmax: without it the FFN would be one matrix.",
    look:
      "Mostly near zero, with a few strong neurons for each position. Which ones depends on the token and its context.",
  },
  ffn_out: {
    title: "Back to the stream's width",
    group: "ffn",
    formula: String.raw`y = W^{\text{down}} n \in \mathbb{R}^{D}`,
    letters: "n: the neurons; D: the width of the stream",
    paper: "glu",
    what:
      "Every neuron that is active writes its own vector, a column of this matrix, into the result.",
    look: "Tokens with strong neurons have strong rows here.",
  },
  out: {
    title: "Add: the layer's result",
    group: "residual",
    formula: String.raw`x_{\ell+1} = \tilde{x} + y`,
    letters: "x̃: the stream after attention; y: what the FFN writes; ℓ: the layer",
    paper: "residual",
    what:
      "The FFN's result is added too. The stream then goes on to the next layer, or to the output.",
    look:
      "Press ↓ to follow this row through the layers: it turns from the token that was read to the one that comes next.",
  },
  last_rows: {
    title: "The rows that get logits",
    group: "ends",
    formula: String.raw`x \leftarrow x_{T-R+1, \dots, T}`,
    letters: "R: rows whose logits are asked for",
    paper: "llama",
    what:
      "While text is generated only the last position has to say what comes next, so only its row goes on. For this page all rows do.",
    look: "The same numbers as the step before.",
  },
  logits: {
    title: "Logits: a score for every token",
    group: "ends",
    formula: String.raw`z = W^{\text{out}} \, a \in \mathbb{R}^{V}`,
    letters: "V: tokens of the vocabulary",
    paper: "llama",
    what:
      "The vector at each position is compared with a vector for each token of the vocabulary: a large product is a likely next token.",
    look: "Click other tokens above: every position says what it expects next, not only the last.",
  },
  probs: {
    title: "Softmax: probabilities",
    group: "ends",
    formula: String.raw`P(t) = \frac{e^{z_t}}{\sum_{t'=1}^{V} e^{z_{t'}}}`,
    letters: "z: the logits; the sum goes over the whole vocabulary",
    paper: "attention",
    what:
      "Turns the scores into probabilities that sum to 1. The surprise at a text is read off here.",
    look: "Where the model is sure, one token has nearly all. Look for positions where it is not.",
  },
  argmax: {
    title: "The chosen token",
    group: "ends",
    formula: String.raw`t_{T+1} = \operatorname*{arg\,max}_t z_t`,
    letters: "T: the last position",
    paper: "llama",
    what:
      "Takes the likeliest token. Sampling would draw one by its probability. Then the token joins the text, and everything starts again for one more position.",
    look: "Compare each position's choice with the token that really follows it.",
  },
};

function ropeFormula(letter: string): string {
  return String.raw`\begin{gathered}
    (a, b) = (${letter}_{2i}, ${letter}_{2i+1}) \\ \varphi = p\, \beta^{-2i/d} \\
    \tilde{a} = a \cos\varphi - b \sin\varphi \\
    \tilde{b} = a \sin\varphi + b \cos\varphi \end{gathered}`;
}

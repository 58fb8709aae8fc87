/** What the words of a step consist of, and the papers that formulas come from. */

/** A paper that a formula comes from. */
export interface Paper {
  readonly text: string;
  readonly url: string;
}

/** Groups of steps: a colour each in the map. */
export type Group = "ends" | "norm" | "matrix" | "position" | "attention" | "ffn" | "residual";

/** What is said about one kind of step. */
export interface StepText {
  readonly title: string;
  readonly group: Group;
  /** LaTeX. */
  readonly formula: string;
  /** What the letters of the formula stand for. */
  readonly letters: string;
  readonly paper: keyof typeof PAPERS;
  /** What it does. */
  readonly what: string;
  /** What to look for in the picture. */
  readonly look: string;
}

const paper = (text: string, number: string): Paper => ({
  text,
  url: `https://arxiv.org/abs/${number}`,
});

/** The papers. */
export const PAPERS = {
  sentencePiece: paper("Kudo & Richardson 2018, SentencePiece", "1808.06226"),
  attention: paper("Vaswani et al. 2017, Attention Is All You Need", "1706.03762"),
  rmsNorm: paper("Zhang & Sennrich 2019, Root Mean Square Layer Normalization", "1910.07467"),
  roformer: paper("Su et al. 2021, RoFormer: Rotary Position Embedding", "2104.09864"),
  glu: paper("Shazeer 2020, GLU Variants Improve Transformer", "2002.05202"),
  cache: paper("Shazeer 2019, Fast Transformer Decoding", "1911.02150"),
  grouped: paper("Ainslie et al. 2023, GQA: grouped-query attention", "2305.13245"),
  residual: paper("He et al. 2015, Deep Residual Learning", "1512.03385"),
  layerNorm: paper("Ba, Kiros & Hinton 2016, Layer Normalization", "1607.06450"),
  qkNorm: paper("Henry et al. 2020, Query-Key Normalization for Transformers", "2010.04245"),
  gelu: paper("Hendrycks & Gimpel 2016, Gaussian Error Linear Units", "1606.08415"),
  relu2: paper("So et al. 2021, Primer: Searching for Efficient Transformers", "2109.08668"),
  xielu: paper(
    "Huang & Schlag 2025, Deriving Activation Functions Using Integration",
    "2411.13010",
  ),
  gemma2: paper("Gemma Team 2024, Gemma 2", "2408.00118"),
  gemma: paper("Gemma Team 2024, Gemma", "2403.08295"),
  alibi: paper("Press et al. 2022, ALiBi: Train Short, Test Long", "2108.12409"),
  window: paper("Jiang et al. 2023, Mistral 7B", "2310.06825"),
  parallel: paper("Chowdhery et al. 2022, PaLM", "2204.02311"),
  mixture: paper("Shazeer et al. 2017, The Sparsely-Gated Mixture-of-Experts Layer", "1701.06538"),
  shared: paper("Dai et al. 2024, DeepSeekMoE", "2401.06066"),
  muP: paper(
    "Yang et al. 2022, Tensor Programs V: Zero-Shot Hyperparameter Transfer",
    "2203.03466",
  ),
  llama: paper("Touvron et al. 2023, Llama 2", "2307.09288"),
};

/** The words of activations, by the names that plans know them by. */
import type { StepText } from "./papers.ts";

/** A function of one number: its sign in formulas, what it is, and where it comes from. */
interface Bend {
  readonly name: string;
  readonly sign: string;
  readonly formula: string;
  readonly words: string;
  readonly paper: StepText["paper"];
}

const bend = (
  name: string,
  sign: string,
  formula: string,
  words: string,
  paper: Bend["paper"],
): Bend => ({ name, sign, formula, words, paper });

const SILU = String.raw`\operatorname{silu}`;
const GELU = String.raw`\operatorname{gelu}`;
const SMOOTH = "near 0 for negative numbers, near x for positive ones";

const BENDS: Readonly<Record<string, Bend>> = {
  silu: bend("SiLU", SILU, String.raw`\frac{x}{1 + e^{-x}}`, SMOOTH, "glu"),
  gelu_tanh: bend(
    "GELU",
    GELU,
    String.raw`\tfrac{x}{2}\bigl(1 + \tanh(\sqrt{2/\pi}\,(x + 0.0447\,x^3))\bigr)`,
    SMOOTH,
    "gelu",
  ),
  gelu: bend(
    "GELU",
    GELU,
    String.raw`x \, \Phi(x)`,
    `${SMOOTH}; Φ: the normal distribution`,
    "gelu",
  ),
  relu2: bend(
    "ReLU²",
    "r",
    String.raw`\max(x, 0)^2`,
    "0 for negative numbers, the square of others",
    "relu2",
  ),
  relu: bend(
    "ReLU",
    "r",
    String.raw`\max(x, 0)`,
    "0 for negative numbers, others as they are",
    "attention",
  ),
  xielu: bend(
    "xIELU",
    String.raw`\operatorname{x}`,
    String
      .raw`\begin{cases} \alpha_p x^2 + \beta x & x > 0 \\ \alpha_n (e^x - 1 - x) + \beta x & x \le 0 \end{cases}`,
    "α, β: learned numbers of each layer",
    "xielu",
  ),
};

/** The name of a gated unit, where it has one. */
const GATED: Readonly<Record<string, string>> = {
  silu: "SwiGLU",
  gelu_tanh: "GeGLU",
  gelu: "GeGLU",
  relu: "ReGLU",
};

/**
 * What is said of neurons, of one FFN, of experts, or of the shared FFN.
 *
 * @param activation its name in the plan: `silu`
 * @param gated whether a gate multiplies what goes up
 * @param whose `the neurons`
 */
export function neuronText(activation: string, gated: boolean, whose: string): StepText {
  const look =
    "Mostly near zero, with a few strong neurons for each position. Which ones depends on the token and its context.";
  if (activation === "swiglu_clamped") {
    return {
      title: `A limited SwiGLU: ${whose}`,
      group: "ffn",
      formula: String
        .raw`\begin{gathered} n_i = g\,\sigma(1.702\,g)\,(u + 1) \\ g = \min(g_i, 7), \; u = \max(-7, \min(u_i, 7)) \end{gathered}`,
      letters: "g: the gate; u: up; σ: the sigmoid, 1 / (1 + exp(−x))",
      paper: "glu",
      what:
        "Multiplies gate and up plus one. Both are limited, so that no neuron gets out of the range of small number formats.",
      look,
    };
  }
  const { name, sign, formula, words, paper } = BENDS[activation];
  if (!gated) {
    return {
      title: `${name}: ${whose}`,
      group: "ffn",
      formula: String
        .raw`\begin{gathered} n_i = ${sign}(u_i) \\ ${sign}(x) = ${formula} \end{gathered}`,
      letters: `u: what goes up; ${name}: ${words}`,
      paper,
      what:
        "Bends each number by itself: there is no gate. This is the only bend in the layer besides the softmax: without it the FFN would be one matrix.",
      look,
    };
  }
  return {
    title: `${GATED[activation] ?? `${name} with a gate`}: ${whose}`,
    group: "ffn",
    formula: String
      .raw`\begin{gathered} n_i = ${sign}(g_i)\, u_i \\ ${sign}(x) = ${formula} \end{gathered}`,
    letters: `g: the gate; u: up; ${name}: ${words}`,
    paper: "glu",
    what:
      "Multiplies gate and up. This is the only bend in the layer besides the softmax: without it the FFN would be one matrix.",
    look,
  };
}

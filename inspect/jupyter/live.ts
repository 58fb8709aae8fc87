/** Watching a generation in a notebook. */
import { escapeHtml } from "../escape.ts";
import { Display } from "./display.ts";
import { DISPLAY } from "./kernel.ts";

/** A generation that {@linkcode live} shows: one of a model, or one that is compared with another engine's. */
export interface Watched extends AsyncIterable<{ readonly text: string }> {
  /** The text before it. */
  readonly prompt?: string;
  /** Its text so far. */
  readonly text: string;
  /** The ids before it. */
  readonly promptIds?: readonly number[];
  /** −ln p of each token of the prompt and of the generation, NaN where that is not known. */
  readonly surprisals?: Float64Array;
}

/**
 * Generates, and shows the text as it comes; below it, if asked for, whatever a function makes of the generation so far, drawn over in
 * place a few times a second. Improbable tokens are tinted, where the logits are at hand (they were captured, or ids are sampled while
 * something is captured). At the end, or at a Stop, the last state stays. Outside a notebook it only generates.
 *
 * ```ts
 * import { attentionMap, live, loadModel } from "../../mod.ts";
 * const model = await loadModel("tiny");
 * const generation = model.generate("Once upon a time", { capture: "blk.3.attn_probs" });
 * await live(generation, ({ run }) => attentionMap(run, { layer: 3, head: 2 }));
 * console.log(generation.text);
 * model.dispose();
 * ```
 *
 * @param draw makes what is shown below the text: a figure, a table, …
 * @throws what generating throws, {@linkcode Stopped} among it, and what `draw` throws
 */
export async function live<Generation extends Watched>(
  generation: Generation,
  draw?: (generation: Generation) => unknown,
): Promise<void> {
  const tokens: string[] = [];
  const text = new Display();
  const below = new Display();
  const showText = () => new LiveText(generation, tokens);
  const update = () => {
    text.update(showText);
    if (draw) below.update(() => draw(generation));
  };
  try {
    for await (const { text } of generation) {
      tokens.push(text);
      update();
    }
  } finally {
    await text.done();
    await below.done();
  }
}

/** A generation's text with its tokens. */
class LiveText {
  readonly #generation: Watched;
  readonly #tokens: readonly string[];

  constructor(generation: Watched, tokens: readonly string[]) {
    this.#generation = generation;
    this.#tokens = tokens;
  }

  [DISPLAY](): Record<string, string> {
    const { prompt = "", promptIds = [], text, surprisals } = this.#generation;
    const tokens = this.#tokens.map((token, i) =>
      tokenHtml(token, surprisals?.[promptIds.length + i] ?? NaN)
    );
    const style = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7;max-width:60em";
    return {
      "text/html": `<div style="${style}"><span style="opacity:.6">${escapeHtml(prompt)}</span>${
        tokens.join("")
      }</div>`,
      "text/plain": prompt + text,
    };
  }
}

/** A token, the more tinted the less probable it was. */
function tokenHtml(text: string, surprisal: number): string {
  if (!text) return "";
  if (Number.isNaN(surprisal)) return escapeHtml(text);
  const probability = Math.exp(-surprisal);
  const tint = `background:rgba(213,94,0,${(0.45 * (1 - probability)).toFixed(2)})`;
  const share = probability < 0.001
    ? "below 0.1 %"
    : `${Number((100 * probability).toPrecision(2))} %`;
  return `<span style="${tint};border-radius:2px" title="${share}">${escapeHtml(text)}</span>`;
}

/** The likeliest next tokens as bars. */
import { NotCapturedError, type Run } from "../run/run.ts";
import { logSumExp } from "../softmax.ts";
import { type Bar, type Control, Figure } from "./drawing/figure.ts";
import { percent } from "./lens.ts";
import { short } from "./drawing/numbers.ts";
import { axis, PALETTE, plotLayout, slider, titled, TOKEN_FONT } from "./drawing/theme.ts";
import { html, tokenHtml, tokenLabel } from "./drawing/tokens.ts";

/** What {@linkcode topTokens} is asked for. */
export interface TopTokensOptions {
  /** How many tokens; 10. */
  readonly top?: number;
  /** Of several sequences, which; 0. */
  readonly sequence?: number;
}

/** The likeliest tokens after one position. */
interface Answer {
  /** What stands before: the end of the text. */
  readonly before: string;
  /** The token that was chosen, if one was. */
  readonly chosen?: number;
  readonly tokens: readonly {
    readonly id: number;
    readonly token: string;
    readonly probability: number;
  }[];
}

/**
 * The likeliest next tokens after a prompt, as bars. Of a generation that captured `logits` those of each generated token, with a
 * slider; the one that was chosen is orange.
 *
 * @throws {NotCapturedError} for a generation that did not capture `logits`
 * @throws {RangeError} for a count that is no whole number above 0, or a sequence that is not there
 */
export function topTokens(run: Run, options: TopTokensOptions = {}): Figure {
  const { top = 10 } = options;
  const sequence = run.sequenceIndex(options.sequence);
  const answers = answersOf(run, sequence, top);
  const bars = (answer: Answer) => {
    const shown = answer.tokens.toReversed();
    return {
      x: shown.map(({ probability }) => short(probability)),
      y: shown.map((_, i) => i),
      text: shown.map(({ probability }) => percent(probability)),
      customdata: shown.map(({ id, token }) => `"${tokenHtml(token, 24)}" (token ${id})`),
      "marker.color": shown.map(({ id }) => id === answer.chosen ? PALETTE[1] : PALETTE[0]),
    };
  };
  const ticks = (answer: Answer) => answer.tokens.toReversed().map(({ token }) => tokenHtml(token));
  const title = ({ before }: Answer) =>
    titled(`next token after “…${html(before)}”`, { model: run.meta.model });
  const [first] = answers;
  const { "marker.color": color, ...rest } = bars(first);
  const bar: Bar = {
    type: "bar",
    orientation: "h",
    ...rest,
    textposition: "outside",
    cliponaxis: false,
    marker: { color },
    hovertemplate: "%{customdata}: %{x:.3g}<extra></extra>",
  };
  const steps = answers.map((answer, i): Control => ({
    label: `${i + 1}`,
    method: "update",
    args: [
      Object.fromEntries(Object.entries(bars(answer)).map(([key, value]) => [key, [value]])),
      { "yaxis.ticktext": ticks(answer), "title.text": title(answer).text },
    ],
  }));
  return new Figure(
    [bar],
    plotLayout(24 * first.tokens.length, {
      title: title(first),
      width: 620,
      margin: { l: 130, r: 60, b: 45 + (steps.length > 1 ? 104 : 0) },
      xaxis: axis({
        title: { text: "probability" },
        // One scale for all steps; by itself the likeliest has the width.
        range: [0, steps.length > 1 ? 1 : Math.min(1, 1.15 * first.tokens[0].probability)],
        tickformat: ".0%",
      }),
      yaxis: axis({
        tickvals: first.tokens.map((_, i) => i),
        ticktext: ticks(first),
        tickfont: { family: TOKEN_FONT, size: 11 },
        range: [-0.6, first.tokens.length - 0.4],
        showgrid: false,
      }),
      bargap: 0.3,
      showlegend: false,
      ...(steps.length > 1
        ? { sliders: [slider("generated token ", { len: 1, pad: { t: 64 }, steps })] }
        : {}),
    }),
  );
}

function answersOf(run: Run, sequence: number, top: number): Answer[] {
  const { ids, promptLength } = run.sequences[sequence];
  const tokens = run.tokens(sequence);
  const before = (position: number) =>
    tokenLabel(tokens.slice(Math.max(0, position - 7), position + 1).join(""), 40);
  if (ids.length === promptLength) {
    return [{ before: before(ids.length - 1), tokens: run.top(top, { sequence }) }];
  }
  if (!run.captured.includes("logits")) throw new NotCapturedError("logits", run.captured);
  if (!Number.isInteger(top) || top < 1) {
    throw new RangeError(`Cannot show the top ${top}: give an integer, 1 or more`);
  }
  const logits = run.tensor("logits", { sequence });
  const positions = logits.labels.position ?? Array.from({ length: logits.shape[0] }, (_, i) => i);
  return positions.flatMap((position, row) => {
    if (position < promptLength - 1 || position + 1 >= ids.length) return [];
    const values = logits.at({ position: -logits.shape[0] + row }).toFloat32Array();
    const normalizer = logSumExp(values);
    const best = Array.from(values.keys())
      .sort((a, b) => values[b] - values[a] || a - b).slice(0, top);
    return [{
      before: before(position),
      chosen: ids[position + 1],
      tokens: best.map((id) => ({
        id,
        token: run.tokenText(id),
        probability: Math.exp(values[id] - normalizer),
      })),
    }];
  });
}

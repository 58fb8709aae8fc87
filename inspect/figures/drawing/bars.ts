/** Named numbers as bars. */
import { type Bar, Figure, type Layout } from "./figure.ts";
import { short } from "./numbers.ts";
import { axis, PALETTE, plotLayout } from "./theme.ts";
import { html } from "./tokens.ts";

/** A named number. */
export interface NamedNumber {
  /** Beside its bar. */
  readonly name: string;
  /** Its length. */
  readonly value: number;
}

/** What {@linkcode bars} is asked for. */
export interface BarsOptions {
  /** Stands above. */
  readonly title: string | NonNullable<Layout["title"]>;
  /** What the numbers are, with their unit. */
  readonly unit: string;
}

/**
 * Named numbers as bars, one below the other; those below 0 in blue where others are above it.
 *
 * @throws {RangeError} for none
 */
export function bars(numbers: readonly NamedNumber[], options: BarsOptions): Figure {
  if (numbers.length === 0) throw new RangeError("Cannot draw bars: there are no numbers");
  const { unit } = options;
  const title = typeof options.title === "string" ? { text: html(options.title) } : options.title;
  const shown = numbers.toReversed();
  const both = numbers.some(({ value }) => value > 0) && numbers.some(({ value }) => value < 0);
  const bar: Bar = {
    type: "bar",
    orientation: "h",
    x: shown.map(({ value }) => short(value)),
    y: shown.map(({ name }) => html(name)),
    marker: {
      color: shown.map(({ value }) => both && value > 0 ? PALETTE[1] : PALETTE[0]),
    },
    hovertemplate: "%{y}: %{x:.4g}<extra></extra>",
  };
  const longest = Math.max(...numbers.map(({ name }) => name.length));
  return new Figure(
    [bar],
    plotLayout(22 * shown.length, {
      title,
      width: 640,
      margin: { l: Math.min(260, 30 + 7.2 * longest), r: 30 },
      xaxis: axis({ title: { text: html(unit) }, zeroline: true }),
      yaxis: axis({ type: "category", showgrid: false }),
      bargap: 0.25,
      showlegend: false,
    }),
  );
}

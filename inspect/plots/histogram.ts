/** How numbers of a tensor are distributed. */
import type { TensorView } from "../tensor.ts";
import { type Bar, Figure } from "./figure.ts";
import { short } from "./numbers.ts";
import { axis, layout, PALETTE, titled, topMargin } from "./theme.ts";
import { html } from "./tokens.ts";

/** What {@linkcode histogram} is asked for. */
export interface HistogramOptions {
  /** How many bars; 60. */
  readonly bins?: number;
  /** Stands in the title; the tensor's name without it. */
  readonly name?: string;
  /** Stands in front of it. */
  readonly model?: string;
}

/**
 * How the numbers of a tensor are distributed: counts, on a logarithmic scale, so that the few that lie far out are seen. Numbers are
 * counted here: however many there are, the figure holds only bars.
 *
 * @throws {RangeError} for a tensor without finite numbers, or a count of bars that is no whole number above 0
 */
export function histogram(tensor: TensorView, options: HistogramOptions = {}): Figure {
  const { bins = 60, name = tensor.name ?? "tensor", model } = options;
  if (!Number.isInteger(bins) || bins < 1) {
    throw new RangeError(`Cannot draw ${bins} bars: give an integer, 1 or more`);
  }
  const values = tensor.toFloat32Array();
  let [low, high, sum, squares, count] = [Infinity, -Infinity, 0, 0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    sum += value;
    squares += value * value;
    count++;
  }
  if (count === 0) throw new RangeError(`Cannot draw ${name}: it has no finite numbers`);
  const width = (high - low) / bins || 1;
  const counts = new Float64Array(bins);
  for (const value of values) {
    if (Number.isFinite(value)) counts[Math.min(bins - 1, Math.floor((value - low) / width))]++;
  }
  const centre = (bin: number) => low + (bin + 0.5) * width;
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  const far = values.reduce((n, value) => Math.abs(value - mean) > 6 * deviation ? n + 1 : n, 0);
  const lost = values.length - count;
  const title = titled(html(name), { model }, [
    `${count.toLocaleString("en-US")} numbers, mean ${mean.toPrecision(3)}, standard deviation ${
      deviation.toPrecision(3)
    }`,
    far > 0 ? `${far.toLocaleString("en-US")} lie more than 6 deviations out` : undefined,
    lost > 0 ? `${lost.toLocaleString("en-US")} are NaN or infinite and left out` : undefined,
  ]);
  const pixels = 720;
  const top = topMargin(title, pixels);
  const bar: Bar = {
    type: "bar",
    x: Array.from(counts, (_, bin) => short(centre(bin))),
    y: Array.from(counts, (count) => count > 0 ? count : null),
    width,
    customdata: Array.from(
      counts,
      (_, bin) =>
        `${(centre(bin) - width / 2).toPrecision(3)} to ${
          (centre(bin) + width / 2).toPrecision(3)
        }`,
    ),
    marker: { color: PALETTE[0] },
    hovertemplate: "%{customdata}: %{y:,}<extra></extra>",
  };
  return new Figure(
    [bar],
    layout({
      title,
      width: pixels,
      height: top + 260 + 50,
      margin: { t: top, b: 50 },
      xaxis: axis({ title: { text: "value" } }),
      yaxis: axis({
        title: { text: "count" },
        type: "log",
        dtick: 1,
        range: [-0.3, Math.log10(count) + 0.2],
      }),
      bargap: 0,
      showlegend: false,
    }),
  );
}

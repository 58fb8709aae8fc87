/** How numbers of a tensor are distributed. */
import { sizeOf } from "../../base/shape.ts";
import type { TensorView } from "../tensor/tensor.ts";
import { type Bar, Figure } from "./drawing/figure.ts";
import { short } from "./drawing/numbers.ts";
import { axis, PALETTE, plotLayout, titled } from "./drawing/theme.ts";
import { html } from "./drawing/tokens.ts";

/** Numbers so many standard deviations from the mean are counted and named. */
const FAR = 6;

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
  let [far, farthest] = [0, -1];
  for (const [i, value] of values.entries()) {
    if (!Number.isFinite(value)) continue;
    const distance = Math.abs(value - mean);
    if (distance > FAR * deviation) far++;
    if (farthest < 0 || distance > Math.abs(values[farthest] - mean)) farthest = i;
  }
  const lost = values.length - count;
  const title = titled(html(name), { model }, [
    `${count.toLocaleString("en-US")} numbers, mean ${mean.toPrecision(3)}, standard deviation ${
      deviation.toPrecision(3)
    }`,
    far > 0
      ? `more than ${FAR} deviations out: ${far.toLocaleString("en-US")}, the farthest ${
        values[farthest].toPrecision(3)
      } at ${placeOf(tensor, farthest)}`
      : undefined,
    lost > 0 ? `NaN or infinite, left out: ${lost.toLocaleString("en-US")}` : undefined,
  ]);
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
    plotLayout(260, {
      title,
      width: 720,
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

/** Where a number stands, of row-major ones: `position 3, feature 41`. */
function placeOf({ shape, axes, labels }: TensorView, index: number): string {
  let rest = index;
  const places = shape.map((_, axis) => {
    const stride = sizeOf(shape.slice(axis + 1));
    const place = Math.floor(rest / stride);
    rest %= stride;
    return `${html(axes[axis])} ${labels[axes[axis]]?.[place] ?? place}`;
  });
  return places.join(", ");
}

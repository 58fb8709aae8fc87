/** Any tensor of two axes as a picture. */
import type { TensorView } from "../tensor/tensor.ts";
import { Figure } from "./drawing/figure.ts";
import { packed } from "./drawing/numbers.ts";
import { axis, centred, DIVERGING, layout, SEQUENTIAL, TOKEN_FONT } from "./drawing/theme.ts";
import { html, tokenHtml } from "./drawing/tokens.ts";

/** How to draw a tensor. */
export interface TensorMapOptions {
  /** Tokens of the rows, where those are positions. */
  readonly tokens?: readonly string[];
  /** Stands above; the tensor's name without it. */
  readonly title?: string;
}

const [WIDEST, NARROWEST] = [900, 240];
const [TALLEST, SHORTEST] = [700, 60];

/**
 * A tensor [rows, columns] as colours: signed values on a scale with white at zero, others from light to dark. Each number is
 * there, in the hover too.
 *
 * @throws {RangeError} for a tensor that has not two axes
 */
export function tensorMap(tensor: TensorView, options: TensorMapOptions = {}): Figure {
  const { tokens, title = tensor.name ?? "tensor" } = options;
  if (tensor.shape.length !== 2) {
    throw new RangeError(
      `Cannot draw ${
        tensor.name ?? "the tensor"
      } [${tensor.axes}]: a map has two axes; choose a place along the others with at()`,
    );
  }
  const [[rows, columns], [rowAxis, columnAxis]] = [tensor.shape, tensor.axes];
  const values = tensor.toFloat32Array();
  const signed = values.some((value) => value < 0);
  const { zmin, zmax } = centred(values);
  const cell = Math.max(1, Math.min(24, Math.floor(WIDEST / columns)));
  const wide = Math.max(NARROWEST, Math.min(WIDEST, cell * columns));
  const high = Math.max(SHORTEST, Math.min(TALLEST, (tokens ? 16 : Math.max(cell, 4)) * rows));
  const labels = tokens?.slice(0, rows).map((token) => tokenHtml(token));
  return new Figure(
    [{
      type: "heatmap",
      z: packed(Float32Array.from(values), [rows, columns]),
      colorscale: signed ? DIVERGING : SEQUENTIAL,
      zmin: signed ? zmin : 0,
      zmax,
      colorbar: { thickness: 12 },
      hovertemplate: `${html(rowAxis)} %{y}, ${html(columnAxis)} %{x}: %{z:.5g}<extra></extra>`,
    }],
    layout({
      title: {
        text: html(title),
        subtitle: { text: `${rowAxis} ${rows} × ${columnAxis} ${columns}` },
      },
      width: wide + 200,
      height: high + 130,
      margin: { l: 110, r: 90, t: 70, b: 50 },
      xaxis: axis({ title: { text: columnAxis }, showgrid: false }),
      yaxis: axis({
        ...(labels
          ? {
            tickvals: labels.map((_, i) => i),
            ticktext: labels,
            tickfont: { family: TOKEN_FONT, size: 10 },
          }
          : { title: { text: rowAxis } }),
        autorange: "reversed",
        showgrid: false,
      }),
    }),
  );
}

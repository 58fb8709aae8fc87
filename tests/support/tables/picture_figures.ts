/** Figures of every kind, as Lamina makes them: for what must be true of all pictures. */
import { Figure } from "../../../inspect/figures/drawing/figure.ts";
import type { Axis, Trace } from "../../../inspect/figures/drawing/figure.ts";
import { packed } from "../../../inspect/figures/drawing/numbers.ts";
import {
  axis,
  centred,
  DIVERGING,
  FAINT,
  layout,
  PALETTE,
  SEQUENTIAL,
  TOKEN_FONT,
} from "../../../inspect/figures/drawing/theme.ts";
import { tokenHtml } from "../../../inspect/figures/drawing/tokens.ts";
import { Random } from "../../../checkpoints/files/random.ts";

const random = new Random(11);
const list = <T>(length: number, make: (i: number) => T): T[] =>
  Array.from({ length }, (_, i) => make(i));
const TOKENS = [
  "<s>",
  " Once",
  " upon",
  " a",
  " time",
  ",",
  " there",
  " was",
  "\n",
  '"',
  " ж→",
  "&",
];

/** Tokens as ticks. */
function tokenTicks(count: number): Axis {
  return {
    tickvals: list(count, (i) => i),
    ticktext: list(count, (i) => tokenHtml(TOKENS[i % TOKENS.length])),
    tickfont: { family: TOKEN_FONT, size: 11 },
    showgrid: false,
  };
}

const triangle = (size: number) =>
  list(size, (row) => list(size, (column) => column <= row ? random.uniform(0, 1) ** 4 : null));

function attention(): Figure {
  return new Figure(
    [{
      type: "heatmap",
      z: triangle(24),
      colorscale: SEQUENTIAL,
      zmin: 0,
      zmax: 1,
      colorbar: { title: { text: "weight" }, thickness: 14, len: 0.6 },
    }],
    layout({
      title: { text: "tiny · layer 3 · head 2", subtitle: { text: "each row is a query" } },
      width: 640,
      height: 620,
      margin: { l: 90, r: 20, b: 90 },
      xaxis: axis({
        ...tokenTicks(24),
        tickangle: -90,
        title: { text: "key" },
        constrain: "domain",
      }),
      yaxis: axis({
        ...tokenTicks(24),
        title: { text: "query" },
        autorange: "reversed",
        scaleanchor: "x",
        constrain: "domain",
      }),
    }),
  );
}

function lens(): Figure {
  const [rows, columns] = [5, 8];
  return new Figure(
    [{
      type: "heatmap",
      z: list(rows, () => list(columns, () => random.uniform(0, 1))),
      text: list(rows, (r) => list(columns, (c) => tokenHtml(TOKENS[(5 * r + c) % TOKENS.length]))),
      texttemplate: "%{text}",
      textfont: { family: TOKEN_FONT, size: 11 },
      xgap: 1,
      ygap: 1,
      colorscale: SEQUENTIAL,
      zmin: 0,
      zmax: 1,
      colorbar: { title: { text: "probability", side: "right" }, thickness: 14 },
    }],
    layout({
      title: { text: "Logit lens", subtitle: { text: "after each block" } },
      width: 820,
      height: 330,
      margin: { t: 110, r: 20, b: 20 },
      xaxis: axis({ ...tokenTicks(columns), side: "top" }),
      yaxis: axis({ title: { text: "layer" }, showgrid: false, dtick: 1 }),
    }),
  );
}

function errors(): Figure {
  return new Figure(
    ["attention", "FFN", "residual stream"].map((name, k): Trace => ({
      type: "scatter",
      mode: k === 1 ? "lines+markers" : "lines",
      name,
      x: list(30, (i) => i),
      y: list(
        30,
        (i) => i === 12 && k === 0 ? null : 10 ** (-7 + k + random.uniform(0, 1) + i / 30),
      ),
      line: { dash: (["solid", "dash", "dot"] as const)[k] },
      marker: { symbol: "diamond", size: 7 },
    })),
    layout({
      title: {
        text: "Error by layer",
        subtitle: { text: "against 32-bit weights &amp; the oracle" },
      },
      width: 760,
      height: 420,
      xaxis: axis({ title: { text: "layer" } }),
      yaxis: axis({ type: "log", title: { text: "largest absolute difference" } }),
      shapes: [
        {
          type: "line",
          xref: "paper",
          x0: 0,
          x1: 1,
          y0: 1e-4,
          y1: 1e-4,
          line: { color: PALETTE[1], width: 1.5, dash: "dash" },
        },
        {
          type: "rect",
          yref: "paper",
          x0: 10,
          x1: 14,
          y0: 0,
          y1: 1,
          fillcolor: "rgba(0, 114, 178, 0.1)",
          line: { width: 0 },
          layer: "below",
        },
      ],
      annotations: [{
        text: "tolerance",
        xref: "paper",
        x: 1,
        y: -4, // a power of ten
        xanchor: "right",
        yanchor: "bottom",
        showarrow: false,
        font: { size: 11, color: PALETTE[1] },
      }],
    }),
  );
}

function topTokens(): Figure {
  return new Figure(
    [{
      type: "bar",
      orientation: "h",
      y: [" mat", " floor", " bed", " couch", " table"].map((token) => tokenHtml(token)),
      x: [0.42, 0.21, 0.13, 0.05, 0.011],
      text: ["42 %", "21 %", "13 %", "5 %", "1.1 %"],
      marker: { color: PALETTE[0] },
    }],
    layout({
      title: { text: "Next token" },
      width: 520,
      height: 260,
      margin: { l: 90 },
      xaxis: axis({ tickformat: ".0%", title: { text: "probability" } }),
      yaxis: axis({ autorange: "reversed", tickfont: { family: TOKEN_FONT } }),
    }),
  );
}

function patching(): Figure {
  const values = Float32Array.from({ length: 12 * 32 }, () => 0.006 * (random.uniform(0, 1) - 0.5));
  return new Figure(
    [{
      type: "heatmap",
      z: packed(values, [12, 32]),
      colorscale: DIVERGING,
      ...centred(values),
      colorbar: { title: { text: "difference" }, thickness: 14 },
    }],
    layout({
      title: { text: "Patching: layer × head" },
      width: 820,
      height: 380,
      xaxis: axis({ title: { text: "head" }, dtick: 4 }),
      yaxis: axis({ title: { text: "layer" }, ticks: "outside" }),
      sliders: [{
        currentvalue: { prefix: "position " },
        pad: { t: 50 },
        steps: list(3, (i) => ({ label: `${i}`, method: "restyle", args: [] })),
      }],
    }),
  );
}

function words(): Figure {
  const count = TOKENS.length;
  return new Figure(
    [
      {
        type: "scatter",
        mode: "markers+text",
        x: list(count, () => 4000 * random.uniform(0, 1)),
        y: list(count, () => 1e-5 * random.uniform(0, 1)),
        text: TOKENS.map((token) => tokenHtml(token)),
        textposition: "top center",
        textfont: { family: TOKEN_FONT, size: 11 },
        marker: {
          size: list(count, (i) => 6 + i),
          color: list(count, (i) => i),
          colorscale: SEQUENTIAL,
          cmin: -5,
          cmax: count,
          showscale: true,
          colorbar: { title: { text: "layer" }, thickness: 12 },
        },
      },
      {
        type: "scatter",
        mode: "lines",
        x: [0, 4000],
        y: [0, 1e-5],
        line: { dash: "dot", color: FAINT, width: 1 },
      },
    ],
    layout({
      title: { text: "Two engines" },
      width: 640,
      height: 480,
      showlegend: false,
      xaxis: axis({ title: { text: "ours" } }),
      yaxis: axis({ title: { text: "theirs" } }),
    }),
  );
}

function ladder(): Figure {
  return new Figure(
    ["Q8_0", "Q4_K_M", "Q2_K"].map((name, k): Trace => ({
      type: "bar",
      name,
      x: ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up.weight"],
      y: list(5, () => 10 ** (-4 + k + random.uniform(0, 1))),
      text: list(5, (i) => `${i}`),
      textposition: "outside",
    })),
    layout({
      title: { text: "Two lines<br>of a title" },
      width: 460,
      height: 380,
      margin: { t: 100, r: 50 },
      barmode: "group",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", title: { text: "type" } },
      xaxis: axis(),
      yaxis: axis({ type: "log", title: { text: "error" } }),
    }),
  );
}

function areas(): Figure {
  const x = list(6, (i) => i);
  return new Figure(
    [
      ...[1, 2].map((factor): Trace => ({
        type: "bar",
        name: `times ${factor}`,
        x,
        y: [3, -1, 4, -1, 5, -9].map((value) => value * factor),
      })),
      { type: "scatter", mode: "lines", name: "low", x, y: [1, 5, 3, 8, 4, 9], fill: "tozeroy" },
      { type: "scatter", mode: "lines", name: "high", x, y: [4, 6, 6, 12, 8, 13], fill: "tonexty" },
    ],
    layout({
      title: { text: "Stacked and filled" },
      width: 620,
      height: 380,
      barmode: "relative",
      xaxis: axis(),
      yaxis: axis({ zeroline: true }),
    }),
  );
}

/** Figures by what they show. */
export const figures: Readonly<Record<string, Figure>> = {
  attention: attention(),
  lens: lens(),
  errors: errors(),
  topTokens: topTokens(),
  patching: patching(),
  words: words(),
  ladder: ladder(),
  areas: areas(),
};

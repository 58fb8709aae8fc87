/** Which layer's quantization hurts, in pictures. */
import type { Table } from "../../tables/mod.ts";
import { type Bar, Figure } from "../drawing/figure.ts";
import { short } from "../drawing/numbers.ts";
import { missing, shade } from "./divergence.ts";
import { allOf, plotRows } from "../drawing/table_rows.ts";
import { axis, FAINT, INK, plotLayout, titled, words } from "../drawing/theme.ts";
import { html } from "../drawing/tokens.ts";

const WIDTH = 800;
const PANEL = { height: 190, gap: 46 };
const MODES = [
  ["only", "this part alone is quantized: its share of the whole divergence"],
  ["restored", "this part alone is as it was: what goes of the whole divergence"],
] as const;

/**
 * Which layer's quantization hurts: for each part of the model (blocks, or kinds of tensors) which share of the divergence of the
 * quantized model's predictions it causes alone, and which share goes when it alone is restored. Parts whose two shares differ much work
 * together with others. Bars of several types go from light to dark.
 *
 * @param table of `layerSensitivity()`
 * @throws {TypeError | RangeError} for another table, an empty one, and one of types that do not run
 */
export function layerSensitivityBars(table: Table): Figure {
  const columns = ["type", "part", "mode", "kl", "kl_all", "share", "note"];
  const rows = plotRows(table, "sensitivities", columns, "layerSensitivity()");
  const all = allOf(rows);
  const own = all.filter((row) => rows.has("share", row));
  if (own.length === 0) {
    throw new RangeError("Cannot draw sensitivities: none of the table's types runs and differs");
  }
  const types = [...new Set(own.map((row) => rows.text("type", row)))];
  const parts = [...new Set(own.map((row) => rows.text("part", row)))];
  // What lies outside of blocks comes last.
  parts.sort((a, b) => Number(a === "outside") - Number(b === "outside"));
  const title = titled("which part’s quantization hurts", { model: rows.note("model") }, [
    `divergence with all of it quantized: ${
      types.map((type) => {
        const row = own.find((each) => rows.text("type", each) === type)!;
        return `${html(type)} ${rows.number("kl_all", row).toPrecision(2)} nats`;
      }).join(", ")
    }`,
    ...missing(rows, all),
  ]);
  const data = MODES.flatMap(([mode], panel) =>
    types.map((type, i): Bar => {
      const found = new Map(
        own.filter((row) => rows.text("type", row) === type && rows.text("mode", row) === mode)
          .map((row) => [rows.text("part", row), row]),
      );
      const values = parts.map((part) => found.get(part));
      return {
        type: "bar",
        name: html(type),
        legendgroup: type,
        showlegend: panel === 0,
        xaxis: panel === 0 ? "x" : "x2",
        yaxis: panel === 0 ? "y" : "y2",
        x: parts.map((_, i) => i),
        y: values.map((row) => row === undefined ? null : short(rows.number("share", row))),
        customdata: values.map((row, i) =>
          row === undefined
            ? ""
            : `<b>${html(parts[i])}</b>, ${html(type)}: divergence ${
              rows.number("kl", row).toPrecision(3)
            } nats`
        ),
        marker: { color: shade(i, types.length) },
        hovertemplate: "%{customdata}<br>share %{y:.1%}<extra></extra>",
      };
    })
  );
  const isBlock = parts.some((part) => part.startsWith("blk."));
  const every = Math.ceil(parts.length / 34);
  const ticks = parts.map((part, i) => [i, part.replace(/^blk\./, "")] as const)
    .filter(([i, part]) => i % every === 0 || part === "outside");
  const x = {
    range: [-0.6, parts.length - 0.4] as const,
    tickvals: ticks.map(([i]) => i),
    ticktext: ticks.map(([, part]) => html(part)),
    showgrid: false,
  };
  const y = { tickformat: ".0%", zeroline: true, title: { text: "share" } };
  const plot = 2 * PANEL.height + PANEL.gap;
  return new Figure(
    data,
    plotLayout(plot, {
      title,
      width: WIDTH,
      margin: { l: 70, r: 100, t: 24, b: 56 },
      xaxis: axis({ ...x, anchor: "y", showticklabels: false }),
      xaxis2: axis({
        ...x,
        anchor: "y2",
        title: { text: isBlock ? "layer" : "kind of tensor", font: { size: 12, color: FAINT } },
      }),
      yaxis: axis({ ...y, anchor: "x", domain: [1 - PANEL.height / plot, 1] }),
      yaxis2: axis({ ...y, anchor: "x2", domain: [0, PANEL.height / plot] }),
      annotations: MODES.map(([, text], panel) => {
        const own = { yshift: 4, font: { size: 12, color: INK } };
        const y = panel === 0 ? 1 : PANEL.height / plot;
        return words(text, [0, y], ["paper", "paper"], "left bottom", own);
      }),
      barmode: "group",
      bargap: 0.25,
      showlegend: types.length > 1,
      legend: { x: 1.02, y: 1 },
    }),
  );
}

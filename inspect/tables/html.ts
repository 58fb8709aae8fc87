/** A table's preview in HTML: one piece of markup without scripts or style sheets, in the page's own colours. */
import { type Cell, type Preview, previewText, statisticsWords, vectorText } from "./preview.ts";
import { escapeHtml } from "../escape.ts";

const FAINT = "opacity:.65";
const BORDER = "1px solid color-mix(in srgb, currentColor 20%, transparent)";
/** Readable on white and on black, and apart for the colour-blind. */
const STATUS: Readonly<Record<string, string>> = { pass: "#0b8a6f", fail: "#d1552c" };
const CELL = "padding:2px 10px;border:0;white-space:pre;vertical-align:middle;" +
  "background:transparent;max-width:none";

/** What a notebook cell shows of a preview, by MIME type. */
export function previewBundle(
  preview: Preview,
  text = previewText(preview),
): Record<string, string> {
  return { "text/html": tableHtml(preview), "text/plain": text };
}

/**
 * The HTML of a preview. Styles stand on the elements, and colours come from the page, so that it reads in light and in dark
 * notebooks and in exported ones.
 */
export function tableHtml(preview: Preview): string {
  const { title, meaning, facts, statistics, columns, cells, more, notes = [] } = preview;
  const align = columns.map(({ numeric }) => `text-align:${numeric ? "right" : "left"}`);
  const head = columns.map(({ name, type }, i) =>
    `<th style="${CELL};${align[i]};font-weight:600;border-bottom:${BORDER}">` +
    `${escapeHtml(name)}<br><span style="${FAINT};font-weight:400;font-size:85%">${
      escapeHtml(type)
    }</span></th>`
  );
  const vectors = cells.flat().filter((each) => typeof each !== "string");
  const scale = {
    places: Math.max(0, ...vectors.map(({ length }) => length)),
    largest: Math.max(0, ...vectors.map((each) => Math.abs(farthest(each)))),
    signed: vectors.some((each) => each.some((value) => value < 0)),
  };
  const body = cells.map((row) => {
    const html = row.map((each, i) =>
      `<td style="${CELL};${align[i]}">${cellHtml(each, columns[i].name, scale)}</td>`
    );
    return `<tr style="background:transparent">${html.join("")}</tr>`;
  });
  const figures = statistics &&
    statisticsWords(statistics).map(([name, value]) => {
      const alarm = name === "NaN" && value !== "0" ? ";color:#d33;opacity:1;font-weight:600" : "";
      return `<span style="margin-right:14px"><span style="${FAINT}${alarm}">${name}</span> ` +
        `<span style="font-variant-numeric:tabular-nums${alarm}">${
          escapeHtml(value)
        }</span></span>`;
    }).join("");
  return [
    `<div style="font-size:13px;line-height:1.5;overflow-x:auto">`,
    `<div><b style="font-size:115%">${escapeHtml(title)}</b>`,
    meaning ? ` <span style="${FAINT}">${escapeHtml(meaning)}</span>` : "",
    `</div><div style="${FAINT}">${facts.map(escapeHtml).join(" · ")}</div>`,
    figures ? `<div style="margin-top:4px">${figures}</div>` : "",
    `<table style="table-layout:auto;border-collapse:collapse;margin:6px 0 2px;border:0;font-size:12px">`,
    `<thead><tr>${head.join("")}</tr></thead><tbody>${body.join("")}</tbody></table>`,
    more > 0 ? `<div style="${FAINT}">… ${more.toLocaleString("en-US")} more rows</div>` : "",
    ...notes.map((line) => `<div>${escapeHtml(line)}</div>`),
    `</div>`,
  ].join("");
}

function cellHtml(cell: Cell, column: string, scale: Scale): string {
  if (typeof cell !== "string") {
    return `${
      scale.places > 1 ? strip(cell, scale) : ""
    } <span style="font-variant-numeric:tabular-nums">${escapeHtml(vectorText(cell))}</span>`;
  }
  const colour = column === "status" && STATUS[cell];
  if (colour) return `<b style="color:${colour}">${escapeHtml(cell)}</b>`;
  if (column !== "token") return escapeHtml(cell);
  // A tint shows where a token begins and ends: many begin with a space.
  return `<code style="background:color-mix(in srgb, currentColor 9%, transparent);color:inherit;` +
    `border-radius:3px;padding:1px 0;white-space:pre">${escapeHtml(cell)}</code>`;
}

const BARS = 48;
const [WIDTH, HEIGHT] = [96, 16];

/** What the strips of a table have in common. */
interface Scale {
  /** Numbers of the longest vector. */
  readonly places: number;
  /** Of all shown numbers, without their signs. */
  readonly largest: number;
  readonly signed: boolean;
}

/**
 * A vector as bars, negative ones downwards in orange. Places stand at the same spot in each row; where several share a bar it
 * shows the number farthest from 0.
 */
function strip(vector: Float32Array, { places, largest, signed }: Scale): string {
  const bars = Math.min(BARS, places);
  const step = WIDTH / bars;
  const height = signed ? HEIGHT / 2 : HEIGHT;
  const paths = { up: "", down: "" };
  for (let bar = 0; bar < bars; bar++) {
    const [from, to] = [bar, bar + 1].map((edge) => Math.floor(edge * places / bars));
    const value = farthest(vector.subarray(from, to));
    const size = round(Math.min(1, Math.abs(value) / largest) * height);
    if (!(size > 0)) continue;
    const [x, width] = [round(bar * step), round(Math.min(step * 0.8, 10))];
    paths[value < 0 ? "down" : "up"] += `M${x} ${height}h${width}v${
      value < 0 ? size : -size
    }h-${width}z`;
  }
  return `<svg width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" ` +
    `style="vertical-align:middle" role="img" aria-label="the vector as bars">` +
    `<path d="M0 ${height - 0.5}H${WIDTH}" stroke="currentColor" stroke-opacity=".25"/>` +
    `<path d="${paths.up}" fill="#4a90d9"/><path d="${paths.down}" fill="#e08a3c"/></svg>`;
}

/** The finite number that is farthest from 0. */
function farthest(vector: Float32Array): number {
  return vector.reduce(
    (most, value) => Math.abs(value) > Math.abs(most) && Number.isFinite(value) ? value : most,
    0,
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

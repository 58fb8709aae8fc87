/**
 * A notebook as one HTML file that shows everything and fetches nothing: its security policy forbids it to. Figures are drawn by
 * Plotly, which stands in the page once; without scripts their pictures stay.
 */
import plotly from "npm:plotly.js-cartesian-dist-min@4.1.1/plotly-cartesian.min.js" with {
  type: "text",
};
import { PLOTLY_MIME } from "../../../inspect/figures/drawing/display.ts";
import { escapeHtml } from "../../../inspect/escape.ts";
import { codeHtml, markdownHtml } from "./markdown.ts";
import { type Cell, joined, type MimeBundle, type Notebook, type Output } from "../notebook.ts";
import { plainText } from "../notebook.ts";
import draw from "./draw.js" with { type: "text" };
import style from "./style.css" with { type: "text" };

const POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; " +
  "script-src 'unsafe-inline'";

/** Pictures that a page shows, the best first. */
const PICTURES = ["image/svg+xml", "image/png", "image/jpeg"];

/** What a page needs from a figure's Plotly form. */
interface PlotlyFigure {
  readonly layout?: { readonly width?: number; readonly height?: number };
}

/**
 * The page of a notebook, outputs as they are.
 *
 * @param name stands in the title where the notebook begins without a heading
 */
export function notebookPage(notebook: Notebook, name: string): string {
  const language = notebook.metadata.language_info?.name ??
    notebook.metadata.kernelspec?.language ?? "";
  const cells = notebook.cells.map((cell) => cellHtml(cell, language));
  const figures = cells.some((html) => html.includes(FIGURE));
  const scripts = figures ? `<script>${plotly}</script>\n<script>${draw}</script>\n` : "";
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>${escapeHtml(titleOf(notebook) ?? name)}</title>
<style>
${style}</style>
</head>
<body>
<main>
${cells.join("\n")}
</main>
${scripts}</body>
</html>
`;
}

/** Text of the first heading. */
function titleOf({ cells }: Notebook): string | undefined {
  const first = cells.find(({ cell_type }) => cell_type === "markdown");
  const heading = first && /^#+\s+(.+?)\s*#*$/m.exec(joined(first.source));
  return heading?.[1].replace(/[*_`$]/g, "");
}

function cellHtml(cell: Cell, language: string): string {
  const source = joined(cell.source);
  switch (cell.cell_type) {
    case "markdown":
      return `<section class="prose">${markdownHtml(source)}</section>`;
    case "raw":
      return `<section><pre>${escapeHtml(source)}</pre></section>`;
    case "code": {
      const outputs = (cell.outputs ?? []).map(outputHtml).join("\n");
      const code = source && `<pre class="source"><code>${codeHtml(source, language)}</code></pre>`;
      return `<section class="code">${code}\n${outputs}</section>`;
    }
  }
}

function outputHtml(output: Output): string {
  switch (output.output_type) {
    case "stream":
      return `<pre class="output ${output.name === "stderr" ? "stderr" : "stdout"}">${
        escapeHtml(plainText(joined(output.text)))
      }</pre>`;
    case "error":
      return `<pre class="output error">${
        escapeHtml(plainText(output.traceback.join("\n") || `${output.ename}: ${output.evalue}`))
      }</pre>`;
    default:
      return bundleHtml(output.data);
  }
}

const FIGURE = `<figure class="plotly">`;

/** The best of the forms that a page can show. */
function bundleHtml(data: MimeBundle): string {
  const text = (mime: string) => joined(data[mime] as string);
  const caption = "text/plain" in data ? text("text/plain") : "";
  const picture = PICTURES.find((mime) => mime in data);
  if (PLOTLY_MIME in data) {
    const figure = data[PLOTLY_MIME] as PlotlyFigure;
    const { width, height } = figure.layout ?? {};
    const size = width && height ? ` width="${width}" height="${height}"` : "";
    const shown = picture ? pictureHtml(picture, text(picture), caption, size) : "";
    // No "</script>" in it.
    const json = JSON.stringify(figure).replaceAll("<", "\\u003c");
    return `${FIGURE}${shown}<script type="application/json">${json}</script></figure>`;
  }
  if ("text/html" in data) return `<div class="output html">${text("text/html")}</div>`;
  if (picture) return `<figure>${pictureHtml(picture, text(picture), caption)}</figure>`;
  if ("text/markdown" in data) {
    return `<div class="output prose">${markdownHtml(text("text/markdown"))}</div>`;
  }
  return `<pre class="output">${escapeHtml(plainText(caption))}</pre>`;
}

/** A picture of Jupyter's: SVG as text, others in base64. */
function pictureHtml(mime: string, content: string, caption: string, size = ""): string {
  const data = mime === "image/svg+xml"
    ? `,${encodeURIComponent(content)}`
    : `;base64,${content.replace(/\s/g, "")}`;
  return `<img src="data:${mime}${data}" alt="${escapeHtml(caption)}"${size}>`;
}

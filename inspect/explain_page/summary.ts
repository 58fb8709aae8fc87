/** The page as a list, for readers without scripts. */
import { html, tokenHtml } from "../figures/drawing/tokens.ts";
import { textsOf } from "./texts/mod.ts";
import type { PageData } from "./data.ts";
import { Page } from "./page/numbers.js";
import { recompute, show } from "./page/recompute.js";
import type { PageStep } from "./steps.ts";

/** Numbers of a step that are shown. */
const SHOWN = 4;

/** Every step in order: its name, what it does, its shape, numbers of the last position, and one of them computed again. */
export function summary(data: PageData, numbers: Float32Array): string {
  const page = new Page(data, numbers);
  const position = data.positions.at(-1)!;
  const texts = textsOf(data.steps);
  const rows = data.steps.map((step) => row(page, step, position, texts[step.kind].title));
  const token = (id: number) => `<code>${tokenHtml(data.vocabulary[id] ?? "")}</code>`;
  const tokens = data.tokens.map(({ id, text }) => `<code>${tokenHtml(text)}</code>&nbsp;${id}`);
  return [
    `<h1>${html(data.model.name)} reads “${html(data.prompt)}”</h1>`,
    "<p>This page steps through the pass when scripts are allowed. Without them it is this list.</p>",
    `<p>Tokens and ids: ${tokens.join(", ")}. The likeliest next token is ${
      token(data.chosen.at(-1)!)
    }.</p>`,
    `<p>Numbers are the first of position ${position}, the last one.</p>`,
    `<table><tr><th>step</th><th>shape</th><th>what it is</th><th>numbers</th></tr>`,
    ...rows,
    "</table>",
  ].join("\n");
}

function row(
  page: Page,
  step: PageStep & { readonly pick: number },
  position: number,
  title: string,
): string {
  const shape = step.axes.map((axis, i) => `${axis.replace("_", " ")} ${step.shape[i]}`).join(", ");
  const { lines } = recompute(page, step, position, step.pick);
  const vector: Float32Array | undefined = page.has(step.name)
    ? page.vector(step.name, position)
    : undefined;
  const first = vector
    ? Array.from(vector.subarray(0, SHOWN), show).join(", ") + (vector.length > SHOWN ? ", …" : "")
    : "";
  const worked = lines ? `<br>${html(lines.at(-1)!)}` : "";
  return `<tr><td><code>${step.name}</code></td><td>${shape}</td><td>${
    html(title)
  }</td><td>${first}${worked}</td></tr>`;
}

/**
 * Draws attention.svg: `tiny`'s strongest induction head on a text that repeats itself.
 *
 *     ./denow run -A notebooks/pictures/attention.ts
 */
import { inductionScores, loadModel, tableColumns } from "../../mod.ts";

const PROMPT = '"Moon, shell, drum, kite," said Mia. "Moon, shell, drum, kite," said the parrot.';
const CELL = 15;
const LEFT = 70;
const TOP = 92;

using model = await loadModel("tiny");
const scores = tableColumns(await inductionScores(model));
const induction = Array.from(scores.induction as Float64Array);
const best = induction.indexOf(Math.max(...induction));
const [layer, head] = [Number(scores.layer[best]), Number(scores.head[best])];

const point = `blk.${layer}.attn_probs`;
const run = await model.run(PROMPT, { capture: [point] });
const rows = run.tensor(point).at({ head }).toArray() as number[][];
const tokens = run.tokens().map((token) => token.replaceAll(" ", "·"));

const escape = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
const size = tokens.length * CELL;
const title =
  `tiny, layer ${layer}, head ${head}: each token looks at what followed it the last time`;
const parts = [
  `<svg xmlns="http://www.w3.org/2000/svg" width="${LEFT + size + 20}" height="${
    TOP + size + 12
  }" ` +
  `font-family="monospace" font-size="10" role="img" aria-label="${escape(title)}">`,
  '<rect width="100%" height="100%" fill="#fff"/>',
  `<text x="12" y="20" font-size="12" font-family="sans-serif">${escape(title)}</text>`,
  '<text x="12" y="36" font-family="sans-serif" fill="#666">rows: queries; columns: keys; darker: more attention</text>',
];
tokens.forEach((token, i) => {
  const at = i * CELL + CELL / 2 + 3;
  parts.push(`<text x="${LEFT - 6}" y="${TOP + at}" text-anchor="end">${escape(token)}</text>`);
  parts.push(
    `<text transform="translate(${LEFT + at} ${TOP - 6}) rotate(-60)">${escape(token)}</text>`,
  );
});
rows.forEach((row, query) =>
  row.slice(0, query + 1).forEach((weight, key) => {
    // From near white to dark blue.
    const shade = (from: number, to: number) => Math.round(from + (to - from) * Math.sqrt(weight));
    const fill = `rgb(${shade(245, 8)},${shade(248, 48)},${shade(252, 107)})`;
    const [x, y] = [LEFT + key * CELL, TOP + query * CELL];
    parts.push(
      `<rect x="${x}" y="${y}" width="${CELL - 1}" height="${CELL - 1}" fill="${fill}">` +
        `<title>${
          escape(`${tokens[query]} → ${tokens[key]}: ${weight.toFixed(3)}`)
        }</title></rect>`,
    );
  })
);
parts.push("</svg>");
await Deno.writeTextFile(new URL("attention.svg", import.meta.url), parts.join("\n") + "\n");

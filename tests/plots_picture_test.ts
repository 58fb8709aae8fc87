/** Static pictures: the same each time, with the figure's words and colours, in the places where Plotly has them. */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { inflateSync } from "node:zlib";
import type { Browser, Page } from "npm:playwright-core@1.65.1";
import plotly from "npm:plotly.js-cartesian-dist-min@4.1.1/plotly-cartesian.min.js" with { type: "text" };
import { Figure } from "../mod.ts";
import type { Axis, Layout, Trace } from "../inspect/plots/figure.ts";
import { FONT_FILES } from "../inspect/plots/picture/fonts.ts";
import { indexed } from "../inspect/plots/picture/palette.ts";
import { ticksOf } from "../inspect/plots/picture/ticks.ts";
import { textBlock, textRows } from "../inspect/plots/picture/text.ts";
import { launchBrowser } from "./support/browser.ts";
import { figures } from "./support/picture_figures.ts";

/** A picture, decoded: chunks read by the format's rules, the filter "none" that we write demanded. */
class Pixels {
  readonly width: number;
  readonly height: number;
  readonly #rgb: (i: number) => number[];

  constructor(png: Uint8Array) {
    const view = new DataView(png.buffer, png.byteOffset, png.length);
    const chunks = new Map<string, Uint8Array>();
    for (let at = 8; at < png.length; at += 12 + view.getUint32(at)) {
      const type = new TextDecoder().decode(png.subarray(at + 4, at + 8));
      chunks.set(type, png.subarray(at + 8, at + 8 + view.getUint32(at)));
    }
    this.width = view.getUint32(16);
    this.height = view.getUint32(20);
    const channels = chunks.has("PLTE") ? 1 : 4;
    const lines = inflateSync(chunks.get("IDAT")!);
    const length = 1 + channels * this.width;
    assert.equal(lines.length, this.height * length);
    for (let y = 0; y < this.height; y++) assert.equal(lines[y * length], 0, "filter");
    const place = (i: number) =>
      Math.floor(i / this.width) * length + 1 + channels * (i % this.width);
    const palette = chunks.get("PLTE");
    this.#rgb = palette
      ? (i) => [...palette.subarray(3 * lines[place(i)], 3 * lines[place(i)] + 3)]
      : (i) => [...lines.subarray(place(i), place(i) + 3)];
  }

  at(x: number, y: number): number[] {
    return this.#rgb(Math.round(y) * this.width + Math.round(x));
  }

  /** How many pixels of a box are not white. */
  ink(x: number, y: number, width: number, height: number): number {
    let count = 0;
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++) {
        if (this.at(column, row).some((channel) => channel < 200)) count++;
      }
    }
    return count;
  }
}

const rgb = (hex: string) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const distance = (a: readonly number[], b: readonly number[]) =>
  Math.hypot(...a.map((channel, i) => channel - b[i]));

function assertColor(actual: readonly number[], expected: string, what: string): void {
  assert.ok(distance(actual, rgb(expected)) < 12, `${what}: ${actual}, not ${rgb(expected)}`);
}

/** A figure without anything but its traces, filling the picture. */
function bare(data: Trace[], width: number, height: number, more: Partial<Layout> = {}): Figure {
  const hidden: Axis = { showticklabels: false, showgrid: false, zeroline: false };
  return new Figure(data, {
    width,
    height,
    margin: { l: 0, r: 0, t: 0, b: 0 },
    showlegend: false,
    xaxis: hidden,
    yaxis: hidden,
    ...more,
  });
}

Deno.test("a figure's picture is the same each time, as large as the layout says, and small", async () => {
  for (const [name, figure] of Object.entries(figures)) {
    const [svg, png] = [await figure.svg(), await figure.png()];
    assert.equal(await figure.svg(), svg, name);
    assert.deepEqual(await figure.png(), png, name);
    const { width, height } = new Pixels(png);
    assert.deepEqual(
      [width, height],
      [1.5 * figure.layout.width, 1.5 * figure.layout.height],
      name,
    );
    assert.ok(png.length < 80e3, `${name}: ${png.length} bytes`);
  }
  // Pictures may stand in one page: none takes another's clip or gradient.
  const names = await Promise.all(
    Object.values(figures).map(async (figure) =>
      new Set([...(await figure.svg()).matchAll(/\bid="([^"]+)"/g)].map(([, name]) => name))
    ),
  );
  const all = names.flatMap((each) => [...each]);
  assert.ok(all.length > 10);
  assert.equal(new Set(all).size, all.length);
  const twice = new Pixels(await figures.topTokens.png({ scale: 2 }));
  assert.equal(twice.width, 2 * figures.topTokens.layout.width);
});

Deno.test("a heatmap's cells have their colours, gaps have none, whatever way the axes go", async () => {
  const z = [[0, 0.5, 1], [1, null, 0]];
  const scale = [[0, "#0000ff"], [0.5, "#00ff00"], [1, "#ff0000"]] as const;
  const color = (value: number | null) =>
    value === null ? "#ffffff" : scale.find(([place]) => place === value)![1];
  for (const gap of [0, 4]) {
    for (const autorange of [true, "reversed"] as const) {
      const axis: Axis = { showticklabels: false, showgrid: false, autorange };
      const figure = bare(
        [{
          type: "heatmap",
          z,
          colorscale: scale,
          zmin: 0,
          zmax: 1,
          showscale: false,
          xgap: gap,
          ygap: gap,
        }],
        300,
        200,
        { xaxis: axis, yaxis: axis },
      );
      const pixels = new Pixels(await figure.png({ scale: 1 }));
      for (const [row, values] of z.entries()) {
        for (const [column, value] of values.entries()) {
          const left = 100 * (autorange === true ? column : 2 - column);
          const top = 100 * (autorange === true ? 1 - row : row);
          // To the very edges: cells are sharp.
          for (const [x, y] of [[50, 50], [5, 5], [94, 94]]) {
            const where = `row ${row}, column ${column}, gap ${gap}, ${autorange}`;
            assertColor(pixels.at(left + x, top + y), color(value), where);
          }
          if (gap) assertColor(pixels.at(left, top + 50), "#ffffff", "between cells");
        }
      }
    }
  }
});

Deno.test("values beyond the ends of the scale, and those in between", async () => {
  const figure = bare(
    [{
      type: "heatmap",
      z: [[-9, 0.25, 9]],
      colorscale: [[0, "#000000"], [1, "#ff0000"]],
      zmin: 0,
      zmax: 1,
      showscale: false,
    }],
    300,
    100,
  );
  const pixels = new Pixels(await figure.png({ scale: 1 }));
  assertColor(pixels.at(50, 50), "#000000", "below");
  assertColor(pixels.at(150, 50), "#400000", "between");
  assertColor(pixels.at(250, 50), "#ff0000", "above");
});

Deno.test("words in cells are dark on light and light on dark", async () => {
  const figure = bare(
    [{
      type: "heatmap",
      z: [[0, 1]],
      text: [["MM", "MM"]],
      texttemplate: "%{text}",
      textfont: { size: 40 },
      colorscale: [[0, "#ffffff"], [1, "#000000"]],
      zmin: 0,
      zmax: 1,
      showscale: false,
    }],
    300,
    100,
  );
  const pixels = new Pixels(await figure.png({ scale: 1 }));
  const shades = (left: number) =>
    Array.from(
      { length: 140 * 60 },
      (_, i) => pixels.at(left + i % 140, 20 + Math.floor(i / 140))[0],
    );
  assert.ok(Math.min(...shades(5)) < 90, "dark letters");
  assert.ok(Math.max(...shades(155)) > 220, "light letters");
});

Deno.test("letters of many scripts are drawn, each different from a missing one", async () => {
  const drawn = async (text: string) => {
    const figure = bare([], 60, 60, {
      annotations: [{
        text,
        x: 0.5,
        y: 0.5,
        xref: "paper",
        yref: "paper",
        showarrow: false,
        font: { size: 30 },
      }],
    });
    return (await figure.png({ scale: 1 })).toBase64();
  };
  const missing = await drawn("\u{1F600}"); // no picture of a face in any of the fonts
  assert.notEqual(missing, await drawn(" "));
  for (const character of ["A", "é", "·", "⏎", "⇥", "→", "␍", "Ω", "ж", "−", "×", "…", "μ", "²"]) {
    assert.notEqual(await drawn(character), missing, character);
    assert.notEqual(await drawn(character), await drawn(" "), character);
  }
  assert.notEqual(await drawn("<b>A</b>"), await drawn("A"), "bold");
  assert.equal(await drawn("<s>A</s>"), await drawn("A"), "tags that are not known are left out");
  assert.equal(await drawn("&#65;&amp;&#x42;"), await drawn("A&B"), "entities");
});

Deno.test("Plotly's HTML: lines, runs, entities, spaces", () => {
  const font = { size: 10, color: "#000000", family: "Inter" };
  const rows = (html: string) =>
    textRows(textBlock(html, font), { x: 0, y: 0, align: "left" }).map((row) => row.text);
  assert.deepEqual(rows("a &lt;b&gt; &amp;amp; c"), ["a <b> &amp; c"]);
  assert.deepEqual(rows("one<br>two <b>three</b> four"), ["one", "two", "three", "four"]);
  assert.deepEqual(rows("a < b & c"), ["a < b & c"]);
  assert.deepEqual(rows("H0  7 %"), ["H0 \u00a07 %"]);
  assert.deepEqual(rows(""), []);
  assert.equal(textBlock("a<br>b", font).height, 26);
  const [red] = textRows(textBlock('<span style="color: #ff0000">x</span>', font), {
    x: 0,
    y: 0,
    align: "left",
  });
  assert.equal(red.fill, "#ff0000");
  const { width } = textBlock(" a ", { ...font, family: "DejaVu Sans Mono" });
  assert.ok(Math.abs(width - 3 * 6.02) < 0.01, `${width}`);
});

Deno.test("hidden traces are not drawn, and lines stop at gaps", async () => {
  const line = (visible: boolean | "legendonly"): Trace => ({
    type: "scatter",
    mode: "lines",
    x: [0, 1, 2, 3, 4],
    y: [1, 1, null, 1, 1],
    line: { color: "#ff0000", width: 9 },
    visible,
  });
  const range: Axis = { range: [0, 4], showgrid: false, zeroline: false, showticklabels: false };
  const axes = { xaxis: range, yaxis: { ...range, range: [0, 2] as const } };
  const picture = async (trace: Trace) =>
    new Pixels(await bare([trace], 400, 100, axes).png({ scale: 1 }));
  const shown = await picture(line(true));
  assertColor(shown.at(50, 50), "#ff0000", "before the gap");
  assertColor(shown.at(200, 50), "#ffffff", "in the gap");
  assertColor(shown.at(350, 50), "#ff0000", "after the gap");
  for (const visible of [false, "legendonly"] as const) {
    assert.equal((await picture(line(visible))).ink(0, 0, 400, 100), 0, `${visible}`);
  }
});

Deno.test("ticks: round steps, powers, units, formats", () => {
  const texts = (
    range: [number, number],
    layout: Parameters<typeof ticksOf>[0]["layout"] = {},
    length = 400,
  ) => ticksOf({ letter: "y", length, layout, range }).map(({ text }) => text);
  assert.deepEqual(texts([0, 1]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
  assert.deepEqual(texts([-3, 3], {}, 100), ["−2", "0", "2"]);
  assert.deepEqual(texts([0, 8000], {}, 200), ["0", "2000", "4000", "6000", "8000"]);
  assert.deepEqual(texts([0, 30000], {}, 120), ["0", "10k", "20k", "30k"]);
  assert.deepEqual(texts([-9, -3], { type: "log" }, 200), [
    "1n",
    "10n",
    "100n",
    "1μ",
    "10μ",
    "100μ",
    "0.001",
  ]);
  assert.deepEqual(texts([-0.2, 1.8], { type: "log" }, 100), ["1", "2", "5", "10", "2", "5"]);
  assert.deepEqual(texts([0, 1], { tickformat: ".0%" }, 100), ["0%", "50%", "100%"]);
  assert.deepEqual(texts([0, 1], { tickvals: [0, 0.5, 2], ticktext: ["a", "b", "c"] }), ["a", "b"]);
  assert.deepEqual(texts([1, 0], {}, 90), ["0", "0.5", "1"]);
});

Deno.test("few colours: frequent ones stay exact, rare ones near, too many stay as they are", () => {
  const pixels = (colors: number[][]) =>
    Uint8Array.from(colors.flatMap((color) => [...color, 255]));
  const white = [255, 255, 255];
  const shades = Array.from({ length: 512 }, (_, i) => [i >> 1, 100, 50 + (i & 1)]);
  const { colors, indices } = indexed(pixels([...Array(900).fill(white), ...shades]))!;
  assert.ok(colors.length <= 3 * 256);
  const at = (i: number) => [...colors.subarray(3 * indices[i], 3 * indices[i] + 3)];
  assert.deepEqual(at(0), white);
  for (const [i, shade] of shades.entries()) {
    assert.ok(distance(at(900 + i), shade) <= 2, `${shade}`);
  }
  const cube = Array.from(
    { length: 4096 },
    (_, i) => [i >> 8, i >> 4 & 15, i & 15].map((c) => 17 * c),
  );
  assert.equal(indexed(pixels(cube)), undefined);
});

Deno.test("fifty pictures leave no memory behind", async () => {
  const { topTokens, grid } = figures;
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const draw = async (times: number) => {
    for (let i = 0; i < times; i++) await Promise.all([topTokens.png(), grid.svg()]);
    collect();
    return Deno.memoryUsage().rss;
  };
  await draw(15);
  const before = await draw(15);
  const after = await draw(50);
  assert.ok(after - before < 30e6, `${Math.round((after - before) / 1e6)} MB more`);
});

Deno.test("only a figure that is drawn loads the drawers", async () => {
  const libraries = /"(vega|@resvg\/resvg-wasm|@expo-google-fonts|dejavu-fonts-ttf)/;
  const drawers: string[] = [];
  for (const folder of ["inspect/plots", "inspect/plots/picture", "inspect", "notebooks"]) {
    for await (const { name } of Deno.readDir(folder)) {
      if (!name.endsWith(".ts")) continue;
      const code = await Deno.readTextFile(`${folder}/${name}`);
      if (folder !== "inspect/plots/picture") {
        assert.doesNotMatch(code, libraries, name);
        assert.doesNotMatch(code, /from "[^"]*picture\//, name);
      } else if (libraries.test(code)) drawers.push(name);
    }
  }
  assert.ok(drawers.includes("mod.ts"));
});

/** A page with Plotly and the pictures' fonts. */
async function plotlyPage(browser: Browser): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
  const faces = [["Inter", 400], ["Inter", 600], ["DejaVu Sans", 400], ["DejaVu Sans Mono", 400]]
    .map(([family, weight], i) =>
      `@font-face { font-family: "${family}"; font-weight: ${weight};
        src: url(data:font/ttf;base64,${FONT_FILES[i].toBase64()}) }`
    ).join("\n");
  const used = `<p style="font-family: Inter">a<b>b</b></p>
    <p style="font-family: 'DejaVu Sans Mono'">a</p><p style="font-family: 'DejaVu Sans'">a</p>`;
  await page.setContent(`<style>${faces} body { margin: 0 }</style><div id="figure"></div>${used}`);
  await page.addScriptTag({ content: plotly });
  await page.evaluate("document.fonts.ready");
  return page;
}

interface Word {
  readonly text: string;
  readonly x: number;
  readonly y: number;
}

/** In the browser: lines of text on the figure, and their middles. A slider's marks are not in a picture. */
const WORDS = `[...document.querySelectorAll("#figure text")]
  .filter((each) => !each.closest(".slider-labels"))
  .flatMap((each) => each.querySelector("tspan.line") ? [...each.querySelectorAll("tspan.line")] : [each])
  .map((each) => ({ text: each.textContent.replaceAll("\\u00a0", " ").trim(), box: each.getBoundingClientRect() }))
  .filter(({ text }) => text !== "")
  .map(({ text, box }) => ({ text, x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 }))`;

Deno.test({
  name: "every word stands where Plotly has it",
  // The browser's pipes outlive the steps.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    const browser = await launchBrowser();
    try {
      const page = await plotlyPage(browser);
      for (const [name, figure] of Object.entries(figures)) {
        await t.step(name, async () => {
          await page.evaluate(
            `document.getElementById("figure").replaceChildren();
             Plotly.newPlot("figure", ...${JSON.stringify([figure.data, figure.layout])})`,
          );
          const theirs: Word[] = await page.evaluate(WORDS);
          await page.evaluate(`Plotly.purge("figure")`);
          const svg = await figure.svg();
          await page.evaluate(
            `document.getElementById("figure").innerHTML = ${JSON.stringify(svg)}`,
          );
          compareWords(await page.evaluate(WORDS), theirs);
        });
      }
    } finally {
      await browser.close();
    }
  },
});

/** The same words, each at most 2 pixels away, half a pixel in the middle. */
function compareWords(ours: readonly Word[], theirs: readonly Word[]): void {
  const texts = (words: readonly Word[]) => words.map(({ text }) => text).sort();
  assert.deepEqual(texts(ours), texts(theirs));
  const left = [...ours];
  const apart = theirs.map((word) => {
    const away = ({ text, x, y }: Word) =>
      text === word.text ? Math.hypot(x - word.x, y - word.y) : Infinity;
    const nearest = left.reduce((best, each, i) => away(each) < away(left[best]) ? i : best, 0);
    const [found] = left.splice(nearest, 1);
    return { text: word.text, away: away(found) };
  }).sort((a, b) => b.away - a.away);
  assert.ok(apart[0].away < 2, JSON.stringify(apart.slice(0, 5)));
  const mean = apart.reduce((sum, { away }) => sum + away, 0) / apart.length;
  assert.ok(mean < 0.8, `${mean}`);
}

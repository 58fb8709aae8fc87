/** Static pictures: the same each time, with the figure's words and colours, in letters that are on every machine. */
import assert from "node:assert/strict";
import { filesBelow } from "../../support/files.ts";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { crc32 } from "node:zlib";
import { Resvg } from "npm:@resvg/resvg-wasm@2.6.2";
import { decode } from "npm:fast-png@8.0.0";
import { Figure } from "../../../mod.ts";
import type { Axis, Layout, Trace } from "../../../inspect/figures/drawing/figure.ts";
import { Fonts } from "../../../inspect/figures/picture/fonts.ts";
import { indexed } from "../../../inspect/figures/picture/palette.ts";
import { figures } from "../../support/tables/picture_figures.ts";

/** A picture, decoded. */
class Pixels {
  readonly width: number;
  readonly height: number;
  readonly #rgb: (i: number) => number[];

  constructor(png: Uint8Array) {
    const { width, height, channels, data, palette } = decode(png);
    this.width = width;
    this.height = height;
    this.#rgb = palette
      ? (i) => palette[data[i]].slice(0, 3)
      : (i) => [...data.subarray(channels * i, channels * i + 3)];
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
  const hidden: Axis = { showticklabels: false, showgrid: false, zeroline: false, ticks: "" };
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
    const before = JSON.stringify(figure);
    const [svg, png] = [await figure.svg(), await figure.png()];
    assert.equal(JSON.stringify(figure), before, "the figure stays as it is");
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
      const axis: Axis = { showticklabels: false, showgrid: false, zeroline: false, autorange };
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

/** One text in the middle of a picture. */
function written(text: string, family?: string): Figure {
  return bare([], 60, 60, {
    annotations: [{
      text,
      x: 0.5,
      y: 0.5,
      xref: "paper",
      yref: "paper",
      showarrow: false,
      font: { size: 30, ...(family ? { family } : {}) },
    }],
  });
}

Deno.test("letters of many scripts are drawn, each different from a missing one", async () => {
  const drawn = async (text: string) => (await written(text).png({ scale: 1 })).toBase64();
  const missing = new Set([await drawn("\u{10ffff}"), await drawn(" ")]);
  const characters = "Aé·⏎⇥→⇤Ωж−×…μ²中語體働のカ「。한글😀🚀❤👩‍💻🇩🇪";
  const seen = new Map<string, string>();
  for (const { segment } of new Intl.Segmenter("en").segment(characters)) {
    const picture = await drawn(segment);
    assert.ok(!missing.has(picture), segment);
    assert.equal(seen.get(picture), undefined, segment);
    seen.set(picture, segment);
  }
  assert.notEqual(await drawn("<b>A</b>"), await drawn("A"), "bold");
  assert.equal(await drawn("&#65;&amp;&#x42;"), await drawn("A&B"), "entities");
  assert.equal(await drawn("\0A\x01\ufffe"), await drawn("A"), "what SVG cannot say is left out");
  const sans = await written("A", '"DejaVu Sans", serif').png({ scale: 1 });
  assert.deepEqual(sans, await written("A", "DejaVu Sans").png({ scale: 1 }), "quoted fonts");
  assert.notDeepEqual(sans, await written("A", "Inter").png({ scale: 1 }));
});

Deno.test("a text is measured with the letters that are drawn", async () => {
  await figures.topTokens.png(); // starts the drawer
  const texts = ["AVATAR To: fi 0.75", "·Once·upon⏎ж", "中の働「", "한국어", "x😀❤x"];
  for (const text of texts) {
    const fonts = await Fonts.of(text);
    for (const family of ["Inter", "DejaVu Sans Mono", "DejaVu Sans"]) {
      for (const bold of family === "Inter" ? [false, true] : [false]) {
        const right = (words: string) => {
          const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="9000" height="200">
            <text x="100" y="100" font-size="100" font-family="${family}"
              font-weight="${bold ? 700 : 400}">${words}</text></svg>`;
          const drawer = new Resvg(svg, { font: { fontBuffers: [...fonts.files] } });
          const { x, width } = drawer.getBBox()!;
          drawer.free();
          return x + width;
        };
        const drawn = right(text + text[0]) - right(text[0]);
        const measured = fonts.width(text, { family, size: 100, bold });
        assert.ok(
          Math.abs(drawn - measured) < 0.005 * drawn,
          `${text} ${family} ${bold}: ${measured}, drawn ${drawn}`,
        );
      }
    }
  }
});

Deno.test("letters of other scripts are loaded for figures that have them", async () => {
  const files = async (text: string) => (await Fonts.of(text)).files.length;
  assert.equal(await files("Once upon a time, жΩ→⏎"), 4);
  assert.equal(await files("中"), 5);
  assert.equal(await files("中 한 😀"), 7);
});

Deno.test("a figure needs to read its fonts and nothing else, and no other figure before it", async () => {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-q",
      "--no-prompt",
      "--allow-read",
      "tests/support/processes/picture_process.ts",
    ],
    env: { LANG: "de_DE.UTF-8", TZ: "Asia/Tokyo" },
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  const expected = await Promise.all([figures.lens.png(), figures.topTokens.png()]);
  assert.equal(
    new TextDecoder().decode(stdout),
    expected.map((png) => `${crc32(png)}\n`).join(""),
  );
});

Deno.test("a slider says what is chosen, and is not drawn", async () => {
  const { sliders, ...layout } = figures.patching.layout;
  const pixels = new Pixels(await figures.patching.png({ scale: 1 }));
  const [top, bottom] = [295, layout.height - 295];
  assert.ok(pixels.ink(60, top, 100, 20) > 50, "the chosen position");
  assert.equal(pixels.ink(0, top + 20, layout.width, bottom - 20), 0, "the rail and its labels");
  const without = await new Figure(figures.patching.data, layout).png({ scale: 1 });
  assert.notDeepEqual(without, await figures.patching.png({ scale: 1 }), "its room stays");
  assert.equal(sliders?.length, 1);
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
  const { topTokens, lens } = figures;
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const draw = async (times: number) => {
    for (let i = 0; i < times; i++) await Promise.all([topTokens.png(), lens.svg()]);
    collect();
    return Deno.memoryUsage().rss;
  };
  await draw(10);
  const before = await draw(10);
  const after = await draw(50);
  assert.ok(after - before < 30e6, `${Math.round((after - before) / 1e6)} MB more`);
});

Deno.test("only a figure that is drawn loads the drawers", async () => {
  const libraries =
    /"(?:npm:)?(linkedom|plotly\.js-cartesian|fontkit|fast-png|@resvg\/resvg-wasm|@expo-google-fonts|dejavu-fonts-ttf)/;
  const drawers: string[] = [];
  const root = new URL("../../../", import.meta.url);
  for (const folder of ["inspect", "notebooks"]) {
    for await (const name of filesBelow(new URL(`${folder}/`, root))) {
      if (!name.endsWith(".ts") || name.startsWith("commands/")) continue;
      const code = await Deno.readTextFile(new URL(`${folder}/${name}`, root));
      if (name.startsWith("figures/picture/")) {
        if (libraries.test(code)) drawers.push(name);
      } else {
        assert.doesNotMatch(code, libraries, name);
        assert.doesNotMatch(code, /from "[^"]*picture\//, name);
      }
    }
  }
  assert.ok(drawers.includes("figures/picture/mod.ts"));
});

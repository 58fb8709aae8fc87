/** Notebooks as people see them: in JupyterLab and as exported pages, in a real browser, with nothing but this machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser } from "npm:playwright-core@1.65.1";
import { PLOTLY_MIME } from "../../inspect/figures/drawing/display.ts";
import { NOTEBOOKS, ROOT } from "../../notebooks/commands/jupyter.ts";
import { firstError, type MimeBundle, type Notebook } from "../../notebooks/commands/notebook.ts";
import { notebookPage } from "../../notebooks/commands/page/mod.ts";
import { assertDrawn, launchBrowser, look, watchedPage } from "../support/browser.ts";
import { hoverText, Lab, moveSlider, type OpenNotebook } from "../support/browser_lab.ts";
import { Folder } from "../support/folder.ts";

const PROBE = "tests/fixtures/notebooks/probe.ipynb";
const paths = [
  PROBE,
  ...[...Deno.readDirSync(NOTEBOOKS)].map(({ name }) => name)
    .filter((name) => name.endsWith(".ipynb")).sort().map((name) => `notebooks/${name}`),
];
/** Those that are run three times over, to save the time of the others. */
const REPEATED = [PROBE, "notebooks/01_first_look.ipynb"];

/** The part of a figure's Plotly form that says what there is to see. */
interface PlotlyFigure {
  readonly layout: {
    readonly xaxis?: { readonly ticktext?: readonly string[] };
    readonly sliders?: readonly { readonly active?: number }[];
  };
  readonly data: readonly { readonly type: string }[];
}

async function committed(path: string): Promise<Notebook> {
  return JSON.parse(await Deno.readTextFile(join(ROOT, path)));
}

function bundles({ cells }: Notebook): MimeBundle[] {
  return cells.flatMap(({ outputs = [] }) =>
    outputs.flatMap((output) => "data" in output ? [output.data] : [])
  );
}

function figuresOf(notebook: Notebook): PlotlyFigure[] {
  return bundles(notebook).filter((data) => PLOTLY_MIME in data)
    .map((data) => data[PLOTLY_MIME] as PlotlyFigure);
}

function pictures(notebook: Notebook): unknown[] {
  return bundles(notebook).map((data) => data["image/png"]).filter((png) => png !== undefined);
}

/** Every figure is there, with elements and with pixels. */
async function checkFigures(opened: OpenNotebook, expected: number): Promise<void> {
  await opened.page.waitForFunction(
    `document.querySelectorAll(".jp-OutputArea .js-plotly-plot").length === ${expected}`,
    undefined,
    { timeout: 30_000 },
  );
  for (let i = 0; i < expected; i++) {
    const figure = opened.figures.nth(i);
    await figure.scrollIntoViewIfNeeded();
    await figure.locator(".main-svg *").first().waitFor({ state: "attached" });
    await assertDrawn(figure, `figure ${i + 1} of ${opened.path}`);
  }
}

/** Tokens stand in the hover of what has them on its axis, and a slider changes what it is for. */
async function checkInteraction(opened: OpenNotebook, figures: PlotlyFigure[]): Promise<void> {
  for (const [i, { layout, data }] of figures.entries()) {
    const figure = opened.figures.nth(i);
    const tokens = layout.xaxis?.ticktext ?? [];
    if (data[0].type === "heatmap" && tokens.length > 0) {
      await figure.scrollIntoViewIfNeeded();
      const text = await hoverText(figure);
      const shown = tokens.some((token) => text.includes(token));
      assert.ok(shown, `figure ${i + 1} of ${opened.path} says ${JSON.stringify(text)} on hover`);
    }
    if (layout.sliders && layout.sliders.length > 0) {
      await opened.page.mouse.move(0, 0);
      const plot = figure.locator(".cartesianlayer").first();
      const before = await look(plot);
      await moveSlider(figure, layout.sliders[0].active ? "first" : "last");
      await opened.page.mouse.move(0, 0);
      let after = await look(plot);
      for (let tries = 0; tries < 20 && after.hash === before.hash; tries++) {
        after = await look(plot);
      }
      assert.notEqual(after.hash, before.hash, `the slider of figure ${i + 1} of ${opened.path}`);
    }
  }
}

Deno.test({
  name: "notebooks in a browser",
  async fn(t) {
    const browser = await launchBrowser();
    try {
      await inLab(browser, t);
      for (const path of paths) {
        await t.step(
          `the page of ${path} shows its figures without a network`,
          () => onPage(browser, path),
        );
      }
    } finally {
      await browser.close();
    }
  },
});

async function inLab(browser: Browser, t: Deno.TestContext): Promise<void> {
  await using lab = await Lab.start();
  for (const path of paths) {
    await t.step(`${path} runs in JupyterLab, and its figures are drawn`, async () => {
      await using opened = await lab.open(browser, path);
      const notebook = await opened.runAll();
      assert.equal(firstError(notebook), undefined);
      const figures = figuresOf(notebook);
      assert.equal(figures.length, figuresOf(await committed(path)).length, "as many as committed");
      await checkFigures(opened, figures.length);
      await checkInteraction(opened, figures);
      if (path === PROBE) {
        // The second shows once what the third shows after two updates.
        const drawn = (i: number) =>
          opened.figures.nth(i).locator(".hm image").getAttribute("href");
        assert.ok(await drawn(1));
        assert.equal(await drawn(2), await drawn(1), "the last update");
      }

      for (let again = 0; REPEATED.includes(path) && again < 2; again++) {
        const repeated = await opened.runAll({ restart: true });
        assert.equal(firstError(repeated), undefined);
        assert.ok(pictures(repeated).length > 0);
        assert.deepEqual(pictures(repeated), pictures(notebook), "the same pictures");
        await checkFigures(opened, figures.length);
        assert.equal(await lab.kernels(), 1);
      }
      assert.deepEqual(opened.refused, []);
    });
    assert.equal(await lab.kernels(), 0);
  }
}

/** The exported page: figures drawn with the network switched off, pictures where scripts are. */
async function onPage(browser: Browser, path: string): Promise<void> {
  using folder = new Folder();
  const notebook = await committed(path);
  const count = figuresOf(notebook).length;
  const url = pathToFileURL(folder.write("page.html", notebookPage(notebook, path))).href;
  const allow = new RegExp(`^${RegExp.escape(url)}$`);

  await using drawn = await watchedPage(browser, { allow });
  await drawn.page.context().setOffline(true);
  await drawn.page.goto(url);
  if (count > 0) await drawn.page.waitForSelector("body[data-drawn]");
  const plots = drawn.page.locator("figure.plotly .js-plotly-plot");
  assert.equal(await plots.count(), count);
  for (let i = 0; i < count; i++) await assertDrawn(plots.nth(i), `figure ${i + 1}`);
  assert.deepEqual([drawn.refused, drawn.errors], [[], []]);

  await using still = await watchedPage(browser, { allow, scripts: false });
  await still.page.goto(url);
  const images = still.page.locator("figure.plotly img");
  assert.equal(await images.count(), count);
  for (let i = 0; i < count; i++) await assertDrawn(images.nth(i), `picture ${i + 1}`);
}

/** JupyterLab as `./denow task lab` starts it, with settings of its own and nothing saved. */
import { join } from "node:path";
import type { Browser, Locator, Page } from "npm:playwright-core@1.65.1";
import { endLab, jupyter, ROOT, startLab } from "../../notebooks/commands/jupyter.ts";
import type { Notebook } from "../../notebooks/commands/notebook.ts";
import { watchedPage } from "./browser.ts";
import { Folder } from "./folder.ts";

/** How long a notebook may take. */
const NOTEBOOK_MS = 300_000;
const TOKEN = "of-the-tests";

/** A running server. */
export class Lab implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #folder: Folder;
  readonly address: string;

  private constructor(child: Deno.ChildProcess, folder: Folder, address: string) {
    this.#child = child;
    this.#folder = folder;
    this.address = address;
  }

  /** Starts it on the repository's root, whose notebooks and test notebooks are both to be seen. */
  static async start(): Promise<Lab> {
    const folder = new Folder();
    const environment = await jupyter({ settings: folder.path, onProgress: console.error });
    // Notebooks stay as they are committed.
    const settings = join(folder.path, "user-settings", "@jupyterlab", "docmanager-extension");
    await Deno.mkdir(settings, { recursive: true });
    await Deno.writeTextFile(join(settings, "plugin.jupyterlab-settings"), '{ "autosave": false }');
    const port = freePort();
    const child = startLab(environment, {
      root: ROOT,
      page: "/lab",
      port,
      browser: false,
      args: ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"],
      env: { JUPYTER_TOKEN: TOKEN },
    });
    const lab = new Lab(child, folder, `http://localhost:${port}`);
    for (let tries = 0; tries < 300; tries++) {
      if (await lab.#get("/api").then((answer) => answer.ok, () => false)) return lab;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await lab[Symbol.asyncDispose]();
    throw new Error("JupyterLab does not answer");
  }

  async #get(path: string): Promise<{ ok: boolean; json: unknown }> {
    const response = await fetch(`${this.address}${path}`, {
      headers: { Authorization: `token ${TOKEN}` },
    });
    const text = await response.text();
    return { ok: response.ok, json: response.ok ? JSON.parse(text) : undefined };
  }

  /** Opens a notebook (path from the repository's root) in a page of its own, with a fresh kernel. */
  async open(browser: Browser, path: string): Promise<OpenNotebook> {
    const watched = await watchedPage(browser, { allow: new RegExp(`^${this.address}/`) });
    const { page } = watched;
    await page.goto(`${this.address}/lab/tree/${path}?reset&token=${TOKEN}`);
    const notebook = new OpenNotebook(page, path, watched.refused, async () => {
      await notebook.shutDown();
      await watched[Symbol.asyncDispose]();
    });
    await notebook.ready();
    return notebook;
  }

  /** How many kernels run. */
  async kernels(): Promise<number> {
    return ((await this.#get("/api/kernels")).json as unknown[]).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    endLab(this.#child);
    await this.#child.status;
    this.#folder[Symbol.dispose]();
  }
}

/** A notebook in JupyterLab. */
export class OpenNotebook implements AsyncDisposable {
  constructor(
    readonly page: Page,
    readonly path: string,
    /** Requests that would have left this machine. */
    readonly refused: readonly string[],
    readonly close: () => Promise<void>,
  ) {}

  /** Waits until it has its kernel. */
  async ready(): Promise<void> {
    await this.page.waitForFunction(
      `globalThis.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === "idle"`,
      undefined,
      { timeout: 60_000 },
    );
  }

  /** Runs all cells; with `restart` in a fresh kernel. What they gave. */
  async runAll({ restart = false } = {}): Promise<Notebook> {
    this.page.setDefaultTimeout(NOTEBOOK_MS);
    await this.page.evaluate(RUN_ALL(restart));
    return await this.notebook();
  }

  /** The notebook as JupyterLab has it now. */
  async notebook(): Promise<Notebook> {
    return await this.page.evaluate(
      "jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()",
    );
  }

  /** The figures that Plotly drew. */
  get figures(): Locator {
    return this.page.locator(".jp-OutputArea .js-plotly-plot");
  }

  /** Ends the kernel. */
  async shutDown(): Promise<void> {
    await this.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Without the dialog that asks whether to restart. */
const RUN_ALL = (restart: boolean) =>
  `(async () => {
    const { sessionContext, content } = jupyterapp.shell.currentWidget;
    if (${restart}) {
      await jupyterapp.commands.execute("notebook:clear-all-cell-outputs");
      await sessionContext.restartKernel();
    }
    await jupyterapp.commands.execute("notebook:run-all-cells");
    content.activeCellIndex = 0;
  })()`;

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** How long a figure may take to answer the mouse. */
const HOVER_MS = 300;

/** The words that a figure shows when the mouse stands over its cells: those of the first place that has any. */
export async function hoverText(figure: Locator): Promise<string> {
  const page = figure.page();
  const plot = figure.locator(".nsewdrag").first();
  const words = figure.locator(".hoverlayer .hovertext").first();
  const { width, height } = (await plot.boundingBox())!;
  // Attention has its cells below the diagonal, and a grid of heads has it many times.
  for (const y of [0.52, 0.13, 0.3, 0.71, 0.9]) {
    for (const x of [0.02, 0.12, 0.31, 0.5, 0.74]) {
      const position = { x: x * width, y: y * height };
      // Scrolls there where it is out of sight.
      await plot.hover({ position, force: true });
      await page.mouse.move(0, 0);
      await plot.hover({ position, force: true });
      const shown = await words.waitFor({ state: "attached", timeout: HOVER_MS })
        .then(() => words.textContent(), () => null);
      if (shown) return shown;
    }
  }
  return "";
}

/** Moves a figure's slider from one end to the other. */
export async function moveSlider(figure: Locator, to: "first" | "last"): Promise<void> {
  const rail = figure.locator(".slider-rail-touch-rect").first();
  const { width, height } = (await rail.boundingBox())!;
  await rail.click({ position: { x: to === "first" ? 2 : width - 2, y: height / 2 } });
}

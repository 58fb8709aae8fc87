/**
 * The project's own Jupyter: JupyterLab and Python's packages in `.venv/`, with Lamina's kernel registered there, and Jupyter's
 * settings in `.jupyter/`. Nothing is written to the user's home, nothing of the user's configuration counts, nothing is fetched
 * but the packages, once.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import plotly from "npm:plotly.js-cartesian-dist-min@4.1.1/plotly-cartesian.min.js" with {
  type: "text",
};
import {
  type PythonEnvironment,
  pythonEnvironment,
} from "../../checkpoints/references/processes/python_environment.ts";
import deno from "../../deno.json" with { type: "json" };
import { writeWhole } from "./files.ts";
import extension from "./labextension/extension.js" with { type: "text" };

/** The repository. */
export const ROOT: string = fileURLToPath(new URL("../../", import.meta.url));

/** The folder of the notebooks. */
export const NOTEBOOKS: string = join(ROOT, "notebooks");

const REQUIREMENTS = new URL("../requirements.txt", import.meta.url);

/** JupyterLab's defaults, where they should differ: no question about news, no request to a website. */
const SETTINGS = {
  "@jupyterlab/apputils-extension:notification": { fetchNews: "false", checkForUpdates: false },
  // Figures stay as they were drawn when they are scrolled out of sight.
  "@jupyterlab/notebook-extension:tracker": { windowingMode: "defer" },
};

/** A Jupyter that can be started. */
export interface Jupyter {
  /** Its Python. */
  readonly python: PythonEnvironment;
  /** Variables for its processes. */
  readonly env: Readonly<Record<string, string>>;
}

/** How {@linkcode jupyter} is made. */
export interface JupyterOptions {
  /** Where Jupyter keeps settings, workspaces and the files of running kernels. */
  readonly settings?: string;
  /** Told a line before something takes long. */
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Jupyter in the project. The first call installs it, from wherever pip is configured to look.
 *
 * @throws {PythonEnvironmentError} one line that says what is missing
 */
export async function jupyter(options: JupyterOptions = {}): Promise<Jupyter> {
  const { settings = join(ROOT, ".jupyter"), onProgress = () => {}, signal } = options;
  const folder = join(ROOT, ".venv");
  const python = await pythonEnvironment(REQUIREMENTS, {
    folder,
    onMake: () =>
      onProgress(`installing JupyterLab into ${folder}: about 0.2 GB to download, 0.8 GB on disk`),
    onWait: () => onProgress(`waiting for another process to install JupyterLab into ${folder}`),
    signal,
  });
  const share = join(folder, "share", "jupyter");
  const lab = join(share, "lab");
  const figures = join(share, "labextensions", EXTENSION.name);
  // At each start, as they depend on this checkout and this Deno.
  await writeWhole(join(lab, "settings", "overrides.json"), JSON.stringify(SETTINGS));
  await writeWhole(join(share, "kernels", "lamina", "kernel.json"), JSON.stringify(KERNEL));
  await writeWhole(join(figures, "package.json"), JSON.stringify(EXTENSION));
  await writeWhole(join(figures, "static", "extension.js"), extension);
  await writeWhole(join(figures, "static", "plotly.js"), plotly);
  await Deno.mkdir(settings, { recursive: true });
  return {
    python,
    env: {
      JUPYTER_CONFIG_DIR: join(settings, "config"),
      JUPYTER_DATA_DIR: join(settings, "data"),
      JUPYTER_RUNTIME_DIR: join(settings, "runtime"),
      JUPYTERLAB_DIR: lab,
      JUPYTERLAB_SETTINGS_DIR: join(settings, "user-settings"),
      JUPYTERLAB_WORKSPACES_DIR: join(settings, "workspaces"),
      IPYTHONDIR: join(settings, "ipython"),
      // What the user may have set for another Jupyter.
      JUPYTER_CONFIG_PATH: "",
      JUPYTER_PATH: "",
      JUPYTER_PREFER_ENV_PATH: "1",
    },
  };
}

/** What JupyterLab shows, and where. */
export interface LabOptions {
  /** Folder that it shows. */
  readonly root: string;
  /** Path of the page that it opens: `/lab/tree/…` */
  readonly page: string;
  /** The next free port is taken when it is taken. */
  readonly port: number;
  /** Whether it opens a browser. */
  readonly browser: boolean;
  /** More options of its own. */
  readonly args?: readonly string[];
  /** More variables. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts JupyterLab, which tells its address on stderr. It ends itself and its kernels on SIGTERM. */
export function startLab({ python, env }: Jupyter, options: LabOptions): Deno.ChildProcess {
  const { command, args } = python.start([
    ...["-m", "jupyterlab", `--ServerApp.root_dir=${options.root}`],
    ...[`--LabApp.default_url=${options.page}`, `--ServerApp.port=${options.port}`],
    ...options.browser ? [] : ["--no-browser"],
    // In a container there is only root.
    ...["--allow-root", "--Application.log_level=ERROR"],
    // No search for programs that nobody needs here, no list of extensions from PyPI.
    ...["--LanguageServerManager.autodetect=False", "--LabApp.extension_manager=readonly"],
    ...options.args ?? [],
  ]);
  return new Deno.Command(command, {
    args: [...args],
    env: { ...env, ...options.env },
    stdin: "null",
    // A terminal's Ctrl-C does not reach it: of two signals at once it dies without ending its kernels.
    detached: Deno.build.os !== "windows",
  }).spawn();
}

/** A request to end that came while JupyterLab starts may get lost. */
const ASK_AGAIN_MS = 5_000;

/** Asks JupyterLab to end itself and its kernels, until it has. */
export function endLab(lab: Deno.ChildProcess): void {
  const timer = setInterval(() => lab.kill("SIGTERM"), ASK_AGAIN_MS);
  lab.status.finally(() => clearInterval(timer));
  lab.kill("SIGTERM");
}

/**
 * Lamina's kernel. Started through ./denow it finds the pinned Deno and a driver wherever it is started from, editors included. Where
 * that is a batch file, Jupyter could not end what it starts.
 */
const KERNEL = {
  argv: [
    Deno.build.os === "windows" ? Deno.execPath() : join(ROOT, "denow"),
    ...["jupyter", "-q", "--kernel", "--conn", "{connection_file}"],
  ],
  display_name: "Lamina (Deno)",
  language: "typescript",
};

/** What JupyterLab wants to know about the extension that draws figures. */
const EXTENSION = {
  name: "lamina-figures",
  version: deno.version,
  description: "Draws Plotly figures",
  jupyterlab: {
    mimeExtension: true,
    _build: { load: "static/extension.js", mimeExtension: "./mimeExtension" },
  },
};

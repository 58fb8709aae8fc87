/**
 * `./denow task lab`: JupyterLab on the notebooks, with Lamina's kernel.
 *
 * @module
 */
import { join, relative, resolve } from "node:path";
import { flag, number, UsageError } from "../../inspect/commands/args.ts";
import { printError } from "../../inspect/commands/print.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { isFile } from "../../models/cache.ts";
import { endLab, jupyter, NOTEBOOKS, startLab } from "./jupyter.ts";

/** What a new user sees first. */
const FIRST = "01_first_look.ipynb";

const WINDOWS = Deno.build.os === "windows";

const command = defineCommand({
  name: "./denow task lab",
  summary: "Opens JupyterLab on the notebooks, with Lamina's kernel. The first start installs it " +
    "into .venv/, with Python 3.11 or newer. Ctrl-C ends it, kernels too.",
  options: {
    port: number("port to listen on; the next free one when it is taken", {
      integer: true,
      min: 1,
      max: 65535,
      default: 8888,
    }),
    "no-browser": flag("print the address and open no browser"),
  },
  positionals: ["[NOTEBOOK]"],
  async main({ options, positionals: [notebook], signal }) {
    const page = await labPage(notebook);
    const environment = await jupyter({ onProgress: printError, signal });
    signal.throwIfAborted();
    const child = startLab(environment, {
      root: NOTEBOOKS,
      page,
      port: options.port,
      browser: !options["no-browser"],
    });
    const end = () => endLab(child);
    if (!WINDOWS) {
      for (const name of ["SIGTERM", "SIGHUP"] as const) Deno.addSignalListener(name, end);
    }
    // On Windows Ctrl-C reaches it by itself.
    if (!WINDOWS) signal.addEventListener("abort", end);
    const { success } = await child.status;
    return success || signal.aborted ? EXIT.done : EXIT.failed;
  },
});

/** Path of JupyterLab's page with a notebook. */
async function labPage(notebook: string | undefined): Promise<string> {
  if (notebook === undefined) {
    return await isFile(join(NOTEBOOKS, FIRST)) ? `/lab/tree/${FIRST}` : "/lab";
  }
  const path = await isFile(notebook) ? resolve(notebook) : join(NOTEBOOKS, notebook);
  const inside = relative(NOTEBOOKS, path);
  if (!await isFile(path) || inside.startsWith("..")) {
    throw new UsageError(`${notebook} is no file in ${NOTEBOOKS}`);
  }
  return `/lab/tree/${inside.split(/[\\/]/).map(encodeURIComponent).join("/")}`;
}

if (import.meta.main) await runCommand(command);

/**
 * `./denow task notebooks`: runs the notebooks without a browser and exports them.
 *
 * @module
 */
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { flag, number, text, UsageError } from "../../inspect/commands/args.ts";
import { formatBytes, formatDuration } from "../../inspect/format.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { createStatus } from "../../inspect/commands/progress.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { isFile } from "../../models/cache.ts";
import { parseForeignJson } from "../../models/foreign_json.ts";
import { writeWhole } from "./files.ts";
import { type Jupyter, jupyter, NOTEBOOKS } from "./jupyter.ts";
import { committed, firstError, type Notebook, notebookText } from "./notebook.ts";
import { notebookPage } from "./page/mod.ts";
import { printable } from "../../inspect/escape.ts";

const EXECUTE = fileURLToPath(new URL("./execute.py", import.meta.url));

const command = defineCommand({
  name: "./denow task notebooks",
  summary:
    "Runs notebooks from top to bottom, each with a fresh kernel, and exports them as HTML " +
    "files that need no network. Exit code 1 when a cell fails. Without NAMES all of notebooks/.",
  options: {
    out: text("folder for the HTML files", "DIR", join(NOTEBOOKS, "html")),
    save: flag("also write the outputs back into the notebooks"),
    export: flag("export the outputs that the notebooks have, without running them"),
    timeout: number("seconds that a cell may take", { integer: true, min: 1, default: 600 }),
  },
  positionals: ["[NAMES...]"],
  async main({ options, positionals, signal }) {
    const files = await findNotebooks(positionals);
    const environment = options.export
      ? undefined
      : await jupyter({ onProgress: printError, signal });
    let failed = 0;
    for (const file of files) {
      const start = performance.now();
      const { notebook, problem } = environment
        ? await execute(environment, file, { ...options, signal })
        : await stored(file);
      signal.throwIfAborted();
      const name = basename(file, ".ipynb");
      if (problem !== undefined) {
        failed++;
        printError(printable(`error: ${name}: ${problem}`));
        // What there is helps to find out why.
      } else if (options.save && environment) {
        await writeWhole(file, notebookText(notebook));
      }
      const page = join(options.out, `${name}.html`);
      const html = notebookPage(notebook, name);
      await writeWhole(page, html);
      const seconds = formatDuration((performance.now() - start) / 1000);
      printLine(`${name}: ${seconds}, ${page} (${formatBytes(html.length)})`);
    }
    return failed > 0 ? EXIT.failed : EXIT.done;
  },
});

/** A notebook with outputs, and what went wrong, one line that names the cell. */
interface Executed {
  readonly notebook: Notebook;
  readonly problem?: string;
}

/** Runs a notebook. Its file stays as it is. */
async function execute(
  { python, env }: Jupyter,
  file: string,
  { timeout, signal }: { readonly timeout: number; readonly signal: AbortSignal },
): Promise<Executed> {
  const source = await readNotebook(file);
  const cells = source.cells.length;
  const target = await Deno.makeTempFile({ suffix: ".ipynb" });
  const status = createStatus();
  const { command, args } = python.start([EXECUTE, file, target, `${timeout}`]);
  try {
    const child = new Deno.Command(command, {
      args: [...args],
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      // It ends its kernel when it is asked to end.
      signal,
    }).spawn();
    // Kernels talk a lot; it counts where nothing else says what went wrong.
    const errors = new Response(child.stderr).text();
    let cell = 0;
    let problem: string | undefined;
    for await (const line of lines(child.stdout)) {
      const said = JSON.parse(line) as number | { problem: string };
      if (typeof said === "object") problem = said.problem;
      else status.update(`${basename(file)}: cell ${(cell = said) + 1} of ${cells}`);
    }
    const { code } = await child.status;
    signal.throwIfAborted();
    if (code !== 0) throw new Error(`${file} cannot be run: ${lastLine(await errors)}`);
    await errors;
    const ran = await readNotebook(target);
    const error = firstError(ran) ?? (problem && { cell, message: problem });
    // nbformat gives random ids where the file has none.
    const notebook = committed({
      ...ran,
      cells: ran.cells.map((each, i) => ({ ...each, id: source.cells[i].id })),
    });
    return {
      notebook,
      ...error && { problem: `cell ${error.cell + 1} of ${cells}: ${error.message}` },
    };
  } finally {
    status.finish();
    await Deno.remove(target);
  }
}

/** A notebook with the outputs that its file holds. */
async function stored(file: string): Promise<Executed> {
  return { notebook: await readNotebook(file) };
}

/** @throws {Error} for a file that is no notebook */
async function readNotebook(file: string): Promise<Notebook> {
  try {
    const notebook = parseForeignJson(await Deno.readFile(file)) as Notebook;
    if (notebook.nbformat === 4 && Array.isArray(notebook.cells)) return notebook;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Error(`${file} is no notebook of nbformat 4`);
}

/**
 * Files by their names: paths, names of notebooks/ or beginnings of these ("03").
 *
 * @throws {UsageError} for a name that means none of them
 */
async function findNotebooks(names: readonly string[]): Promise<string[]> {
  const own = (await Array.fromAsync(Deno.readDir(NOTEBOOKS)))
    .map(({ name }) => name).filter((name) => name.endsWith(".ipynb")).sort();
  if (names.length === 0) return own.map((name) => join(NOTEBOOKS, name));
  const found = await Promise.all(names.map(async (name) => {
    const meant = own.filter((each) => each.startsWith(name)).map((each) => join(NOTEBOOKS, each));
    if (meant.length > 0) return meant;
    if (name.endsWith(".ipynb") && await isFile(name)) return [resolve(name)];
    throw new UsageError(`no notebook ${name}; there are ${own.join(", ")}`);
  }));
  return found.flat();
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) || "it says nothing";
}

async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    const pieces = (rest + piece).split("\n");
    rest = pieces.pop()!;
    yield* pieces;
  }
  if (rest !== "") yield rest;
}

if (import.meta.main) await runCommand(command);

/** Notebooks as files (nbformat 4.5), as far as running and exporting them goes. */
import { createHash } from "node:crypto";
import { PROGRESS } from "../../inspect/jupyter/progress.ts";

/** Text, whole or in lines that keep their ends. */
export type MultilineText = string | readonly string[];

/** Forms of the same thing by MIME type: texts, base64 of pictures, JSON. */
export type MimeBundle = Readonly<Record<string, unknown>>;

/** What a cell gave. */
export type Output =
  | { readonly output_type: "stream"; readonly name: string; readonly text: MultilineText }
  | {
    readonly output_type: "display_data" | "execute_result";
    readonly data: MimeBundle;
    readonly metadata: Readonly<Record<string, unknown>>;
    readonly execution_count?: number | null;
  }
  | {
    readonly output_type: "error";
    readonly ename: string;
    readonly evalue: string;
    readonly traceback: readonly string[];
  };

/** One cell. */
export interface Cell {
  readonly id?: string;
  readonly cell_type: "code" | "markdown" | "raw";
  readonly source: MultilineText;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly execution_count?: number | null;
  readonly outputs?: readonly Output[];
}

/** A whole notebook. */
export interface Notebook {
  readonly cells: readonly Cell[];
  readonly metadata: {
    readonly kernelspec?: { readonly name: string; readonly language?: string };
    readonly language_info?: { readonly name: string };
  };
  readonly nbformat: number;
  readonly nbformat_minor: number;
}

/** An error in a cell. */
export interface CellError {
  /** Index of the cell, from 0, all kinds counted. */
  readonly cell: number;
  /** Name and message, one line. */
  readonly message: string;
}

/** Text of a cell or an output in one piece. */
export function joined(text: MultilineText): string {
  return typeof text === "string" ? text : text.join("");
}

/** The first error among the outputs. */
export function firstError({ cells }: Notebook): CellError | undefined {
  for (const [cell, { outputs = [] }] of cells.entries()) {
    for (const output of outputs) {
      if (output.output_type !== "error") continue;
      const { ename, evalue } = output;
      const message = [ename, evalue].filter((part) => part !== "").join(": ");
      return { cell, message: plainText(message).replace(/\s+/g, " ").trim() };
    }
  }
}

/** Text without the terminal's colours. */
export function plainText(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/\u001b\[[0-9;?]*[ -\/]*[@-~]/g, "");
}

/**
 * A notebook as it is committed: running it again changes what its outputs show and nothing else. Times, versions, progress and
 * what a front end remembers go; cells keep their ids, and one without gets the one that its source gives.
 */
export function committed(notebook: Notebook): Notebook {
  const { kernelspec, language_info } = notebook.metadata;
  const ids = new Set<string>();
  return {
    cells: notebook.cells.map((cell) => committedCell(cell, ids)),
    metadata: {
      ...kernelspec && { kernelspec },
      ...language_info && { language_info: withoutVersion(language_info) },
    },
    nbformat: 4,
    nbformat_minor: 5,
  };
}

function withoutVersion<Info extends object>(info: Info): Info {
  return { ...info, version: undefined };
}

/** Metadata of cells that people set. */
const OWN_METADATA = ["tags", "jupyter", "slideshow"];

function committedCell(cell: Cell, ids: Set<string>): Cell {
  const { id, cell_type, execution_count, outputs, source } = cell;
  const metadata = Object.fromEntries(
    Object.entries(cell.metadata).filter(([name]) => OWN_METADATA.includes(name)),
  );
  const code = cell_type === "code" && {
    execution_count,
    outputs: (outputs ?? []).filter((output) => !isProgress(output)),
  };
  return { cell_type, ...code, id: freeId(id ?? idOf(joined(source)), ids), metadata, source };
}

function isProgress(output: Output): boolean {
  return "metadata" in output && PROGRESS in output.metadata;
}

function idOf(source: string): string {
  return createHash("sha256").update(source).digest("hex").slice(0, 8);
}

function freeId(id: string, taken: Set<string>): string {
  let free = id;
  for (let count = 2; taken.has(free); count++) free = `${id}-${count}`;
  taken.add(free);
  return free;
}

/** A notebook's file, in nbformat's own layout. */
export function notebookText(notebook: Notebook): string {
  return JSON.stringify(notebook, (_, value) => sorted(value), 1) + "\n";
}

function sorted(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1));
}

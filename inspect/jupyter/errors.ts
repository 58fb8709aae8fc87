/** Errors as a notebook shows them: a line that says what is wrong, without the engine's frames. */
import { fileURLToPath } from "node:url";

/** Where Lamina's own files are; V8 names a file by its path or by its address. */
const ROOT = new URL("../../", import.meta.url);
const ROOTS = ROOT.protocol === "file:" ? [ROOT.href, fileURLToPath(ROOT)] : [ROOT.href];

/** Set to anything, errors come with all their frames: `Deno.env.set("LAMINA_DEBUG", "1")` in a cell. */
const DEBUG = "LAMINA_DEBUG";

/** One call, as V8 describes it. */
interface CallSite {
  getFileName(): string | null | undefined;
  getLineNumber(): number | null;
  toString(): string;
}

/**
 * Leaves Lamina's frames out of errors' stacks, and what called Lamina with them: where an error comes from Lamina its message says
 * all. Of an error in a function of the user's that Lamina called (an edit, a metric), the user's frames stay.
 */
export function shortenStacks(): void {
  const hooks = Error as unknown as {
    prepareStackTrace?: (error: unknown, sites: readonly CallSite[]) => string;
  };
  hooks.prepareStackTrace = (error, sites) =>
    [
      describe(error),
      ...(Deno.env.get(DEBUG) ? sites : usersFrames(sites)).map((site) => `    at ${site}`),
    ].join("\n");
}

/** The frames that help the user: all, or those before the first one of Lamina. */
function usersFrames(sites: readonly CallSite[]): readonly CallSite[] {
  const first = sites.findIndex((site) => isOurs(fileOf(site)));
  if (first < 0) return sites;
  const inner = sites.slice(0, first);
  return inner.some((site) => isUsers(site)) ? inner : [];
}

function fileOf(site: CallSite): string {
  return site.getFileName() ?? "";
}

function isOurs(file: string): boolean {
  return ROOTS.some((root) => file.startsWith(root));
}

/** Whether it is of a cell, which has lines but no name, or of a file of the user's: not Deno's, Node's, a package's, nor built in. */
function isUsers(site: CallSite): boolean {
  const file = fileOf(site);
  return file === ""
    ? site.getLineNumber() !== null
    : !/^(ext|node):|\/node_modules\/|\/npm\//.test(file);
}

function describe(error: unknown): string {
  try {
    return String(error);
  } catch {
    return "Error";
  }
}

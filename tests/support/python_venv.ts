import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { laminaHome } from "../../models/cache.ts";

/**
 * A Python with the packages of `tests/support/<requirements>`: made once, in Lamina's cache folder, by `python3 -m venv` and pip.
 *
 * @returns its path, or why there is none: no Python, no network
 */
export async function pythonVenv(
  requirements: string,
): Promise<{ python: string } | { missing: string }> {
  const list = fileURLToPath(new URL(requirements, import.meta.url));
  try {
    const version = await run("python3", ["-c", "import sys; print(sys.version)"]);
    const key = createHash("sha256").update(version).update(await Deno.readTextFile(list));
    const folder = join(
      laminaHome((name) => Deno.env.get(name)),
      "python",
      key.digest("hex").slice(0, 16),
    );
    const python = (venv: string) =>
      Deno.build.os === "windows" ? join(venv, "Scripts/python.exe") : join(venv, "bin/python");
    if (await exists(python(folder))) return { python: python(folder) };

    await Deno.mkdir(dirname(folder), { recursive: true });
    // Under another name until it is whole: two tests may want it at once.
    const unfinished = await Deno.makeTempDir({ dir: dirname(folder) });
    try {
      await run("python3", ["-m", "venv", unfinished]);
      await run(python(unfinished), [
        ...["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"],
        ...["--retries=1", "--timeout=15", "-r", list],
      ]);
      await Deno.rename(unfinished, folder);
    } finally {
      await Deno.remove(unfinished, { recursive: true }).catch(() => {});
    }
    return { python: python(folder) };
  } catch (error) {
    return { missing: (error as Error).message };
  }
}

/** Runs a program; gives what it prints. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${program} failed: ${new TextDecoder().decode(stderr).trim()}`);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

import { pyTorchEnvironment } from "../../../checkpoints/references/pytorch/reference.ts";
import type { PythonEnvironment } from "../../../checkpoints/references/processes/python_environment.ts";
import { jupyter } from "../../../notebooks/commands/jupyter.ts";
import { needed } from "../needed.ts";

/** The Python of the notebooks, with pyarrow, DuckDB and polars; undefined where there is none: no Python, no network. */
export function notebookPython(): Promise<PythonEnvironment | undefined> {
  return needed("Python of the notebooks", async () => {
    return (await jupyter({ onProgress: console.error })).python;
  });
}

/** The Python of PyTorch as a reference; undefined where there is none. */
export function pyTorch(): Promise<PythonEnvironment | undefined> {
  return needed("PyTorch", () => pyTorchEnvironment({ cpuOnly: true, onProgress: console.error }));
}

/** Runs a program; gives what it prints. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${program} failed: ${new TextDecoder().decode(stderr).trim()}`);
}

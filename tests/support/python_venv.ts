import { pyTorchEnvironment } from "../../checkpoints/references/pytorch.ts";
import {
  type PythonEnvironment,
  pythonEnvironment,
} from "../../checkpoints/references/python_environment.ts";
import { needed } from "./needed.ts";

/** A Python with the packages of `tests/support/<requirements>`; undefined where there is none: no Python, no network. */
export function pythonVenv(requirements: string): Promise<PythonEnvironment | undefined> {
  return needed(
    `Python with ${requirements}`,
    () => pythonEnvironment(new URL(requirements, import.meta.url)),
  );
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

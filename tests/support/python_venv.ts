import {
  type PythonEnvironment,
  pythonEnvironment,
} from "../../checkpoints/references/python_environment.ts";

/** A Python with the packages of `tests/support/<requirements>`, or why there is none: no Python, no network. */
export async function pythonVenv(
  requirements: string,
): Promise<PythonEnvironment | { missing: string }> {
  try {
    return await pythonEnvironment(new URL(requirements, import.meta.url));
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

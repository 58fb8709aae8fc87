/** Programs run as people run them, from the repository's root, to their end. */

/** The repository's root. */
export const ROOT = new URL("../../", import.meta.url);

/** What a program left. */
export interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** The bytes of `out`. */
  readonly stdout: Uint8Array<ArrayBuffer>;
}

/** Where a program runs and what it knows; beside it it knows what the tests know. */
export interface CommandOptions {
  readonly cwd?: string | URL;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** Runs a program without input, colours and questions. */
export async function command(
  program: string,
  args: readonly string[],
  { cwd = ROOT, env, signal }: CommandOptions = {},
): Promise<Finished> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    ...{ cwd, signal, stdin: "null" },
    env: { NO_COLOR: "1", ...env },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out, err, stdout };
}

/** Runs Deno: `deno(["task", "-q", "parity", ...])`. */
export function deno(args: readonly string[], options?: CommandOptions): Promise<Finished> {
  return command(Deno.execPath(), args, options);
}

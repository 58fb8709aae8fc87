/** Programs run as people run them: with a terminal for stdin, stdout and stderr. */
import { needed } from "./needed.ts";
import { run } from "./engines/python_venv.ts";

/** Runs a command in a pseudo-terminal, shows its output, and ends it where it waits for an answer. */
const PYTHON = `
import os, pty, select, signal, sys, time
limit, command = float(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
end = time.monotonic() + limit
while time.monotonic() < end:
    if not select.select([terminal], [], [], 0.1)[0]:
        continue
    try:
        output = os.read(terminal, 65536)
    except OSError:
        break  # the child has closed it
    if not output:
        break
    os.write(1, output)
else:
    os.kill(child, signal.SIGKILL)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
`;

/** Undefined where there is not what it takes: Python with its `pty`. */
export function terminals(): Promise<string | undefined> {
  return needed("Python with pty", () => run("python3", ["-c", "import pty"]));
}

/** What a program wrote to its terminal, and its exit code: 247 where it had to be ended after `seconds`. */
export async function runInTerminal(
  command: readonly string[],
  { env = {}, seconds = 90 }: { env?: Record<string, string>; seconds?: number } = {},
): Promise<{ code: number; output: string }> {
  const { code, stdout } = await python(["-c", PYTHON, `${seconds}`, ...command], env).output();
  return { code, output: new TextDecoder().decode(stdout) };
}

function python(args: string[], env: Record<string, string> = {}): Deno.Command {
  return new Deno.Command("python3", { args, env, stdin: "null", stderr: "inherit" });
}

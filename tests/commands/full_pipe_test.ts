/** Commands whose output nobody reads for a while, through a pipe that does not block. */
import assert from "node:assert/strict";

/**
 * Fills a non-blocking pipe, runs a command with it as stdout (1) or stderr (2), and reads only when the command has ended or had three
 * seconds. Prints the exit code and what came through.
 */
const PYTHON = `
import fcntl, os, subprocess, sys
r, w = os.pipe()
fcntl.fcntl(w, 1031, 4096)  # F_SETPIPE_SZ
os.set_blocking(w, False)
filled = os.write(w, b"x" * 4096)
other = subprocess.DEVNULL
out, err = (w, other) if sys.argv[1] == "1" else (other, w)
process = subprocess.Popen(sys.argv[2:], stdout=out, stderr=err)
os.close(w)
try:
    process.wait(3)
except subprocess.TimeoutExpired:
    pass
text = b""
while piece := os.read(r, 1000):
    text += piece
sys.stdout.buffer.write(b"%d\\n" % process.wait() + text[filled:])
`;
import { command } from "../support/command.ts";

/** Runs a command under Python as above, or by itself; gives its exit code and what it printed on the stream. */
async function run(stream: 1 | 2, args: string[], full: boolean): Promise<[number, string]> {
  const own = [Deno.execPath(), "run", "-q", ...args];
  const [program, ...rest] = full ? ["python3", "-c", PYTHON, `${stream}`, ...own] : own;
  const { code, out, err } = await command(program, rest);
  if (!full) return [code, stream === 1 ? out : err];
  assert.equal(err, "");
  const [exit, ...lines] = out.split("\n");
  return [Number(exit), lines.join("\n")];
}

const MODEL = ["-P=model", "checkpoints/commands/model.ts"];
const COMMANDS: [what: string, stream: 1 | 2, args: string[], exit: number][] = [
  ["a long line", 1, [...MODEL, "info", "tiny", "--json"], 0],
  ["many lines", 1, [...MODEL, "info", "tiny"], 0],
  ["help", 1, [...MODEL, "--help"], 0],
  ["a text piece by piece", 1, ["generate.ts", "Once upon a time", "--max-tokens", "40"], 0],
  ["an error", 2, [...MODEL, "info", "nothing"], 1],
];

for (const [what, stream, args, exit] of COMMANDS) {
  Deno.test({
    name: `through a full pipe comes all, and once: ${what}`,
    ignore: Deno.build.os !== "linux", // where a pipe's size can be set
    async fn() {
      const expected = await run(stream, args, false);
      assert.equal(expected[0], exit);
      assert.ok(expected[1].length > 20, expected[1]);
      assert.deepEqual(await run(stream, args, true), expected);
    },
  });
}

Deno.test("commands print in that way only", async () => {
  const files = ["generate.ts"];
  for (const folder of ["inspect", "checkpoints", "notebooks"]) {
    for await (
      const { name } of Deno.readDir(new URL(`../../${folder}/commands/`, import.meta.url))
    ) {
      if (name.endsWith(".ts") && name !== "print.ts") files.push(`${folder}/commands/${name}`);
    }
  }
  assert.ok(files.length > 20, `${files}`);
  for (const file of files) {
    const text = await Deno.readTextFile(new URL(`../../${file}`, import.meta.url));
    assert.doesNotMatch(text, /\bconsole\.|\bwriteSync\(|std(out|err)\.write\b/, file);
  }
});

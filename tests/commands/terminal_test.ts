/** The README's commands in a real terminal, where Deno asks about every permission that is missing. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { runInTerminal, terminals } from "../support/terminal.ts";
import { Folder } from "../support/folder.ts";

const GENERATE = fileURLToPath(new URL("../../generate.ts", import.meta.url));
const TINY = fileURLToPath(new URL("../../models/tiny/tiny.gguf", import.meta.url));
const ignore = await terminals() === undefined;

/** Runs generate.ts for a few tokens; the terminal must hold the text and no question. */
async function generate(permissions: string[], args: string[], home: string): Promise<void> {
  // A GPU has a name, a driver and files of its own to ask for.
  const command = [Deno.execPath(), "run", "-q", ...permissions, GENERATE, "--backend", "webgpu"];
  const all = [...command, "--max-tokens", "6", ...args, "Once upon a time"];
  const { code, output } = await runInTerminal(all, {
    env: { LAMINA_HOME: home, NO_COLOR: "1" },
  });
  assert.doesNotMatch(output, /Deno requests|Allow\?/);
  assert.equal(code, 0, output);
  assert.match(output, /^Once upon a time, in a far away/m);
}

async function withHome(run: (home: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  // A folder that is not there yet: whoever may write makes it.
  await run(folder.at("lamina"));
}

async function namesIn(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(folder)).catch(() => []);
  return entries.map(({ name }) => name);
}

Deno.test({
  name: "in a terminal the embedded model asks for no permission",
  ignore,
  fn: () => withHome((home) => generate([], ["--stats"], home)),
});

Deno.test({
  name: "in a terminal -P=local reads a file of one's own and asks for nothing else",
  ignore,
  fn: () =>
    withHome(async (home) => {
      await generate(["-P=local"], ["--model", TINY, "--stats"], home);
      assert.deepEqual(await namesIn(home), [], "it may not write");
    }),
});

Deno.test({
  name: "in a terminal -P asks for nothing and remembers which kernels passed",
  ignore,
  fn: () =>
    withHome(async (home) => {
      await generate(["-P"], ["--model", TINY], home);
      assert.deepEqual(await namesIn(home), ["adapters.txt"]);
    }),
});

/** ./denow with a stand-in for Deno; tests/install/ has the installation itself. */
import assert from "node:assert/strict";
import { openDevice } from "../../inspect/run/loading.ts";
import { command, ROOT } from "../support/command.ts";
import { Folder } from "../support/folder.ts";

/** Runs ./denow in a folder of its own, with a Deno that prints its arguments, one per line. */
async function denow(...args: string[]): Promise<string[]> {
  return await runDenow(args, `printf '%s\\n' "$@"`);
}

/** Runs ./denow in a folder of its own, with a shell script in Deno's place; returns the lines that it prints. */
async function runDenow(
  args: string[],
  script: string,
  env: Record<string, string> = {},
): Promise<string[]> {
  using folder = new Folder();
  for (const name of ["denow", ".deno-version"]) {
    await Deno.copyFile(new URL(name, ROOT), folder.at(name));
  }
  const version = (await Deno.readTextFile(folder.at(".deno-version"))).trim();
  await Deno.mkdir(folder.at(`.deno/${version}`), { recursive: true });
  const deno = folder.write(`.deno/${version}/deno`, `#!/bin/sh\n${script}\n`);
  await Deno.chmod(deno, 0o755);
  // Where the driver's manifest is named, nothing is looked for or installed.
  const own = { VK_DRIVER_FILES: "/nonexistent.json", LAMINA_NO_INSTALL: "1", ...env };
  const { out, err } = await command(folder.at("denow"), args, { env: own });
  assert.equal(err, "");
  return out.split("\n").slice(0, -1);
}

const ignore = Deno.build.os === "windows";

Deno.test({
  name: "denow quiets Deno where it would talk about permission sets and tasks",
  ignore,
  async fn() {
    for (
      const args of [
        ["run", "-P", "generate.ts", "--model", "x", "two words"],
        ["run", "-P=local", "generate.ts", ""],
        ["run", "--permission-set=local", "generate.ts"],
        ["task", "doctor", "--json"],
        ["task"],
      ]
    ) assert.deepEqual(await denow(...args), ["-q", ...args]);
  },
});

Deno.test({
  name: "denow hands on everything else as it is",
  ignore,
  async fn() {
    for (
      const args of [
        ["run", "generate.ts", "-P", "run -P", '\'"$HOME" *\\'],
        ["run", "--allow-read", "-P", "generate.ts"],
        ["test", "-A", "task"],
        ["fmt", "--check"],
        ["--version"],
      ]
    ) assert.deepEqual(await denow(...args), args);
  },
});

Deno.test({
  name: "Deno leaves OpenGL alone on Linux, unless another interface is asked for",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const script = `echo "$DENO_WEBGPU_BACKEND"`;
    const backend = (DENO_WEBGPU_BACKEND: string) => runDenow([], script, { DENO_WEBGPU_BACKEND });
    assert.deepEqual(await backend(""), ["vulkan"]);
    assert.deepEqual(await backend("opengl"), ["opengl"]);
  },
});

Deno.test("denow needs neither root nor apt: the software GPU has a script of its own", async () => {
  const denow = await Deno.readTextFile(new URL("denow", ROOT));
  assert.doesNotMatch(denow.replaceAll(/^\s*#.*$/gm, ""), /apt|sudo|\bid -u\b|software_gpu/);
});

Deno.test({
  name: "no OpenGL is in a process that has a Vulkan device: its library breaks the heap at exit",
  ignore: Deno.build.os !== "linux" || Deno.env.get("DENO_WEBGPU_BACKEND") !== "vulkan",
  async fn() {
    await openDevice();
    const libraries = await Deno.readTextFile("/proc/self/maps");
    assert.match(libraries, /\/libvulkan/);
    assert.doesNotMatch(libraries, /\/libEGL/);
  },
});

Deno.test("an error of a command is the only line on stderr", async () => {
  const run = async (...args: string[]) => (await command(Deno.execPath(), args)).err;
  const missing = /^error: [^\n]*none\.gguf: no such file[^\n]*\n$/;
  assert.match(await run("-q", "run", "-P", "generate.ts", "--model", "none.gguf", "x"), missing);
  assert.match(await run("-q", "task", "model", "info", "none.gguf"), missing);
});

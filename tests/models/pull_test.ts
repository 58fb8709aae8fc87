import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { cachedPath, checksumPath } from "../../models/cache.ts";
import { PullError, type PullFailure } from "../../models/error.ts";
import { partPath } from "../../models/part_file.ts";
import { pull, type PullOptions } from "../../models/pull.ts";
import type { KnownModel } from "../../models/registry.ts";
import { type HubServer, sha256Of, startHub } from "../support/engines/hub_server.ts";
import { uniform } from "../../kernels/sampling/random.ts";

const MODEL: KnownModel = {
  name: "some-model",
  description: "",
  license: "",
  source: {
    kind: "huggingface",
    repository: "owner/Some-Model-GGUF",
    file: "folder/some-model.Q8_0.gguf",
  },
};
const PATH = "/owner/Some-Model-GGUF/resolve/main/folder/some-model.Q8_0.gguf";

/** 300 KB that no two pieces of are alike. */
const CONTENT = Uint8Array.from({ length: 300_000 }, (_, i) => uniform(1, i) * 256);

/** A hub and an empty cache. */
class Bench implements AsyncDisposable {
  readonly hub: HubServer = startHub(CONTENT);
  readonly home = Deno.makeTempDirSync();
  readonly variables: Record<string, string> = {
    LAMINA_HOME: join(this.home, "lamina"),
    HF_HOME: join(this.home, "huggingface"),
    HF_ENDPOINT: this.hub.endpoint,
  };
  readonly target = cachedPath(MODEL, (name) => this.variables[name]);

  pull(options: PullOptions = {}, model = MODEL): Promise<string> {
    return pull(model, { env: (name) => this.variables[name], retryDelay: 1, ...options });
  }

  async fails(reason: PullFailure, message: RegExp, options: PullOptions = {}, model = MODEL) {
    await assert.rejects(this.pull(options, model), (error) => {
      assert.ok(error instanceof PullError, String(error));
      assert.equal(error.reason, reason, error.message);
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
    assert.ok(!this.files().includes(basename(this.target)), "nothing under the final name");
  }

  /** Names of the files in the model's folder but for the lock. */
  files(): string[] {
    try {
      return [...Deno.readDirSync(dirname(this.target))].map(({ name }) => name)
        .filter((name) => !name.endsWith(".lock")).sort();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  downloads() {
    return this.hub.seen.filter(({ server, method }) => server === "storage" && method === "GET");
  }

  async [Symbol.asyncDispose]() {
    await this.hub[Symbol.asyncDispose]();
    await Deno.remove(this.home, { recursive: true });
  }
}

Deno.test("pulls a file, checks it and records its checksum", async () => {
  await using bench = new Bench();
  const progress: [number, number | undefined][] = [];
  const path = await bench.pull({ onProgress: (done, total) => progress.push([done, total]) });
  assert.equal(path, bench.target);
  assert.deepEqual(Deno.readFileSync(path), CONTENT);
  assert.deepEqual(bench.files(), [basename(path), basename(checksumPath(path))]);
  assert.equal(
    Deno.readTextFileSync(checksumPath(path)),
    `${sha256Of(CONTENT)}  some-model.Q8_0.gguf\n`,
  );
  assert.deepEqual(progress[0], [0, CONTENT.length]);
  assert.deepEqual(progress.at(-1), [CONTENT.length, CONTENT.length]);
  assert.ok(progress.every(([done], i) => i === 0 || done >= progress[i - 1][0]));
  const fromHub = bench.hub.seen.filter(({ server }) => server === "hub");
  assert.deepEqual(new Set(fromHub.map(({ path }) => path)), new Set([PATH]));

  const asked = bench.hub.seen.length;
  assert.equal(await bench.pull(), path);
  assert.equal(bench.hub.seen.length, asked, "what is there is not asked for again");
});

Deno.test("goes on by itself where a connection broke off", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.cuts.push(100_000, 50_000);
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  const starts = bench.downloads().map(({ range }) => Number(/\d+/.exec(range ?? "0")![0]));
  assert.equal(starts.length, 3);
  assert.equal(starts[0], 0);
  assert.ok(starts[1] > 0 && starts[1] <= 100_000 && starts[2] > starts[1]);
});

Deno.test("a later pull goes on where one gave up", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.cuts.push(200_000, 0, 0, 0, 0, 0);
  await bench.fails("network", /broke off at byte \d+ of 300000: .*goes on from there/);
  assert.deepEqual(bench.files(), [basename(partPath(bench.target))]);
  const left = Deno.statSync(partPath(bench.target)).size;
  assert.ok(left > 0 && left <= 200_000);
  bench.hub.behaviour.cuts = [];
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  assert.equal(bench.downloads().at(-1)!.range, `bytes=${left}-`);
});

Deno.test("a part that is whole already is only checked", async () => {
  await using bench = new Bench();
  Deno.mkdirSync(dirname(bench.target), { recursive: true });
  Deno.writeFileSync(partPath(bench.target), CONTENT);
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  assert.equal(bench.downloads().length, 0);
});

Deno.test("a part that is longer than the file is thrown away", async () => {
  await using bench = new Bench();
  Deno.mkdirSync(dirname(bench.target), { recursive: true });
  Deno.writeFileSync(partPath(bench.target), new Uint8Array(CONTENT.length + 1));
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
});

Deno.test("starts anew where the server ignores ranges", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.cuts.push(100_000);
  bench.hub.behaviour.wholeOnly = true;
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
});

Deno.test("waits for a server that is unavailable, but not for ever", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.unavailable = 2;
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  Deno.removeSync(bench.target);
  bench.hub.behaviour.unavailable = 100;
  await bench.fails("network", /status 503/);
  assert.ok(!bench.files().includes(basename(partPath(bench.target))), "no empty part is kept");
});

Deno.test("a checksum mismatch leaves nothing", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.statedSha256 = "0".repeat(64);
  await bench.fails("checksum", /^some-model: checksum mismatch: the 300000 bytes .*pull again$/);
  assert.deepEqual(bench.files(), []);
});

Deno.test("a part of another file does not survive the checksum", async () => {
  await using bench = new Bench();
  Deno.mkdirSync(dirname(bench.target), { recursive: true });
  Deno.writeFileSync(partPath(bench.target), new Uint8Array(1000));
  await bench.fails("checksum", /checksum mismatch/);
  assert.deepEqual(bench.files(), []);
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
});

Deno.test("the list's checksum stands above the server's", async () => {
  await using bench = new Bench();
  await bench.fails("checksum", /the file has changed, update Lamina$/, {}, {
    ...MODEL,
    sha256: "1".repeat(64),
  });
  assert.equal(bench.downloads().length, 0);
  const sha256 = sha256Of(CONTENT);
  bench.hub.behaviour.statedSha256 = "";
  assert.equal(await bench.pull({}, { ...MODEL, sha256 }), bench.target);
});

Deno.test("a server that states no checksum is refused", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.statedSha256 = "";
  await bench.fails("checksum", /states no SHA-256/);
  assert.equal(bench.downloads().length, 0);
});

Deno.test("refusals say what to do", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.status = 401;
  await bench.fails("unauthorized", /\(401\): it is private, gated or not there; set HF_TOKEN/);
  bench.variables.HF_TOKEN = "wrong";
  await bench.fails("unauthorized", /\(401\): the token in HF_TOKEN or HF_HOME is wrong/);
  bench.hub.behaviour.status = 403;
  await bench.fails("unauthorized", /\(403\): accept its licence on that page/);
  bench.hub.behaviour.status = 404;
  await bench.fails("not-found", /there is no folder\/some-model\.Q8_0\.gguf at .*\(404\)/);
  bench.hub.behaviour.status = 500;
  await bench.fails("network", /cannot reach .*status 500/);
  assert.deepEqual(bench.files(), []);
});

Deno.test("a server that is not there is named", async () => {
  await using bench = new Bench();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const endpoint = `http://127.0.0.1:${listener.addr.port}`;
  listener.close();
  bench.variables.HF_ENDPOINT = `${endpoint}/`;
  await bench.fails("network", new RegExp(`cannot reach ${endpoint}: .*refused.*HF_ENDPOINT`));
  bench.variables.HF_ENDPOINT = "no url";
  await bench.fails("network", /HF_ENDPOINT is no URL: no url/);
});

Deno.test("the token goes to the hub and to nobody else", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.token = "hf_secret";
  bench.variables.HF_TOKEN = " hf_secret\n";
  await bench.pull();
  for (const { server, authorization } of bench.hub.seen) {
    assert.equal(authorization, server === "hub" ? "Bearer hf_secret" : null);
  }
  assert.ok(bench.downloads().length > 0);
});

Deno.test("the token in HF_HOME serves where HF_TOKEN is not set", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.token = "hf_from_file";
  Deno.mkdirSync(bench.variables.HF_HOME);
  Deno.writeTextFileSync(join(bench.variables.HF_HOME, "token"), "hf_from_file\n");
  assert.equal(await bench.pull(), bench.target);
});

Deno.test("follows a renamed repository, but not for ever", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.renamed = { from: "/owner/", to: "/new-owner/" };
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  Deno.removeSync(bench.target);
  bench.hub.behaviour.renamed = { from: "/owner/", to: "/owner/" };
  await bench.fails("network", /redirects in a circle/);
});

Deno.test("a file in Hugging Face's own cache is used where it lies", async () => {
  await using bench = new Bench();
  const folder = join(bench.variables.HF_HOME, "hub", "models--owner--Some-Model-GGUF");
  const snapshot = join(folder, "snapshots", "0123abc", "folder");
  for (const each of [snapshot, join(folder, "blobs"), join(folder, "refs")]) {
    Deno.mkdirSync(each, { recursive: true });
  }
  Deno.writeTextFileSync(join(folder, "refs", "main"), "0123abc");
  assert.equal(await bench.pull(), bench.target, "a snapshot without the file does not count");
  Deno.removeSync(bench.target);

  const blob = join(folder, "blobs", sha256Of(CONTENT));
  const link = join(snapshot, "some-model.Q8_0.gguf");
  Deno.symlinkSync(blob, link);
  assert.equal(await bench.pull(), bench.target, "a dangling link does not count");
  Deno.removeSync(bench.target);

  Deno.writeFileSync(blob, CONTENT);
  const asked = bench.hub.seen.length;
  assert.equal(await bench.pull(), link);
  bench.variables.HF_HUB_CACHE = join(bench.variables.HF_HOME, "hub");
  bench.variables.HF_HOME = "elsewhere";
  assert.equal(await bench.pull(), link);
  assert.equal(bench.hub.seen.length, asked);
});

Deno.test("an interrupted pull says so and can go on", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.delay = 5;
  const controller = new AbortController();
  await bench.fails("interrupted", /interrupted; the same command goes on$/, {
    signal: controller.signal,
    onProgress: (done) => done > 50_000 && controller.abort(),
  });
  const left = Deno.statSync(partPath(bench.target)).size;
  assert.ok(left > 50_000 && left < CONTENT.length);
  bench.hub.behaviour.delay = 0;
  assert.deepEqual(Deno.readFileSync(await bench.pull()), CONTENT);
  assert.equal(bench.downloads().at(-1)!.range, `bytes=${left}-`);
});

Deno.test("a full disk is named and nothing stays on it", async () => {
  await using bench = new Bench();
  // The real thing needs a file system of one's own: every write from the second on goes to
  // /dev/full, which answers as a full disk does. (On Windows and macOS a made-up error must do.)
  const write = Deno.FsFile.prototype.write;
  let writes = 0;
  Deno.FsFile.prototype.write = async function (bytes) {
    if (writes++ === 0) return write.call(this, bytes);
    if (Deno.build.os !== "linux") throw Object.assign(new Error("full"), { code: "ENOSPC" });
    using full = await Deno.open("/dev/full", { write: true });
    return await write.call(full, bytes);
  };
  try {
    await bench.fails("disk-full", /^some-model: the disk is full at .*LAMINA_HOME/);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assert.ok(writes > 1);
  assert.deepEqual(bench.files(), []);
});

Deno.test("a cache that cannot be written is named", async () => {
  await using bench = new Bench();
  Deno.writeTextFileSync(bench.variables.LAMINA_HOME, "a file where the folder should be");
  await assert.rejects(bench.pull(), (error) => {
    assert.ok(error instanceof PullError);
    assert.equal(error.reason, "write");
    assert.match(error.message, /cannot write .*; set LAMINA_HOME to a folder that can be written/);
    return true;
  });
});

Deno.test("two pulls at once: one waits for the other", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.delay = 10;
  let waits = 0;
  const onWait = () => void waits++;
  const paths = await Promise.all([bench.pull({ onWait }), bench.pull({ onWait })]);
  assert.deepEqual(paths, [bench.target, bench.target]);
  assert.equal(waits, 1);
  assert.equal(bench.downloads().length, 1);
  assert.deepEqual(Deno.readFileSync(bench.target), CONTENT);
});

Deno.test("three processes at once, one killed: the file is whole and fetched by one at a time", async () => {
  await using bench = new Bench();
  bench.hub.behaviour.delay = 30;
  const start = () =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--quiet",
        import.meta.resolve("../support/processes/pull_process.ts"),
        JSON.stringify(MODEL),
      ],
      env: { ...bench.variables, NO_COLOR: "1" },
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
  const first = start();
  while (bench.downloads().length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const others = [start(), start()];
  await new Promise((resolve) => setTimeout(resolve, 200));
  first.kill("SIGKILL");
  await first.output();
  for (const { stdout, success } of await Promise.all(others.map((child) => child.output()))) {
    assert.equal(new TextDecoder().decode(stdout).trim(), bench.target);
    assert.ok(success);
  }
  assert.deepEqual(Deno.readFileSync(bench.target), CONTENT);
  assert.equal(bench.downloads().length, 2, "the killed one's, and one that went on");
});

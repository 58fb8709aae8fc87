import assert from "node:assert/strict";
import { join } from "node:path";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { sha256Of, startHub } from "../../support/engines/hub_server.ts";
import { writeGguf, type WriterTensor, writeSplitGguf } from "../../support/models/gguf_writer.ts";
import { randomLlama, type RandomLlamaOptions } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

const COMMAND = new URL("../../../checkpoints/commands/model.ts", import.meta.url);

/** What the task's permission sets have to grant, and no more. */
const READING = [
  "--allow-read",
  "--allow-env=LAMINA_HOME,LOCALAPPDATA,HOME,USERPROFILE,XDG_CACHE_HOME,HF_HOME,HF_HUB_CACHE," +
  "HUGGINGFACE_HUB_CACHE,HF_TOKEN,HF_ENDPOINT",
];
const PULLING = [...READING, "--allow-write", "--allow-net"];

/** A folder with a cache in it, and the command run beside it. */
class Bench extends Folder {
  readonly variables: Record<string, string> = {
    LAMINA_HOME: this.at("lamina"),
    HF_HOME: this.at("huggingface"),
    HF_TOKEN: "",
    NO_COLOR: "1",
  };

  spawn(args: string[], permissions: string[]): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--quiet", ...permissions, COMMAND.href, ...args],
      cwd: this.path,
      env: this.variables,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  async run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    return await finished(this.spawn(args, READING));
  }

  /** The command's output; it must succeed and keep stderr empty. */
  async good(...args: string[]): Promise<string> {
    const { code, out, err } = await this.run(...args);
    assert.equal(err, "");
    assert.equal(code, 0);
    return out;
  }

  /** The command must fail with one line. */
  async bad(code: 1 | 2, message: RegExp, ...args: string[]): Promise<void> {
    const result = await this.run(...args);
    assert.match(result.err, message);
    assert.match(result.err, /^error: [^\n]+\n$/);
    assert.equal(result.code, code);
    assert.equal(result.out, "");
  }
}

async function finished(child: Deno.ChildProcess) {
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("model lists the models", async () => {
  using bench = new Bench();
  const lines = (await bench.good()).trimEnd().split("\n");
  assert.match(lines[0], /^tiny +- +embedded +/);
  assert.match(lines[1], /^smollm2-135m +98\.4 MB +not pulled +SmolLM2-135M-Instruct, Q4_1 \(Apa/);
  const list = JSON.parse(await bench.good("--json"));
  assert.equal(list.length, lines.length);
  assert.equal(list[1].name, "smollm2-135m");
});

Deno.test("wrong usage is one line and exit code 2", async () => {
  using bench = new Bench();
  await bench.bad(2, /unknown command "pul"; did you mean pull\?/, "pul", "tiny");
  await bench.bad(2, /unknown command "tiny"; did you mean info tiny\?/, "tiny");
  await bench.bad(2, /unknown command "xyz"; commands: pull, info, verify, tokenize, diff/, "xyz");
  await bench.bad(2, /unknown option --jsn; did you mean --json\?/, "--jsn");
  await bench.bad(2, /FILE\|NAME is missing; usage: .*task model info/, "info");
  await bench.bad(2, /give either a TEXT or --json/, "tokenize", "tiny");
  await bench.bad(2, /give either a TEXT or --json/, "tokenize", "tiny", "a", "--json", "b");
  const { code, out } = await bench.run("info", "--help");
  assert.equal(code, 0);
  assert.match(
    out,
    /^Shows a GGUF file.*\n\nUsage: \.\/denow task model info \[OPTIONS\] FILE\|NAME\n/,
  );
});

Deno.test("info shows metadata, tensors and totals", async () => {
  using bench = new Bench();
  const path = bench.write("llama.gguf", randomLlama({ layers: 1, type: "Q8_0", vocab: 96 }));
  const out = await bench.good("info", path);
  assert.ok(out.startsWith(`${path}\nGGUF version 3, little-endian, aligned to 32, `), out);
  assert.match(out, /\n {2}general\.architecture +"llama"\n/);
  assert.match(out, /\n {2}llama\.attention\.layer_norm_rms_epsilon +0\.00001\n/);
  assert.match(out, /\n {2}name +type +shape +bytes +offset\n/);
  // 64 x 96 weights in blocks of 32, of 34 bytes each.
  assert.match(out, /\n {2}token_embd\.weight +Q8_0 +64 x 96 +6528 +\d+\n/);
  assert.match(out, /\n {2}output_norm\.weight +F32 +64 +256 +\d+\n/);
  assert.match(out, /\n {2}Q8_0 +9 +\d+ +\d+ +8\.500\n {2}F32 +3 +192 +768 +32\.000\n {2}all +12 /);

  const { tensors, ...rest } = JSON.parse(await bench.good("info", path, "--json"));
  assert.deepEqual(tensors[0].shape, [64, 96]);
  assert.deepEqual([tensors[0].name, tensors[0].type, tensors[0].bytes], [
    "token_embd.weight",
    "Q8_0",
    6528,
  ]);
  assert.equal(rest.metadata["llama.embedding_length"], 64);
  assert.equal(rest.bytes, Deno.statSync(path).size);
  assert.equal(rest.parameters, 2 * 64 * 96 + 4 * 64 * 64 + 3 * 64 * 128 + 3 * 64);
  assert.equal(rest.bits_per_weight, rest.tensor_bytes * 8 / rest.parameters);
});

Deno.test("info says whether a file runs here, and what is missing", async () => {
  using bench = new Bench();
  const said = async (options: RandomLlamaOptions) => {
    const path = bench.write("llama.gguf", randomLlama({ layers: 2, ...options }));
    const out = await bench.good("info", path);
    return out.slice(out.lastIndexOf("\n\n") + 2).trimEnd();
  };
  assert.equal(await said({}), "runs here");
  assert.equal(
    await said({ metadata: { "llama.attention.sliding_window": 16 } }),
    "runs here\n  llama.cpp leaves out the window of attention (llama.attention.sliding_window);" +
      " --like llama.cpp does as it does",
  );
  assert.equal(
    await said({ metadata: { "general.architecture": "mamba" } }).then((line) =>
      line.split(";")[0]
    ),
    'does not run here\n  architecture "mamba" is not supported yet',
  );
  assert.match(
    await said({ metadata: { "llama.logit_scale": { type: "f32", value: 2 } } }),
    /^does not run here\n {2}llama.logit_scale is 2: scaled logits .* not supported yet$/,
  );
  assert.match(
    await said({ tensors: (list) => list.filter(({ name }) => !name.endsWith("ffn_up.weight")) }),
    /^does not run here\n {2}the tensor blk.0.ffn_up.weight is missing; .* \(and 1 more like it\)$/,
  );
});

Deno.test("info takes every type and any architecture", async () => {
  using bench = new Bench();
  const tensors: WriterTensor[] = GGML_TYPES.map(({ name, blockSize, blockBytes }) => ({
    name: `a.${name}`,
    type: name,
    shape: [blockSize * 2, 3],
    data: new Uint8Array(blockBytes * 6),
  }));
  const metadata = { "general.architecture": "no-such-architecture" };
  const path = bench.write("all.gguf", writeGguf({ metadata, tensors }));
  const out = await bench.good("info", path);
  for (const { name, blockSize, blockBytes } of GGML_TYPES) {
    const row = new RegExp(
      `\\n  a\\.${name} +${name} +${blockSize * 2} x 3 +${blockBytes * 6} +\\d+\\n`,
    );
    assert.match(out, row);
  }
});

Deno.test("info cuts long values and keeps control characters from the terminal", async () => {
  using bench = new Bench();
  const metadata = {
    "general.architecture": "llama",
    "evil\x1b[2J": "\x9b31mred\u202e\nnext line",
    long: "x".repeat(1000),
    tokens: Array.from({ length: 1000 }, (_, i) => `token${i}`),
    few: Float32Array.of(0.1, 2),
    big: { type: "u64", value: 2n ** 60n + 1n },
  } as const;
  const path = bench.write("evil.gguf", writeGguf({ metadata }));
  const out = await bench.good("info", path);
  assert.ok(out.includes("evil\\u001b[2J"));
  assert.ok(out.includes('"\\u009b31mred\\u202e\\nnext line"'));
  // deno-lint-ignore no-control-regex
  assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/.test(out));
  assert.ok(out.includes(`"${"x".repeat(80)}"... (1000 characters)`));
  assert.ok(
    out.includes('1000 values: ["token0", "token1", "token2", "token3", "token4", "token5", ...]'),
  );
  assert.ok(out.includes("2 values: [0.1, 2]"));
  assert.ok(out.includes("1152921504606846977"));
  const json = JSON.parse(await bench.good("info", path, "--json"));
  assert.equal(json.metadata.tokens.length, 1000);
  assert.deepEqual(json.metadata.few, [Math.fround(0.1), 2]);
  assert.equal(json.metadata.big, "1152921504606846977");
});

Deno.test("info takes the embedded model by name, vocabulary-only and split files", async () => {
  using bench = new Bench();
  assert.match(await bench.good("info", "tiny"), /^tiny\nGGUF version 3/);
  const vocabulary = bench.write("vocab.gguf", writeGguf({ metadata: { "a.b": 1 } }));
  assert.match(await bench.good("info", vocabulary), /tensors \(0\)[^]*\n {2}all +0 +0 +0 +-\n/);

  const tensor = (name: string): WriterTensor => ({
    name,
    type: "F32",
    shape: [2],
    data: new Uint8Array(8),
  });
  const parts = writeSplitGguf({ metadata: { "general.architecture": "llama" } }, [
    [tensor("first")],
    [tensor("second")],
  ]);
  parts.forEach((bytes, i) => bench.write(`s-0000${i + 1}-of-00002.gguf`, bytes));
  const out = await bench.good("info", bench.at("s-00001-of-00002.gguf"));
  assert.match(out, /\n {2}first +F32 +2 +8 +\d+ +1\n {2}second +F32 +2 +8 +\d+ +2\n/);
});

Deno.test("files that cannot be read are one line and exit code 1", async () => {
  using bench = new Bench();
  const text = bench.write("text.gguf", "this is no model at all");
  await bench.bad(1, /text\.gguf: this is not a GGUF file/, "info", text);
  const whole = randomLlama();
  const cut = bench.write("cut.gguf", whole.subarray(0, whole.length / 2));
  await bench.bad(1, /cut\.gguf: /, "info", cut);
  await bench.bad(1, /none\.gguf: no such file; check the path/, "info", "none.gguf");
  await bench.bad(1, /: this is a folder; give the path of a GGUF/, "info", bench.path);
  await bench.bad(2, /FILE\|NAME is empty; usage: .*model info/, "info", "");
  await bench.bad(
    1,
    /smolm2-135m: no such file or model; did you mean smollm2-135m\?/,
    "info",
    "smolm2-135m",
  );
  await bench.bad(1, /smollm2-135m: not pulled yet/, "verify", "smollm2-135m");
  const { err, code } = await bench.run("info", "none.gguf", "--debug");
  assert.match(err, /^error: none\.gguf: no such file.*\nModelError: [^]*\n +at /);
  assert.equal(code, 1);
});

Deno.test("verify", async () => {
  using bench = new Bench();
  const bytes = randomLlama({ layers: 1 });
  const sha256 = sha256Of(bytes);
  const path = bench.write("x.gguf", bytes);
  await bench.bad(
    1,
    new RegExp(`x\\.gguf: nothing to compare with; its SHA-256 is ${sha256}`),
    "verify",
    path,
  );
  bench.write("x.gguf.sha256", `${sha256}  x.gguf\n`);
  const { out, code } = await bench.run("verify", path);
  assert.equal(out, `x: good, SHA-256 ${sha256} (${path})\n`);
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(await bench.good("verify", path, "--json")), {
    name: "x",
    path,
    sha256,
    expected: sha256,
    verified: true,
  });
  bytes[bytes.length - 1] ^= 1;
  bench.write("x.gguf", bytes);
  const broken = await bench.run("verify", path);
  assert.equal(broken.code, 1);
  assert.match(broken.err, /^error: .*x\.gguf: checksum mismatch, SHA-256 is [0-9a-f]{64} where /);
  assert.equal((await bench.run("verify", path, "--json")).code, 1);
  assert.match(
    await bench.good("verify", "tiny"),
    /^tiny: part of Lamina, SHA-256 [0-9a-f]{64}\n$/,
  );
});

const HUB_NAME = "hf:some-owner/Some-Model-GGUF/some-model.gguf";

Deno.test("pull fetches, shows progress and prints the path", async () => {
  using bench = new Bench();
  const bytes = randomLlama({ layers: 1 });
  await using hub = startHub(bytes);
  bench.variables.HF_ENDPOINT = hub.endpoint;
  hub.behaviour.delay = 100;
  const path = join(
    bench.variables.LAMINA_HOME,
    ...["models", "hf", "some-owner", "Some-Model-GGUF", "some-model.gguf"],
  );
  const { out, err, code } = await finished(bench.spawn(["pull", HUB_NAME], PULLING));
  assert.equal(out, `${path}\n`);
  assert.equal(code, 0);
  assert.match(err, /^pulling hf:\S+: \d+ %, [\d.]+ of [\d.]+ kB/);
  assert.ok(err.split("\n").length <= 12, "about a line per tenth");
  assert.deepEqual(Deno.readFileSync(path), bytes);
  assert.match(await bench.good("info", HUB_NAME), /general\.architecture/);
  const again = await finished(bench.spawn(["pull", "--json", HUB_NAME], PULLING));
  assert.deepEqual([again.err, JSON.parse(again.out)], ["", { name: HUB_NAME, path }]);
});

Deno.test("naming a model that is not there pulls it", async () => {
  using bench = new Bench();
  await using hub = startHub(randomLlama({ layers: 1 }));
  bench.variables.HF_ENDPOINT = hub.endpoint;
  const { out, err, code } = await finished(bench.spawn(["info", "--json", HUB_NAME], PULLING));
  assert.equal(JSON.parse(out).metadata["general.architecture"], "llama");
  assert.deepEqual([err, code], ["", 0]);
});

Deno.test("a pull that fails leaves no file", async () => {
  using bench = new Bench();
  await using hub = startHub(randomLlama({ layers: 1 }));
  bench.variables.HF_ENDPOINT = hub.endpoint;
  hub.behaviour.status = 401;
  const refused = await finished(bench.spawn(["pull", HUB_NAME], PULLING));
  assert.match(refused.err, /^error: hf:\S+: .* refuses \(401\): .*set HF_TOKEN[^\n]*\n$/);
  assert.equal(refused.code, 1);
  hub.behaviour.status = undefined;
  hub.behaviour.statedSha256 = "0".repeat(64);
  const wrong = await finished(bench.spawn(["pull", "--json", HUB_NAME], PULLING));
  assert.match(wrong.err, /^error: hf:\S+: checksum mismatch: [^\n]*\n$/);
  assert.equal(wrong.code, 1);
  assert.deepEqual(files(bench.variables.LAMINA_HOME), ["some-model.gguf.lock"]);
  const embedded = await finished(bench.spawn(["pull", "tiny"], PULLING));
  assert.equal(embedded.err, "error: tiny: part of Lamina itself, there is nothing to pull\n");
  assert.equal(embedded.code, 1);
});

Deno.test({
  name: "Ctrl-C ends a pull with one line, and the next goes on",
  ignore: Deno.build.os === "windows", // there is no way to send it
  async fn() {
    using bench = new Bench();
    const bytes = randomLlama({ layers: 2, width: 128 });
    await using hub = startHub(bytes);
    bench.variables.HF_ENDPOINT = hub.endpoint;
    hub.behaviour.delay = 50;
    const child = bench.spawn(["pull", "--json", HUB_NAME], PULLING);
    while (files(bench.variables.LAMINA_HOME).every((name) => !name.endsWith(".part"))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    child.kill("SIGINT");
    const { err, code } = await finished(child);
    assert.match(err, /^error: hf:\S+: the pull was interrupted; the same command goes on\n$/);
    assert.equal(code, 1);
    assert.deepEqual(files(bench.variables.LAMINA_HOME), [
      "some-model.gguf.lock",
      "some-model.gguf.part",
    ]);
    hub.behaviour.delay = 0;
    const { out } = await finished(bench.spawn(["pull", "--json", HUB_NAME], PULLING));
    assert.deepEqual(Deno.readFileSync(JSON.parse(out).path), bytes);
    assert.match(hub.seen.at(-1)!.range ?? "", /^bytes=[1-9]/);
  },
});

Deno.test("tokenize prints lists of ids", async () => {
  using bench = new Bench();
  const path = bench.write("spm.gguf", randomLlama({ layers: 1, vocabulary: "llama", vocab: 300 }));
  const ids = JSON.parse(await bench.good("tokenize", path, "Hi"));
  assert.ok(Array.isArray(ids) && ids.length > 0 && ids.every(Number.isInteger));

  const strings = ["Hi", "", "two words\nand a line", "é🙂", "Hi"];
  const list = bench.write("strings.json", JSON.stringify(strings));
  const lines = (await bench.good("tokenize", path, "--json", list)).trimEnd().split("\n");
  assert.equal(lines.length, strings.length);
  assert.deepEqual(JSON.parse(lines[0]), ids);
  assert.equal(lines[4], lines[0]);

  const broken = bench.write("broken.json", "[1,");
  await bench.bad(1, /broken\.json: not JSON: /, "tokenize", path, "--json", broken);
  const numbers = bench.write("numbers.json", "[1, 2]");
  await bench.bad(
    1,
    /numbers\.json: not a JSON list of strings/,
    "tokenize",
    path,
    "--json",
    numbers,
  );
  await bench.bad(1, /none\.json: no such file/, "tokenize", path, "--json", "none.json");
  const none = bench.write("none.gguf", randomLlama({ layers: 1 }));
  await bench.bad(1, /vocab/, "tokenize", none, "Hi");
});

/** Names of all files under a folder. */
function files(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].flatMap((entry) =>
      entry.isDirectory ? files(join(folder, entry.name)) : [entry.name]
    ).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** generate.ts as people run it: a process of its own. */
import assert from "node:assert/strict";
import { openDevice } from "../../inspect/run/loading.ts";
import { acquireLock, cachedPath } from "../../models/cache.ts";
import { KNOWN_MODELS } from "../../models/mod.ts";
import type { WriterTensor } from "../support/models/gguf_writer.ts";
import { randomLlama, type RandomLlamaOptions } from "../support/models/random_llama.ts";
import { deno, type Finished } from "../support/command.ts";
import { Folder } from "../support/folder.ts";

const GENERATE = new URL("../../generate.ts", import.meta.url).pathname;

function generate(args: string[], permissions: string[] = [], env: Record<string, string> = {}) {
  return deno(["run", "--quiet", "--no-prompt", ...permissions, GENERATE, ...args], { env });
}

/** One line on err, no stack trace. */
function assertOneLine({ code, out, err }: Finished, expectedCode: number, pattern: RegExp): void {
  assert.equal(code, expectedCode, err);
  assert.match(err, pattern);
  assert.equal(err.trimEnd().split("\n").length, 1, err);
  assert.equal(out, "");
}

Deno.test("generate.ts with the embedded model needs no permission and no option", async () => {
  const { code, out, err } = await generate(["Once upon a time"]);
  // The first time on a device, or on a busy one.
  assert.equal(err.replace("checking the GPU's kernels (first time on this device)\n", ""), "");
  assert.equal(code, 0);
  assert.match(out, /^Once upon a time.{20,}/s);
  assert.ok(out.endsWith("\n"));
});

Deno.test("--json prints one line; greedy and seeded sampling repeat themselves", async () => {
  const greedy = await generate(["--json", "--max-tokens", "12", "Once upon a time"]);
  const report = JSON.parse(greedy.out);
  assert.equal(greedy.out.trimEnd().split("\n").length, 1);
  assert.deepEqual(Object.keys(report), ["model", "prompt_ids", "ids", "text", "timings"]);
  assert.deepEqual(Object.keys(report.timings), [
    "load_ms",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
  ]);
  assert.equal(report.model, "tiny");
  assert.equal(report.prompt_ids[0], 1);
  assert.equal(report.ids.length, 12);

  const seeded = (seed: string) =>
    generate([
      "--json",
      "--max-tokens=12",
      "--temperature=1",
      "--top-p=.95",
      "--seed",
      seed,
      "Once",
    ]);
  const [first, again, other] = [await seeded("7"), await seeded("7"), await seeded("8")]
    .map(({ out }) => JSON.parse(out).ids);
  assert.deepEqual(first, again);
  assert.notDeepEqual(first, other);
});

Deno.test("the CPU backend generates what the GPU does, also from ids", async () => {
  const ids = ["--prompt-ids", "1,433,500", "--json", "--max-tokens", "8", "--ignore-eos"];
  const gpu = JSON.parse((await generate(["--backend", "webgpu", ...ids])).out);
  const cpu = JSON.parse((await generate(["--backend", "cpu", ...ids])).out);
  assert.deepEqual(cpu.ids, gpu.ids);
  assert.deepEqual(gpu.prompt_ids, [1, 433, 500]);
});

Deno.test("--stats goes to err, the text to out", async () => {
  const args = ["--backend", "webgpu", "--stats", "--max-tokens", "4", "Once"];
  const { out, err } = await generate(args);
  for (const word of ["load", "first token", "prefill", "decode", "device"]) {
    assert.ok(err.includes(word), word);
  }
  assert.match(err, /^driver +not stated$/m, "without a permission nothing is known about it");
  assert.doesNotMatch(err, /, \d+$/m, "no bare vendor number");
  const { driver } = (await openDevice()).info;
  const told = await generate(args, ["--allow-read", "--allow-env"]);
  assert.ok(told.err.includes(`\ndriver      ${driver || "not stated"}\n`), told.err);
  assert.ok(!out.includes("prefill"));
});

Deno.test("Ctrl-C ends generation cleanly and keeps what was printed", async () => {
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      GENERATE,
      "--max-tokens=900",
      "--ignore-eos",
      "--stats",
      "Once upon a time",
    ],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  let text = "";
  const decoder = new TextDecoder();
  while (text.length < 40) text += decoder.decode((await reader.read()).value, { stream: true });
  process.kill("SIGINT");
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  const stderr = new TextDecoder().decode(await new Response(process.stderr).bytes());
  assert.equal((await process.status).code, 0, stderr);
  assert.match(text, /^Once upon a time/);
  assert.ok(text.endsWith("\n"));
  assert.match(stderr, /ended by\s+aborted/);
});

Deno.test("wrong usage is one line and exit code 2", async () => {
  assertOneLine(await generate([]), 2, /PROMPT/);
  assertOneLine(
    await generate(["--temperature", "NaN", "Hi"]),
    2,
    /--temperature must be a number/,
  );
  assertOneLine(await generate(["--temprature", "1", "Hi"]), 2, /--temperature/);
  assertOneLine(await generate(["--top-p", "1.5", "Hi"]), 2, /--top-p/);
  assertOneLine(await generate(["--prompt-ids", "1,x", "--json"]), 2, /--prompt-ids/);
  assertOneLine(await generate(["--max-tokens", "0", "Hi"]), 2, /--max-tokens/);
});

Deno.test("logits that are NaN, all or one of them, are an error on both backends", async () => {
  using folder = new Folder();
  const nan = ({ data }: WriterTensor) => data.map(() => 0xff);
  const all = (tensor: WriterTensor) => ({ ...tensor, data: nan(tensor) });
  const one = (tensor: WriterTensor) => {
    const data = tensor.data.slice();
    if (tensor.name === "output.weight") data.fill(0xff, -2);
    return { ...tensor, data };
  };
  for (const spoil of [all, one]) {
    const tensors = (each: WriterTensor[]) => each.map(spoil);
    const path = folder.write("nan.gguf", randomLlama({ layers: 1, type: "F16", tensors }));
    for (const backend of ["webgpu", "cpu"]) {
      for (const temperature of ["0", "1"]) {
        const { code, out, err } = await generate(
          ["--backend", backend, "--temperature", temperature, "--prompt-ids=1,2", "--model", path],
          ["--allow-read", "--allow-env"],
        );
        assert.deepEqual([code, out], [1, "\n"], err);
        assert.match(err, /error: cannot choose the next id: .*NaN.*\n$/);
      }
    }
  }
});

Deno.test("bad input is one line and exit code 1", async () => {
  using folder = new Folder();
  const allow = ["--allow-read", "--allow-env"];
  assertOneLine(await generate(["--prompt-ids", "1,5000"]), 1, /5000.*ids go from 0 to 1023/);
  const long = Array.from({ length: 1024 }, () => 5).join(",");
  assertOneLine(await generate(["--prompt-ids", long]), 1, /1024 tokens.*context/);
  const wrong = async (path: string, line: RegExp) =>
    assertOneLine(await generate(["--model", path, "Hi"], allow), 1, line);
  await wrong(folder.at("none.gguf"), /none\.gguf.*no such file/);
  await wrong(folder.write("text.gguf", "this is no model"), /text\.gguf/);
  const model = randomLlama({ layers: 1, seed: 1 });
  await wrong(folder.write("cut.gguf", model.subarray(0, model.length - 100)), /cut\.gguf/);
});

Deno.test("what is wrong with the file or the prompt is said before a device is opened, and names the file", async () => {
  using folder = new Folder();
  // The weights cannot go anywhere, so whoever gets that far says so.
  const nowhere = {
    VK_DRIVER_FILES: "/nonexistent.json",
    VK_ICD_FILENAMES: "/nonexistent.json",
    DENO_WEBGPU_BACKEND: "vulkan",
  };
  const fails = async (name: string, options: RandomLlamaOptions, args: string[], line: RegExp) => {
    const model = randomLlama({ layers: 1, vocab: 300, ...options });
    const path = folder.write(`${name}.gguf`, model);
    const command = ["--backend", "webgpu", "--model", path, ...args];
    assertOneLine(await generate(command, ["--allow-read", "--allow-env"], nowhere), 1, line);
  };
  const spm = { vocabulary: "llama" } as const;
  const chat = { "tokenizer.chat_template": "{{" };
  await fails("none", {}, ["Hi"], /none\.gguf: tokenizer\.ggml\.model is "no_vocab"/);
  const metadata = { "tokenizer.ggml.scores": new Float32Array(300).fill(NaN) };
  await fails("nan", { ...spm, metadata }, ["Hi"], /nan\.gguf: .*scores has NaN/);
  await fails("chat", { ...spm, metadata: chat }, ["--chat", "Hi"], /chat\.gguf: .* is broken/);
  const endless = "{% for i in range(99999) %}".repeat(2) + "{% endfor %}".repeat(2);
  const hangs = { ...spm, metadata: { "tokenizer.chat_template": endless } };
  await fails("endless", hangs, ["--chat", "Hi"], /endless\.gguf: the chat template was stopped/);
  await fails("long", { ...spm, contextLength: 4 }, ["Hello, hello"], /prompt has \d+ tokens/);
  await fails("device", spm, ["Hi"], /no WebGPU device/);
});

Deno.test("a missing permission names the set that has it", async () => {
  for (const model of ["some.gguf", "smollm2-135m"]) {
    const line =
      /^error: Requires (read|env) access to "[^"]+"; use \.\/denow run -P generate\.ts …/;
    assertOneLine(await generate(["--model", model, "Hi"]), 1, line);
  }
});

Deno.test("a reader that goes away ends generation quietly", async () => {
  const args = ["run", "--quiet", GENERATE, "--ignore-eos", "--max-tokens", "900", "Once"];
  const process = new Deno.Command(Deno.execPath(), {
    args,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  await reader.read();
  await reader.cancel();
  const stderr = new TextDecoder().decode(await new Response(process.stderr).bytes());
  assert.doesNotMatch(stderr, /error/i);
  assert.equal((await process.status).code, 0);
});

Deno.test("waiting for another process that pulls the model is said", async () => {
  using home = new Folder();
  const model = KNOWN_MODELS.find(({ name }) => name === "smollm2-135m")!;
  using _lock = await acquireLock(`${cachedPath(model, () => home.path)}.lock`);
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-P", GENERATE, "--model", model.name, "Hi"],
    env: { LAMINA_HOME: home.path },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const { value } = await process.stderr.getReader().read();
  process.kill();
  await process.status;
  const said = new TextDecoder().decode(value);
  assert.equal(said, "waiting for another process to pull smollm2-135m\n");
});

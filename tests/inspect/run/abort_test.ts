/** Ctrl-C and aborts while a prompt runs: they are heard at once, not when it has ended. */
import assert from "node:assert/strict";
import { loadModel } from "../../../inspect/run/model.ts";
import { randomLlama, writeEmptyLlama } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

const GENERATE = new URL("../../../generate.ts", import.meta.url).pathname;

/** A prompt of many passes, and a model whose passes are soon over. */
const PROMPT = Array.from({ length: 4000 }, (_, i) => i % 96);

async function withFile(
  write: (path: string) => Promise<unknown>,
  run: (path: string) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  const path = folder.at("model.gguf");
  await write(path);
  await run(path);
}

const small = (path: string) =>
  Deno.writeFile(path, randomLlama({ layers: 2, seed: 3, contextLength: 4096 }));

/** Aborted by a timer, as by Ctrl-C: only the event loop can bring it. */
function abortSoon(): AbortController {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 1);
  return controller;
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`an abort ends a generation within its prompt (${backend})`, async () => {
    await withFile(small, async (path) => {
      using model = await loadModel(path, { backend });
      for (const temperature of [0, 1]) {
        const { signal } = abortSoon();
        const generation = model.generate(PROMPT, { maxTokens: 2, temperature, signal });
        for await (const _ of generation);
        assert.deepEqual([generation.finishReason, generation.ids], ["aborted", []]);
        assert.deepEqual(generation.timings, {
          firstTokenMs: 0,
          prefillTokensPerSecond: 0,
          decodeTokensPerSecond: 0,
        });
      }
    });
  });

  Deno.test(`an abort ends a run within its prompt, with its reason (${backend})`, async () => {
    await withFile(small, async (path) => {
      using model = await loadModel(path, { backend });
      const { signal } = abortSoon();
      let done = 0;
      const onProgress = (positions: number) => done = positions;
      await assert.rejects(model.run([PROMPT], { signal, onProgress }), { message: "enough" });
      assert.ok(done < PROMPT.length, `${done} positions`);
    });
  });

  Deno.test(`an abort ends a pass that takes long in its middle (${backend})`, async () => {
    // 128 positions of its layers are billions of multiplications each.
    const large = { layers: 3, width: 1024, ffnWidth: 6144, heads: 8, type: "Q8_0" };
    await withFile((path) => writeEmptyLlama(path, large), async (path) => {
      using model = await loadModel(path, { backend });
      const { signal } = abortSoon();
      const session = model.engine.session({ capacity: 128, signal });
      const ids = PROMPT.slice(0, session.maxTokens);
      await assert.rejects(session.pass({ ids }), { message: "enough" });
      assert.equal(session.position, 0);
      await assert.rejects(session.pass({ ids: [1] }), { message: "enough" });
      assert.throws(() => model.engine.session({ capacity: 1, signal }), { message: "enough" });
      session.dispose();
    });
  });

  Deno.test(`Ctrl-C while the prompt runs ends generate.ts cleanly (${backend})`, async () => {
    const write = (path: string) =>
      Deno.writeFile(
        path,
        randomLlama({ layers: 2, seed: 3, contextLength: 8192, vocab: 300, vocabulary: "llama" }),
      );
    await withFile(write, async (path) => {
      const prompt = "\u{1f600}".repeat(2000); // a token per byte
      const process = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-q",
          "-A",
          GENERATE,
          "--model",
          path,
          "--backend",
          backend,
          "--stats",
          prompt,
        ],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const reader = process.stdout.getReader();
      await reader.read(); // the prompt is echoed before it runs
      process.kill("SIGINT");
      const stderr = new Response(process.stderr).text();
      while (!(await reader.read()).done);
      const report = await stderr;
      assert.equal((await process.status).code, 0, report);
      assert.match(report, /decode +0 tokens\/s \(0 tokens\)\nended by +aborted/);
    });
  });
}

Deno.test("passes in portions give the bits of passes one after the other, begun at once", async () => {
  const large = { layers: 1, width: 1024, ffnWidth: 5120, heads: 8, type: "Q4_0", vocab: 64 };
  await withFile((path) => Deno.writeFile(path, randomLlama(large)), async (path) => {
    using model = await loadModel(path, { backend: "webgpu" });
    const ids = Array.from({ length: 128 }, (_, i) => i % 64);
    const logits = async (atOnce: boolean) => {
      const session = model.engine.session({ capacity: 130 });
      const wanted = ["logits", "argmax"];
      const prompt = session.pass({ ids, wanted });
      if (!atOnce) await prompt;
      const next = session.pass({ ids: "next", wanted });
      const numbers = [await prompt, await next].map((tensors) => tensors.get("logits")!.data);
      assert.equal(session.position, 129);
      session.dispose();
      return numbers;
    };
    assert.deepEqual(await logits(true), await logits(false));
  });
});

/** Life in a notebook, in a real kernel: outputs, errors, Stop, progress, live figures, memory. */
import assert from "node:assert/strict";
import { writeEmptyLlama } from "../support/models/random_llama.ts";
import { Kernel, type Output, type Ran } from "../support/jupyter.ts";

const kernel = await Kernel.start();
Deno.test.afterAll(() => kernel[Symbol.asyncDispose]());
await kernel.run(`
import { add, display, live, loadModel, patchingSweep, tensorMap } from "../mod.ts";
const model = await loadModel("tiny");
`);

function errorOf({ outputs }: Ran): Output {
  const error = outputs.find(({ kind }) => kind === "error");
  assert.ok(error, JSON.stringify(outputs).slice(0, 500));
  return error;
}

/** The bundles that a cell showed in one place, one after the other. */
function shown({ outputs }: Ran): Output[][] {
  const displays = outputs.filter(({ transient }) => transient?.display_id);
  return [...Map.groupBy(displays, ({ transient }) => transient!.display_id).values()];
}

Deno.test("a cell ends after its outputs have left", async () => {
  const cell = `await model.run("Hello", { capture: "blk.*.out" });
for (let i = 0; i < 20; i++) console.log(i);
"x".repeat(1e6)`;
  for (let i = 0; i < 10; i++) {
    const { outputs } = await kernel.run(cell);
    const text = outputs.filter(({ kind }) => kind === "stream").map(({ text }) => text).join("");
    assert.equal(text, Array.from({ length: 20 }, (_, i) => `${i}\n`).join(""));
    assert.equal(outputs.at(-1)?.kind, "execute_result");
  }
});

Deno.test("an error is one line without the engine's frames", async () => {
  const cases: [code: string, line: RegExp][] = [
    [`await model.run("Hi", { capture: "blk.9.out" })`, /^UnknownPointError: No point "blk.9.out"/],
    [`model.tokenId("not a token")`, /^TokenError: /],
    [`await loadModel("no-such-model")`, /^UnknownModelError: no-such-model: /],
    [`await loadModel("/no/such.gguf")`, /^ModelError: \/no\/such.gguf: no such file/],
    [`await model.run(undefined)`, /^PromptError: Cannot run undefined/],
    [`for await (const _ of model.generate("Hi", { maxTokens: 0 }));`, /^RangeError: /],
    [`await model.run("Hi", { edit: [["blk.0.out", "no"]] })`, /^EditError: Cannot edit blk.0.out/],
  ];
  for (const [code, line] of cases) {
    const { traceback } = errorOf(await kernel.run(code));
    assert.equal(traceback?.length, 1, traceback?.join("\n"));
    assert.match(traceback[0], line);
  }
});

Deno.test("errors of the user's own keep the user's frames", async () => {
  const own = errorOf(await kernel.run(`function mine() { null.x }\nmine()`));
  assert.match(own.traceback![1], /at mine \(<anonymous>:\d+:\d+\)/);
  const code =
    `await model.run("Hi", { edit: [["blk.0.out", function mine() { throw new Error("no") }]] })`;
  const called = errorOf(await kernel.run(code));
  assert.deepEqual([called.traceback!.length, called.traceback![0]], [2, "Error: no"]);
  assert.match(called.traceback![1], /mine/);
});

Deno.test("LAMINA_DEBUG shows all frames", async () => {
  const code = `Deno.env.set("LAMINA_DEBUG", "1"); await model.run([])`;
  const { traceback } = errorOf(await kernel.run(code));
  assert.ok(
    traceback!.some((line) => line.includes("inspect/run/prompt.ts")),
    traceback!.join("\n"),
  );
  await kernel.run(`Deno.env.delete("LAMINA_DEBUG")`);
});

/** Two prompts whose sweep takes a while, as code. */
function longPrompts(tokens: number): string {
  const ids = (step: number) =>
    `Array.from({ length: ${tokens} }, (_, i) => 3 + i * ${step} % 500)`;
  return `{ clean: ${ids(7)}, corrupted: ${ids(11)} }`;
}

/** Cells that would take long, and what must still work after a Stop. */
const LONG: Readonly<Record<string, string>> = {
  generation: `
const generation = model.generate("Once", { maxTokens: 500, ignoreEos: true, capture: "blk.3.out" });
for await (const _ of generation) await new Promise((go) => setTimeout(go, 5)); // who takes tokens slowly`,
  "sampled generation":
    `for await (const _ of model.generate("Once", { maxTokens: 500, ignoreEos: true, temperature: 1, capture: "*" }));`,
  run:
    `for (;;) await model.run([Array.from({ length: 500 }, (_, i) => i + 3)], { capture: "blk.*.out" })`,
  sweep: `await patchingSweep(model, ${longPrompts(200)}, {
  metric: ([a, b]) => a - b, point: "head_out", over: ["position", "head"] })`,
  live: `await live(model.generate("Once", { maxTokens: 500, ignoreEos: true, capture: "*" }))`,
  stepper:
    `const s = await model.stepper("Once"); for (;;) { await s.until("logits"); await s.rewind("token_embd") }`,
};

for (const [name, code] of Object.entries(LONG)) {
  Deno.test(`Stop ends a cell with one line: ${name}`, async () => {
    const ran = await kernel.run(code, { interrupt: 0.4 });
    const { ename, traceback } = errorOf(ran);
    assert.equal(ename, "Stopped");
    assert.equal(traceback?.length, 1);
    assert.match(traceback[0], /was stopped.*; variables and models stay usable$/);
    assert.ok(ran.seconds < 2, `${ran.seconds} s`);
    assert.ok(ran.alive);
    const after = await kernel.value<string>(
      `const run = await model.run("Hi", { capture: "blk.0.out" });\nrun.captured[0]`,
    );
    assert.equal(after, "blk.0.out");
  });
}

Deno.test("what a stopped generation has stays", async () => {
  const [ids, reason, captured] = await kernel.value<[number, string, string[]]>(
    `[generation.ids.length, generation.finishReason, generation.run.captured]`,
  );
  assert.ok(ids > 0 && ids < 500);
  assert.deepEqual([reason, captured], ["aborted", ["blk.3.out"]]);
});

Deno.test("Stop while nothing runs does nothing", async () => {
  await kernel.interrupt();
  await kernel.interrupt();
  assert.equal(await kernel.value("model.config.layers"), 5);
});

/** A model that takes seconds to load. */
const LARGE = await Deno.makeTempFile({ suffix: ".gguf" });
await writeEmptyLlama(LARGE, { layers: 10, width: 1536, ffnWidth: 6144, heads: 16, type: "F16" });
Deno.test.afterAll(() => Deno.remove(LARGE));

Deno.test("Stop ends loading, and loading again works; a bar shows how far it is, and goes", async () => {
  const load = `const large = await loadModel(${JSON.stringify(LARGE)});`;
  const stopped = await kernel.run(load, { interrupt: 0.4 });
  assert.equal(errorOf(stopped).ename, "Stopped");
  const loaded = await kernel.run(load);
  const [bar, ...others] = shown(loaded);
  assert.equal(others.length, 0);
  assert.equal(bar[0].kind, "display_data");
  assert.ok(bar[0].at >= 450, `the bar came after ${bar[0].at} ms`);
  assert.match(bar[0].data!["text/plain"] as string, /^Loading .*gguf(: .*)?$/);
  assert.match(bar.at(-1)!.data!["text/plain"] as string, /^$/);
  assert.ok(bar.slice(1).every(({ kind }) => kind === "update_display_data"));
  const quick = await kernel.run(load); // the same file is there already
  assert.deepEqual(quick.outputs, []);
  assert.equal(await kernel.value(`large.dispose();\nlarge.weightBytes > 0`), true);
});

Deno.test("long work shows one bar with the time that is left; a listener replaces it", async () => {
  const sweep = (options: string) =>
    `await patchingSweep(model, ${longPrompts(64)}, {
  metric: ([a, b]) => a - b, point: "head_out", over: ["position", "head"], layers: [0, 1, 2, 3], ${options} });
undefined`;
  const [bar, ...others] = shown(await kernel.run(sweep("")));
  assert.equal(others.length, 0);
  const texts = bar.map(({ data }) => data!["text/plain"] as string);
  assert.ok(
    texts.some((text) => /^Patching: \d+ of \d+, .* left$/.test(text)),
    texts.join("\n"),
  );
  assert.equal(texts.at(-1), "");
  assert.deepEqual((await kernel.run(sweep("onProgress() {}"))).outputs, []);
});

Deno.test("a figure is drawn over in place, at most five times a second, at last with its picture", async () => {
  const ran = await kernel.run(`
const view = await display("before");
const end = performance.now() + 1000;
let drawn = 0;
while (performance.now() < end) {
  view.update(() => { drawn++; return tensorMap(generation.run.tensor("blk.3.out")) });
  await new Promise((resolve) => setTimeout(resolve, 5));
}
view.update(() => tensorMap(generation.run.tensor("blk.3.out")));
await view.done();
drawn`);
  const [updates, ...others] = shown(ran);
  assert.equal(others.length, 0);
  assert.deepEqual(updates[0].data, { "text/plain": "before" });
  const kinds = updates.slice(1).map(({ data }) => Object.keys(data!).sort().join(" "));
  assert.ok(kinds.length >= 3 && kinds.length <= 7, `${kinds.length} updates`);
  const live = "application/vnd.plotly.v1+json text/plain";
  assert.deepEqual(new Set(kinds.slice(0, -1)), new Set([live]));
  assert.equal(kinds.at(-1), "application/vnd.plotly.v1+json image/png text/plain");
  assert.ok(updates.slice(1).every(({ kind }) => kind === "update_display_data"));
  const result = ran.outputs.find(({ kind }) => kind === "execute_result")!;
  assert.equal(Number(result.data!["text/plain"]), kinds.length - 1);
});

Deno.test("a view that nobody ends gets its picture too", async () => {
  const ran = await kernel.run(`
const open = await display();
open.update(tensorMap(generation.run.tensor("blk.3.out")));
await new Promise((resolve) => setTimeout(resolve, 2000));`);
  const [[first, last]] = shown(ran);
  assert.deepEqual(["image/png" in first.data!, "image/png" in last.data!], [false, true]);
});

Deno.test("what cannot be drawn says so", async () => {
  const code = `const broken = await display("…");
broken.update(() => { throw new Error("no figure") });
await broken.done();`;
  assert.equal(errorOf(await kernel.run(code)).evalue, "no figure");
});

Deno.test("live shows the text as it comes, tinted, and a figure below", async () => {
  const ran = await kernel.run(`
const story = model.generate("Once upon <a> time", { maxTokens: 400, ignoreEos: true, temperature: 1, seed: 1, capture: "*" });
await live(story, ({ run }) => tensorMap(run.tensor("blk.3.attn_probs").at({ head: 0 })));`);
  const [text, figure] = shown(ran);
  const { "text/html": html, "text/plain": plain } = text.at(-1)!.data as Record<string, string>;
  assert.match(html, /Once upon &#60;a&#62; time/);
  assert.match(
    html,
    /<span style="background:rgba\(213,94,0,0\.\d+\);border-radius:2px" title="\d/,
  );
  assert.equal(plain, await kernel.value("story.prompt + story.text"));
  assert.ok(text.length > 2, `${text.length} updates`);
  assert.ok("image/png" in figure.at(-1)!.data!);
});

Deno.test("running cells again and again keeps memory flat", async () => {
  const cells = [
    `const again = await loadModel("tiny");`,
    `const kept = await again.run("Once upon a time there was", { capture: "blk.*" });`,
    `tensorMap(kept.tensor("blk.3.attn_probs").at({ head: 0 }))`,
    `const told = again.generate("Once", { maxTokens: 20, capture: "blk.*.out" });
for await (const _ of told);`,
    `await live(again.generate("Once", { maxTokens: 20 }));`,
  ];
  const rerun = async (times: number) => {
    for (let i = 0; i < times; i++) {
      for (const cell of cells) {
        const { outputs } = await kernel.run(cell);
        assert.ok(outputs.every(({ kind }) => kind !== "error"), JSON.stringify(outputs));
      }
    }
    return await kernel.memory();
  };
  const before = await rerun(5);
  const after = await rerun(10);
  assert.ok(after < before + 20, `${before} MiB, after 10 reruns ${after} MiB`);
});

Deno.test("a restart gives everything back", async () => {
  const before = await kernel.memory();
  await kernel.restart();
  assert.ok(await kernel.memory() < before / 2);
  await kernel.run(`import { loadModel } from "../mod.ts"`);
  assert.equal(await kernel.value("typeof model"), "undefined");
});

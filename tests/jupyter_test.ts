/** Life in a notebook, in a real kernel: outputs, errors, Stop, progress, live figures, memory. */
import assert from "node:assert/strict";
import { Kernel, type Output, type Ran } from "./support/jupyter.ts";

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
  assert.ok(traceback!.some((line) => line.includes("inspect/prompt.ts")), traceback!.join("\n"));
  await kernel.run(`Deno.env.delete("LAMINA_DEBUG")`);
});

/** Cells that would take long, and what must still work after a Stop. */
const LONG: Readonly<Record<string, string>> = {
  generation: `
const generation = model.generate("Once", { maxTokens: 500, ignoreEos: true, capture: "blk.3.out" });
for await (const _ of generation);`,
  "sampled generation":
    `for await (const _ of model.generate("Once", { maxTokens: 500, ignoreEos: true, temperature: 1 }));`,
  run:
    `for (;;) await model.run([Array.from({ length: 500 }, (_, i) => i + 3)], { capture: "blk.*.out" })`,
  sweep:
    `await patchingSweep(model, { clean: "Tom and Anna went to the big", corrupted: "Tom and Anna sat in the old" }, {
  metric: ([a, b]) => a - b, point: "head_out", over: ["position", "head"] })`,
  live: `await live(model.generate("Once", { maxTokens: 500, ignoreEos: true }))`,
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

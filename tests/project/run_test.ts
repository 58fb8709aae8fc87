/** What `./denow task test` makes of its runs, and which of them are quick. */
import assert from "node:assert/strict";
import { filesBelow } from "../support/files.ts";
import { testFiles, testResult } from "../run.ts";
import { deno } from "../support/command.ts";

Deno.test("a run counts as its last closing line says, and as a failure where it says nothing", () => {
  const closing = (line: string) => `test ... ok (1ms)\n\n${line}\n\n`;
  const cases: [string, success: boolean, passed: number, failed: number, skipped: number][] = [
    [closing("ok | 3 passed | 0 failed (5ms)"), true, 3, 0, 0],
    [closing("ok | 12 passed (30 steps) | 0 failed | 2 ignored (1m5s)"), true, 12, 0, 2],
    [closing("FAILED | 1 passed (2 steps) | 1 failed (1 step) | 1 ignored (8ms)"), false, 1, 1, 1],
    [closing("ok | 0 passed | 0 failed | 4 ignored (1ms)"), true, 0, 0, 4],
    [[1, 7].map((n) => closing(`ok | ${n} passed | 0 failed (1ms)`)).join(""), true, 7, 0, 0],
    // It died, or a file had no test, or could not be loaded.
    ["error: Module not found", false, 0, 1, 0],
    [closing("ok | 0 passed | 0 failed (0ms)"), true, 0, 1, 0],
    [closing("ok | 5 passed | 0 failed (0ms)"), false, 5, 1, 0],
    ["free(): double free detected", false, 0, 1, 0],
  ];
  for (const [output, success, passed, failed, skipped] of cases) {
    assert.deepEqual(testResult(output, success), { passed, failed, skipped }, output);
  }
});

Deno.test("every file of tests is quick or slow, and no quick one needs a network", async () => {
  const { quick, slow, alone } = await testFiles();
  const tests = new URL("../", import.meta.url);
  const files = (await Array.fromAsync(filesBelow(tests))).filter((file) =>
    file.endsWith("_test.ts")
  );
  assert.equal(quick.length + slow.length + alone.length, files.length);
  const needs =
    /\b(llamaCppLibrary|llamaCppVocabularies|llamaCppTemplates|pyTorch|notebookPython|Kernel\.start|launchBrowser|Lab\.start)\(|\b(findModel|loadModel)\("smollm2/;
  const uses = async (name: string) =>
    needs.test(await Deno.readTextFile(new URL(`${name}_test.ts`, tests)));
  for (const { name } of quick) {
    // models_test.ts has models of its own making under a known name; this file and needed_test.ts name what they look for.
    if (!["models/models", "project/run"].includes(name)) assert.ok(!await uses(name), name);
  }
  const slowUses = await Promise.all([...slow, ...alone].map(({ name }) => uses(name)));
  assert.ok(slowUses.filter((each) => each).length > 12, "what needs one is found");
});

Deno.test("an option that is not known is refused", async () => {
  const { code, err } = await deno(["run", "-q", "-A", "tests/run.ts", "--", "--fast"]);
  assert.equal(code, 2);
  assert.equal(err, "error: --fast: --quick is all that can be said\n");
});

/** What tests need beside Deno: where it is missing they are skipped, and CI fails. */
import assert from "node:assert/strict";
import { filesBelow } from "../support/files.ts";
import { Folder } from "../support/folder.ts";
import { deno } from "../support/command.ts";

for (
  const [ci, code, closing] of [
    ["true", 1, /FAILED \| 0 passed \| 1 failed \| 1 ignored/],
    ["", 0, /ok \| 0 passed \| 0 failed \| 1 ignored/],
  ] as const
) {
  Deno.test(`what cannot be fetched skips its tests${ci && ", and CI fails"}`, async () => {
    using folder = new Folder();
    const path = folder.write(
      "skips_test.ts",
      `import { needed } from ${JSON.stringify(import.meta.resolve("../support/needed.ts"))};
       const engine = await needed("engine", () => Promise.reject(new Error("ECONNREFUSED")));
       Deno.test({ name: "uses it", ignore: engine === undefined, fn() {} });`,
    );
    const { code: found, out } = await deno(["test", "-A", "--no-config", path], {
      env: { CI: ci },
    });
    assert.equal(found, code, out);
    assert.match(out, closing);
    assert.match(out, /tests are skipped, there is no engine: ECONNREFUSED/);
    if (ci) assert.match(out, /error: Error: no engine, so tests were skipped: ECONNREFUSED/);
  });
}

Deno.test("every test that is skipped for want of something goes through it", async () => {
  const tests = new URL("../", import.meta.url);
  const found: string[] = [];
  for await (const name of filesBelow(tests)) {
    if (!name.endsWith("_test.ts") || name === "project/needed_test.ts") continue;
    const source = await Deno.readTextFile(new URL(name, tests));
    // What decides: a system, or a value that is one of `needed`.
    for (const [, condition] of source.matchAll(/\bignore(?::|\s=)\s*([^,;}\n]+?)\s*[,;}\n]/g)) {
      found.push(condition);
      assert.match(
        condition,
        /^(Deno\.build\.os [!=]== |!linux$|await \w+\(\) === undefined$|\w+ === undefined$)/,
        name,
      );
    }
  }
  assert.ok(found.length > 15, `${found}`);
});

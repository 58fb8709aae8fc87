/** Lamina from a script in another folder, which knows nothing of this project's deno.json: by path, and through `links`. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import denoJson from "../../deno.json" with { type: "json" };
import { tiny } from "../../models/embedded.ts";
import { Folder } from "../support/folder.ts";
import { deno, ROOT } from "../support/command.ts";

/** A script that generates, makes a table and looks at it. */
function script(specifier: string): string {
  return `import { loadModel } from ${JSON.stringify(specifier)};
using model = await loadModel("tiny");
const run = await model.run([[1, 2, 3]], { capture: ["blk.0.out"] });
console.log(run.table("blk.0.out").numRows);
`;
}

Deno.test("a script in another folder imports mod.ts by its path, and needs no permission", async () => {
  using folder = new Folder();
  const path = folder.write("a.ts", script(new URL("mod.ts", ROOT).href));

  const { code, out, err } = await deno(["run", "-q", "--no-prompt", path], { cwd: folder.path });

  assert.equal(code, 0, err);
  assert.equal(out, "3\n");
});

Deno.test("a project in another folder has Lamina as a package, through links", async () => {
  using folder = new Folder();
  const { name, version } = denoJson;
  folder.write(
    "deno.json",
    JSON.stringify({
      links: [fileURLToPath(ROOT)],
      imports: { [name]: `jsr:${name}@${version}` },
    }),
  );
  const path = folder.write("a.ts", script(name));

  const { code, out, err } = await deno(["run", "-q", "--no-prompt", path], { cwd: folder.path });

  assert.equal(code, 0, err);
  assert.equal(out, "3\n");
});

Deno.test("the package could be published: deno publish --dry-run", async () => {
  const { code, err } = await deno(["publish", "--dry-run", "--allow-dirty", "-q"]);
  assert.equal(code, 0, err);
});

Deno.test("the embedded model is tiny.gguf, byte for byte", async () => {
  assert.deepEqual(tiny, await Deno.readFile(new URL("models/tiny/tiny.gguf", ROOT)));
});

/** Every folder's README and docs/: what they link to and name is there, and their examples are of this Lamina. */
import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { deno, ROOT } from "../support/command.ts";
import { filesBelow } from "../support/files.ts";

const OURS = [
  "docs",
  "kernels",
  "engine",
  "text",
  "models",
  "inspect",
  "checkpoints",
  "notebooks",
  "tests",
  "bench",
];

const files = [
  "README.md",
  "CHANGELOG.md",
  "mod.ts",
  "generate.ts",
  "deno.json",
  "denow",
  "denow.cmd",
];
for (const folder of OURS) {
  for await (const file of filesBelow(new URL(`${folder}/`, ROOT))) files.push(`${folder}/${file}`);
}
const documents = await Promise.all(
  files.filter((file) => file.endsWith(".md"))
    .map(async (file) => ({ file, text: await Deno.readTextFile(new URL(file, ROOT)) })),
);

Deno.test("links lead to files of the repository", () => {
  const links = documents.flatMap(({ file, text }) =>
    [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, to]) => ({ file, to }))
  );
  assert.ok(links.length > 20, `${links.length}`);
  for (const { file, to } of links) {
    const target = normalize(join(dirname(file), to));
    assert.ok(
      files.includes(target) || files.some((each) => each.startsWith(target)),
      `${file}: ${to}`,
    );
  }
});

Deno.test("source files that are named are there", () => {
  const named = documents.filter(({ file }) => file !== "CHANGELOG.md").flatMap(({ file, text }) =>
    [...text.matchAll(/`([\w./-]*\w\.(?:ts|wgsl|js|css|py))`/g)].map(([, name]) => ({ file, name }))
  );
  assert.ok(named.length > 60, `${named.length}`);
  for (const { file, name } of named) {
    const folder = /^(README|docs\/)/.test(file) ? "" : `${dirname(file)}/`;
    const isThere = files.some((each) =>
      each === name || (each.startsWith(folder) && `/${each}`.endsWith(`/${name}`))
    );
    assert.ok(isThere, `${file} names ${name}`);
  }
});

Deno.test("the examples in README and docs/ have the right types", async () => {
  const examples = documents.filter(({ file, text }) =>
    /^(README|docs\/)/.test(file) && text.includes("```ts\n")
  ).map(({ file }) => file);
  assert.ok(examples.includes("README.md"), `${examples}`);
  const { code, err } = await deno(["check", "-q", "--doc-only", ...examples]);
  assert.equal(code, 0, err);
});

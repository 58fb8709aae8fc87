/** What the README shows is what happens. */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { deno, ROOT } from "../support/command.ts";

const readme = await Deno.readTextFile(new URL("README.md", ROOT));

/** Commands after `$ ./denow run` in the README's blocks, each with the output that follows it. */
const transcripts = [...readme.matchAll(/^```\n\$ \.\/denow (run .+)\n([\s\S]+?)^```$/gm)].map(
  ([, command, output]) => ({ command, output }),
);

/** The words of a simple command line: quotes, no escapes. */
function words(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
}

Deno.test("README: both transcripts are there", () => {
  assert.ok(transcripts.length >= 2, `${transcripts.length}`);
});

for (const { command, output } of transcripts) {
  Deno.test(`README: ./denow ${command}`, async () => {
    const { code, out } = await deno(words(command));
    assert.equal(code, 0);
    const oneLine = (text: string) => text.replaceAll(/\s+/g, " ").trim();
    assert.equal(oneLine(out), oneLine(output));
  });
}

/** Files that a text in Markdown links to or shows, from the text's own folder. */
function linked(markdown: string): string[] {
  return [...markdown.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, target]) => target);
}

Deno.test("README: its links and pictures are files of the repository", async () => {
  const targets = linked(readme);
  assert.ok(targets.length > 12, `${targets}`);
  for (const target of targets) {
    assert.ok((await Deno.stat(new URL(target, ROOT))).isFile, target);
  }
});

Deno.test("README: every option of generate.ts that it names exists", async () => {
  const { out: help } = await deno(["run", "-q", "generate.ts", "--help"]);
  const named = readme.match(/`--help` lists the options: `([^`]+)`/)![1].split(/\s+/);

  for (const option of named) assert.match(help, new RegExp(`  ${option}\\b`));
});

Deno.test("README: every task is in the table of commands", () => {
  for (const task of Object.keys(denoJson.tasks)) {
    assert.match(readme, new RegExp(`^\\| \`\\./denow task ${task}\\b`, "m"), task);
  }
});

Deno.test("CI runs task test, and fails where something that tests need is missing", async () => {
  const ci = await Deno.readTextFile(new URL(".ci/run", ROOT));
  assert.match(ci, /^export .*\bCI=true$/m);
  assert.match(ci, /^exec \.\/denow task test$/m);
});

/** Notebooks: what is committed is whole and clean; they run without a browser; their pages need nothing but themselves. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PLOTLY_MIME } from "../../inspect/figures/drawing/display.ts";
import { PROGRESS } from "../../inspect/jupyter/progress.ts";
import { jupyter, NOTEBOOKS, ROOT } from "../../notebooks/commands/jupyter.ts";
import {
  committed,
  firstError,
  joined,
  type Notebook,
  notebookText,
} from "../../notebooks/commands/notebook.ts";
import { codeHtml, markdownHtml } from "../../notebooks/commands/page/markdown.ts";
import { notebookPage } from "../../notebooks/commands/page/mod.ts";
import { Folder } from "../support/folder.ts";
import { deno } from "../support/command.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/notebooks/", import.meta.url));
/** What a forge still shows. */
const MAX_BYTES = 3 * 1024 * 1024;
/** Folders of people and machines. */
const ABSOLUTE =
  /(?:^|[\s"'(=:])(?:file:\/\/|\/(?:home|root|Users|tmp|var|work|mnt|opt)\/|[A-Z]:\\)/m;

async function readNotebook(path: string): Promise<Notebook> {
  return JSON.parse(await Deno.readTextFile(path));
}

/** Runs `./denow task notebooks` with what it is permitted. */
async function notebooks(...args: string[]) {
  const command = ["run", "-q", "-P=notebooks", "notebooks/commands/notebooks.ts"];
  const { code, out: said, err: errors } = await deno([...command, ...args], { cwd: ROOT });
  return { code, said, errors };
}

const names = [...Deno.readDirSync(NOTEBOOKS)].map(({ name }) => name)
  .filter((name) => name.endsWith(".ipynb"));

Deno.test("the notebooks were found", () => assert.ok(names.length >= 10, `${names}`));

for (const name of names) {
  Deno.test(`${name} is committed with its outputs, small and clean`, async () => {
    const text = await Deno.readTextFile(join(NOTEBOOKS, name));
    assert.ok(new TextEncoder().encode(text).length < MAX_BYTES, "below 3 MiB");
    const notebook: Notebook = JSON.parse(text);
    assert.equal(firstError(notebook), undefined);
    // `./denow task notebooks --save` writes it so.
    assert.ok(text === notebookText(committed(notebook)), "as task notebooks --save leaves it");

    const code = notebook.cells.filter(({ cell_type, source }) =>
      cell_type === "code" && joined(source).trim() !== ""
    );
    assert.ok(code.length > 3, `${code.length} cells of code`);
    assert.deepEqual(
      code.map(({ execution_count }) => execution_count),
      code.map((_, i) => i + 1),
      "run once, from top to bottom",
    );
    for (const { id, outputs = [] } of code) {
      for (const output of outputs) {
        const data = output.output_type === "stream"
          ? { "text/plain": output.text }
          : output.output_type === "error"
          ? {}
          : output.data;
        if (PLOTLY_MIME in data) assert.ok("image/png" in data, `a picture in cell ${id}`);
        for (const [mime, value] of Object.entries(data)) {
          if (mime.startsWith("image/")) continue;
          const shown = typeof value === "object" && !Array.isArray(value)
            ? JSON.stringify(value)
            : joined(value as string);
          const [found] = ABSOLUTE.exec(shown) ?? [];
          assert.equal(
            found,
            undefined,
            `a path of this machine in cell ${id}: ${shown.slice(0, 200)}`,
          );
        }
      }
    }
  });
}

Deno.test("progress is not committed", () => {
  const progress = {
    output_type: "display_data" as const,
    data: { "text/plain": "loading: done in 0.6 s" },
    metadata: { [PROGRESS]: true },
  };
  const kept = { output_type: "stream" as const, name: "stdout", text: "kept" };
  const notebook = {
    cells: [{ cell_type: "code" as const, source: "", metadata: {}, outputs: [progress, kept] }],
    metadata: {},
    nbformat: 4,
    nbformat_minor: 5,
  };
  assert.deepEqual(committed(notebook).cells[0].outputs, [kept]);
});

Deno.test("absolute paths are found", () => {
  for (const path of ["/home/x/a", "in '/tmp/a'", "file:///a", "at /root/a", "C:\\Users\\a"]) {
    assert.match(path, ABSOLUTE);
  }
  for (const fine of ["notebooks/html", "https://example.org/home/a", "a/tmp/b"]) {
    assert.doesNotMatch(fine, ABSOLUTE);
  }
});

Deno.test("a notebook runs, its outputs are saved, and running it again changes nothing", async () => {
  using folder = new Folder();
  // Beside the original, where its imports lead to the same files.
  const copy = join(FIXTURES, `copy-${Deno.pid}.ipynb`);
  await Deno.copyFile(join(FIXTURES, "probe.ipynb"), copy);
  await jupyter(); // makes it where it is not there yet, and would say so
  try {
    const first = await notebooks(copy, "--save", "--out", folder.path);
    assert.equal(first.code, 0, first.errors);
    assert.equal(first.errors, "");
    const saved = await Deno.readTextFile(copy);
    assert.equal((await notebooks(copy, "--save", "--out", folder.path)).code, 0);
    assert.ok(await Deno.readTextFile(copy) === saved);

    const { cells, metadata } = await readNotebook(copy);
    const source = await readNotebook(join(FIXTURES, "probe.ipynb"));
    assert.deepEqual(
      cells.map(({ id, source }) => [id, source]),
      source.cells.map(({ id, source }) => [id, source]),
    );
    assert.deepEqual(cells.map(({ metadata }) => metadata), cells.map(() => ({})));
    assert.deepEqual(Object.keys(metadata), ["kernelspec", "language_info"]);
    assert.ok(!("version" in metadata.language_info!));
    const [, stream, table, figure, , live] = cells.map(({ outputs }) => outputs);
    assert.deepEqual(stream, [
      { name: "stdout", output_type: "stream", text: ["two lines\n", "<b>of text</b>\n"] },
    ]);
    assert.ok(table![0].output_type === "execute_result" && "text/html" in table![0].data);
    assert.ok(figure![0].output_type === "execute_result" && PLOTLY_MIME in figure![0].data);
    assert.equal(live!.length, 1, "what was updated in place is there once");
  } finally {
    await Deno.remove(copy);
  }
});

Deno.test("a cell that fails is named with its error, and the exit code is 1", async () => {
  using folder = new Folder();
  const file = join(FIXTURES, "failing.ipynb");
  const before = await Deno.readTextFile(file);
  const { code, errors } = await notebooks(file, "--save", "--out", folder.path);
  assert.equal(errors, "error: failing: cell 3 of 4: RangeError: the second line\n");
  assert.equal(code, 1);
  assert.equal(await Deno.readTextFile(file), before, "nothing is saved");
  const html = await Deno.readTextFile(join(folder.path, "failing.html"));
  assert.match(html, /<pre class="output error">/);
});

Deno.test("a cell that takes too long is named", async () => {
  using folder = new Folder();
  const endless = { ...await readNotebook(join(FIXTURES, "failing.ipynb")) };
  const [heading, cell] = endless.cells;
  const path = join(folder.path, "endless.ipynb");
  const source = "await new Promise((resolve) => setTimeout(resolve, 60_000));";
  await Deno.writeTextFile(
    path,
    JSON.stringify({ ...endless, cells: [heading, { ...cell, source }] }),
  );
  const { code, errors } = await notebooks(path, "--timeout", "1", "--out", folder.path);
  assert.match(errors, /error: endless: cell 2 of 2: not done after 1 s\n$/);
  assert.equal(code, 1);
});

Deno.test("a notebook with an unknown kernel is one line", async () => {
  using folder = new Folder();
  const notebook = await readNotebook(join(FIXTURES, "failing.ipynb"));
  const metadata = { kernelspec: { name: "no-such-kernel" } };
  const path = folder.write("unknown.ipynb", JSON.stringify({ ...notebook, metadata }));
  const { code, errors } = await notebooks(path, "--out", folder.path);
  assert.match(errors, /^error: [^\n]*unknown\.ipynb cannot be run: [^\n]*no-such-kernel[^\n]*\n$/);
  assert.equal(code, 1);
});

Deno.test({
  name: "task lab tells its address, and an interrupt ends it",
  ignore: Deno.build.os === "windows",
  async fn() {
    const lab = new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-P=lab", "notebooks/commands/lab.ts", "--no-browser"],
      cwd: ROOT,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let said = "";
    for await (const text of lab.stderr.pipeThrough(new TextDecoderStream())) {
      const known = said.includes("?token=");
      said += text;
      if (!known && said.includes("?token=")) lab.kill("SIGINT");
    }
    assert.equal((await lab.status).code, 0, said);
    const [address] = /http:\/\/localhost:\d+/.exec(said)!;
    await assert.rejects(fetch(address), "it is gone");
  },
});

Deno.test("a name that means no notebook is wrong usage", async () => {
  const { code, errors } = await notebooks("none");
  assert.match(errors, /^error: no notebook none; [^\n]+\n$/);
  assert.equal(code, 2);
});

Deno.test("a page has Plotly once, if it has figures, and names nothing to fetch", () => {
  const figure = {
    output_type: "display_data" as const,
    data: {
      [PLOTLY_MIME]: { data: [{ name: "</script><script>alert(1)</script>" }], layout: {} },
      "image/png": "iVBORw0KGgo=\n",
      "text/plain": 'a "caption"',
    },
    metadata: {},
  };
  const page = (outputs: Notebook["cells"][0]["outputs"]) =>
    notebookPage({
      cells: [{ cell_type: "code", source: "1 < 2", metadata: {}, outputs }],
      metadata: { language_info: { name: "typescript" } },
      nbformat: 4,
      nbformat_minor: 5,
    }, "name");
  const scripts = (html: string) => html.split("plotly.js (cartesian - minified)").length - 1;
  assert.equal(scripts(page([])), 0);
  assert.equal(scripts(page([figure, figure])), 1);
  const html = page([figure]);
  assert.ok(!html.includes("alert(1)</script>"));
  assert.ok(
    html.includes('<img src="data:image/png;base64,iVBORw0KGgo=" alt="a &#34;caption&#34;">'),
  );
  assert.match(html, /<title>name<\/title>/);
  assert.match(html, /default-src 'none'/);
  const code = page([]);
  assert.doesNotMatch(code, /\b(?:src|href)="(?!data:)/);
});

Deno.test("prose: formulas, prices, code, links between notebooks", () => {
  const html = markdownHtml(
    "$x_1 * y_1$ costs $5, not $6, and `$a$`; [next](02_b.ipynb#c)\n$$z$$\n",
  );
  assert.equal(html.match(/<math/g)?.length, 2);
  assert.match(html, /display="block"/);
  assert.match(html, /costs \$5, not \$6, and <code>\$a\$<\/code>/);
  assert.match(html, /href="02_b.html#c"/);
  assert.match(markdownHtml("[a](https://example.org/x.ipynb)"), /x\.ipynb"/);
  assert.equal(codeHtml("a < b", "klingon"), "a &#60; b");
});

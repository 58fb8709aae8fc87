/** The front door reads like a manual: what mod.ts exports is explained, and its examples run. */
import assert from "node:assert/strict";
import { deno } from "../support/command.ts";

Deno.test("every export of mod.ts, its members and the types that they mention are documented", async () => {
  const { err: errors } = await deno(["doc", "--lint", "mod.ts"]);
  const found = [...errors.matchAll(/^error\[[\w-]+\]: (.*)$/gm)].map(([, what]) => what);
  // Types of Plotly's package are documented there; figures say which part of them they have.
  const plotly =
    /references private type '(Annotations|Font|Layout|LayoutAxis|PlotData|PlotMarker|Shape|Slider|UpdateMenu)'$/;
  const [theirs, ours] = [true, false].map((is) =>
    found.filter((what) => plotly.test(what) === is)
  );
  assert.deepEqual(ours, []);
  // It looked: else a failure to read mod.ts would pass.
  assert.ok(theirs.length > 5, errors);
});

Deno.test("what its docstrings throw and link to can be imported from mod.ts", async () => {
  const { out } = await deno(["doc", "mod.ts"]);
  const exported = new Set(
    [...out.matchAll(/^(?:abstract |async )*(?:function|class|interface|type|const) (\w+)/gm)]
      .map(([, name]) => name),
  );
  assert.ok(exported.size > 100, `${exported.size}`);
  const thrown = [...out.matchAll(/@throws \{([^}]+)\}/g)].flatMap(([, names]) =>
    names.split("|").map((name) => name.trim())
  );
  const linked = [...out.matchAll(/@linkcode (\w+)/g)].map(([, name]) => name);
  assert.ok(thrown.length > 30 && linked.length > 30, `${thrown.length} ${linked.length}`);
  const unknown = [...thrown, ...linked]
    .filter((name) => !exported.has(name) && !Object.hasOwn(globalThis, name));

  assert.deepEqual([...new Set(unknown)], []);
});

Deno.test("the examples in docstrings run", async () => {
  const files = [
    "mod.ts",
    "inspect/run/model.ts",
    "inspect/tables/mod.ts",
    "inspect/tensor/tensor.ts",
  ];
  const { code, out, err: errors } = await deno(["test", "-q", "-A", "--doc", ...files]);
  assert.equal(code, 0, `${out}${errors}`);
  for (const file of files) assert.match(out, new RegExp(`\\b${file}#\\d+-\\d+`));
});

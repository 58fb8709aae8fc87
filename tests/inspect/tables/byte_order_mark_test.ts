/** U+FEFF at the beginning of a text is a character as any other: some vocabularies have a token of it. */
import assert from "node:assert/strict";
import { rowsTable, tableColumns, utf8 } from "../../../inspect/tables/mod.ts";
import { readArrow, writeTable } from "../../../inspect/tables/files.ts";
import { Folder } from "../../support/folder.ts";

const TEXT = "\ufeffx";
const table = () => rowsTable(TEXT, { [TEXT]: utf8([TEXT, "\ufeff", null]) });

Deno.test("a table in memory has U+FEFF wherever it is looked at", () => {
  const made = table();
  const column = made.getChild(TEXT)!;
  assert.deepEqual([...column], [TEXT, "\ufeff", null]);
  assert.equal(column.get(0), TEXT);
  assert.equal(made.get(0)!.toJSON()[TEXT], TEXT);
  assert.equal(made.concat(made).getChild(TEXT)!.get(3), TEXT); // of several batches
  assert.deepEqual(tableColumns(made)[TEXT], [TEXT, "\ufeff", null]);
});

Deno.test("files keep U+FEFF: in values, names and metadata", async () => {
  using folder = new Folder();
  await writeTable(folder.at("t.arrow"), table());
  const read = await readArrow(folder.at("t.arrow"));
  assert.equal(read.metadata.get("table"), TEXT);
  assert.deepEqual(tableColumns(read)[TEXT], [TEXT, "\ufeff", null]);
  await writeTable(folder.at("t.csv"), table());
  const csv = new TextDecoder("utf-8", { ignoreBOM: true })
    .decode(Deno.readFileSync(folder.at("t.csv")));
  assert.equal(csv, `${TEXT}\r\n${TEXT}\r\n\ufeff\r\n\r\n`);
});

Deno.test("elsewhere TextDecoder is Deno's own", () => {
  assert.equal(new TextDecoder().decode(Uint8Array.of(0xef, 0xbb, 0xbf, 0x78)), "x");
});

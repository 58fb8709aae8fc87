/** The README's table of families is what their data says. `UPDATE_README=1` writes it. */
import assert from "node:assert/strict";
import { ROOT } from "../support/command.ts";
import { familiesTable } from "../support/families_table.ts";

const HEADING = "## Which models run";

Deno.test("README: its table of families is that of the code", async () => {
  const file = new URL("README.md", ROOT);
  const lines = (await Deno.readTextFile(file)).split("\n");
  const heading = lines.indexOf(HEADING);
  assert.ok(heading > 0, "there is no section about families");
  const first = lines.findIndex((line, i) => i > heading && line.startsWith("|"));
  const end = lines.findIndex((line, i) => i > first && !line.startsWith("|"));
  const rows = familiesTable();
  if (Deno.env.get("UPDATE_README")) {
    lines.splice(first, end - first, ...rows);
    return await Deno.writeTextFile(file, lines.join("\n"));
  }
  // The formatter pads columns.
  const bare = (row: string) => row.replaceAll(/ +/g, " ").replaceAll(/-+/g, "---");
  assert.deepEqual(lines.slice(first, end).map(bare), rows.map(bare));
});

import { type Table, tableColumns } from "../../../inspect/tables/arrow.ts";

/** Rows of a table as plain objects. */
// deno-lint-ignore no-explicit-any -- a test knows its columns' types
export function tableRows(table: Table): Record<string, any>[] {
  const columns = Object.entries(tableColumns(table));
  return Array.from(
    { length: table.numRows },
    (_, i) => Object.fromEntries(columns.map(([name, values]) => [name, values[i]])),
  );
}

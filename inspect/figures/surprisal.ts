/** How hard the tokens of a text were to foresee, in pictures. */
import { surprisal } from "../analyses/surprisal.ts";
import { Run } from "../run/run.ts";
import type { Table } from "../tables/mod.ts";
import type { Figure } from "./drawing/figure.ts";
import type { SequenceOption } from "./lens.ts";
import { ofSequence, plotRows } from "./drawing/table_rows.ts";
import { colouredText } from "./coloured_text.ts";
import { titled } from "./drawing/theme.ts";

/**
 * A text whose tokens are the darker the less the model expected them: −ln p of each given those before it, in nats (0.7 is a coin's
 * toss, 7 one in a thousand). Darkest from 12 on, so that figures compare.
 *
 * @param source a run, or the table of `surprisal()`
 * @throws {TypeError | RangeError} for another table, an empty one, a sequence that is not there
 */
export function surprisalText(source: Run | Table, options: SequenceOption = {}): Figure {
  const table = source instanceof Run ? surprisal(source) : source;
  const rows = plotRows(table, "surprisals", ["position", "token", "surprisal"], "surprisal()");
  const own = ofSequence(rows, options.sequence);
  const values = own.map((row) => rows.number("surprisal", row));
  const known = values.filter(Number.isFinite);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return colouredText({
    title: titled("surprisal", { model: rows.note("model"), sequence: options.sequence }, [
      known.length > 0 ? `mean ${mean.toFixed(2)} nats` : undefined,
    ]),
    tokens: own.map((row) => rows.text("token", row)),
    positions: own.map((row) => rows.number("position", row)),
    values,
    legend: "nats",
    range: [0, 12],
    more: rows.hasColumn("entropy")
      ? own.map((row) =>
        rows.has("entropy", row) ? `expected: ${rows.number("entropy", row).toPrecision(3)}` : ""
      )
      : undefined,
  });
}

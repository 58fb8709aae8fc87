// Streams pieces of one point into the folder of its first argument, until it is killed or cannot write any more; the second is
// how many pieces, the third how many rows each has. Prints the rows after each piece that is in the file, and an error's line.
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { META, piece, POINTS, TOKEN } from "../tables/table_samples.ts";

const [folder, pieces, rows] = Deno.args;
const point = { ...POINTS.out, shape: ["T" as const, 64] };
const sink = new ArrowSink(folder);
sink.begin({ meta: () => META, token: TOKEN });
const encoder = new TextEncoder();
try {
  for (let i = 0; i < Number(pieces); i++) {
    const start = i * Number(rows);
    await sink.write(
      point,
      piece(point, [Number(rows), 64], { step: i, start, first: start * 64 }),
    );
    Deno.stdout.writeSync(encoder.encode(`${sink.rows}\n`));
  }
} catch (error) {
  console.log(`${(error as Error).name}: ${(error as Error).message}`);
}

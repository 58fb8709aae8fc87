/** `task model diff`: weights whose blocks were packed in another layout. */
import { assertFound, type Change } from "../../support/models/diff_samples.ts";
import {
  nibblesBeside,
  swappedScales,
  twosComplements,
  unsigned,
} from "../../support/models/repacked.ts";

const NAME = "blk.1.attn_q.weight";

function repacked(type: string, change: (bytes: Uint8Array) => void): Change {
  return { type, bytes: (name, bytes) => name === NAME && change(bytes) };
}

const FAULTS: readonly [string, Change, RegExp][] = [
  [
    "nibbles of neighbours share a byte",
    repacked("Q4_0", nibblesBeside),
    /^its blocks are right when read so: numbers beside each other in a byte's nibbles$/,
  ],
  [
    "no offset in Q4_0",
    repacked("Q4_0", twosComplements),
    /: a two's complement instead of the offset 8$/,
  ],
  ["unsigned bytes", repacked("Q8_0", unsigned), /: 128 too much where bytes are signed$/],
  [
    "scales of the other byte order",
    repacked("Q8_0", (bytes) => swappedScales(bytes, 34)),
    /: the bytes of half floats exchanged$/,
  ],
];

for (const [name, change, detail] of FAULTS) {
  Deno.test(`model diff: ${name}`, async () => {
    await assertFound(change, { [NAME]: "block-layout" }, detail);
  });
}

Deno.test("model diff: one block in another layout is a damaged block", async () => {
  const change = repacked("Q4_0", (bytes) => nibblesBeside(bytes.subarray(18 * 100, 18 * 101)));
  await assertFound(
    change,
    { [NAME]: "dequant-block" },
    /^one block of \d+ is wrong: row 12, columns 128 to 159; it is right when read so: numbers beside/,
  );
});

Deno.test("model diff: the scale of a neighbour in one place", async () => {
  const change = repacked("Q8_0", (bytes) => {
    const view = new DataView(bytes.buffer);
    const scale = (block: number) => view.getFloat16(34 * block, true);
    // Neighbours are often alike.
    let block = 100;
    while (Math.abs(scale(block + 1) / scale(block) - 1) < 0.5) block++;
    bytes.copyWithin(34 * block, 34 * (block + 1), 34 * (block + 1) + 2);
  });
  await assertFound(
    change,
    { [NAME]: "dequant-block" },
    /^one block of \d+ is wrong: row \d+, columns \d+ to \d+; it has the next block's scale$/,
  );
});

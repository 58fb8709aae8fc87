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
  await assertFound(change, { [NAME]: "dequant-block" }, /^one block of \d+ is wrong: row 12, /);
});

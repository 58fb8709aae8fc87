/** Models that somebody dropped into fixtures/architectures/, with what they are to compute: on both backends, and the oracle. */
import assert from "node:assert/strict";
import {
  compareTensors,
  largestError,
  localAllowance,
  placeText,
} from "../../checkpoints/parity/compare.ts";
import { openGgufFile } from "../../engine/gguf/reader.ts";
import { oracle, oracleGreedy } from "../../engine/oracle/oracle.ts";
import { load } from "../../inspect/run/loading.ts";
import { architecturePairs, type ExpectedPass } from "../support/models/architecture_pairs.ts";

const pairs = await architecturePairs();

/** What the oracle makes of a prompt: some points, and the ids that follow. */
async function exact(path: string, { like, ids, greedy }: ExpectedPass, wanted: Set<string>) {
  const file = await openGgufFile(path);
  const options = { like, rows: "all", points: (point: string) => wanted.has(point) } as const;
  const { points } = await oracle(file, ids, options);
  const following = await oracleGreedy(file, ids, greedy.length, { like });
  file.close();
  return { points, ids: following.ids };
}

for (const { name, path, expected } of pairs) {
  const { like, ids, greedy, points = {} } = expected;
  const tensors = new Map(
    Object.entries(points).map(([point, { shape, data }]) => [
      point,
      { shape, data: new Float32Array(Uint8Array.fromBase64(data).buffer) },
    ]),
  );

  for (const backend of ["cpu", "webgpu"] as const) {
    Deno.test(`${name}: what is expected, ${backend}`, async () => {
      const { points, ids: ofOracle } = await exact(path, expected, new Set(tensors.keys()));
      assert.deepEqual(ofOracle, greedy, "the oracle's greedy ids");
      const loaded = await load(path, { backend, like });
      const session = loaded.engine.session({ capacity: ids.length + greedy.length });
      try {
        const wanted = [...tensors.keys(), "argmax"];
        const found = await session.pass({ ids, rows: ids.length, wanted });
        for (const [point, tensor] of tensors) {
          const allowance = localAllowance(point);
          // As in parity: nobody is asked to be nearer to a value than that is to the exact one.
          const atLeast = 4 * largestError(point, tensor, points.get(point)!, 0);
          const { passed, place, ours, reference } = compareTensors(
            ...[point, found.get(point)!, tensor, { ...allowance, atLeast }, 0] as const,
          );
          assert.ok(passed, `${point}, ${placeText(place)}: ${ours} instead of ${reference}`);
        }
        const chosen = [found.get("argmax")!.data.at(-1)!];
        while (chosen.length < greedy.length) {
          const next = await session.pass({ ids: [chosen.at(-1)!], wanted: ["argmax"] });
          chosen.push(next.get("argmax")!.data[0]);
        }
        assert.deepEqual(chosen, greedy);
      } finally {
        session.dispose();
        loaded.release();
      }
    });
  }
}

Deno.test("there is a pair at least", () => assert.ok(pairs.length > 0));

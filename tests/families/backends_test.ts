/**
 * Every family on both backends: what a prompt and decoding after it give, fused and with every point captured, is what the 64-bit
 * oracle gives. `FAMILY=qwen2 ./denow test -A tests/families/backends_test.ts` takes those whose name begins so.
 */
import assert from "node:assert/strict";
import { oracle } from "../../engine/oracle/oracle.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { load } from "../../inspect/run/loading.ts";
import { Folder } from "../support/folder.ts";
import { FAMILY_MODELS, writeFamilyModel } from "../support/models/family_models.ts";

/** Long enough for kernels for many positions, and for windows. */
const PROMPT = 40;
/** Logits of random models are about 1. */
const TOLERANCE = 2e-4;

for (const name of Object.keys(FAMILY_MODELS)) {
  if (!name.startsWith(Deno.env.get("FAMILY") ?? "")) continue;
  Deno.test(`${name}: both backends give the oracle's logits, fused and captured`, async () => {
    using folder = new Folder();
    const path = folder.at("model.gguf");
    await writeFamilyModel(name, path);
    let expected: Float64Array[] | undefined;
    for (const backend of ["cpu", "webgpu"] as const) {
      const { engine, file, release } = await load(path, { backend });
      try {
        const { vocabSize } = engine.config;
        const ids = Array.from({ length: PROMPT + 2 }, (_, i) => (7919 * (i + 1)) % vocabSize);
        expected ??= (await oracle(file, ids, { rows: "all" })).logits;
        const points = [...planValues(engine.plan).keys()].filter((point) =>
          !["sample", "argmax", "surprisal"].includes(point)
        );
        for (const wanted of [["logits"], points]) {
          const session = engine.session({ capacity: ids.length });
          const check = (found: Float32Array, row: number) => {
            const own = expected![row];
            const worst = found.reduce(
              (most, value, i) => Math.max(most, Math.abs(value - own[i])),
              0,
            );
            const scale = own.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
            assert.ok(
              worst <= TOLERANCE * scale,
              `${backend}, ${wanted.length} points, row ${row}: ${worst}`,
            );
          };
          const prompt = await session.pass({ ids: ids.slice(0, PROMPT), rows: PROMPT, wanted });
          const { data } = prompt.get("logits")!;
          for (let row = 0; row < PROMPT; row++) {
            check(data.subarray(row * vocabSize, (row + 1) * vocabSize), row);
          }
          for (let at = PROMPT; at < ids.length; at++) {
            check((await session.pass({ ids: [ids[at]], wanted })).get("logits")!.data, at);
          }
          session.dispose();
        }
      } finally {
        release();
      }
    }
  });
}

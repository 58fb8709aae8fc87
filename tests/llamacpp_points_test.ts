/**
 * Every point of every layer against llama.cpp's own tensors, live, on a 32-bit copy of the weights: the cumulative verdict, in
 * which a value may be as far from llama.cpp's as its checkpoint's tolerance and the row's largest magnitude allow, or four times
 * as far as llama.cpp itself is from the 64-bit oracle.
 */
import assert from "node:assert/strict";
import { compareTensors, largestError, localAllowance } from "../checkpoints/compare.ts";
import { isCompared } from "../checkpoints/contract.ts";
import { llamaCppReference } from "../checkpoints/references/llamacpp.ts";
import { readConfig } from "../engine/config.ts";
import { oracle } from "../engine/oracle.ts";
import { planValues } from "../engine/plan.ts";
import { webgpuEngine } from "../engine/webgpu/engine.ts";
import { openFound } from "../inspect/commands/find_model.ts";
import { openDevice } from "../inspect/loading.ts";
import { findModel } from "../models/mod.ts";
import { createTokenizer } from "../text/mod.ts";
import { llamaCppLibrary } from "./support/llamacpp_library.ts";

const PROMPT =
  "Once upon a time there was a little girl who had a red ball. One day she went to the big park " +
  "with her friend and they saw a dog.";

/** What llama.cpp's graph does not have. */
const NOT_SHOWN = /_rms$|^probs$/;

for (const name of ["tiny", "smollm2-135m"]) {
  const library = await llamaCppLibrary();
  Deno.test({
    name: `${name}: every point of every layer against llama.cpp on 32-bit weights`,
    ignore: library === undefined,
    async fn() {
      const model = await findModel(name);
      const file = await openFound(model);
      const ids = createTokenizer(file.metadata).encode(PROMPT);
      const engine = await webgpuEngine(file, readConfig(file), await openDevice());
      const points = [...planValues(engine.plan).keys()].filter((point) =>
        isCompared(point) && !NOT_SHOWN.test(point)
      );

      const reference = await llamaCppReference({ model });
      const { passes } = await reference.run({ ids, generate: 0, steps: [0], points });
      await reference.close();
      const session = engine.session({ capacity: ids.length, ropeBuilder: "ggml" });
      const ours = await session.pass({ ids, rows: ids.length, wanted: points });
      session.dispose();
      engine.dispose();
      const exact = await oracle(file, ids, {
        points: (point) => points.includes(point),
        rows: "all",
        ropeTable: "ggml",
      });
      file.close();

      const failures: string[] = [];
      for (const point of points) {
        const theirs = passes[0].tensors.get(point);
        assert.ok(theirs, `llama.cpp shows no ${point}`);
        const atLeast = 4 * largestError(point, theirs, exact.points.get(point)!, 0);
        const allowance = { ...localAllowance(point), atLeast };
        const found = compareTensors(point, ours.get(point)!, theirs, allowance, 0);
        if (!found.passed) failures.push(`${point}: ${JSON.stringify(found)}`);
      }
      assert.deepEqual(failures, []);
    },
  });
}

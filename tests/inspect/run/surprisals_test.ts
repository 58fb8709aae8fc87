/** Surprisals come with the pass; logits come back only where somebody wants them. */
import assert from "node:assert/strict";
import type { SessionOptions } from "../../../engine/backend.ts";
import { scale } from "../../../inspect/run/interventions.ts";
import type { RunOptions } from "../../../inspect/run/runner.ts";
import { logSumExp } from "../../../inspect/softmax.ts";
import { randomModel } from "../../support/models/random_model.ts";

const ids = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * 37 + seed * 11) % 64);

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`surprisals are those of the logits, with and without them (${backend})`, async () => {
    using random = await randomModel({ vocab: 64, contextLength: 512 }, backend);
    const { model } = random;
    const long = model.engine.maxTokens + 22;
    /** Shapes of the logits that passes brought back. */
    const shapes: string[] = [];
    const { session } = model.engine;
    Object.assign(model.engine, {
      session(options: SessionOptions) {
        const made = session(options);
        const pass = made.pass.bind(made);
        made.pass = async (request) => {
          const tensors = await pass(request);
          shapes.push(`${tensors.get("logits")!.shape}`);
          return tensors;
        };
        return made;
      },
    });
    // 64-bit sums on the processor; WGSL lets exp and log be off by some units.
    const allowed = backend === "cpu" ? 2 ** -24 : 1e-6;
    const cases: [number[][], RunOptions][] = [
      [[ids(9, 1)], {}],
      [[ids(1, 2)], {}],
      [[ids(long, 3)], {}],
      [[ids(9, 4), ids(5, 5), ids(17, 6)], {}],
      [[ids(9, 7)], { edit: [["blk.0.out", scale(3)], ["logits", scale(2)]] }],
    ];
    for (const [prompts, options] of cases) {
      const without = await model.run(prompts, options);
      const withLogits = await model.run(prompts, { ...options, capture: ["logits"] });
      for (const [i, prompt] of prompts.entries()) {
        const logits = withLogits.tensor("logits", { sequence: i });
        const { surprisals, lastLogits } = without.sequences[i];
        assert.deepEqual(surprisals, withLogits.sequences[i].surprisals);
        assert.deepEqual(lastLogits, withLogits.sequences[i].lastLogits);
        assert.deepEqual(lastLogits, logits.at({ position: -1 }).toFloat32Array());
        assert.ok(Number.isNaN(surprisals[0]));
        for (const [position, id] of prompt.entries()) {
          if (position === 0) continue;
          const row = logits.at({ position: position - 1 }).toFloat32Array();
          const expected = logSumExp(row) - row[id];
          const error = Math.abs(surprisals[position] - expected);
          assert.ok(
            error <= allowed * Math.max(1, expected),
            `${prompt.length} ${position}: ${error}`,
          );
        }
      }
    }
    shapes.length = 0;
    const every = await model.run([ids(9, 1)], { capture: ["blk.0.out"], positions: [2] });
    const some = await model.run([ids(9, 1)], { capture: ["logits"], positions: [2] });
    assert.deepEqual(shapes, ["1,64", "9,64"]);
    assert.deepEqual(some.tensor("logits").shape, [1, 64]);
    assert.deepEqual(some.sequences[0].lastLogits, every.sequences[0].lastLogits);
    assert.deepEqual(some.sequences[0].surprisals, every.sequences[0].surprisals);
  });
}

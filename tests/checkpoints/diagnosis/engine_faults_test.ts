/**
 * Faults on purpose in somebody's own engine, judged in this process by the same functions as `task parity --engine` uses: the first
 * point that went wrong is named, and its cause is right or said not to be known.
 *
 * LAMINA_FAULT_SEED draws other models, layers and places, LAMINA_FAULT_ALL tries each fault on all models, LAMINA_FAULT_ONLY takes those
 * whose kinds and names fit a regular expression, LAMINA_FAULT_SHOW prints what is found, LAMINA_FAULT_BOARD is a file that the counts are added to.
 */
import assert from "node:assert/strict";
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { load } from "../../../inspect/run/loading.ts";
import { dump, type EngineRun } from "../../support/engines/faulty_engine.ts";
import { assertHonest, Board, judged } from "../../support/faults/board.ts";
import { ENGINE_FAULTS } from "../../support/faults/engine_faults.ts";
import type { EngineFault } from "../../support/faults/fault.ts";
import { benchOf, Models, pointOf, type Trial, trialsOf } from "../../support/faults/trials.ts";
import { GENERATED } from "../../support/models/fault_models.ts";

/** Fails where a fault changes nothing at a point of a pass. */
function assertChanged(wrong: EngineRun, right: EngineRun, step: number, point: string): void {
  const of = (run: EngineRun) => run.passes[step].tensors.get(point)!.data;
  const [a, b] = [of(wrong), of(right)];
  assert.ok(a.some((value, i) => !(value === b[i])), "the fault changes nothing");
}

async function judge(models: Models, { name, fault, on }: Trial<EngineFault>) {
  const model = await models.get(on);
  const { where, hides, blocks, make, ...rest } = fault;
  const bench = benchOf(model, name, where);
  const point = pointOf(fault.point, where, bench);
  const run = model.engine.run(model.ids, GENERATED, {
    mistakes: make(bench),
    where: where === "outside" ? where : where === "everywhere" ? "blocks" : bench.layer,
    blocks: blocks?.(bench.shape),
  });
  if (!blocks) assertChanged(run, model.right, fault.step ?? 0, point);
  const dir = models.path();
  await dump(run, dir, {
    without: (name) => hides?.test(name.replace(/^blk\.\d+\./, "")) ?? false,
  });
  // Loaded once for all faults, since it stays loaded.
  const { firstDivergence } = await parity(model.path, model.prompt, { engine: dir });
  await Deno.remove(dir, { recursive: true });
  return { expected: { ...rest, point }, said: firstDivergence };
}

Deno.test("faults of engines are found where they are, and their causes are never wrong", async (t) => {
  await using models = new Models();
  await using held = new AsyncDisposableStack();
  const board = new Board("engines");
  const trials = trialsOf(ENGINE_FAULTS);
  for (const on of new Set(trials.map(({ on }) => on))) {
    const loaded = await load((await models.get(on)).path);
    held.defer(() => loaded.release());
  }
  for (const trial of trials) {
    const { kind, name, on } = trial;
    await t.step(`${kind}: ${name} (${on})`, async () => {
      const where = { kind, fault: name, model: on };
      const { expected, said } = await board.orMissed(where, judge(models, trial));
      const outcome = judged(expected, said);
      board.add({ ...where, ...outcome });
      assertHonest(expected, said, outcome);
    });
  }
  await board.show();
  if (Deno.env.has("LAMINA_FAULT_ONLY")) return;
  await t.step("the first tensor is right in nearly all", () => board.assertPlaced());
  await t.step("the cause is named in most", () => board.assertNamed());
});

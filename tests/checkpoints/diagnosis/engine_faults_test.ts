/**
 * Faults on purpose in somebody's own engine, judged in this process by the same functions as `task parity --engine` uses: the first
 * point that went wrong is named, and its cause is right or said not to be known.
 *
 * LAMINA_FAULT_SEED draws other models, layers and places, LAMINA_FAULT_ALL tries each fault on all models, LAMINA_FAULT_ONLY takes those
 * whose kinds and names fit a regular expression, LAMINA_FAULT_SHOW prints what is found, LAMINA_FAULT_BOARD is a file that the counts are added to.
 */
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { dump, type EngineRun } from "../../support/engines/faulty_engine.ts";
import { ENGINE_FAULTS } from "../../support/faults/engine_faults.ts";
import type { EngineFault } from "../../support/faults/fault.ts";
import { assertChanged, type Judged, judgeFaults } from "../../support/faults/judging.ts";
import { benchOf, type Models, pointOf, type Trial } from "../../support/faults/trials.ts";
import { GENERATED } from "../../support/models/fault_models.ts";

async function judge(
  models: Models,
  { name, fault, on }: Trial<EngineFault>,
): Promise<Judged> {
  const model = await models.get(on);
  const { where, hides, blocks, make, ...rest } = fault;
  const bench = benchOf(model, name, where);
  const point = pointOf(fault.point, where, bench);
  const run = model.engine.run(model.ids, GENERATED, {
    mistakes: make(bench),
    where: where === "outside" ? where : where === "everywhere" ? "blocks" : bench.layer,
    blocks: blocks?.(bench.shape),
  });
  if (!blocks) {
    const shown = (of: EngineRun) => of.passes[fault.step ?? 0].tensors.get(point)!.data;
    assertChanged(shown(run), shown(model.right));
  }
  const dir = models.path();
  await dump(run, dir, {
    without: (name) => hides?.test(name.replace(/^blk\.\d+\./, "")) ?? false,
  });
  const { firstDivergence } = await parity(model.path, model.prompt, { engine: dir });
  await Deno.remove(dir, { recursive: true });
  return { expected: { ...rest, point }, said: firstDivergence };
}

Deno.test("faults of engines are found where they are, and their causes are never wrong", async (t) => {
  await judgeFaults(t, "engines", ENGINE_FAULTS, judge);
});

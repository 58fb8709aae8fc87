/**
 * Faults on purpose in files, judged in this process by the same functions as `task parity --against` uses: the first point that went
 * wrong is named, and its cause is right or said not to be known. engine_faults_test.ts says what chooses among them.
 */
import assert from "node:assert/strict";
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { load } from "../../../inspect/run/loading.ts";
import { ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { assertHonest, Board, judged } from "../../support/faults/board.ts";
import { FILE_FAULTS } from "../../support/faults/file_faults.ts";
import type { BrokenFile } from "../../support/faults/fault.ts";
import { benchOf, Models, pointOf, type Trial, trialsOf } from "../../support/faults/trials.ts";
import { breakFile } from "../../support/models/broken_files.ts";
import type { FaultModel } from "../../support/models/fault_models.ts";

/** Tokens to generate on both sides. */
const GENERATED = 2;
/** Ids that are enough to see that a file makes other numbers. */
const FEW = 16;

/** Fails where a file makes the same numbers as the right one. */
async function assertChanged(path: string, { engine, ids }: FaultModel): Promise<void> {
  const broken = await ForeignEngine.open(path);
  const [a, b] = [broken, engine].map((each) =>
    each.run(ids.slice(0, FEW), 0).passes[0].tensors.get("logits")!.data
  );
  assert.ok(a.some((value, i) => !(value === b[i])), "the fault changes nothing");
}

async function judge(models: Models, { name, fault, on }: Trial<BrokenFile>) {
  const model = await models.get(on);
  const { where, make, ...rest } = fault;
  const bench = benchOf(model, name, where);
  const point = pointOf(fault.point, where, bench);
  const path = models.path(".gguf");
  await breakFile(model.path, path, make(bench));
  if (fault.checkpoint !== "0" || point === "token_embd") await assertChanged(path, model);
  const { firstDivergence } = await parity(path, model.prompt, {
    against: model.path,
    generate: GENERATED,
  });
  await Deno.remove(path);
  return { expected: { ...rest, point }, said: firstDivergence };
}

Deno.test("faults of files are found where they are, and their causes are never wrong", async (t) => {
  await using models = new Models();
  await using held = new AsyncDisposableStack();
  const board = new Board("files");
  const trials = trialsOf(FILE_FAULTS);
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

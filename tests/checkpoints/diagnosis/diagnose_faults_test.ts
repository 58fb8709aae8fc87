/**
 * Faults on purpose in the embedded model's file, in all of its blocks, as `task model diagnose` sees them, who has no reference: whatever
 * is found is what is wrong. That the faults that can be undone are found is in diagnose_test.ts; engine_faults_test.ts says what
 * chooses among these.
 */
import assert from "node:assert/strict";
import { diagnoseFile } from "../../../checkpoints/diagnosis/without_reference/diagnose.ts";
import { load } from "../../../inspect/run/loading.ts";
import { Board } from "../../support/faults/board.ts";
import type { Bench, BrokenFile } from "../../support/faults/fault.ts";
import { FILE_FAULTS } from "../../support/faults/file_faults.ts";
import { benchOf, Models, type Trial, trialsOf } from "../../support/faults/trials.ts";
import { all, breakFile, type FileFault } from "../../support/models/broken_files.ts";

/** Faults that are looked for in each block by itself as well, which takes long. */
const EVERY_LAYER = ["K and V exchanged", "the embedding times the root of its width"];

/** A fault in all blocks, as far as it is one of blocks. */
function inAllBlocks({ make, where }: BrokenFile, bench: Bench): FileFault {
  if (where === "first" || where === "outside") return make(bench);
  const end = bench.shape.layers - (where === "not last" ? 1 : 0);
  return all(...Array.from({ length: end }, (_, layer) => make({ ...bench, layer })));
}

async function judge(models: Models, { name, fault }: Trial<BrokenFile>) {
  const model = await models.get("tiny");
  const path = models.path(".gguf");
  await breakFile(model.path, path, inAllBlocks(fault, benchOf(model, name, fault.where)));
  const { file, engine, release } = await load(path);
  try {
    const everyLayer = EVERY_LAYER.includes(name);
    return (await diagnoseFile(file, engine, { everyLayer })).found;
  } finally {
    release();
    await Deno.remove(path);
  }
}

Deno.test("diagnose: what is found without a reference is what is wrong", async (t) => {
  await using models = new Models();
  const board = new Board("diagnose");
  const trials = trialsOf(FILE_FAULTS, ["tiny"]);
  for (const trial of trials) {
    const { kind, name, fault } = trial;
    await t.step(`${kind}: ${name}`, async () => {
      const found = await judge(models, trial);
      const isRight = found && (fault.causes as readonly string[]).includes(found.cause);
      const naming = !found ? "unknown" : isRight ? "right" : "wrong";
      const said = found && `${found.cause}: ${found.detail}`;
      board.add({ kind, fault: name, model: "tiny", naming, placed: naming !== "wrong", said });
      const text = `${found?.cause} (${found?.detail}) is none of ${fault.causes.join(", ")}`;
      assert.notEqual(naming, "wrong", text);
    });
  }
  await board.show();
});

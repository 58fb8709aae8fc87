/**
 * Faults on purpose in files, judged in this process by the same functions as `task parity --against` uses: the first point that went
 * wrong is named, and its cause is right or said not to be known. engine_faults_test.ts says what chooses among them.
 */
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { FILE_FAULTS } from "../../support/faults/file_faults.ts";
import type { BrokenFile } from "../../support/faults/fault.ts";
import { assertChanged, type Judged, judgeFaults } from "../../support/faults/judging.ts";
import { benchOf, type Models, pointOf, type Trial } from "../../support/faults/trials.ts";
import { breakFile } from "../../support/models/broken_files.ts";

/** Tokens to generate on both sides. */
const GENERATED = 2;
/** Ids that are enough to see that a file makes other numbers. */
const FEW = 16;

async function judge(
  models: Models,
  { name, fault, on }: Trial<BrokenFile>,
): Promise<Judged> {
  const model = await models.get(on);
  const { where, make, ...rest } = fault;
  const bench = benchOf(model, name, where);
  const point = pointOf(fault.point, where, bench);
  const path = models.path(".gguf");
  await breakFile(model.path, path, make(bench));
  if (fault.checkpoint !== "0" || point === "token_embd") {
    const logits = (engine: ForeignEngine) =>
      engine.run(model.ids.slice(0, FEW), 0).passes[0].tensors.get("logits")!.data;
    assertChanged(logits(await ForeignEngine.open(path)), logits(model.engine));
  }
  const { firstDivergence } = await parity(path, model.prompt, {
    against: model.path,
    generate: GENERATED,
  });
  await Deno.remove(path);
  return { expected: { ...rest, point }, said: firstDivergence };
}

Deno.test("faults of files are found where they are, and their causes are never wrong", async (t) => {
  await judgeFaults(t, "files", FILE_FAULTS, judge);
});

/**
 * Faults on purpose in files, as `task model diff` sees them: what differs is what was changed, and a cause that is named is right.
 * tests/checkpoints/diagnosis/engine_faults_test.ts says what chooses among them.
 */
import assert from "node:assert/strict";
import { alteredFile } from "../../../checkpoints/files/altered_file.ts";
import { diffModels } from "../../../checkpoints/files/diff/diff.ts";
import { ggufWeights } from "../../../checkpoints/files/weight_file.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { Board, type Naming } from "../../support/faults/board.ts";
import { FILE_FAULTS } from "../../support/faults/file_faults.ts";
import type { BrokenFile } from "../../support/faults/fault.ts";
import { benchOf, Models, type Trial, trialsOf } from "../../support/faults/trials.ts";

/** What a comparison of files may say of a fault beside its causes. */
function isRight(
  cause: string,
  name: string,
  { causes }: BrokenFile,
  own: "missing" | "extra" | undefined,
): boolean {
  if (own) return cause === own || (causes as readonly string[]).includes(cause);
  if (cause === "exchanged") return /exchanged|moved/.test(name);
  return (causes as readonly string[]).includes(cause);
}

async function judge(models: Models, { name, fault, on }: Trial<BrokenFile>) {
  const model = await models.get(on);
  const file = await openGgufFile(model.path);
  try {
    const alteration = await fault.make(benchOf(model, name, fault.where))(file);
    const [right, broken] = [file, alteredFile(file, alteration)].map(ggufWeights);
    const diff = await diffModels(right, broken);
    const found = diff.tensors.filter(({ finding }) => finding);
    const keys = diff.metadata.filter(({ matters }) => matters).map(({ key }) => key);
    const isChanged = (tensor: string) => alteration.tensors?.has(tensor) ?? false;
    const only = (tensor: string) =>
      !file.tensors.has(tensor)
        ? "extra"
        : isChanged(tensor) && alteration.tensors?.get(tensor) === undefined
        ? "missing"
        : undefined;
    const namings = found.map(({ name: tensor, finding }): Naming =>
      finding!.cause === "unknown"
        ? "unknown"
        : isRight(finding!.cause, name, fault, only(tensor))
        ? "right"
        : "wrong"
    );
    const naming: Naming = namings.includes("wrong")
      ? "wrong"
      : namings.includes("unknown")
      ? "unknown"
      : namings.length + keys.length > 0
      ? "right"
      : "missed";
    const placed = naming !== "missed" && found.every((tensor) => isChanged(tensor.name)) &&
      keys.every((key) => alteration.metadata?.has(key));
    const said = found.map(({ name, finding }) => `${name}: ${finding!.cause}: ${finding!.detail}`);
    return { naming, placed, said: [...said, ...keys].join("; ") };
  } finally {
    file.close();
  }
}

Deno.test("model diff: what is wrong is found, and no cause that is named is wrong", async (t) => {
  await using models = new Models();
  const board = new Board("model diff");
  for (const trial of trialsOf(FILE_FAULTS)) {
    const { kind, name, on, fault } = trial;
    await t.step(`${kind}: ${name} (${on})`, async () => {
      const outcome = await judge(models, trial);
      board.add({ kind, fault: name, model: on, ...outcome });
      const { naming, said } = outcome;
      assert.notEqual(naming, "wrong", `none of ${fault.causes.join(", ")}: ${said}`);
    });
  }
  await board.show();
  if (Deno.env.has("LAMINA_FAULT_ONLY")) return;
  await t.step("nearly all are found", () => board.assertPlaced());
  await t.step("the cause is named in most", () => board.assertNamed());
});

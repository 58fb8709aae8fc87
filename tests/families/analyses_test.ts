/** What is made of passes and files works for every family: attributions add up, the lens ends in the logits, undos can be listed. */
import assert from "node:assert/strict";
import { directLogitAttribution, loadModel, logitLens, tableColumns } from "../../mod.ts";
import { layerUndos, undosOf } from "../../checkpoints/diagnosis/without_reference/undos.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { Folder } from "../support/folder.ts";
import { FAMILY_MODELS, writeFamilyModel } from "../support/models/family_models.ts";

const IDS = [5, 6, 7, 8, 9, 30, 31];
const TOKEN = 17;
const LAST = IDS.length - 1;

for (const name of Object.keys(FAMILY_MODELS)) {
  Deno.test(`${name}: parts of a logit add up to it, the lens ends in the logits`, async () => {
    using folder = new Folder();
    const path = folder.at("model.gguf");
    await writeFamilyModel(name, path);
    using model = await loadModel(path, { backend: "cpu" });
    // A cap is not linear: parts add up to what it is given.
    const uncapped = planValues(model.plan).has("logits_uncapped") ? "logits_uncapped" : "logits";
    const run = await model.run([IDS], { capture: ["logits", uncapped] });
    const logit = (point: string) =>
      run.tensor(point).at({ position: LAST }).toFloat32Array()[TOKEN];

    const parts = tableColumns(await directLogitAttribution(model, IDS, { token: TOKEN }));
    const sum = (parts.value as number[]).reduce((total, value) => total + value, 0);
    const size = (parts.value as number[]).reduce((total, value) => total + Math.abs(value), 0);
    assert.ok(Math.abs(sum - logit(uncapped)) <= 1e-4 * (1 + size), `${sum}: ${logit(uncapped)}`);

    const lens = tableColumns(await logitLens(model, IDS, { top: 300 })) as Record<
      string,
      number[]
    >;
    const end = lens.layer.findIndex((layer, i) =>
      layer === model.config.layers - 1 && lens.position[i] === LAST &&
      lens.predicted_id[i] === TOKEN
    );
    assert.ok(Math.abs(lens.logit[end] - logit("logits")) <= 1e-4, `${lens.logit[end]}`);

    const { file, engine: { config } } = model.loaded;
    assert.ok(undosOf(file, config).length > 0);
    layerUndos(file, config, 1);
  });
}

/** Why an engine's run went wrong, as a report finds it out. */
import type { Explanation } from "../../../checkpoints/diagnosis/causes.ts";
import { explain } from "../../../checkpoints/diagnosis/activations/cause.ts";
import { judgeOf } from "../../../checkpoints/parity/judge.ts";
import type { ActivationType } from "../../../checkpoints/references/reference.ts";
import { readConfig } from "../../../engine/model/config.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import type { FaultModel } from "../models/fault_models.ts";
import type { EngineRun } from "./faulty_engine.ts";

/** Explains the first point that is shown from one on. */
export async function explained(
  model: FaultModel,
  run: EngineRun,
  from: string,
  { shown, step = 0, position, activations = "f32" }: {
    /** Points that the engine shows. */
    readonly shown: RegExp;
    readonly step?: number;
    readonly position?: number;
    readonly activations?: ActivationType;
  },
): Promise<Explanation & { readonly point: string }> {
  const pass = run.passes[step];
  const names = [...pass.tensors.keys()];
  const point = names.slice(names.indexOf(from)).find((name) => shown.test(name))!;
  const tensors = new Map([...pass.tensors].filter(([name]) => shown.test(name)));
  const file = await openGgufFile(model.path);
  try {
    const config = readConfig(file);
    const plan = forward(config);
    const evidence = { plan, config, file, pass: { ...pass, tensors }, point, position };
    const judge = judgeOf({ activations }, {});
    const rounds = activations !== "f32";
    return { ...await explain({ ...evidence, rope: "exact", judge, rounds }), point };
  } finally {
    file.close();
  }
}

/** What is said of a foreign engine's pass: the explanation of one of its points, without a command. */
import type { Explanation } from "../../../checkpoints/diagnosis/causes.ts";
import { explain } from "../../../checkpoints/diagnosis/activations/cause.ts";
import { cacheBefore } from "../../../checkpoints/parity/cache.ts";
import { judgeOf } from "../../../checkpoints/parity/judge.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import type { ActivationType, ReferencePass } from "../../../checkpoints/references/reference.ts";
import type { FaultModel } from "../models/fault_models.ts";
import type { EngineRun } from "./faulty_engine.ts";

/** What is shown of a run, and which of it is asked about. */
export interface Question {
  /** Names of the points that are shown; all without it. */
  readonly shown?: RegExp;
  readonly step?: number;
  readonly position?: number;
  /** What the engine says of its rounding. */
  readonly activations?: ActivationType;
}

/** Explains a point of a run: of those that are shown, the first from this one on. */
export async function explained(
  model: Pick<FaultModel, "path">,
  run: EngineRun,
  from: string,
  { shown = /./, step = 0, position, activations = "f32" }: Question = {},
): Promise<Explanation & { readonly point: string }> {
  const passes = run.passes.map(({ tensors, ...pass }): ReferencePass => ({
    ...pass,
    tensors: new Map([...tensors].filter(([name]) => shown.test(name))),
  }));
  const names = [...run.passes[step].tensors.keys()];
  const point = names.slice(names.indexOf(from)).find((name) => shown.test(name))!;
  const file = await openGgufFile(model.path);
  try {
    const config = readConfig(file);
    const plan = forward(config);
    const pass = { ...passes[step], before: cacheBefore(passes[step], passes, plan) };
    const evidence = { plan, config, file, pass, point, position };
    const judge = judgeOf({ activations }, { file }, { plan, config, rope: "exact" });
    const rounds = activations !== "f32";
    return { ...await explain({ ...evidence, rope: "exact", judge, rounds }), point };
  } finally {
    file.close();
  }
}

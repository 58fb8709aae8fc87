/** A foreign engine's run compared with ours, without a folder and without a command. */
import type { ParityCase } from "../../../checkpoints/parity/cases.ts";
import { compareEngines, type ParityResult } from "../../../checkpoints/parity/comparison.ts";
import { OtherWeights } from "../../../checkpoints/parity/weights/other_weights.ts";
import type { Reference, ReferencePass } from "../../../checkpoints/references/reference.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { load } from "../../../inspect/run/loading.ts";
import type { EnginePass, EngineRun, EngineTensor } from "./faulty_engine.ts";

/** What is shown of a run. */
export interface ShownRun {
  /** Names of points; all without it. */
  readonly shown?: RegExp;
  /** Passes that are compared; all without it. */
  readonly steps?: readonly number[];
  /** What a tensor is shown as. */
  readonly as?: (point: string, tensor: EngineTensor, pass: EnginePass) => Float32Array;
  /** The file that it ran, where that is another one. */
  readonly against?: string;
}

/** A run as a reference. */
export function referenceOf(run: EngineRun, { shown = /./, as }: ShownRun = {}): Reference {
  const passes = run.passes.map((pass): ReferencePass => ({
    ...pass,
    tensors: new Map(
      [...pass.tensors].filter(([point]) => shown.test(point)).map(([point, tensor]) => [
        point,
        { shape: tensor.shape, data: as ? as(point, tensor, pass) : tensor.data },
      ]),
    ),
  }));
  return {
    provenance: { name: "foreign", version: "", device: "", weights: "", rope: "exact" },
    run: ({ steps }) =>
      Promise.resolve({
        passes: passes.filter(({ step }) => steps.includes(step)),
        ids: run.ids,
        margins: run.ids.map(() => NaN),
      }),
    close: () => Promise.resolve(),
  };
}

/** Compares a run as the command does with an engine's folder. */
export async function comparedRun(
  path: string,
  run: EngineRun,
  options: ShownRun = {},
): Promise<ParityResult> {
  const generate = run.passes.length - 1;
  const { steps = run.passes.map(({ step }) => step) } = options;
  const each: ParityCase = {
    name: "prompt",
    ids: run.promptIds,
    forced: run.ids.slice(0, generate),
    ...{ generate, steps, oracle: false },
  };
  const loaded = await load(path, { backend: "cpu" });
  const other = options.against === undefined ? undefined : await openGgufFile(options.against);
  try {
    const reference = referenceOf(run, options);
    const judging = other ? { weights: new OtherWeights(loaded.file, other) } : { localOnly: true };
    return await compareEngines(loaded.engine, reference, [each], judging);
  } finally {
    other?.close();
    loaded.release();
  }
}

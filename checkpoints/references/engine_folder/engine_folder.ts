/** A reference that is a folder: the tensors that somebody's own engine wrote. README.md says how such a folder looks. */
import { basename, join, resolve } from "node:path";
import type { Config } from "../../../engine/model/config.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { listPoints } from "../../../inspect/points/points.ts";
import { type FolderContents, type FolderPass, readContents, type Reading } from "./contents.ts";
import { OtherShapeError } from "./axes.ts";
import { blocksBeyond, folderAbsences } from "./shown.ts";
import { type Entry, openTensorFile } from "./load.ts";
import {
  greedyChoice,
  OtherModelFailure,
  type Provenance,
  type Reference,
  ReferenceFailure,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
  type ReferenceTensor,
} from "../reference.ts";

/** A folder of tensors as a reference, and what it is of. */
export interface FolderReference extends Reference {
  /** The prompt that its tensors are of; undefined where the folder does not say. */
  readonly promptIds?: readonly number[];
  /** What its engine generated, as far as the folder says. */
  readonly generatedIds?: readonly number[];
  /** The text of the prompt, and what a chat template made of it, where the folder says. */
  readonly prompt?: string;
  readonly templateText?: string;
  /** How its engine builds RoPE's angles, where the folder says. */
  readonly angles?: RopeBuilder;
  /** Points that the prompt's pass shows. */
  readonly shown: ReadonlySet<string>;
  /** What it does not show of the model, a line each. */
  readonly absent: readonly string[];
  /** That it shows blocks which the model does not have; undefined where it does not. */
  readonly beyond?: string;
}

interface Pass extends ReferencePass {
  readonly tensors: Map<string, ReferenceTensor>;
}

/**
 * Takes a folder of tensors as a reference: Arrow files, `.npy` files and `checkpoint_<name>.bin`, with or without a
 * `manifest.json`. Tensors are read when they are wanted. It holds what it holds: steps and points that are not there are
 * missing from its runs, another prompt than its own is a failure, and a margin that its logits do not tell is NaN.
 *
 * @param dir the folder
 * @param config of the model that the tensors are of: it says their shapes and their row order
 * @throws {ReferenceFailure} one line that names the file: no such folder, nothing in it, a wrong manifest, an unknown point
 */
export async function folderReference(dir: string, config: Config): Promise<FolderReference> {
  const name = basename(resolve(dir));
  const reading: Reading = async (file, read) => {
    try {
      return await read();
    } catch (error) {
      const problem = `${file ? `${file}: ` : ""}${problemOf(error, dir, file)}`;
      throw error instanceof OtherShapeError
        ? new OtherModelFailure(name, problem)
        : new ReferenceFailure(name, problem);
    }
  };
  const points = listPoints(config, forward(config));
  const contents = await readContents(dir, points, reading);
  const { prompt_ids: promptIds, ids: generatedIds } = contents;
  const provenance: Provenance = {
    name: contents.engine ?? name,
    version: contents.engine_version ?? "",
    device: contents.device ?? "",
    weights: contents.model ?? "",
    rope: contents.angles ?? "exact",
    activations: contents.activations ?? "f32",
  };
  return {
    provenance,
    promptIds,
    generatedIds,
    prompt: contents.prompt,
    templateText: contents.template_text,
    angles: contents.angles,
    shown: new Set(contents.passes.find(({ step }) => step === 0)?.entries.keys()),
    absent: folderAbsences(contents, points),
    beyond: blocksBeyond(contents, config.layers),
    async run(request) {
      if (promptIds && `${request.ids}` !== `${promptIds}`) {
        throw new ReferenceFailure(
          name,
          `it holds the prompt ${idList(promptIds)}, not ${idList(request.ids)}`,
        );
      }
      return await run(name, dir, contents, request, reading);
    },
    close: () => Promise.resolve(),
  };
}

async function run(
  name: string,
  dir: string,
  contents: FolderContents,
  request: ReferenceRequest,
  reading: Reading,
): Promise<ReferenceRun> {
  const { steps, points, generate, forced = [], signal } = request;
  const passes: Pass[] = [];
  const logits = new Map<number, ReferenceTensor>();
  const byFile = new Map<string, [Entry, Pass][]>();
  for (const found of contents.passes) {
    const pass: Pass = { ...placeOf(name, found, request), tensors: new Map() };
    const { step } = pass;
    const wanted = steps.includes(step);
    if (wanted && step > 0 && step <= forced.length && pass.ids[0] !== forced[step - 1]) {
      throw new ReferenceFailure(
        name,
        `its pass of step ${step} ran token ${pass.ids[0]}, not ${forced[step - 1]}`,
      );
    }
    if (wanted) passes.push(pass);
    for (const [point, entry] of found.entries) {
      const needed = (wanted && points.includes(point)) || (point === "logits" && step <= generate);
      if (!needed) continue;
      byFile.set(entry.file, [...byFile.get(entry.file) ?? [], [entry, pass]]);
    }
  }
  for (const [file, entries] of byFile) {
    signal?.throwIfAborted();
    await reading(file, async () => {
      const tensorOf = await openTensorFile(join(dir, file));
      for (const [entry, pass] of entries) {
        const { point } = entry.resolved;
        const tensor = tensorOf(entry, pass, contents.rope);
        if (point.name === "logits") logits.set(pass.step, tensor);
        if (points.includes(point.name)) pass.tensors.set(point.name, tensor);
      }
    });
  }
  return { passes, ...choices(contents.ids, logits, generate + 1) };
}

/** The ids of a pass that does not tell them are the prompt's that was asked for. */
function placeOf(name: string, { step, start, ids }: FolderPass, request: ReferenceRequest) {
  const ran = ids ?? (step === 0 ? request.ids : undefined);
  if (!ran?.length) {
    throw new ReferenceFailure(name, `it does not tell which token step ${step} ran`);
  }
  return { step, start, ids: ran };
}

/** Greedy choices step by step, as the folder says or as its logits do, up to the first that neither tells. */
function choices(
  told: readonly number[] | undefined,
  logits: ReadonlyMap<number, ReferenceTensor>,
  count: number,
): Pick<ReferenceRun, "ids" | "margins"> {
  const ids: number[] = [];
  const margins: number[] = [];
  for (let step = 0; step < count; step++) {
    const tensor = logits.get(step);
    const best = tensor && greedyChoice(tensor.data.subarray(-tensor.shape.at(-1)!));
    const id = told?.[step] ?? best?.id;
    if (id === undefined) break;
    ids.push(id);
    // Logits that name another token do not tell how sure the engine was of its own.
    margins.push(best?.id === id ? best.margin : NaN);
  }
  return { ids, margins };
}

/** What went wrong, without the path that some messages begin with. */
function problemOf(error: unknown, dir: string, file: string): string {
  if (error instanceof Deno.errors.NotFound) return file ? "no such file" : "no such folder";
  if (error instanceof Deno.errors.NotADirectory) return "no folder";
  const message = error instanceof Error ? error.message : String(error);
  // Messages quote files, which may have line ends in them.
  return message.replace(`${join(dir, file)}: `, "").replaceAll(/\s+/g, " ");
}

function idList(ids: readonly number[]): string {
  const shown = ids.slice(0, 8).join(", ");
  return ids.length > 8 ? `[${shown}, … ${ids.length} ids]` : `[${shown}]`;
}

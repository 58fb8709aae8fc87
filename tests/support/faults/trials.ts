/** Which faults are tried, on which model, in which block: drawn by a seed, so that nothing can be fitted to them. */
import { Random } from "../../../checkpoints/files/random.ts";

import { bpeModel, type FaultModel, faultModels, mixedModel } from "../models/fault_models.ts";
import { llamaCppLibrary } from "../engines/llamacpp_library.ts";
import type { Bench, EngineFault, Faults, ModelName } from "./fault.ts";

/** Draws models, layers and places. */
const SEED = Number(Deno.env.get("LAMINA_FAULT_SEED") ?? 1);
/** Of kinds and names. */
const ONLY = new RegExp(Deno.env.get("LAMINA_FAULT_ONLY") ?? "");
/** Whether each fault is tried on all models that it can be on. */
const ON_ALL = Deno.env.has("LAMINA_FAULT_ALL");

/** The models that faults are on that name none. */
const BOTH = ["tiny", "random"] as const;

/** The models, made when they are asked for first. */
export class Models implements AsyncDisposable {
  readonly #folder = Deno.makeTempDirSync();
  #usual?: ReturnType<typeof faultModels>;
  readonly #others = new Map<string, Promise<FaultModel>>();
  #count = 0;

  async get(name: ModelName): Promise<FaultModel> {
    if (name === "mixed" || name === "bpe") {
      const make = name === "mixed" ? mixedModel : bpeModel;
      const made = this.#others.get(name) ?? make(this.#folder);
      this.#others.set(name, made);
      return await made;
    }
    this.#usual ??= faultModels(this.#folder);
    return (await this.#usual)[name];
  }

  /** A path that tells nothing. */
  path(suffix = ""): string {
    return `${this.#folder}/${++this.#count}${suffix}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Faults of quantized weights are skipped where llama.cpp cannot be had, who quantizes them. */
const hasQuantizer = await llamaCppLibrary() !== undefined;

/** A fault on a model. */
export interface Trial<Fault> {
  readonly kind: string;
  readonly name: string;
  readonly fault: Fault;
  readonly on: ModelName;
}

/**
 * The faults that are tried: each on the models that it names, those that name none on one of two that is drawn, which
 * is mostly the quicker one.
 *
 * @param models those that all are tried on that can be, and no others
 */
export function trialsOf<Fault extends { on?: readonly ModelName[] }>(
  kinds: Readonly<Record<string, Faults<Fault>>>,
  models?: readonly ModelName[],
): Trial<Fault>[] {
  return Object.entries(kinds).flatMap(([kind, faults]) =>
    Object.entries(faults).filter(([name]) => ONLY.test(`${kind}: ${name}`)).flatMap(
      ([name, fault]) => {
        const drawn: readonly ModelName[] = ON_ALL || models
          ? BOTH
          : [drawOf(name).integer(0, 4) === 0 ? "tiny" : "random"];
        return (fault.on ?? drawn)
          .filter((on) => (models?.includes(on) ?? true) && (on !== "mixed" || hasQuantizer))
          .map((on) => ({ kind, name, fault, on }));
      },
    )
  );
}

/** What a fault of this name is made with: each draws for itself, so that a new one does not move the others. */
export function benchOf(
  model: FaultModel,
  name: string,
  where?: EngineFault["where"] | "first",
): Bench {
  const draw = drawOf(`${model.name} ${name}`);
  const { shape } = model.engine;
  const first = where === "not first" ? 1 : 0;
  const end = where === "not last" ? shape.layers - 1 : shape.layers;
  const drawn = draw.integer(first, end);
  const layer = where === "first" || where === "everywhere" ? 0 : drawn;
  return { model, shape, draw, layer };
}

/** The full name of a point. */
export function pointOf(
  point: string,
  where: EngineFault["where"] | "first",
  { layer, shape }: Bench,
) {
  return where === "outside"
    ? point.replace("{last}", `${shape.layers - 1}`)
    : `blk.${layer}.${point}`;
}

function drawOf(text: string): Random {
  const seed = [...text].reduce(
    (sum, letter) => Math.imul(sum, 31) + letter.codePointAt(0)! | 0,
    SEED,
  );
  return new Random(seed);
}

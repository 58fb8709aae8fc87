/** A reference's own tensors as a run: llama.cpp's attention in the same figures and tables as ours, and numbers side by side. */
import { kindOf } from "../../base/layer_names.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { forward } from "../../engine/plan/forward.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import { loadModel, type Model } from "../../inspect/run/model.ts";
import { modelSha256 } from "../../inspect/run/loading.ts";
import { listPoints, type Point, resolvePoints } from "../../inspect/points/points.ts";
import { onePrompt, type Prompt } from "../../inspect/run/prompt.ts";
import { lastPosition, Run } from "../../inspect/run/run.ts";
import { Surprisals } from "../../inspect/run/surprisals.ts";
import { pieceOf } from "../../inspect/run/vocabulary.ts";
import { longWork } from "../../inspect/work.ts";
import { type Identity, identityOf } from "../../models/identity.ts";
import type { FoundModel } from "../../models/mod.ts";
import { isAttention, placesOf } from "../parity/compare.ts";
import { engineMeta, type Extract, piecesOf } from "./extract.ts";
import { openModel, promptIdsOf } from "../files/model_argument.ts";
import { type EngineOptions, openEngine } from "./mod.ts";
import type { ReferencePass, ReferenceTensor } from "./reference.ts";
import { ownRun } from "../parity/lamina.ts";
import { oracleReference } from "./oracle.ts";

/** Which reference runs, and what is kept of it. */
export interface ReferenceRunOptions extends EngineOptions {
  /** `llama.cpp` (default), `llama.cpp:vulkan`, `pytorch`, `pytorch:bf16`, `pytorch:f16`, `hf:DIR` or `oracle`. */
  readonly reference?: string;
  /** Points by name, alias or glob, one or several; default all that it shows. */
  readonly capture?: string | readonly string[];
  /** Tokens to generate greedily and to run too; default 0. */
  readonly generate?: number;
}

/**
 * Runs a prompt on a reference.
 *
 * @throws {ReferenceFailure} when it cannot be had or fails
 * @throws {RangeError} for a name of no reference, and when it shows none of the points
 * @throws {UnknownPointError | PromptError}
 */
export async function extractReference(
  source: { readonly found: FoundModel; readonly file: GgufFile; readonly identity?: Identity },
  prompt: Prompt,
  options: ReferenceRunOptions = {},
): Promise<Extract> {
  const { found, file, identity = await identityOf(found) } = source;
  const { reference: spec = "llama.cpp", capture, generate = 0, signal } = options;
  const config = readConfig(file);
  const promptIds = promptIdsOf(source, prompt);
  const points = wantedPoints(listPoints(config, forward(config)), capture);
  await using open = new AsyncDisposableStack();
  const reference = await openEngine(spec, source, options, open);
  const { provenance } = reference;
  const run = await reference.run({
    ids: promptIds,
    generate,
    steps: Array.from({ length: generate + 1 }, (_, step) => step),
    points: points.map(({ name }) => name),
    signal,
  });
  if (!points.some(({ name }) => run.passes[0].tensors.has(name))) {
    throw new RangeError(`${provenance.name} shows none of these points`);
  }
  return {
    run,
    provenance,
    config,
    points,
    promptIds,
    prompt: typeof prompt === "string" ? prompt : undefined,
    sha256: await modelSha256(identity),
    token: pieceOf(source.file),
  };
}

/**
 * A reference's own tensors as a {@linkcode Run}: everything that takes a run of ours takes it. The tables' metadata say whose
 * numbers they are. `llama.cpp` runs on a 32-bit copy of the weights, on which its results are the exact ones up to rounding;
 * `asIs` runs the file as people do.
 *
 * @param model a loaded one, or its name or path
 * @param prompt a text or token ids
 * @throws {ReferenceFailure} when the reference cannot be had or fails
 * @throws {RangeError} for a name of no reference, and when it shows none of the points
 * @throws {UnknownPointError | PromptError | DisposedError | UnknownModelError | GgufError}
 */
export async function referenceRun(
  model: Model | string,
  prompt: Prompt,
  options: ReferenceRunOptions = {},
): Promise<Run> {
  return await longWork("Running the reference", options, async (options) => {
    const own = typeof model === "string"
      ? await loadModel(model, { signal: options.signal })
      : model;
    try {
      const extract = await extractReference(own.loaded, onePrompt(prompt), options);
      const tables = await import("../../inspect/tables/mod.ts");
      const { run, promptIds } = extract;
      const generated = run.passes.length > 1 ? run.ids.slice(0, run.passes.length) : [];
      const ids = [...promptIds, ...generated];
      const promptLength = promptIds.length;
      const pieces = [...piecesOf(extract)].map(({ piece }) => piece);
      const surprisals = new Surprisals(ids);
      for (const piece of pieces) if (piece.point === "logits") surprisals.take(piece, piece.start);
      const points = own.pointList;
      return new Run({
        sequences: [{
          ids,
          promptLength,
          lastLogits: surprisals.logitsAt(lastPosition({ ids, promptLength })),
          surprisals: surprisals.values,
        }],
        pieces,
        points,
        resolve: (patterns) => resolvePoints(points, patterns),
        token: extract.token,
        tokenId: (text) => own.tokenId(text),
        tables,
        model: engineMeta(extract),
        prompts: extract.prompt === undefined ? undefined : [extract.prompt],
      });
    } finally {
      if (own !== model) own.dispose();
    }
  });
}

/** What {@linkcode threeWay} lists. */
export interface ThreeWayOptions extends EngineOptions {
  /** The second side; default `llama.cpp`. */
  readonly reference?: string;
  /** Points by name, alias or glob, one or several. */
  readonly points: string | readonly string[];
}

/** Most rows of a table with a row per number. */
const MOST_ROWS = 5_000_000;

/**
 * The same numbers three times: `ours`, the `reference`'s and the 64-bit `oracle`'s, each of its own run of the prompt. An Arrow
 * table with a row per number: `layer`, `point`, `kind`, `head`, `position`, `token`, `index` (within the row: feature, key or token id); keys
 * that a query does not see are left out, and `reference` is null where it does not show the point. Whoever is farther from the
 * oracle is wrong.
 *
 * @throws {ReferenceFailure} when the reference cannot be had or fails
 * @throws {RangeError} for more than five million numbers, and for a name of no reference
 * @throws {UnknownPointError | PromptError | DisposedError | UnknownModelError | GgufError}
 */
export async function threeWay(
  model: Model | string,
  prompt: Prompt,
  options: ThreeWayOptions,
): Promise<Table> {
  return await longWork("Comparing three ways", options, async (options) => {
    const { reference: name = "llama.cpp", signal, onProgress } = options;
    using loaded = await openModel(model, options);
    const { engine, file } = loaded;
    const ids = promptIdsOf(loaded, onePrompt(prompt));
    const points = wantedPoints(listPoints(engine.config, engine.plan), options.points);
    const request = {
      ids,
      generate: 0,
      steps: [0],
      points: points.map(({ name }) => name),
      signal,
    };
    await using open = new AsyncDisposableStack();
    const reference = await openEngine(name, loaded, options, open);
    const { rope } = reference.provenance;
    const passes: ReferencePass[] = [];
    for (
      const [who, run] of [
        ["Lamina", () => ownRun(engine, request, rope)],
        [reference.provenance.name, () => reference.run(request)],
        ["oracle", () => oracleReference(file, { rope }).run(request)],
      ] as const
    ) {
      onProgress?.(passes.length, 3, `running ${who}`);
      passes.push((await run()).passes[0]);
    }
    const { rowsTable, int32, float64, utf8 } = await import("../../inspect/tables/mod.ts");
    const rows = [...sideBySide(points, passes)];
    const piece = pieceOf(loaded.file);
    return rowsTable("three_way", {
      layer: int32(rows.map(({ place }) => place.layer ?? null)),
      point: utf8(rows.map(({ point }) => point)),
      kind: utf8(rows.map(({ point }) => kindOf(point))),
      head: int32(rows.map(({ place }) => place.head ?? null)),
      position: int32(rows.map(({ place }) => place.position)),
      token: utf8(rows.map(({ place }) => piece(ids[place.position]))),
      index: int32(rows.map(({ place }) => place.index)),
      ours: float64(rows.map(({ values }) => values[0])),
      reference: float64(rows.map(({ values }) => values[1])),
      oracle: float64(rows.map(({ values }) => values[2])),
    }, {
      meaning: `each number of ours, ${name}'s and the 64-bit oracle's`,
      model: loaded.found.name,
      reference: reference.provenance,
    });
  });
}

function* sideBySide(points: readonly Point[], passes: readonly ReferencePass[]) {
  let count = 0;
  for (const { name: point } of points) {
    const tensors = passes.map(({ tensors }) => tensors.get(point));
    const [own] = tensors as [ReferenceTensor];
    const place = placesOf(point, own, 0);
    for (let i = 0; i < own.data.length; i++) {
      const at = place(i);
      if (isAttention(point) && at.index > at.position) continue;
      if (++count > MOST_ROWS) {
        throw new RangeError(
          `Cannot list more than ${MOST_ROWS} numbers: name fewer points, or take a shorter prompt`,
        );
      }
      yield { point, place: at, values: tensors.map((tensor) => tensor?.data[i] ?? null) };
    }
  }
}

/** An alias means its point: another engine's tensors are turned into ours. */
function wantedPoints(
  points: readonly Point[],
  patterns: string | readonly string[] | undefined,
): readonly Point[] {
  if (patterns === undefined) return points.filter(({ onRequest }) => !onRequest);
  const list = typeof patterns === "string" ? [patterns] : patterns;
  return [...new Set(resolvePoints(points, list).map(({ point }) => point))];
}

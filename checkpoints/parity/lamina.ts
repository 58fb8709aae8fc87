/** Our own engine as one side of a comparison: what it makes on a device, by the kernels that people run. */
import type { Engine, Session } from "../../engine/backend.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import type { Config } from "../../engine/model/config.ts";
import { elementCount, planValues } from "../../engine/plan/plan.ts";
import { isCache } from "./cache.ts";
import { isAttention } from "./compare.ts";
import {
  greedyChoice,
  type Provenance,
  type Reference,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
  type ReferenceTensor,
} from "../references/reference.ts";

/** What is said about our own engine. */
export interface LaminaOptions {
  readonly provenance: Omit<Provenance, "name">;
  readonly tokenize?: (text: string) => readonly number[];
}

/** Our engine, on a model that is loaded already; closing it leaves the model loaded. */
export function laminaReference(engine: Engine, options: LaminaOptions): Reference {
  const { provenance, tokenize } = options;
  return {
    provenance: { name: "Lamina", ...provenance },
    run: (request) => ownRun(engine, request, provenance.rope),
    ...(tokenize ? { tokenize: (texts) => Promise.resolve(texts.map(tokenize)) } : {}),
    close: () => Promise.resolve(),
  };
}

/** Runs a prompt and what follows it, as {@linkcode Reference.run}. */
export async function ownRun(
  engine: Engine,
  request: ReferenceRequest,
  rope: Provenance["rope"],
): Promise<ReferenceRun> {
  const { ids, generate, forced = [], steps, signal } = request;
  const points = request.points.filter((point) => planValues(engine.plan).has(point));
  const session = engine.session({
    capacity: ids.length + generate,
    passes: { wanted: [...points, "logits"] },
    ropeBuilder: rope,
  });
  const passes: ReferencePass[] = [];
  const choices: ReturnType<typeof greedyChoice>[] = [];
  let next = ids;
  try {
    for (let step = 0; step <= generate; step++) {
      signal?.throwIfAborted();
      const start = session.position;
      const wanted = steps.includes(step);
      const { tensors, logits } = await runPass(engine, session, next, wanted ? points : []);
      if (wanted) passes.push({ step, start, ids: next, tensors });
      const choice = greedyChoice(logits);
      choices.push(choice);
      next = [forced[step] ?? choice.id];
    }
  } finally {
    session.dispose();
  }
  return {
    passes,
    ids: choices.map(({ id }) => id),
    margins: choices.map(({ margin }) => margin),
  };
}

/** One pass, in as many pieces as the session needs, with all rows of the wanted points joined. */
export async function runPass(
  engine: Engine,
  session: Session,
  ids: readonly number[],
  points: readonly string[],
): Promise<{ tensors: Map<string, ReferenceTensor>; logits: Float32Array }> {
  const pieces: Map<string, HostTensor>[] = [];
  for (let at = 0; at < ids.length; at += session.maxTokens) {
    const chunk = ids.slice(at, at + session.maxTokens);
    const rows = points.length > 0 ? chunk.length : 1;
    pieces.push(
      await session.pass({ ids: chunk, rows, wanted: [...new Set([...points, "logits"])] }),
    );
  }
  const tensors = new Map(points.map((point) => {
    const own = pieces.map((piece) => piece.get(point)!);
    return [point, joinPieces(point, own, engine.config)];
  }));
  const { data } = pieces.at(-1)!.get("logits")!;
  return { tensors, logits: data.slice(-engine.config.vocabSize) };
}

/** A point's pieces as one tensor of the whole pass. Keys that a piece does not know yet are hidden: 0. */
export function joinPieces(
  point: string,
  pieces: readonly HostTensor[],
  { heads }: Config,
): ReferenceTensor {
  const last = pieces.at(-1)!;
  if (pieces.length === 1 || isCache(point)) return last;
  if (isAttention(point)) {
    const rows = pieces.reduce((sum, { shape }) => sum + shape[1], 0);
    const keys = last.shape[2];
    const data = new Float32Array(heads * rows * keys);
    let first = 0;
    for (const { shape: [, count, width], data: piece } of pieces) {
      for (let head = 0; head < heads; head++) {
        for (let row = 0; row < count; row++) {
          const from = (head * count + row) * width;
          data.set(piece.subarray(from, from + width), (head * rows + first + row) * keys);
        }
      }
      first += count;
    }
    return { shape: [heads, rows, keys], data };
  }
  const rows = pieces.reduce((sum, { shape }) => sum + shape[0], 0);
  const data = new Float32Array(pieces.reduce((sum, { data }) => sum + data.length, 0));
  let at = 0;
  for (const piece of pieces) {
    data.set(piece.data, at);
    at += piece.data.length;
  }
  return { shape: [rows, ...last.shape.slice(1)], data };
}

/** Numbers of a point in a pass of T positions that ends with S cached ones, logits for all rows. */
export function pointSize(engine: Engine, point: string, T: number, S: number): number {
  const value = planValues(engine.plan).get(point);
  return value ? elementCount(value.shape, { T, S, R: T }) : 0;
}

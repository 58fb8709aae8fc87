/** The 64-bit oracle as a reference. */
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { oracle, oracleGreedy, type OraclePoint } from "../../engine/oracle/oracle.ts";
import { POINT_KINDS } from "../../inspect/points/kinds.ts";
import deno from "../../deno.json" with { type: "json" };
import { kindOf } from "../parity/contract.ts";
import {
  greedyChoice,
  type Provenance,
  type Reference,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
  type ReferenceTensor,
} from "./reference.ts";

/**
 * The oracle over a file, which stays the caller's. It keeps no cache: a causal pass over prompt and following ids has the rows of
 * every step. Its tensors are 64-bit, and views where that is possible. A run cannot be interrupted once it computes.
 *
 * @param options.rope how RoPE's angles are built: as ggml does for comparisons with it; default `exact`
 */
export function oracleReference(
  file: GgufFile,
  options: { readonly rope?: Provenance["rope"] } = {},
): Reference {
  const { rope = "exact" } = options;
  return {
    provenance: {
      name: "oracle",
      version: deno.version,
      device: "CPU, 64-bit floats",
      weights: file.name,
      rope,
    },
    run: (request) => run(file, rope, request),
    close: () => Promise.resolve(),
  };
}

async function run(
  file: GgufFile,
  rope: Provenance["rope"],
  request: ReferenceRequest,
): Promise<ReferenceRun> {
  const { ids: prompt, generate, steps, points: wanted, signal } = request;
  const forced = (request.forced ?? []).slice(0, generate);
  const given = [...prompt, ...forced];
  signal?.throwIfAborted();
  const following = generate > forced.length
    ? (await oracleGreedy(file, given, generate - forced.length, { ropeTable: rope })).ids
    : [];
  signal?.throwIfAborted();
  const ids = [...given, ...following];
  const { logits, points } = await oracle(file, ids, {
    ropeTable: rope,
    rows: "all",
    points: (name) => wanted.includes(name),
  });

  const choices = logits.slice(prompt.length - 1).map(greedyChoice);
  const passes = [...new Set(steps)].filter((step) => step <= generate).toSorted((a, b) => a - b)
    .map((step): ReferencePass => {
      const start = step === 0 ? 0 : prompt.length + step - 1;
      const end = prompt.length + step;
      const tensors = new Map(
        [...points].map(([name, point]) => [name, rowsOf(name, point, start, end)]),
      );
      return { step, start, ids: ids.slice(start, end), tensors };
    });
  return {
    passes,
    ids: choices.map(({ id }) => id),
    margins: choices.map(({ margin }) => margin),
  };
}

/** What a pass over the positions from `start` to `end` would have made of a tensor over all of them. */
function rowsOf(name: string, point: OraclePoint, start: number, end: number): ReferenceTensor {
  const { axes } = POINT_KINDS[kindOf(name)];
  const { shape, data } = point;
  if (axes.includes("key")) return attentionRows(point, start, end);
  const first = axes[0] === "slot" ? 0 : start;
  const width = data.length / shape[0];
  return {
    shape: [end - first, ...shape.slice(1)],
    data: data.subarray(first * width, end * width),
  };
}

/** Of [H, T, T] the queries from `start` on, and the keys up to `end`. */
function attentionRows({ shape, data }: OraclePoint, start: number, end: number): ReferenceTensor {
  const [heads, positions] = shape;
  if (end - start === positions) return { shape, data };
  const rows = new Float64Array(heads * (end - start) * end);
  let to = 0;
  for (let head = 0; head < heads; head++) {
    for (let query = start; query < end; query++, to += end) {
      const from = (head * positions + query) * positions;
      rows.set(data.subarray(from, from + end), to);
    }
  }
  return { shape: [heads, end - start, end], data: rows };
}

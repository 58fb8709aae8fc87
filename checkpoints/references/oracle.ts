/** The 64-bit oracle as a reference. */
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Config } from "../../engine/model/config.ts";
import { oracle, oracleGreedy, type OracleOptions } from "../../engine/oracle/oracle.ts";
import deno from "../../deno.json" with { type: "json" };
import { rowsOf } from "../parity/local.ts";
import {
  greedyChoice,
  type Provenance,
  type Reference,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
} from "./reference.ts";

/**
 * The oracle over a file, which stays the caller's. It keeps no cache: a causal pass over prompt and following ids has the rows of
 * every step. Its tensors are 64-bit, and views where that is possible. A run cannot be interrupted once it computes.
 *
 * @param options.rope how RoPE's angles are built: as ggml does for comparisons with it; default `exact`
 * @param options.like as llama.cpp computes the model
 */
export function oracleReference(
  file: GgufFile,
  options: { readonly rope?: Provenance["rope"]; readonly like?: Config["like"] } = {},
): Reference {
  const { rope = "exact", like } = options;
  return {
    provenance: {
      name: "oracle",
      version: deno.version,
      device: "CPU, 64-bit floats",
      weights: file.name,
      rope,
    },
    run: (request) => run(file, { ropeTable: rope, like }, request),
    close: () => Promise.resolve(),
  };
}

async function run(
  file: GgufFile,
  options: Pick<OracleOptions, "ropeTable" | "like">,
  request: ReferenceRequest,
): Promise<ReferenceRun> {
  const { ids: prompt, generate, steps, points: wanted, signal } = request;
  const { capacity = prompt.length + generate } = request;
  const forced = (request.forced ?? []).slice(0, generate);
  const given = [...prompt, ...forced];
  signal?.throwIfAborted();
  const following = generate > forced.length
    ? (await oracleGreedy(file, given, generate - forced.length, { ...options, capacity })).ids
    : [];
  signal?.throwIfAborted();
  const ids = [...given, ...following];
  const { logits, points } = await oracle(file, ids, {
    ...options,
    capacity,
    rows: "all",
    points: (name) => wanted.includes(name),
  });

  const choices = logits.slice(prompt.length - 1).map(greedyChoice);
  const passes = [...new Set(steps)].filter((step) => step <= generate).toSorted((a, b) => a - b)
    .map((step): ReferencePass => {
      const start = step === 0 ? 0 : prompt.length + step - 1;
      const end = prompt.length + step;
      const tensors = new Map(
        [...points].map(([name, point]) => [name, rowsOf(name, point, 0, start, end - start)]),
      );
      return { step, start, ids: ids.slice(start, end), tensors };
    });
  return {
    passes,
    ids: choices.map(({ id }) => id),
    margins: choices.map(({ margin }) => margin),
  };
}

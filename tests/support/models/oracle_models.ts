import { Random } from "../../../checkpoints/files/random.ts";
import type { RandomLlamaOptions } from "./random_llama.ts";

/** A model, a prompt and what of llama.cpp's pass over it is kept in fixtures/oracle.json. */
export interface OracleModel {
  readonly name: string;
  readonly options: RandomLlamaOptions;
  readonly ids: readonly number[];
  /** Positions whose rows are kept. */
  readonly positions: readonly number[];
  /** Ids to generate. */
  readonly greedy: number;
}

const BASE = { layers: 2, width: 64, heads: 4, ffnWidth: 80, vocab: 100, contextLength: 512 };

/** Small, and between them with all that a llama's file can choose. */
export const ORACLE_MODELS: readonly OracleModel[] = [
  {
    name: "plain",
    options: { ...BASE, seed: 11 },
    ids: prompt(17),
    positions: [0, 7, 16],
    greedy: 16,
  },
  {
    name: "grouped queries, tied output, biases, RoPE factors",
    options: {
      ...BASE,
      kvHeads: 2,
      tied: true,
      biases: true,
      ropeFactors: true,
      ropeBase: 50000,
      normEpsilon: 1e-4,
      seed: 12,
    },
    ids: prompt(17),
    positions: [0, 7, 16],
    greedy: 16,
  },
  {
    name: "linear RoPE scaling, wide heads, one KV head, 400 positions",
    options: { ...BASE, layers: 1, headWidth: 32, kvHeads: 1, ropeFactor: 2.5, seed: 13 },
    ids: prompt(400),
    positions: [399],
    greedy: 4,
  },
];

function prompt(length: number): number[] {
  const random = new Random(length);
  return Array.from({ length }, () => random.integer(0, BASE.vocab));
}

/** The rows of some positions of [T, ...], or of [H, T, S] as [position, H, S]. */
export function positionRows(
  { shape, data }: {
    readonly shape: readonly number[];
    readonly data: Float32Array | Float64Array;
  },
  name: string,
  positions: readonly number[],
): number[] {
  const [heads, T] = name.endsWith("attn_probs") ? shape : [1, shape[0]];
  const width = data.length / (heads * T);
  return positions.flatMap((t) =>
    Array.from(
      { length: heads },
      (_, h) => [...data.subarray((h * T + t) * width, (h * T + t + 1) * width)],
    ).flat()
  );
}

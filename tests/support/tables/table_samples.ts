/** Points and pieces for tests of tables: made up, with values that tell where they belong. */
import type { Piece } from "../../../inspect/run/capture.ts";
import type { Point } from "../../../inspect/points/points.ts";
import type { TableMeta, TokenOf } from "../../../inspect/tables/mod.ts";

export const META: TableMeta = {
  model: "sample",
  sha256: "ab".repeat(32),
  prompts: ["The cat <sat>"],
  ids: [[7, 8, 9, 10]],
  promptLengths: [3],
  device: "CPU backend",
  version: "1.2.3",
};

/** Token 100 + position of each sequence. */
export const TOKEN: TokenOf = (sequence, position) => ({
  id: 100 + position,
  text: ` t${sequence}.${position}`,
});

/** Sizes: 2 heads, 1 KV head, head width 4, model width 6. */
export const POINTS: Readonly<Record<string, Point>> = {
  out: point("blk.3.out", ["position", "feature"], ["T", 6]),
  rms: point("blk.3.attn_norm_rms", ["position", "feature"], ["T", 1]),
  q: {
    ...point("blk.3.q", ["position", "head", "feature"], ["T", 2, 4]),
    rope: { order: "adjacent", width: 4 },
  },
  cache: point("blk.3.cache_k", ["slot", "kv_head", "feature"], ["S", 1, 4]),
  probs: point("blk.3.attn_probs", ["head", "query", "key"], [2, "T", "S"]),
  logits: point("logits", ["position", "feature"], ["R", 5]),
};

function point(name: string, axes: Point["axes"], shape: Point["shape"]): Point {
  const [, layer, kind] = name.match(/^blk\.(\d+)\.(.+)$/) ?? [];
  return {
    name,
    layer: layer === undefined ? undefined : Number(layer),
    kind: kind ?? name,
    shape,
    axes,
    meaning: `meaning of ${name}`,
    aliases: [],
    conversions: new Map(),
    onRequest: false,
  };
}

/** A piece whose numbers count up from `first`. */
export function piece(
  point: Point,
  shape: readonly number[],
  options: Partial<Piece> & { first?: number } = {},
): Piece {
  const { first = 0, ...rest } = options;
  const size = shape.reduce((product, dim) => product * dim, 1);
  const data = Float32Array.from({ length: size }, (_, i) => first + i);
  return { point: point.name, sequence: 0, step: 0, start: 0, shape, data, ...rest };
}

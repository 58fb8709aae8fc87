/** Names of what a model has once per layer: weights (`blk.3.attn_q.weight`), points (`blk.3.attn_probs`). */

const IN_LAYER = /^blk\.(\d+)\./;

/** The layer of a weight or a point; undefined outside of layers. */
export function layerOf(name: string): number | undefined {
  const [, layer] = name.match(IN_LAYER) ?? [];
  return layer === undefined ? undefined : Number(layer);
}

/** A name without its layer: `attn_probs` of `blk.3.attn_probs`, `logits` of `logits`. */
export function kindOf(name: string): string {
  return name.replace(IN_LAYER, "");
}

/** The name in another layer, or in any: `blk.*.attn_probs` of `blk.3.attn_probs`. Names outside of layers stay. */
export function inLayer(name: string, layer: number | "*"): string {
  return name.replace(IN_LAYER, `blk.${layer}.`);
}

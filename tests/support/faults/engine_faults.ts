/** All faults of engines, kind by kind. */
import type { EngineFault, Faults } from "./fault.ts";
import { BLOCKS } from "./engines/blocks.ts";
import { CACHES } from "./engines/caches.ts";
import { KNOWN_FAULTS } from "./engines/known.ts";
import { MASKS } from "./engines/masks.ts";
import { ACTIVATIONS, CAPS, FACTORS, ROUNDINGS } from "./engines/numbers.ts";
import { ENDS, LEFT_OUT, NORMS, STRAY } from "./engines/operations.ts";
import { ORDERS, OTHER_TENSORS, ZEROS } from "./engines/tensors.ts";
import { TURNS } from "./engines/turning.ts";

export const ENGINE_FAULTS: Readonly<Record<string, Faults<EngineFault>>> = {
  "known before": Object.fromEntries(
    Object.entries(KNOWN_FAULTS).map(([name, fault]) => [name, { ...fault, known: true }]),
  ),
  masks: MASKS,
  caches: CACHES,
  "another tensor's numbers": OTHER_TENSORS,
  order: ORDERS,
  zeros: ZEROS,
  "blocks of quantized weights": BLOCKS,
  factors: FACTORS,
  "caps and clamps": CAPS,
  activations: ACTIVATIONS,
  rounding: ROUNDINGS,
  RoPE: TURNS,
  norms: NORMS,
  "left out, or twice": LEFT_OUT,
  ends: ENDS,
  "stray numbers": STRAY,
};

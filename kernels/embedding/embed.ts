/** Rows of the embedding matrix. */
import { bindings, type Kernel } from "../kernel.ts";
import { PACKED_CONSTANTS } from "../products/products.ts";
import embedWgsl from "./embed.wgsl" with { type: "text" };

/** ids [T] (u32 bits on the device) → rows of the weight [T, columns]. */
export const embed: Kernel = {
  name: "embed",
  wgsl: embedWgsl,
  packed: true,
  constants: PACKED_CONSTANTS,
  bindings: bindings("input ids", "weight weight", "output y"),
  lanes: (knobs) => knobs.lanes,
  grid: (pass, { groups }, lanes) => [Math.ceil(groups / lanes), pass.tokens, 1],
  twin({ inputs: [ids], weights: [weight], outputs: [y] }) {
    for (let token = 0; token < ids.length; token++) {
      weight.read(ids[token], y!.subarray(token * weight.columns, (token + 1) * weight.columns));
    }
  },
};

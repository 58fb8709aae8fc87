/** Rows of the embedding matrix. */
import { bindings, kernel } from "../kernel.ts";
import { PACKED_CONSTANTS } from "../products/products.ts";
import embedWgsl from "./embed.wgsl" with { type: "text" };

/** ids [T] (u32 bits on the device) → rows of the weight [T, columns]. */
export const embed = kernel({
  operation: "embed",
  wgsl: embedWgsl,
  packed: true,
  constants: PACKED_CONSTANTS,
  bindings: bindings("input ids u32", "weight weight", "output y"),
  grid: (pass, { groups }, lanes) => [Math.ceil(groups / lanes), pass.tokens, 1],
  twin({ inputs: [ids], weights: [weight], outputs: [y] }) {
    for (let token = 0; token < ids.length; token++) {
      weight.read(ids[token], y!.subarray(token * weight.columns, (token + 1) * weight.columns));
    }
  },
});

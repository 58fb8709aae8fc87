/** Rows of the embedding matrices: of token ids, and of positions. */
import { ofBranches, ofWholePasses, rowGap } from "../branches/branches.ts";
import { bindings, kernel, type TwinArguments } from "../kernel.ts";
import { PACKED_CONSTANTS } from "../products/products.ts";
import embedWgsl from "./embed.wgsl" with { type: "text" };
import ofIdsWgsl from "./of_ids.wgsl" with { type: "text" };
import ofPositionsWgsl from "./of_positions.wgsl" with { type: "text" };

/** ids [T] (u32 bits on the device) → rows of the weight [T, columns]. */
const embed = kernel({
  operation: "embed",
  wgsl: ofIdsWgsl + embedWgsl,
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

/**
 * Rows of the weight [T, columns] at the positions of the pass, counted from the sequence's first; of branches they are their own. Packed
 * weights are binding 3, so y comes first.
 */
const embedPositions = kernel({
  operation: "embed_positions",
  wgsl: ofPositionsWgsl + embedWgsl,
  packed: true,
  constants: PACKED_CONSTANTS,
  bindings: bindings("output y", "weight weight"),
  grid: (pass, { groups }, lanes) => [Math.ceil(groups / lanes), pass.tokens, 1],
  twin(args: TwinArguments) {
    const { pass, weights: [weight], outputs: [y] } = args;
    for (let token = 0; token < pass.tokens; token++) {
      const [gap, end] = rowGap(args, 0, token);
      const row = y!.subarray(token * weight.columns, (token + 1) * weight.columns);
      weight.read(pass.start + token - (end - gap), row);
    }
  },
});

export const embeddingKernels = [
  embed,
  ofWholePasses(embedPositions),
  ofBranches(embedPositions),
];

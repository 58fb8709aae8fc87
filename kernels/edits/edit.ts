/** Interventions on a value, and the heads' own contributions to the residual stream. */
import { bindings, kernel } from "../kernel.ts";
import { MASKED } from "../attention/scoring/score.ts";
import { PACKED_CONSTANTS } from "../products/products.ts";
import maskWgsl from "../mask.wgsl" with { type: "text" };
import editWgsl from "./edit.wgsl" with { type: "text" };
import headResultWgsl from "./head_result.wgsl" with { type: "text" };

/**
 * x [T, heads, features], or [heads, T, S] where `features` is 0 → x · scale + operand where selected, else x. Keys that a query
 * does not see are never selected, and scores that are masks (see {@linkcode MASKED}) only to be replaced, with a scale of 0. A scale of 0
 * also removes NaN and infinity; a scale that is NaN gives NaN.
 *
 * operand: nothing (0), [heads, operand_columns] (1), or rows [positions, heads, operand_columns] from `first_position` on (2).
 * selected: flags 0 or 1, first `heads` of them, then `some_features`, then one per position of the session; a list is looked
 * at only where its `some_…` constant is not 0.
 */
const edit = kernel({
  operation: "edit",
  wgsl: maskWgsl + editWgsl,
  constants: {
    heads: "u32",
    features: "u32",
    scale: "f32",
    operand: "u32",
    operand_columns: "u32",
    first_position: "u32",
    some_heads: "u32",
    some_features: "u32",
    some_positions: "u32",
  },
  bindings: bindings("input x", "input operand", "input selected", "output y"),
  grid(pass, { heads, features }, lanes) {
    return [Math.ceil((features || pass.start + pass.tokens) / lanes), pass.tokens, heads];
  },
  twin({ pass, constants, inputs: [x, operand, selected], outputs: [y] }) {
    const { heads, scale, operand_columns, first_position } = constants;
    const { some_heads, some_features, some_positions } = constants;
    const attention = constants.features === 0;
    const features = constants.features || pass.start + pass.tokens;
    for (let token = 0; token < pass.tokens; token++) {
      const position = pass.start + token;
      for (let head = 0; head < heads; head++) {
        const row = attention ? head * pass.tokens + token : token * heads + head;
        const rowChosen = (!some_heads || selected[head] === 1) &&
          (!some_positions || selected[heads + some_features + position] === 1);
        for (let feature = 0; feature < features; feature++) {
          const at = row * features + feature;
          const hidden = attention && (feature > position || (x[at] <= MASKED && scale !== 0));
          if (!rowChosen || hidden || (some_features && selected[heads + feature] !== 1)) {
            y![at] = x[at];
            continue;
          }
          let value = scale === 0 ? 0 : x[at] * scale;
          if (constants.operand === 1) value += operand[head * operand_columns + feature];
          if (constants.operand === 2) {
            const operandRow = (position - first_position) * heads + head;
            value += operand[operandRow * operand_columns + feature];
          }
          y![at] = value;
        }
      }
    }
  },
});

/** head_out [T, H, d] → [T, H, D]: each head's columns of the output matrix [D, H·d] times its own mix of values. */
const headResult = kernel({
  operation: "head_result",
  wgsl: headResultWgsl,
  packed: true,
  constants: { ...PACKED_CONSTANTS, heads: "u32" },
  bindings: bindings("input head_out", "weight weight", "output y"),
  grid: (pass, { rows, heads }, lanes) => [Math.ceil(rows / lanes), pass.tokens, heads],
  twin({ pass, constants: { heads }, inputs: [x], weights: [weight], outputs: [y] }) {
    const { rows, columns } = weight;
    const width = columns / heads;
    const w = new Float32Array(columns);
    for (let row = 0; row < rows; row++) {
      weight.read(row, w);
      for (let token = 0; token < pass.tokens; token++) {
        for (let head = 0; head < heads; head++) {
          let sum = 0;
          for (let i = head * width; i < (head + 1) * width; i++) {
            sum += w[i] * x[token * columns + i];
          }
          y![(token * heads + head) * rows + row] = sum;
        }
      }
    }
  },
});

export const editKernels = [edit, headResult];

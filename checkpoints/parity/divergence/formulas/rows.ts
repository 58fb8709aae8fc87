/** Formulas of what reads whole rows: embeddings, norms, products. */
import { rowOf, weightRowAt } from "../evidence.ts";
import { type Formulas, ofWeight, rowAt, termsOf } from "./said.ts";

/** By operation. */
export const ROW_FORMULAS: Formulas = {
  embed({ inputs: [ids], weights: [weight], token, place: { index } }) {
    const id = ids.data[token];
    const row = rowOf(weight, id);
    return ofWeight(weight.name, id, row?.[index], {
      text: `${weight.name}[${id}, ${index}]: the row of token ${id}`,
    });
  },

  embed_positions({ weights: [weight], place: { position, index } }) {
    const row = rowOf(weight, position);
    return ofWeight(weight.name, position, row?.[index], {
      text: `${weight.name}[${position}, ${index}]: the row of position ${position}`,
    });
  },

  center({ inputs: [x], constants: { columns }, element }) {
    const row = rowAt(x, Math.floor(element / columns), columns);
    const numbers = termsOf(["i", "x"], columns, (i) => [i, row[i]]);
    const mean = numbers.sum / columns;
    return {
      text: `x − mean(x), x of ${x.name}, ${columns} numbers`,
      facts: [["x", x.data[element]], ["mean(x)", mean]],
      terms: numbers.terms,
      value: x.data[element] - mean,
      size: Math.abs(x.data[element]) + numbers.size / columns,
    };
  },

  rms({ inputs: [x], constants: { columns, epsilon }, element }) {
    const row = rowAt(x, element, columns);
    const squares = termsOf(["i", "x", "x²"], row.length, (i) => [i, row[i], row[i] * row[i]]);
    const mean = squares.sum / columns;
    return {
      text: `sqrt(mean(x²) + ε) of ${x.name}, ${columns} numbers`,
      facts: [["mean(x²)", mean], ["ε", epsilon]],
      terms: squares.terms,
      value: Math.sqrt(mean + epsilon),
    };
  },

  normalize({ inputs: [x, rms], element, constants: { columns } }) {
    const root = rms.data[Math.floor(element / columns)];
    return {
      text: `x / rms, x of ${x.name}`,
      facts: [["x", x.data[element]], ["rms", root]],
      value: x.data[element] / root,
    };
  },

  scale_columns({ inputs: [x], weights: [weight], element, constants: { columns } }) {
    const index = element % columns;
    const w = rowOf(weight, 0)?.[index];
    return ofWeight(weight.name, 0, w, {
      text: `x · w, x of ${x.name}, w of ${weight.name}[${index}]`,
      facts: [["x", x.data[element]], ["w", w ?? NaN]],
      value: x.data[element] * (w ?? NaN),
    });
  },

  linear({ inputs: [x], weights: [weight], constants: { columns }, output, place, token }) {
    const row = weightRowAt(output, place);
    const w = rowOf(weight, row);
    const numbers = rowAt(x, token, columns);
    const products = w && termsOf(
      ["i", "x", "w", "x·w"],
      columns,
      (i) => [i, numbers[i], w[i], numbers[i] * w[i]],
    );
    return ofWeight(weight.name, row, products?.sum, {
      text: `Σ x[i] · w[i], x of ${x.name}, w of ${weight.name}[${row}], ${columns} terms`,
      terms: products?.terms,
      size: products?.size,
    });
  },

  add_bias({ inputs: [x], weights: [weight], element, constants: { columns } }) {
    const index = element % columns;
    const b = rowOf(weight, 0)?.[index];
    return ofWeight(weight.name, 0, b, {
      text: `x + b, x of ${x.name}, b of ${weight.name}[${index}]`,
      facts: [["x", x.data[element]], ["b", b ?? NaN]],
      value: x.data[element] + (b ?? NaN),
    });
  },

  take_rows({ inputs: [x], output, element }) {
    return {
      text: `x of ${x.name}, as it is`,
      facts: [],
      value: x.data[x.data.length - output.data.length + element],
    };
  },
};

/** Cases of the kernel that edits values. */
import { type Draft, type Order, passOf } from "./case.ts";

/** Positions of the session in which edits are checked. */
const CAPACITY = 12;

/** Whole values, and parts chosen by each kind of list. */
const EDITS = [
  { scale: 0, operand: 0 },
  { scale: -1.5, operand: 1, some_heads: 1 },
  { scale: 0.5, operand: 1, some_features: 70 },
  { scale: 0, operand: 2, some_positions: 1, first_position: 6 },
  { scale: 2, operand: 2, first_position: 3, some_heads: 1, some_features: 70, some_positions: 1 },
  { scale: 0, operand: 0, features: 0, some_heads: 1, some_positions: 1 },
  { scale: 0.25, operand: 0, features: 0, some_features: CAPACITY, some_positions: 1 },
  {
    scale: 0,
    operand: 2,
    features: 0,
    operand_columns: CAPACITY - 1,
    first_position: 5,
    some_heads: 1,
    some_positions: 1,
  },
];

export function* edits({ noise }: Order): Generator<Draft> {
  const [heads, features, tokens, start] = [3, 70, 5, 4];
  for (const [i, each] of EDITS.entries()) {
    const constants = {
      heads,
      features,
      operand_columns: features,
      first_position: 0,
      some_heads: 0,
      some_features: 0,
      some_positions: 0,
      ...each,
    };
    const { operand, operand_columns, first_position } = constants;
    const { some_heads, some_features, some_positions } = constants;
    const size = tokens * heads * (constants.features || start + tokens);
    const x = noise.numbers(size);
    if (i === 0) x[7] = NaN; // to be zeroed
    const rows = Math.max(1, operand === 2 ? CAPACITY - first_position : operand);
    const selected = Float32Array.from(
      { length: heads + some_features + CAPACITY },
      () => noise.bits() % 2,
    );
    // Positions before the operand's rows are never chosen.
    selected.fill(0, heads + some_features, heads + some_features + first_position);
    const lists = Object.entries({ some_heads, some_features, some_positions })
      .filter(([, count]) => count > 0).map(([name]) => name.replace("_", " "));
    yield {
      name: `${constants.features ? "vectors" : "attention rows"}, ${lists.join(", ") || "all"}`,
      pass: passOf(tokens, start),
      constants,
      inputs: [x, noise.numbers(rows * heads * operand_columns), selected],
      outputs: [size],
    };
  }
}

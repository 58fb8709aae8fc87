/** Cases of kernels over rows of numbers. */
import type { Operation } from "../../kernels/kernel.ts";
import { NO_NEXT } from "../../kernels/sampling/surprisal.ts";
import {
  COLUMNS,
  type Draft,
  FEW,
  KINDS,
  type Maker,
  MANY,
  type Order,
  passOf,
  SPARE_SLOTS,
} from "./case.ts";
import { type Kind, type Noise, numbersReader } from "./data.ts";

function* rowwise(
  { full }: Order,
): Generator<{ columns: number; tokens: number; kind: Kind; name: string }> {
  const shapes = full
    ? COLUMNS.map((columns, i) => [columns, columns > 1000 ? FEW[i % 10] : MANY[i % 11]])
    : [[65, 3], [576, 2]];
  for (const [columns, tokens] of shapes) {
    for (const kind of KINDS) {
      yield { columns, tokens, kind, name: `${columns} columns, ${tokens} positions` };
    }
  }
}

/** Cases of a kernel whose inputs and outputs all are [T, columns], but for vectors [columns] and columns [T, 1]. */
function elementwise(
  change: (
    inputs: Float32Array[],
    shape: { columns: number; tokens: number; kind: Kind; noise: Noise },
  ) => Partial<Draft> = () => ({}),
) {
  return function* (order: Order): Generator<Draft> {
    const { kernel, noise } = order;
    for (const { columns, tokens, kind, name } of rowwise(order)) {
      const numbers = columns * tokens;
      const of = (kind: string) => kernel.bindings.filter((each) => each.kind === kind);
      const inputs = of("input").map(() => noise.numbers(numbers, kind));
      yield {
        name,
        kind,
        pass: passOf(tokens),
        constants: { columns },
        inputs,
        weights: of("weight").map(() => numbersReader(noise.numbers(columns, kind), columns)),
        outputs: [...of("output"), ...of("tap")].map(() => numbers),
        ...change(inputs, { columns, tokens, kind, noise }),
      };
    }
  };
}

/** Root mean squares: positive. */
function roots(noise: Noise, length: number): Float32Array {
  return noise.numbers(length).map((value) => Math.abs(value) + 0.01);
}

const epsilon = Math.fround(1e-5);

/** What a broken model's logits may be, and some that only look it. */
const UNUSUAL: readonly ((row: Float32Array) => void)[] = [
  (row) => row.fill(NaN),
  (row) => new Uint32Array(row.buffer, row.byteOffset, row.length).fill(0xffffffff), // NaN too
  (row) => row[99] = NaN,
  (row) => row[3] = Infinity,
  (row) => row.fill(-Infinity),
  (row) => row.fill(-Infinity, 0, 70),
  (row) => row.fill(-0),
  (row) => row.fill(1e-40), // flushed to zero or not, all are equal
  (row) => row.fill(-3e38, 1),
];

/** Makers by operation. */
export const ROW_CASES = {
  rms: elementwise((_, { columns, tokens }) => ({
    constants: { columns, epsilon },
    outputs: [tokens],
  })),
  normalize: elementwise(([x], { tokens, noise }) => ({ inputs: [x, roots(noise, tokens)] })),
  scale_columns: elementwise(),
  rms_norm: elementwise((_, { columns, tokens }) => ({
    constants: { columns, epsilon },
    outputs: [columns * tokens, tokens, columns * tokens],
  })),
  add: elementwise(),
  add_bias: elementwise(),
  // Gates far out too, where exp would overflow.
  swiglu: elementwise(([gate, up]) => ({
    inputs: [gate.map((value, i) => value * (i % 3 === 0 ? 100 : 4)), up],
  })),
  take_rows: elementwise(([x, list], { columns, tokens }) => {
    const rows = Math.ceil(tokens / 2);
    const pass = passOf(tokens, 0, rows);
    const listed = Float32Array.from({ length: rows }, (_, i) => (i * 7 + 3) % tokens);
    return { pass, inputs: list ? [x, listed] : [x], outputs: [rows * columns] };
  }),
  store: elementwise((_, { columns, tokens }) => ({
    pass: passOf(tokens, tokens % 4),
    outputs: [(tokens % 4 + tokens + SPARE_SLOTS) * columns],
  })),
  *surprisal(order: Order): Generator<Draft> {
    yield* elementwise(([x], { columns, tokens, noise }) => ({
      pass: passOf(tokens, 0, tokens),
      inputs: [
        x.map((value) => value * 8),
        noise.numbers(tokens).map((value) => Math.floor(Math.abs(value) * 1e4) % columns),
      ],
      outputs: [tokens],
    }))(order);
    const columns = 100;
    const rows = UNUSUAL.length + 1;
    const x = order.noise.numbers(rows * columns);
    UNUSUAL.forEach((change, row) => change(x.subarray(row * columns, (row + 1) * columns)));
    for (const id of [0, 99]) {
      yield {
        name: `rows that are not all numbers, id ${id}, and one without an id`,
        pass: passOf(rows, 0, rows),
        constants: { columns },
        inputs: [x, new Float32Array(rows).fill(id).with(-1, NO_NEXT)],
        outputs: [rows],
      };
    }
  },
  *argmax(order: Order): Generator<Draft> {
    // Whole numbers are equal by the dozen: the first of them counts. All may be negative.
    yield* elementwise(([x], { tokens }) => ({
      pass: passOf(tokens, 0, tokens),
      inputs: [tokens % 2 ? x.map((value) => value - 10) : x],
      outputs: [tokens],
    }))(order);
    const columns = 100;
    const x = order.noise.numbers(UNUSUAL.length * columns);
    UNUSUAL.forEach((change, row) => change(x.subarray(row * columns, (row + 1) * columns)));
    const rows = UNUSUAL.length;
    yield {
      name: "rows that are not all numbers",
      pass: passOf(rows, 0, rows),
      constants: { columns },
      inputs: [x],
      outputs: [rows],
    };
  },
} satisfies Partial<Record<Operation, Maker>>;

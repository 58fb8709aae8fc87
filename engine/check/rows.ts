/** Cases of kernels over rows of numbers. */
import { ACTIVATIONS } from "../../kernels/elementwise/activations.ts";
import type { Constants, Operation } from "../../kernels/kernel.ts";
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
import { branchGaps, type Kind, type Noise, numbersReader } from "./data.ts";

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

/** Rows of a position, and numbers of each: one row, heads, more heads than a dimension of a dispatch could count with their positions. */
const GROUPS: readonly (readonly [groups: number, columns: number, tokens: number])[] = [
  [9, 64, 3],
  [3, 7, 5],
  [128, 4, 513],
  [2, 576, 1],
];

/** Cases of a kernel over rows of which a position has one, then `groups` of them. */
function grouped(change: (shape: Rows, inputs: Float32Array[], noise: Noise) => Partial<Draft>) {
  return function* (order: Order): Generator<Draft> {
    const { kernel, noise, full } = order;
    const shapes: Rows[] = [...rowwise(order)].map((each) => ({ ...each, groups: 1 }));
    for (const [groups, columns, tokens] of full ? GROUPS : GROUPS.slice(0, 1)) {
      const name = `${tokens} positions, ${groups} rows of ${columns} each`;
      shapes.push(...KINDS.map((kind) => ({ columns, tokens, kind, name, groups })));
    }
    for (const shape of shapes) {
      const { columns, tokens, kind, name, groups } = shape;
      const numbers = groups * columns * tokens;
      const inputs = [noise.numbers(numbers, kind)];
      const weighted = kernel.bindings.some(({ kind }) => kind === "weight");
      yield {
        name,
        kind,
        pass: passOf(tokens),
        constants: { columns, groups },
        inputs,
        weights: weighted ? [numbersReader(noise.numbers(columns, kind), columns)] : [],
        outputs: [numbers],
        ...change(shape, inputs, noise),
      };
    }
  };
}

/** Rows of positions. */
interface Rows {
  readonly columns: number;
  readonly tokens: number;
  readonly groups: number;
  readonly kind: Kind;
  readonly name: string;
}

/** Numbers far out too, where exp would overflow: 1e15 and its like among them, whose squares still are numbers. */
function farOut(x: Float32Array): Float32Array {
  return x.map((value, i) => value * (i % 29 === 5 ? 1e15 : i % 3 === 0 ? 100 : 4));
}

/** Cases with each set of further constants. */
function withEach(sets: readonly Constants[], inputs: (all: Float32Array[]) => Float32Array[]) {
  return function* (order: Order): Generator<Draft> {
    for (const constants of sets) {
      for (const draft of elementwise((all) => ({ inputs: inputs(all) }))(order)) {
        const name = [draft.name, ...Object.entries(constants).flat()].join(" ");
        yield { ...draft, name, constants: { ...draft.constants, ...constants } };
      }
    }
  };
}

/** All activations, or those of one number. */
const GATES: readonly Constants[] = ACTIVATIONS.map((_, activation) => ({ activation }));
const ACTIVATED = GATES.slice(0, ACTIVATIONS.indexOf("swiglu_clamped"));

/** Numbers that Apertus might have learned, and others. */
const XIELUS: readonly Constants[] = [
  { alpha_n: 0.25, alpha_p: 0.75, beta: 0.5, epsilon: Math.fround(-1e-6) },
  { alpha_n: -3, alpha_p: 30, beta: -0.25, epsilon: Math.fround(-0.01) },
];

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
  center: grouped(() => ({})),
  rms: grouped(({ columns, tokens, groups }) => ({
    constants: { columns, groups, epsilon },
    outputs: [tokens * groups],
  })),
  normalize: grouped(({ tokens, groups }, [x], noise) => ({
    inputs: [x, roots(noise, tokens * groups)],
  })),
  scale_columns: grouped(() => ({})),
  rms_norm: grouped(({ columns, tokens, groups }) => ({
    constants: { columns, groups, epsilon },
    outputs: [columns * tokens * groups, tokens * groups, columns * tokens * groups],
  })),
  add: elementwise(),
  add_bias: grouped(() => ({})),
  // Gates far out too, where exp would overflow.
  glu: withEach(GATES, ([gate, up]) => [farOut(gate), up.map((value) => value * 5)]),
  activate: withEach(ACTIVATED, ([x]) => [farOut(x)]),
  xielu: withEach(XIELUS, ([x]) => [farOut(x)]),
  scale: withEach([{ factor: Math.fround(12.3) }], ([x]) => [x]),
  cap: withEach([{ cap: 30 }, { cap: 0.5 }], ([x]) => [farOut(x)]),
  clamp: withEach([{ limit: 1.5 }], ([x]) => [x]),
  *scale_by_position(order: Order): Generator<Draft> {
    for (const [period, offset, start] of [[4, 0, 5], [8192, 1, 8190], [1, 0, 0]]) {
      const constants = { scale: Math.fround(0.1), period, offset };
      for (const draft of withEach([constants], ([x]) => [x])(order)) {
        const pass = { ...draft.pass, start };
        const gaps = order.kernel.branches ? [branchGaps(pass)] : [];
        yield { ...draft, pass, inputs: [...draft.inputs, ...gaps] };
      }
    }
  },
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

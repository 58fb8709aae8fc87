/**
 * How far a kernel may be from its 64-bit twin: bounds that follow from the rounding that WGSL allows ("WebGPU
 * Shading Language", section "Floating Point Accuracy"), worked out for each number of an output from its own terms.
 *
 * The unit is one ULP, at most 2⁻²³ of a number: WGSL lets sums and products round either way. Division is good to 2.5
 * of them, exp(x) to 3 + 2|x|, sqrt to 4.5 (it inherits from 1 / inverseSqrt). A sum whose terms pass through n rounded
 * operations is off by at most ((1 + 2⁻²³)ⁿ − 1) · Σ|terms| (Higham, "Accuracy and Stability of Numerical Algorithms",
 * section 4.2). Subnormal results may be flushed to zero.
 */
import { ATTENTION_BOUNDS } from "./attention_bounds.ts";
import {
  absolute,
  type Bound,
  type BoundArguments,
  evaluate,
  growth,
  relative,
  rounded,
  sumError,
  TINY,
} from "./rounding.ts";
import { ropeStore } from "../../kernels/rope/rope.ts";
import type { Kernel, RowReader } from "../../kernels/kernel.ts";
import {
  activatedError,
  cappedError,
  gatedError,
  scaledByPositionError,
  xieluError,
} from "./activation_bounds.ts";

/** Rows of weights: subnormal numbers may be flushed. */
const copied: Bound = ({ outputs }) =>
  outputs.map((output) => new Float64Array(output.length).fill(TINY));

const exact: Bound = ({ outputs }) => outputs.map((output) => new Float64Array(output.length));

function absoluteReader(reader: RowReader): RowReader {
  return {
    ...reader,
    read(row, out) {
      reader.read(row, out);
      for (let i = 0; i < reader.columns; i++) out[i] = Math.abs(out[i]);
    },
  };
}

/** Products: the twin over magnitudes gives Σ|terms|, of the residual too. */
function magnitudes(args: BoundArguments): Float32Array[] {
  return evaluate(args, {
    inputs: args.inputs.map(absolute),
    weights: args.weights.map(absoluteReader),
  });
}

/** Groups of columns that matmul.wgsl adds up on their own. */
const RUN = 8;

/** Rounded operations from a term of W·x to its sum: see matvec.wgsl, matmul.wgsl and head_result.wgsl. */
function productDepth(
  { kernel, constants, weights: [{ columns }], columnLanes }: BoundArguments,
): number {
  if (kernel.operation === "head_result") return columns / constants.heads + 1;
  const groups = Math.ceil(columns / 8);
  if (kernel.positions === "many") {
    // matmul_rows.wgsl: eight columns after another, up to 32 in a chunk; matmul.wgsl: dots of four products, in runs.
    return Math.max(
      1 + 8 + groups,
      1 + 32 + Math.ceil(groups / 4),
      5 + RUN + Math.ceil(groups / RUN),
    );
  }
  // A chunk has up to four groups: two operations for each, two for their total, one for a scale. Plain packings have more chunks.
  const dots = 4 * 2 + 2 + 1;
  return dots + Math.ceil(groups / columnLanes) + columnLanes;
}

/** W·x, or residual + W·x, which is one more term. */
const product: Bound = (args) => {
  const depth = productDepth(args) + 1;
  return magnitudes(args).map((terms, i) =>
    rounded(Float64Array.from(terms, (sum) => sumError(sum, depth, args.whole)), args.outputs[i])
  );
};

const gluProduct: Bound = (args) => {
  const depth = productDepth(args);
  const [, gates, ups] = magnitudes(args);
  const [act, gate, up] = args.outputs;
  const { activation } = args.constants;
  const gateErrors = Float64Array.from(gates, (sum) => sumError(sum, depth, args.whole));
  const upErrors = Float64Array.from(ups, (sum) => sumError(sum, depth, args.whole));
  return [
    Float64Array.from(
      act,
      (_, i) => gatedError(activation, gate[i], up[i], gateErrors[i], upErrors[i]),
    ),
    rounded(gateErrors, gate),
    rounded(upErrors, up),
  ];
};

/** x − mean(x): a sum by lanes, a quotient, a difference. */
const center: Bound = ({ constants: { columns }, inputs: [x], outputs: [y], lanes, whole }) => {
  const depth = Math.ceil(columns / lanes) + Math.log2(lanes);
  const errors = relative(y, 1);
  for (let first = 0; first < x.length; first += columns) {
    const row = x.subarray(first, first + columns);
    const [sum, terms] = row.reduce(([a, b], value) => [a + value, b + Math.abs(value)], [0, 0]);
    const mean = (sumError(terms, depth, whole) + growth(2.5) * Math.abs(sum)) / columns;
    for (let i = first; i < first + columns; i++) errors[i] += mean;
  }
  return [errors];
};

/** ULP of sqrt(mean(x²) + ε): the root halves what is under it. */
function rootUlps({ constants: { columns }, lanes }: BoundArguments): number {
  const sum = 2 + Math.ceil(columns / lanes) + Math.log2(lanes);
  return (sum + 2.5 + 1) / 2 + 4.5;
}

/** ULP of the root mean square by which a product's x is divided: see x_normed.wgsl. */
function productRootUlps(
  { constants: { columns }, lanes, columnLanes, broadcast }: BoundArguments,
): number {
  const shared = broadcast ? lanes : columnLanes;
  // Four squares at a time, or one after the other by the lanes that hand numbers on.
  const sum = 4 + Math.ceil(columns / (broadcast ? 1 : 4) / shared) + shared;
  return (sum + 2.5 + 1) / 2 + 4.5;
}

/** Errors of the norm, its rms and what it is before its weight, in ULP of each. */
function normErrors(args: BoundArguments, root: number, first: number): Float64Array[] {
  const [norm, rms, pre] = args.outputs.slice(first);
  return [relative(norm, root + 2.5 + 1), relative(rms, root), relative(pre, root + 2.5)];
}

/** Products of what is normed on its way in: one rounded operation more for each term; the sums are divided by the root. */
function normedErrors(args: BoundArguments): Float64Array[] {
  const depth = productDepth(args) + 1;
  const root = growth(productRootUlps(args) + 2.5 + 0.5);
  return magnitudes(args).map((terms, i) =>
    Float64Array.from(
      terms,
      (sum, at) => sumError(sum, depth, false) + root * Math.abs(args.outputs[i][at]),
    )
  );
}

const normedProduct: Bound = (args) => {
  const results = args.outputs.length - 3;
  return [
    ...normedErrors(args).slice(0, results),
    ...normErrors(args, productRootUlps(args), results),
  ];
};

const normedGlu: Bound = (args) => {
  const [, gateErrors, upErrors] = normedErrors(args);
  const [act, gate, up] = args.outputs;
  const { activation } = args.constants;
  return [
    Float64Array.from(
      act,
      (_, i) => gatedError(activation, gate[i], up[i], gateErrors[i], upErrors[i]),
    ),
    gateErrors,
    upErrors,
    ...normErrors(args, productRootUlps(args), 3),
  ];
};

/** Products of what is normed, then turned: each turned number has a part of two products' errors, and two roundings of its own. */
const normedQkvRope: Bound = (args) => {
  const { pass, constants: { head_width }, inputs: [, table], weights, outputs } = args;
  const [q, k, v] = normedErrors(args).slice(3, 6);
  const [heads, kv_heads] = weights.map(({ rows }) => rows / head_width);
  const turned = (qkv: readonly Float64Array[]) =>
    turnedError({
      ...args,
      kernel: ropeStore,
      constants: { ...args.constants, heads, kv_heads },
      inputs: [...qkv.map((each) => Float32Array.from(each)), table],
      outputs: [...outputs.slice(0, 3), outputs[6]],
      whole: false,
    }, 3);
  // Turning adds up the errors as it adds up magnitudes: the share of a sum that is its rounding is taken out again.
  const inherited = turned([q, k, v]).map((each) => each.map((error) => error / growth(2.5)));
  const own = turned(outputs.slice(3, 6).map((each) => Float64Array.from(each)));
  const [qRope, cacheK, , kRope] = own.map((each, i) =>
    each.map((error, at) => error + inherited[i][at])
  );
  const cacheV = new Float64Array(outputs[2].length);
  cacheV.set(v, pass.start * kv_heads * head_width);
  return [qRope, cacheK, cacheV, q, k, v, kRope, ...normErrors(args, productRootUlps(args), 7)];
};

/** Cosine and sine take turns at either sign: of two passes over magnitudes the larger one is Σ|terms|. */
function turnedError(args: BoundArguments, table: number): Float64Array[] {
  const signs = [1, -1].map((sign) =>
    evaluate(args, {
      inputs: args.inputs.map((input, i) =>
        i === table
          ? input.map((x, j) => j % 2 ? sign * Math.abs(x) : Math.abs(x))
          : absolute(input)
      ),
    })
  );
  return args.outputs.map((_, i) =>
    Float64Array.from(
      signs[0][i],
      (value, at) =>
        sumError(Math.max(Math.abs(value), Math.abs(signs[1][i][at])), 2.5, args.whole),
    )
  );
}

/** Of the sum's logarithm: what the sum is off by, beside itself; of the rest, a difference or two. */
const surprisal: Bound = ({ constants: { columns }, inputs: [x], outputs: [nats], lanes }) => [
  Float64Array.from(nats, (value, row) => {
    const numbers = x.subarray(row * columns, (row + 1) * columns);
    const largest = numbers.reduce((a, b) => Math.max(a, b));
    let [sum, ulps] = [0, 0];
    for (const number of numbers) {
      const weight = Math.exp(number - largest);
      sum += weight;
      // The difference rounds, which is an error of as many ULP in its exp.
      if (weight > 0) ulps += weight * (3 + 3 * (largest - number));
    }
    const depth = 1 + Math.ceil(columns / lanes) + Math.log2(lanes);
    return growth(ulps / sum + depth) + growth(3) * (Math.log(sum) + 1) +
      growth(3) * Math.abs(value);
  }),
];

/** x · scale + operand; what is not selected is copied. */
const edit: Bound = (args) => {
  const { constants, inputs: [x, operand, selected], outputs: [y] } = args;
  const [terms] = evaluate(args, {
    constants: { ...constants, scale: Math.abs(constants.scale) },
    inputs: [absolute(x), absolute(operand), selected],
  });
  return [rounded(Float64Array.from(terms, (sum) => sumError(sum, 2, false)), y)];
};

/** Weights of experts are gates, then a sum of those of the chosen, a division and a factor. */
const expertWeights: Bound = ({ constants, inputs: [logits], outputs, lanes }) => {
  const { experts, used, gating } = constants;
  const errors = Float64Array.from(outputs.at(-1)!, (weight, at) => {
    const first = Math.floor(at / used) * experts;
    const row = logits.subarray(first, first + experts);
    const distance = row.reduce((a, b) => Math.max(a, b)) - row.reduce((a, b) => Math.min(a, b));
    const size = row.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    // Softmax: of the terms and their sum the exponent and the difference in it; a sigmoid as in `gatedError`.
    const sum = 2 + Math.ceil(experts / lanes) + lanes + used;
    const gate = gating === 1 ? 3 + 2 * size + 1 + 2.5 : 2 * (3 + 3 * distance) + sum + 2.5;
    return growth(2 * gate + used + 2.5 + 1 + 0.5) * Math.abs(weight) + 2 * TINY;
  });
  return [errors];
};

/** Branches are judged as whole passes are. */
const BOUNDS: Readonly<Record<Kernel["operation"], Bound>> = {
  embed: copied,
  embed_positions: copied,
  center,
  rms: (args) => [relative(args.outputs[0], rootUlps(args))],
  normalize: ({ outputs: [pre] }) => [relative(pre, 2.5)],
  scale_columns: ({ outputs: [y] }) => [relative(y, 1)],
  rms_norm: (args) => normErrors(args, rootUlps(args), 0),
  linear(args) {
    const { epilogue, normed } = args.kernel;
    if (epilogue === "qkv_rope") return normedQkvRope(args);
    if (epilogue === "glu") return normed ? normedGlu(args) : gluProduct(args);
    return normed ? normedProduct(args) : product(args);
  },
  head_result: product,
  edit,
  add_bias: ({ outputs: [y] }) => [relative(y, 1)],
  rope: (args) => turnedError(args, 1),
  store: exact,
  rope_store(args) {
    const [qRope, cacheK, cacheV, kRope] = turnedError(args, 3);
    return [qRope, cacheK, cacheV.fill(0), kRope];
  },
  ...ATTENTION_BOUNDS,
  add: ({ outputs: [y] }) => [relative(y, 1)],
  glu: ({ constants: { activation }, inputs: [gate, up] }) => [
    Float64Array.from(gate, (value, i) => gatedError(activation, value, up[i])),
  ],
  activate: ({ constants: { activation }, inputs: [x] }) => [
    Float64Array.from(x, (value) => activatedError(activation, value) + TINY),
  ],
  xielu: ({ constants, inputs: [x] }) => [
    Float64Array.from(x, (value) => xieluError(value, constants)),
  ],
  scale: ({ outputs: [y] }) => [relative(y, 1)],
  cap: ({ constants, inputs: [x] }) => [
    Float64Array.from(x, (value) => cappedError(value, constants)),
  ],
  clamp: exact,
  scale_by_position: ({ inputs: [x], outputs: [y] }) => [
    Float64Array.from(
      x,
      (value, i) => value === 0 ? 0 : scaledByPositionError(value, y[i] / value),
    ),
  ],
  take_rows: exact,
  argmax: exact,
  sample: exact,
  route: (args) => [new Float64Array(args.outputs[0].length), ...expertWeights(args)],
  route_weights: expertWeights,
  linear_experts: product,
  add_expert_bias: ({ outputs: [y] }) => [relative(y, 1)],
  combine(args) {
    const [terms] = evaluate(args, { inputs: args.inputs.map(absolute) });
    const depth = args.constants.used + 1;
    const errors = Float64Array.from(terms, (sum) => sumError(sum, depth, args.whole));
    return [rounded(errors, args.outputs[0])];
  },
  weigh: ({ outputs: [y] }) => [relative(y, 1)],
  surprisal,
};

/** How far each number of each output of a kernel may be from the twin's. */
export function allowedErrors(args: BoundArguments): Float64Array[] {
  return BOUNDS[args.kernel.operation](args);
}

/**
 * How far a kernel may be from its 64-bit twin: bounds that follow from the rounding that WGSL allows ("WebGPU
 * Shading Language", section "Floating Point Accuracy"), worked out for each number of an output from its own terms.
 *
 * The unit is one ULP, at most 2⁻²³ of a number: WGSL lets sums and products round either way. Division is good to 2.5
 * of them, exp(x) to 3 + 2|x|, sqrt to 4.5 (it inherits from 1 / inverseSqrt). A sum whose terms pass through n rounded
 * operations is off by at most ((1 + 2⁻²³)ⁿ − 1) · Σ|terms| (Higham, "Accuracy and Stability of Numerical Algorithms",
 * section 4.2). Subnormal results may be flushed to zero.
 */
import {
  MASKED,
  partsOf,
  seenSlots,
  upTo,
  visibleParts,
} from "../../kernels/attention/attention.ts";
import { ropeStore } from "../../kernels/rope/rope.ts";
import type { Kernel, RowReader, TwinArguments } from "../../kernels/kernel.ts";

/** What a bound is worked out from. */
export interface BoundArguments extends TwinArguments {
  readonly kernel: Kernel;
  /** The twin's results, taps included. */
  readonly outputs: readonly Float32Array[];
  readonly lanes: number;
  /** Of those, how many share one product. */
  readonly columnLanes: number;
  /** Whether they hand numbers on to each other. */
  readonly broadcast: boolean;
  /** Whether inputs and weights are whole numbers, whose sums are exact up to 2²⁴. */
  readonly whole: boolean;
}

export const ULP = 2 ** -23;
/** The smallest normal f32. */
export const TINY = 2 ** -126;

/** The largest relative error after that many ULP: (1 + ULP)ⁿ − 1 ≤ exp(n · ULP) − 1. */
export function growth(ulps: number): number {
  return Math.expm1(ulps * ULP);
}

/** The error of a sum, given Σ|terms| and how many rounded operations a term passes through. */
export function sumError(terms: number, depth: number, whole: boolean): number {
  return whole && terms <= 2 ** 24 ? 0 : growth(depth) * terms + depth * TINY;
}

/** An error bound per number of each output; of outputs that must be exact, zeros. */
export type Bound = (args: BoundArguments) => Float64Array[];

/** Allowed errors that grow with the result: `ulps` of its size. The twin's own rounding is half a one. */
export function relative(output: Float32Array, ulps: number): Float64Array {
  return Float64Array.from(output, (value) => growth(ulps + 0.5) * Math.abs(value) + TINY);
}

const exact: Bound = ({ outputs }) => outputs.map((output) => new Float64Array(output.length));

/** Magnitudes instead of numbers. */
function absolute(numbers: Float32Array): Float32Array {
  return numbers.map(Math.abs);
}

function absoluteReader(reader: RowReader): RowReader {
  return {
    ...reader,
    read(row, out) {
      reader.read(row, out);
      for (let i = 0; i < reader.columns; i++) out[i] = Math.abs(out[i]);
    },
  };
}

/** The twin's results for other inputs. */
function evaluate(args: BoundArguments, changed: Partial<TwinArguments>): Float32Array[] {
  const outputs = args.outputs.map(({ length }) => new Float32Array(length));
  args.kernel.twin({ ...args, ...changed, outputs });
  return outputs;
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

/** Errors of results that were not exact, with the twin's own rounding. */
export function rounded(errors: Float64Array, output: Float32Array): Float64Array {
  return errors.map((error, i) => error === 0 ? 0 : error + ULP / 2 * Math.abs(output[i]));
}

/** W·x, or residual + W·x, which is one more term. */
const product: Bound = (args) => {
  const depth = productDepth(args) + 1;
  return magnitudes(args).map((terms, i) =>
    rounded(Float64Array.from(terms, (sum) => sumError(sum, depth, args.whole)), args.outputs[i])
  );
};

/** The error of silu(gate) · up where gate and up are off by as much as is given. */
export function gatedError(gate: number, up: number, gateError = 0, upError = 0): number {
  const size = Math.abs(gate);
  const sigmoid = 1 / (1 + Math.exp(-gate));
  // exp's error counts as much as exp does beside 1; then a sum, a quotient and a product.
  const own = growth((3 + 2 * size) * (1 - sigmoid) + 1 + 2.5 + 1 + 0.5);
  // |silu'| stays below 1.1. The exponent is kept below 80, which leaves about |gate| · exp(−80), never twice that.
  const silu = size * sigmoid * own + 1.1 * gateError + (gate < -80 ? 2 * size * Math.exp(-80) : 0);
  return silu * (Math.abs(up) + upError) + size * sigmoid * upError + 2 * TINY * (1 + Math.abs(up));
}

const swigluProduct: Bound = (args) => {
  const depth = productDepth(args);
  const [, gates, ups] = magnitudes(args);
  const [act, gate, up] = args.outputs;
  const gateErrors = Float64Array.from(gates, (sum) => sumError(sum, depth, args.whole));
  const upErrors = Float64Array.from(ups, (sum) => sumError(sum, depth, args.whole));
  return [
    Float64Array.from(act, (_, i) => gatedError(gate[i], up[i], gateErrors[i], upErrors[i])),
    rounded(gateErrors, gate),
    rounded(upErrors, up),
  ];
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

const normedSwiglu: Bound = (args) => {
  const [, gateErrors, upErrors] = normedErrors(args);
  const [act, gate, up] = args.outputs;
  return [
    Float64Array.from(act, (_, i) => gatedError(gate[i], up[i], gateErrors[i], upErrors[i])),
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

const softmax: Bound = (args) => {
  const { pass, constants: { columns, causal }, inputs: [x], outputs: [y], lanes } = args;
  const width = causal ? pass.start + pass.tokens : columns;
  const errors = new Float64Array(y.length);
  for (let first = 0; first < y.length; first += width) {
    const slots = causal ? seenSlots(args, 1, first / width % pass.tokens) : upTo(0, columns);
    const row = slots.map((slot) => x[first + slot]);
    const largest = row.reduce((a, b) => Math.max(a, b));
    // The difference rounds, which is an error of as many ULP in its exp.
    const exponent = (value: number) => 3 + 3 * (largest - value);
    let sum = 2 + Math.ceil(width / lanes) + Math.log2(lanes);
    row.forEach((value, i) => sum += y[first + slots[i]] * exponent(value));
    row.forEach((value, i) => {
      const ulps = exponent(value) + sum + 2.5 + 0.5;
      const at = first + slots[i];
      errors[at] = growth(ulps) * y[at] + 2 * TINY;
    });
  }
  return [errors];
};

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

const scores: Bound = (args) => {
  const { constants, outputs: [out], whole } = args;
  const [terms] = evaluate(args, { inputs: args.inputs.map(absolute) });
  const errors = Float64Array.from(
    terms,
    (sum, at) => out[at] === MASKED ? 0 : sumError(sum, constants.head_width + 2, whole),
  );
  return [rounded(errors, out)];
};

const mix: Bound = (args) => {
  const [terms] = evaluate(args, { inputs: args.inputs.map(absolute) });
  const depth = args.pass.start + args.pass.tokens + 1;
  const errors = Float64Array.from(terms, (sum) => sumError(sum, depth, args.whole));
  return [rounded(errors, args.outputs[0])];
};

/** x · scale + operand; what is not selected is copied. */
const edit: Bound = (args) => {
  const { constants, inputs: [x, operand, selected], outputs: [y] } = args;
  const [terms] = evaluate(args, {
    constants: { ...constants, scale: Math.abs(constants.scale) },
    inputs: [absolute(x), absolute(operand), selected],
  });
  return [rounded(Float64Array.from(terms, (sum) => sumError(sum, 2, false)), y)];
};

/** Keys of a tile of attention_lanes.wgsl; attention.wgsl has larger ones. */
const TILE = 32;

/** What errors of fused attention over a range of keys follow from. */
interface MixErrors {
  /** Of each key: its weight beside that of the largest score, and how far that may be off, in ULP. */
  readonly weights: Float64Array;
  readonly ulps: Float64Array;
  /** Error of a score, in ULP of one: the largest over all keys. */
  readonly scoreUlps: number;
  readonly slots: readonly number[];
}

function mixErrors(
  { constants, inputs: [q, keys] }: BoundArguments,
  token: number,
  head: number,
  slots: readonly number[],
): MixErrors {
  const { heads, kv_heads, head_width: width, scale } = constants;
  const kvHead = Math.floor(head * kv_heads / heads);
  const base = (token * heads + head) * width;
  const scored = new Float64Array(slots.length);
  const sizes = new Float64Array(slots.length);
  slots.forEach((key, n) => {
    for (let i = 0, at = (key * kv_heads + kvHead) * width; i < width; i++, at++) {
      const term = q[base + i] * keys[at] * scale;
      scored[n] += term;
      sizes[n] += Math.abs(term);
    }
  });
  const largest = scored.reduce((a, b) => Math.max(a, b));
  const spread = largest - scored.reduce((a, b) => Math.min(a, b));
  const tiles = Math.ceil(scored.length / TILE);
  return {
    weights: scored.map((value) => Math.exp(value - largest)),
    // Its score; the difference and its exp; one shrinking factor and product per tile.
    ulps: sizes.map((size) => (width + 2) * size + 3 + 3 * spread + tiles * 5 + 3 * spread),
    scoreUlps: sizes.reduce((most, size) => Math.max(most, (width + 2) * size), 0),
    slots,
  };
}

/** Σ weight · |value| · growth(ULP of each), for one feature. */
function mixedError(
  { weights, ulps, slots }: MixErrors,
  { constants: { heads, kv_heads, head_width }, inputs: [, , values] }: BoundArguments,
  head: number,
  feature: number,
  more: number,
): number {
  const kvHead = Math.floor(head * kv_heads / heads);
  return weights.reduce((error, weight, i) => {
    const value = values[(slots[i] * kv_heads + kvHead) * head_width + feature];
    return error + growth(ulps[i] + more) * weight * Math.abs(value) + TINY;
  }, 0);
}

/**
 * Fused attention: out = Σ pₛ·vₛ with pₛ = exp(score) / Σ exp(score). A score that is off by δ makes its weight off by
 * the factor exp(δ); all weights together share the divisor, which is off by their mean.
 */
const attention: Bound = (args) => {
  const { pass, constants: { heads, head_width: width }, outputs: [out] } = args;
  const errors = new Float64Array(out.length);
  for (let token = 0; token < pass.tokens; token++) {
    const slots = seenSlots(args, 3, token);
    const visible = slots.length;
    for (let head = 0; head < heads; head++) {
      const of = mixErrors(args, token, head, slots);
      const total = of.weights.reduce((a, b) => a + b);
      const mean = of.ulps.reduce((sum, each, key) => sum + each * of.weights[key], 0) / total;
      // One tile more where a branch's own keys begin.
      const more = mean + 2 * (visible + Math.ceil(visible / TILE) + 3) + 2.5;
      for (let i = 0; i < width; i++) {
        const at = (token * heads + head) * width + i;
        errors[at] = mixedError(of, args, head, i, more) / total + ULP / 2 * Math.abs(out[at]);
      }
    }
  }
  return [errors];
};

/** The same without the division: weights are off by what the largest score is off by, too. */
const attentionSplit: Bound = (args) => {
  const { pass, constants: { heads, head_width: width }, outputs: [out] } = args;
  const errors = new Float64Array(out.length);
  const { count } = partsOf(pass);
  for (let token = 0; token < pass.tokens; token++) {
    for (let head = 0; head < heads; head++) {
      visibleParts(pass, token).forEach(([first, end], part) => {
        const of = mixErrors(args, token, head, upTo(first, end));
        const at = ((token * heads + head) * count + part) * (width + 4);
        const more = of.scoreUlps + of.weights.length + Math.ceil(of.weights.length / TILE) + 2;
        const half = (i: number) => ULP / 2 * Math.abs(out[at + i]);
        for (let i = 0; i < width; i++) {
          errors[at + i] = mixedError(of, args, head, i, more) + half(i);
        }
        errors[at + width] = growth(1) * of.scoreUlps + half(width);
        errors[at + width + 1] = half(width + 1) +
          of.weights.reduce((sum, weight, i) => sum + growth(of.ulps[i] + more) * weight + TINY, 0);
      });
    }
  }
  return [errors];
};

/** Parts put together: each step scales what there is so far by exp of a difference of largest scores. */
const attentionMerge: Bound = ({ pass, constants, inputs: [parts], outputs: [out] }) => {
  const { heads, head_width: width } = constants;
  const errors = new Float64Array(out.length);
  const { count } = partsOf(pass);
  for (let token = 0; token < pass.tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const rows = visibleParts(pass, token).map((_, part) => {
        const at = ((token * heads + head) * count + part) * (width + 4);
        return parts.subarray(at, at + width + 4);
      });
      const largest = rows.reduce((most, row) => Math.max(most, row[width]), -Infinity);
      const least = rows.reduce((most, row) => Math.min(most, row[width]), Infinity);
      const weights = rows.map((row) => Math.exp(row[width] - largest));
      const sum = rows.reduce((total, row, i) => total + weights[i] * row[width + 1], 0);
      // Of each part, in the sum and in the mix: a factor and two roundings per step, exps of all differences.
      const ulps = 2 * (rows.length * (3 + 3) + 3 * 2 * (largest - least) + 2) + 2.5;
      for (let i = 0; i < width; i++) {
        const at = (token * heads + head) * width + i;
        const terms = rows.reduce((total, row, j) => total + weights[j] * Math.abs(row[i]), 0);
        errors[at] = growth(ulps) * terms / sum + ULP / 2 * Math.abs(out[at]) + TINY;
      }
    }
  }
  return [errors];
};

/** Branches are judged as whole passes are. */
const BOUNDS: Readonly<Record<Kernel["operation"], Bound>> = {
  embed: ({ outputs }) => outputs.map((output) => new Float64Array(output.length).fill(TINY)),
  rms: (args) => [relative(args.outputs[0], rootUlps(args))],
  normalize: ({ outputs: [pre] }) => [relative(pre, 2.5)],
  scale_columns: ({ outputs: [y] }) => [relative(y, 1)],
  rms_norm: (args) => normErrors(args, rootUlps(args), 0),
  linear(args) {
    const { epilogue, normed } = args.kernel;
    if (epilogue === "qkv_rope") return normedQkvRope(args);
    if (epilogue === "swiglu") return normed ? normedSwiglu(args) : swigluProduct(args);
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
  scores,
  softmax,
  mix,
  attention,
  attention_split: attentionSplit,
  attention_merge: attentionMerge,
  add: ({ outputs: [y] }) => [relative(y, 1)],
  swiglu: ({ inputs: [gate, up] }) => [
    Float64Array.from(gate, (value, i) => gatedError(value, up[i])),
  ],
  take_rows: exact,
  argmax: exact,
  sample: exact,
  surprisal,
};

/** How far each number of each output of a kernel may be from the twin's. */
export function allowedErrors(args: BoundArguments): Float64Array[] {
  return BOUNDS[args.kernel.operation](args);
}

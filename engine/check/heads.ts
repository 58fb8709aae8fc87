/** Cases of kernels over heads: RoPE, the cache's writes, attention. */
import type { Operation } from "../../kernels/kernel.ts";
import { canFuseAttention } from "../../kernels/attention/attention.ts";
import { MASKED } from "../../kernels/attention/scoring/score.ts";
import { firstSeen, partsOf } from "../../kernels/attention/scoring/seen.ts";
import type { RowReader } from "../../kernels/kernel.ts";
import { COLUMNS, type Draft, KINDS, type Maker, type Order, passOf, SPARE_SLOTS } from "./case.ts";
import { branchGaps, type Kind, type Noise, numbersReader, turns } from "./data.ts";

/** Heads, key/value heads, head width, positions, positions in the cache before. */
type HeadShape = readonly [number, number, number, number, number];

const HEADS: readonly HeadShape[] = [
  [1, 1, 2, 1, 0],
  [4, 4, 64, 5, 0],
  [6, 3, 80, 3, 125],
  [9, 3, 64, 2, 127],
  [3, 1, 128, 1, 128],
  [2, 1, 256, 7, 121],
  [3, 3, 6, 130, 0],
  [4, 2, 32, 9, 300],
  [5, 5, 100, 1, 255],
];
const FEW_HEADS: readonly HeadShape[] = [[6, 3, 80, 3, 126], [3, 1, 64, 2, 0]];

/** What some families do to scores and values: constants of attention that others have as 0. */
interface Variant {
  readonly window?: number;
  readonly chunk?: number;
  readonly cap?: number;
  readonly max_bias?: number;
  readonly value_width?: number;
}

/**
 * Windows and chunks that are shorter and longer than what is cached, whose edges lie within tiles and at them, within parts of long contexts
 * and at them; caps; ALiBi with powers of two of heads and others; values that are narrower and wider than keys; and several of them at once.
 */
const VARIANTS: readonly (readonly [HeadShape, Variant])[] = [
  [[4, 2, 80, 70, 61], { window: 1 }],
  [[3, 1, 96, 5, 300], { window: 64, cap: 50 }],
  [[2, 1, 112, 130, 3], { window: 37 }],
  [[9, 3, 64, 2, 700], { window: 200 }],
  [[4, 1, 192, 3, 40], { window: 4096, cap: 30 }],
  [[8, 8, 16, 2, 2300], { window: 2200, cap: 5 }],
  [[6, 2, 512, 2, 150], { chunk: 64 }],
  [[4, 4, 16, 4, 2302], { chunk: 768 }],
  [[5, 1, 32, 140, 90], { chunk: 48 }],
  [[6, 6, 64, 3, 200], { max_bias: 8 }],
  [[12, 12, 16, 40, 5], { max_bias: 8, window: 9 }],
  [[8, 4, 32, 1, 1500], { max_bias: 4, cap: 20 }],
  [[4, 4, 192, 9, 70], { value_width: 128 }],
  [[8, 1, 576, 2, 300], { value_width: 512 }],
  [[2, 2, 8, 33, 10], { value_width: 20, window: 16, cap: 2 }],
];
const FEW_VARIANTS: readonly (readonly [HeadShape, Variant])[] = [
  [[6, 3, 96, 3, 300], { window: 140, cap: 10, max_bias: 8, value_width: 64 }],
  [[3, 1, 64, 20, 60], { chunk: 50 }],
];

interface Heads {
  readonly heads: number;
  readonly kv_heads: number;
  readonly head_width: number;
  readonly tokens: number;
  readonly start: number;
  /** S */
  readonly cached: number;
  readonly kind: Kind;
  readonly variant: Variant;
  /** Numbers of a value. */
  readonly value_width: number;
}

type Make = (heads: Heads, noise: Noise) => Pick<Draft, "constants" | "inputs" | "outputs">;

function headed(make: Make, shapes = HEADS, fewShapes = FEW_HEADS) {
  return varied(make, plain(shapes), plain(fewShapes));
}

/** Shapes without any variant. */
function plain(shapes: readonly HeadShape[]): (readonly [HeadShape, Variant])[] {
  return shapes.map((shape) => [shape, {}]);
}

function varied(
  make: Make,
  shapes: readonly (readonly [HeadShape, Variant])[],
  fewShapes: readonly (readonly [HeadShape, Variant])[],
) {
  return function* ({ kernel, full, noise }: Order): Generator<Draft> {
    for (
      const [[heads, kv_heads, head_width, tokens, start], variant] of full ? shapes : fewShapes
    ) {
      for (const kind of KINDS) {
        const cached = start + tokens;
        const value_width = variant.value_width ?? head_width;
        const sizes = { heads, kv_heads, head_width, value_width, tokens, start, cached };
        const shape = { ...sizes, kind, variant };
        const { constants, inputs, outputs } = make(shape, noise);
        const about = Object.entries(variant).map(([name, value]) => `, ${name} ${value}`).join("");
        yield {
          name: `${heads}/${kv_heads} heads of ${head_width}, ${tokens} positions after ${start}` +
            about,
          kind,
          pass: passOf(tokens, start),
          constants,
          inputs: kernel.branches ? [...inputs, branchGaps(shape)] : inputs,
          weights: kernel.sinks ? [sinksOf(heads, noise)] : [],
          outputs,
        };
      }
    }
  };
}

/** Sinks that outweigh all keys, weigh as much as some, and next to nothing. */
function sinksOf(heads: number, noise: Noise): RowReader {
  const sinks = noise.numbers(heads).map((value, head) => value + [4, 0, -20][head % 3]);
  return numbersReader(sinks, heads);
}

/** Shapes of attention's steps, with what families do to them. */
function attentionHeads(make: Make) {
  return varied(
    make,
    [...plain(HEADS), ...VARIANTS],
    [...plain(FEW_HEADS), ...FEW_VARIANTS],
  );
}

/** Shapes of fused attention: more heads that share their keys, and widths that it takes. */
function fusedHeads(make: Make) {
  const fusible = (shapes: readonly HeadShape[]) =>
    plain(shapes.filter(([, , width]) => canFuseAttention(width)));
  const shared: HeadShape[] = [[10, 2, 16, 3, 30], [8, 1, 4, 2, 94], [14, 2, 36, 1, 1100]];
  return varied(
    make,
    [...fusible([...HEADS, ...shared]), ...VARIANTS],
    [...fusible(FEW_HEADS), ...FEW_VARIANTS],
  );
}

/** A cache of rows of some width, whose slots behind the visible ones hold NaN, as freshly borrowed memory may. */
function cache(noise: Noise, { cached, kv_heads, kind }: Heads, width: number): Float32Array {
  const row = kv_heads * width;
  const slots = new Float32Array((cached + SPARE_SLOTS) * row).fill(NaN);
  slots.set(noise.numbers(cached * row, kind));
  return slots;
}

/** The same, of a pass of one sequence whose first position does not see the first slots: these are NaN, too. */
function windowedCache(noise: Noise, shape: Heads, width: number, branches: boolean): Float32Array {
  const slots = cache(noise, shape, width);
  if (!branches) {
    slots.fill(NaN, 0, firstSeen({ ...shape.variant }, shape.start) * shape.kv_heads * width);
  }
  return slots;
}

/** 1/√d; a power of two where numbers must stay exact. */
function scaleOf({ head_width, kind }: Heads): number {
  return kind === "whole" ? 0.5 : Math.fround(1 / Math.sqrt(head_width));
}

/** Both styles, whole heads and parts of them: leading and trailing ones and those between, as the shapes go on. */
function ropeConstants({ head_width, tokens, start, kind }: Heads) {
  const half_style = tokens % 2;
  const rope_width = kind === "whole" || head_width < 8 ? head_width : head_width / 2;
  const rest = head_width - rope_width;
  const rope_start = [0, rest, 2 * Math.floor(rest / 4)][(start + tokens) % 3];
  return { head_width, rope_width, half_style, rope_start };
}

/** Rows of logits, then rows of attention. */
function* softmaxRows(order: Order): Generator<Draft> {
  const { kernel, noise, full } = order;
  const widths = kernel.branches || kernel.sinks ? [] : full ? COLUMNS : [65];
  for (const columns of widths) {
    const rows = full && columns < 1000 ? 3 : 2;
    yield {
      name: `${columns} columns, ${rows} rows`,
      pass: passOf(rows, 4, rows),
      constants: { columns, causal: 0 },
      inputs: [noise.numbers(rows * columns).map((value) => value * 15)],
      outputs: [rows * columns],
    };
  }
  yield* attentionHeads(({ heads, tokens, start, cached, variant }, noise) => {
    const x = noise.numbers(heads * tokens * cached).map((value, at) => {
      const position = start + Math.floor(at / cached) % tokens;
      if (at % cached > position) return MASKED;
      return at % cached < firstSeen({ ...variant }, position) ? -Infinity : value * 8;
    });
    return { constants: { columns: heads, causal: 1 }, inputs: [x], outputs: [x.length] };
  })(order);
}

const attentionCases = (order: Order) =>
  fusedHeads((shape, noise) => {
    const { heads, value_width, tokens } = shape;
    return {
      ...attentionInputs(shape, noise, order.kernel.branches),
      outputs: [tokens * heads * value_width],
    };
  })(order);

/** Makers by operation. */
export const HEAD_CASES = {
  softmax: softmaxRows,
  rope: headed((shape, noise) => {
    const { heads, head_width, tokens, kind } = shape;
    const constants = { heads, ...ropeConstants(shape) };
    const numbers = tokens * heads * head_width;
    return {
      constants,
      inputs: [
        noise.numbers(numbers, kind),
        turns(noise, shape.cached, constants.rope_width, kind),
      ],
      outputs: [numbers],
    };
  }),
  rope_store: headed((shape, noise) => {
    const { heads, kv_heads, head_width, tokens, cached, kind } = shape;
    const constants = { heads, kv_heads, ...ropeConstants(shape) };
    const [q, k] = [heads, kv_heads].map((count) => tokens * count * head_width);
    const slots = (cached + SPARE_SLOTS) * kv_heads * head_width;
    return {
      constants,
      inputs: [
        ...[q, k, k].map((length) => noise.numbers(length, kind)),
        turns(noise, shape.cached, constants.rope_width, kind),
      ],
      outputs: [q, slots, slots, k],
    };
  }),
  scores: attentionHeads((shape, noise) => {
    const { heads, head_width, tokens, cached, kind } = shape;
    return {
      constants: scoreConstants(shape),
      inputs: [
        noise.numbers(tokens * heads * head_width, kind),
        cache(noise, shape, head_width),
      ],
      outputs: [heads * tokens * cached],
    };
  }),
  mix: attentionHeads((shape, noise) => {
    const { heads, kv_heads, head_width, value_width, tokens, cached, kind } = shape;
    return {
      constants: { heads, kv_heads, head_width, value_width: shape.variant.value_width ?? 0 },
      inputs: [
        noise.numbers(heads * tokens * cached, kind).map(Math.abs),
        cache(noise, shape, value_width),
      ],
      outputs: [tokens * heads * value_width],
    };
  }),
  attention: attentionCases,
  attention_split: fusedHeads((shape, noise) => {
    const { heads, value_width, tokens } = shape;
    return {
      ...attentionInputs(shape, noise),
      outputs: [tokens * heads * partCount(shape) * (value_width + 4)],
    };
  }),
  attention_merge: fusedHeads((shape, noise) => {
    const { heads, value_width, tokens } = shape;
    const row = value_width + 4;
    // Sums are positive; what belongs to no visible key may be anything.
    const parts = noise.numbers(tokens * heads * partCount(shape) * row)
      .map((value, at) => at % row === value_width + 1 ? 1 + Math.abs(value) : value);
    return {
      constants: attentionInputs(shape, noise).constants,
      inputs: [parts],
      outputs: [tokens * heads * value_width],
    };
  }),
} satisfies Partial<Record<Operation, Maker>>;

function scoreConstants(shape: Heads) {
  const { heads, kv_heads, head_width, variant } = shape;
  const { window = 0, chunk = 0, cap = 0, max_bias = 0 } = variant;
  return { heads, kv_heads, head_width, scale: scaleOf(shape), window, chunk, cap, max_bias };
}

function attentionInputs(shape: Heads, noise: Noise, branches = false) {
  const { heads, head_width, value_width, tokens, kind, variant } = shape;
  return {
    constants: { ...scoreConstants(shape), value_width: variant.value_width ?? 0 },
    inputs: [
      noise.numbers(tokens * heads * head_width, kind),
      windowedCache(noise, shape, head_width, branches),
      windowedCache(noise, shape, value_width, branches),
    ],
  };
}

function partCount({ tokens, start, variant }: Heads): number {
  return partsOf(passOf(tokens, start), { ...variant }).count;
}

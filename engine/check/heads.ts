/** Cases of kernels over heads: RoPE, the cache's writes, attention. */
import type { Operation } from "../../kernels/kernel.ts";
import { canFuseAttention, MASKED, partsOf } from "../../kernels/attention/attention.ts";
import { COLUMNS, type Draft, KINDS, type Maker, type Order, passOf, SPARE_SLOTS } from "./case.ts";
import { branchGaps, type Kind, type Noise, turns } from "./data.ts";

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

interface Heads {
  readonly heads: number;
  readonly kv_heads: number;
  readonly head_width: number;
  readonly tokens: number;
  readonly start: number;
  /** S */
  readonly cached: number;
  readonly kind: Kind;
}

type Make = (heads: Heads, noise: Noise) => Pick<Draft, "constants" | "inputs" | "outputs">;

function headed(make: Make, shapes = HEADS, fewShapes = FEW_HEADS) {
  return function* ({ kernel, full, noise }: Order): Generator<Draft> {
    for (const [heads, kv_heads, head_width, tokens, start] of full ? shapes : fewShapes) {
      for (const kind of KINDS) {
        const cached = start + tokens;
        const shape = { heads, kv_heads, head_width, tokens, start, cached, kind };
        const { constants, inputs, outputs } = make(shape, noise);
        yield {
          name: `${heads}/${kv_heads} heads of ${head_width}, ${tokens} positions after ${start}`,
          kind,
          pass: passOf(tokens, start),
          constants,
          inputs: kernel.branches ? [...inputs, branchGaps(shape)] : inputs,
          outputs,
        };
      }
    }
  };
}

/** Shapes of fused attention: more heads that share their keys, and widths that it takes. */
function fusedHeads(make: Make) {
  const fusible = (shapes: readonly HeadShape[]) =>
    shapes.filter(([, , width]) => canFuseAttention(width));
  const shared: HeadShape[] = [[10, 2, 16, 3, 30], [8, 1, 4, 2, 94], [14, 2, 36, 1, 1100]];
  return headed(make, [...fusible(HEADS), ...shared], fusible(FEW_HEADS));
}

/** A cache whose slots behind the visible ones hold NaN, as freshly borrowed memory may. */
function cache(noise: Noise, { cached, kv_heads, head_width, kind }: Heads): Float32Array {
  const row = kv_heads * head_width;
  const slots = new Float32Array((cached + SPARE_SLOTS) * row).fill(NaN);
  slots.set(noise.numbers(cached * row, kind));
  return slots;
}

/** 1/√d; a power of two where numbers must stay exact. */
function scaleOf({ head_width, kind }: Heads): number {
  return kind === "whole" ? 0.5 : Math.fround(1 / Math.sqrt(head_width));
}

/** Both styles, whole heads and parts of them, as the shapes go on. */
function ropeConstants({ head_width, tokens, kind }: Heads) {
  const half_style = tokens % 2;
  const rope_width = kind === "whole" || head_width < 8 ? head_width : head_width / 2;
  return { head_width, rope_width, half_style };
}

/** Rows of logits, then rows of attention. */
function* softmaxRows(order: Order): Generator<Draft> {
  const { kernel, noise, full } = order;
  const widths = kernel.branches ? [] : full ? COLUMNS : [65];
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
  yield* headed(({ heads, tokens, start, cached }, noise) => {
    const x = noise.numbers(heads * tokens * cached).map((value, at) =>
      at % cached > start + Math.floor(at / cached) % tokens ? MASKED : value * 8
    );
    return { constants: { columns: heads, causal: 1 }, inputs: [x], outputs: [x.length] };
  })(order);
}

const attentionCases = fusedHeads((shape, noise) => {
  const { heads, head_width, tokens } = shape;
  return { ...attentionInputs(shape, noise), outputs: [tokens * heads * head_width] };
});

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
  scores: headed((shape, noise) => {
    const { heads, kv_heads, head_width, tokens, cached, kind } = shape;
    return {
      constants: { heads, kv_heads, head_width, scale: scaleOf(shape) },
      inputs: [noise.numbers(tokens * heads * head_width, kind), cache(noise, shape)],
      outputs: [heads * tokens * cached],
    };
  }),
  mix: headed((shape, noise) => {
    const { heads, kv_heads, head_width, tokens, cached, kind } = shape;
    return {
      constants: { heads, kv_heads, head_width },
      inputs: [
        noise.numbers(heads * tokens * cached, kind).map(Math.abs),
        cache(noise, shape),
      ],
      outputs: [tokens * heads * head_width],
    };
  }),
  attention: attentionCases,
  attention_split: fusedHeads((shape, noise) => {
    const { heads, head_width, tokens } = shape;
    const parts = partCount(shape);
    return {
      ...attentionInputs(shape, noise),
      outputs: [tokens * heads * parts * (head_width + 4)],
    };
  }),
  attention_merge: fusedHeads((shape, noise) => {
    const { heads, head_width, tokens } = shape;
    const row = head_width + 4;
    // Sums are positive; what belongs to no visible key may be anything.
    const parts = noise.numbers(tokens * heads * partCount(shape) * row)
      .map((value, at) => at % row === head_width + 1 ? 1 + Math.abs(value) : value);
    return {
      constants: attentionInputs(shape, noise).constants,
      inputs: [parts],
      outputs: [tokens * heads * head_width],
    };
  }),
} satisfies Partial<Record<Operation, Maker>>;

function attentionInputs(shape: Heads, noise: Noise) {
  const { heads, kv_heads, head_width, tokens, kind } = shape;
  return {
    constants: { heads, kv_heads, head_width, scale: scaleOf(shape) },
    inputs: [
      noise.numbers(tokens * heads * head_width, kind),
      cache(noise, shape),
      cache(noise, shape),
    ],
  };
}

function partCount({ tokens, start }: Heads): number {
  return partsOf(passOf(tokens, start)).count;
}

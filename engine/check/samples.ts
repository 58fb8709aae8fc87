/** Cases of the choice of the next id. */
import {
  exponentOf,
  FARTHEST,
  LOG2E,
  type SamplingNumbers,
  samplingWords,
} from "../../kernels/sampling/sampling.ts";
import { type Draft, type Maker, passOf } from "./case.ts";
import type { Noise } from "./data.ts";

const OFF: SamplingNumbers = {
  penalty: 1,
  relief: 1,
  window: 64,
  topK: 0,
  topP: 0,
  farthest: FARTHEST,
  scale: LOG2E,
  greedy: false,
  seed: 0,
};

/** A part of 1, in units of 2⁻³². */
const share = (part: number) => Math.floor(part * 2 ** 32);
const halved = { penalty: 2, relief: 0.5 };

/** Each filter on its own, and together. */
const CHOICES: readonly Partial<SamplingNumbers>[] = [
  { topK: 40, topP: share(0.9), farthest: exponentOf(-3, 0, LOG2E), ...halved },
  { topP: share(0.95), scale: 2 * LOG2E },
  {},
  { greedy: true, ...halved },
  { topK: 2 },
  { topK: 1_000_000 },
  { topP: 1 },
  { topP: share(0.5), topK: 7 },
  { farthest: exponentOf(-1, 0, LOG2E) },
  { scale: 2 ** 60 },
  { scale: 0 },
  { ...halved, window: 3 },
  { penalty: 0.5, relief: 2, window: 0 },
  { seed: Number.MAX_SAFE_INTEGER },
];

/** What a vocabulary's logits may be. */
const LOGITS: readonly ((noise: Noise, length: number) => Float32Array)[] = [
  (noise, length) => noise.numbers(length).map((number) => number ** 3 * 3),
  (noise, length) => noise.numbers(length, "whole"), // equal by the dozen
  (noise, length) => noise.numbers(length).map((number) => 20 + number / 2 ** 18), // neighbouring floats
  (noise, length) => noise.numbers(length).map((number, i) => i % 3 ? number : -Infinity),
  (noise, length) => noise.numbers(length).map((number) => number * 1e38),
  (noise, length) => noise.numbers(length).map((number, i) => i === length >> 1 ? 90 : number),
  (_, length) => new Float32Array(length),
];

/** Rows from which nothing can be chosen. */
const BROKEN: readonly ((row: Float32Array) => void)[] = [
  (row) => row[0] = NaN,
  (row) => row[row.length - 1] = Infinity,
  (row) => row.fill(-Infinity),
];

function draft(
  x: Float32Array,
  columns: number,
  numbers: SamplingNumbers,
  history: Float32Array,
): Draft {
  const rows = x.length / columns;
  return {
    name: `${columns} columns, ${history.length} positions`,
    pass: passOf(rows, history.length - rows, rows),
    constants: { columns },
    inputs: [x, new Float32Array(samplingWords(numbers).buffer), history],
    outputs: [1],
  };
}

export const samples: Maker = function* ({ full, noise }) {
  const ids = (count: number, columns: number) =>
    Float32Array.from({ length: count }, () => noise.bits() % columns);
  const sizes = full ? [1, 2, 7, 255, 256, 257, 1000, 5003] : [1000];
  const choices = full ? CHOICES : CHOICES.slice(0, 2);
  for (const columns of sizes) {
    for (const choice of choices) {
      for (const make of full ? LOGITS : LOGITS.slice(0, 2)) {
        const rows = 1 + noise.bits() % 3;
        const seed = choice.seed ?? noise.bits();
        const history = ids(rows + noise.bits() % 100, columns);
        yield draft(make(noise, rows * columns), columns, { ...OFF, ...choice, seed }, history);
      }
    }
  }
  for (const change of BROKEN) {
    const row = noise.numbers(300);
    change(row);
    yield draft(row, 300, OFF, ids(9, 300));
  }
};

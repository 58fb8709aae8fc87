import assert from "node:assert/strict";
import { threefry2x32, uniform } from "../../kernels/sampling/random.ts";
import {
  chosen,
  draw,
  FARTHEST,
  largest,
  ONE,
  penalized,
  weightOf,
} from "../../kernels/sampling/sampling.ts";
import {
  LogitsError,
  nextId,
  numbersOf,
  SAMPLING_DEFAULTS,
  SamplingOptionError,
  type SamplingOptions,
  samplingOptions,
} from "../../engine/sampling.ts";

/** Logits like a model's: mostly small, a few large, and some equal to others. */
function makeLogits(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const [a, b] = [uniform(seed, i), uniform(seed, i, 1)];
    const normal = Math.sqrt(-2 * Math.log(1 - a)) * Math.cos(2 * Math.PI * b);
    return Math.round(normal * 3 * 8) / 8;
  });
}

/** What is drawn with that number from [0, 1). */
function sample(logits: Float32Array, options: SamplingOptions, random: number): number {
  return chosen(logits, numbersOf(options), Math.floor(random * 2 ** 32));
}

/** What is drawn from, likeliest first. */
function candidates(logits: Float32Array, options: SamplingOptions) {
  const { ranking, count, weight, total } = draw(logits, largest(logits), numbersOf(options));
  return Array.from({ length: count }, (_, rank) => {
    const id = ranking.at(rank);
    return { id, probability: weight(id) / total };
  });
}

function penalize(logits: Float32Array, history: readonly number[], options: SamplingOptions) {
  return penalized(logits, history, numbersOf(options));
}

/** The filters once more, as their definitions say, in 64-bit floats over the whole vocabulary. */
function bruteForce(logits: Float32Array, options: Required<SamplingOptions>): Map<number, number> {
  const softmax = (ids: number[], temperature: number) => {
    const highest = Math.max(...ids.map((id) => logits[id]));
    const weights = ids.map((id) => Math.exp((logits[id] - highest) / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  };
  let ids = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  if (options.topK > 0) ids = ids.slice(0, options.topK);
  if (options.topP < 1) {
    const probabilities = softmax(ids, 1);
    let before = 0;
    ids = ids.filter((_, rank) => {
      const keep = before < options.topP;
      before += probabilities[rank];
      return keep;
    });
  }
  if (options.minP > 0) {
    const probabilities = softmax(ids, 1);
    ids = ids.filter((_, rank) => probabilities[rank] >= options.minP * probabilities[0]);
  }
  const probabilities = softmax(ids, options.temperature);
  return new Map(ids.map((id, rank) => [id, probabilities[rank]]));
}

// Random123's own known answers (kat_vectors): zeros, ones, digits of pi.
Deno.test("threefry2x32 gives the published known answers", () => {
  assert.deepEqual(threefry2x32([0, 0], [0, 0]), [0x6b200159, 0x99ba4efe]);
  const ones = 0xffffffff;
  assert.deepEqual(threefry2x32([ones, ones], [ones, ones]), [0x1cb996fc, 0xbb002be7]);
  assert.deepEqual(
    threefry2x32([0x243f6a88, 0x85a308d3], [0x13198a2e, 0x03707344]),
    [0xc4923a9c, 0x483df7a0],
  );
});

Deno.test("uniform is in [0, 1), exact in 32-bit floats and even over 64 bins", () => {
  for (const seed of [0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    const bins = new Array(64).fill(0);
    const draws = 64_000;
    for (let step = 0; step < draws; step++) {
      const value = uniform(seed, step);
      assert.ok(value >= 0 && value < 1 && Math.fround(value) === value);
      bins[Math.floor(value * 64)]++;
    }
    const expected = draws / 64;
    const chiSquare = bins.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    // 63 degrees of freedom: the 0.1 % and 99.9 % quantiles.
    assert.ok(chiSquare > 34.0 && chiSquare < 103.4, `seed ${seed}: ${chiSquare}`);
  }
});

Deno.test("seed, step and stream each change the draw", () => {
  const draws = new Set<number>();
  for (const seed of [0, 1, 2 ** 32, 2 ** 32 + 1]) {
    for (const step of [0, 1, 2]) {
      for (const stream of [0, 1]) draws.add(uniform(seed, step, stream));
    }
  }
  assert.equal(draws.size, 24);
});

Deno.test("greedy takes the largest logit, of equal ones the lowest id", () => {
  assert.equal(nextId(Float32Array.of(1, 3, 2), []), 1);
  assert.equal(nextId(Float32Array.of(-1, 5, 5, 5), []), 1);
  assert.equal(nextId(Float32Array.of(-Infinity, -Infinity, -1e30), []), 2);
  assert.equal(sample(Float32Array.of(0, 7, 7), { temperature: 0 }, 0.999), 1);
});

Deno.test("NaN, +Infinity and nothing finite are errors that name the index", () => {
  for (const bad of [NaN, Infinity]) {
    const logits = Float32Array.of(0, 9, bad, 1);
    for (const temperature of [0, 1]) {
      assert.throws(() => nextId(logits, [], { temperature }), (error) => {
        assert.ok(error instanceof LogitsError);
        assert.equal(error.index, 2);
        assert.equal(error.message, `cannot choose the next id: logit 2 is ${bad}`);
        return true;
      });
    }
  }
  assert.throws(() => nextId(Float32Array.of(-Infinity), []), /none of 1 logits is finite/);
  assert.throws(() => nextId(new Float32Array(0), []), /none of 0 logits is finite/);
});

Deno.test("options outside their range are one-line errors with the facts", () => {
  const wrong: [keyof SamplingOptions, number[]][] = [
    ["temperature", [NaN, -0.1, Infinity]],
    ["topK", [NaN, -1, 1.5, Infinity]],
    ["topP", [NaN, 0, -1, 1.01]],
    ["minP", [NaN, -0.1, 1]],
    ["repeatPenalty", [NaN, 0, -1, Infinity]],
    ["repeatWindow", [NaN, -1, 0.5]],
    ["seed", [NaN, -1, 0.5, 2 ** 53]],
  ];
  for (const [option, values] of wrong) {
    for (const value of values) {
      assert.throws(() => samplingOptions({ [option]: value }), (error) => {
        assert.ok(error instanceof SamplingOptionError);
        assert.deepEqual([error.option, error.value], [option, value]);
        assert.match(error.message, new RegExp(`^${option} must be .*; it is ${value}$`));
        return true;
      });
    }
  }
  assert.deepEqual(samplingOptions({ topK: undefined }), SAMPLING_DEFAULTS);
  assert.equal(samplingOptions({ topP: 1, seed: 2 ** 53 - 1 }).seed, 2 ** 53 - 1);
});

const FILTERS: SamplingOptions[] = [
  {},
  { topK: 1 },
  { topK: 40 },
  { topK: 100_000 },
  { topP: 0.5 },
  { topP: 0.95 },
  { topP: 1e-9 },
  { topP: 0.999999 },
  { minP: 0.05 },
  { minP: 0.999 },
  { topK: 40, topP: 0.95, minP: 0.05 },
  { topK: 5, topP: 0.9 },
  { topP: 0.9, minP: 0.3 },
];

/** A weight's relative error: the polynomial's, and 24 units of 2⁻³¹, mostly from rounding r·ln 2 down to a multiple of 2⁻²⁷. */
const WEIGHT = 8.4e-8 + 24 * 2 ** -31;

/**
 * How far a probability may be from the exact one. An exponent of h halvings is off by h·2⁻²⁴, its weight of 2^−h by ln 2 times that
 * (at most 3.2e-8 of the best one's); then the weight's own error and its rounding down; a sum's by as much.
 */
const ROUNDING = 2 * (3.2e-8 + WEIGHT + 2 ** -31);

Deno.test("weights are the powers of two, rounded down to whole numbers", () => {
  assert.equal(weightOf(0), ONE);
  for (let exponent = 0; exponent < 2 ** 32; exponent += 9973) {
    const weight = weightOf(exponent);
    const exact = ONE * 2 ** (-exponent / 2 ** 27);
    assert.ok(Math.abs(weight - exact) <= 1 + WEIGHT * exact, `${exponent}: ${weight}, ${exact}`);
  }
  assert.equal(weightOf(FARTHEST), 0);
});

Deno.test("every filter keeps what its definition keeps, with the same probabilities", () => {
  for (const [seed, count] of [1, 2, 7, 100, 1000].entries()) {
    const logits = makeLogits(count, seed);
    for (const filter of FILTERS) {
      for (const temperature of [0.2, 1, 3]) {
        const options = samplingOptions({ ...filter, temperature });
        const expected = bruteForce(logits, options);
        const kept = candidates(logits, options);
        assert.deepEqual(kept.map(({ id }) => id), [...expected.keys()], JSON.stringify(options));
        for (const { id, probability } of kept) {
          assert.ok(Math.abs(probability - expected.get(id)!) <= ROUNDING);
        }
      }
    }
  }
});

Deno.test("a draw is the inverse of the cumulative distribution", () => {
  const logits = makeLogits(300, 11);
  for (const filter of FILTERS) {
    const options = { ...filter, temperature: 0.8 };
    const kept = candidates(logits, options);
    assert.equal(sample(logits, options, 0), kept[0].id);
    let sum = 0;
    for (const { id, probability } of kept) {
      if (probability > 1e-9) {
        assert.equal(sample(logits, options, sum + probability / 2), id);
      }
      sum += probability;
    }
    assert.ok(Math.abs(sum - 1) < 1e-12);
  }
});

Deno.test("draws follow the distribution (chi-square)", () => {
  const logits = Float32Array.of(0.5, 2, -1, 1.5, 0, 2, -0.5, 1);
  for (const options of [{ temperature: 1 }, { temperature: 0.7, topK: 6 }, { temperature: 2 }]) {
    for (const seed of [1, 2, 3]) {
      const counts = new Array(logits.length).fill(0);
      const draws = 20_000;
      for (let n = 0; n < draws; n++) counts[nextId(logits, { length: n }, { ...options, seed })]++;
      const expected = bruteForce(logits, samplingOptions(options));
      let chiSquare = 0;
      for (const [id, count] of counts.entries()) {
        const mean = (expected.get(id) ?? 0) * draws;
        if (mean === 0) assert.equal(count, 0);
        else chiSquare += (count - mean) ** 2 / mean;
      }
      // At most 7 degrees of freedom: the 99.9 % quantile.
      assert.ok(chiSquare < 24.32, `${JSON.stringify(options)}, seed ${seed}: ${chiSquare}`);
    }
  }
});

Deno.test("the repeat penalty changes recent ids, once each, and leaves the logits alone", () => {
  const logits = Float32Array.of(4, -4, 0, 2, 1);
  const before = logits.slice();
  const penalized = penalize(logits, [4, 0, 1, 0, 2, 0], { repeatPenalty: 2, repeatWindow: 5 });
  assert.deepEqual([...penalized], [2, -8, 0, 2, 1]);
  assert.deepEqual(logits, before);
  assert.equal(penalize(logits, [0], { repeatPenalty: 1 }), logits);
  assert.deepEqual(penalize(logits, [0], { repeatPenalty: 2, repeatWindow: 0 }), before);
  assert.deepEqual([...penalize(logits, [0], { repeatPenalty: 0.5 })], [8, -4, 0, 2, 1]);
  const long = Array.from({ length: 65 }, (_, i) => i === 0 ? 0 : 1);
  assert.equal(penalize(logits, long, { repeatPenalty: 2 })[0], 4, "64 ids back and no farther");
  assert.equal(nextId(logits, [0], { repeatPenalty: 4 }), 3);
});

Deno.test("the same seed gives the same ids, another seed others", () => {
  function generate(seed: number): number[] {
    const options = { temperature: 1, topK: 50, repeatPenalty: 1.1, seed };
    const history: number[] = [];
    for (let n = 0; n < 50; n++) history.push(nextId(makeLogits(200, n), history, options));
    return history;
  }
  assert.deepEqual(generate(42), generate(42));
  assert.notDeepEqual(generate(42), generate(43));
});

Deno.test("a draw does not depend on earlier calls", () => {
  const options = { temperature: 1, seed: 5 };
  const logits = makeLogits(500, 3);
  const forward = Array.from({ length: 20 }, (_, n) => nextId(logits, { length: n }, options));
  const backward = Array.from(
    { length: 20 },
    (_, n) => nextId(logits, { length: 19 - n }, options),
  );
  assert.deepEqual(backward.reverse(), forward);
  assert.ok(new Set(forward).size > 1);
});

Deno.test("a constant added to all logits changes nothing", () => {
  const logits = makeLogits(400, 8);
  const shifted = logits.map((logit) => logit + 64); // exact: the logits are eighths
  for (const filter of FILTERS) {
    const options = { ...filter, temperature: 0.9 };
    for (let step = 0; step < 20; step++) {
      const random = uniform(9, step);
      assert.equal(sample(shifted, options, random), sample(logits, options, random));
    }
  }
});

Deno.test("a permutation of the ids permutes the choice", () => {
  const logits = Float32Array.from({ length: 97 }, (_, i) => (i * 37 % 97) / 16); // all different
  const to = (id: number) => id * 5 % 97;
  const permuted = new Float32Array(97);
  for (const [id, logit] of logits.entries()) permuted[to(id)] = logit;
  for (const filter of FILTERS) {
    const options = { ...filter, temperature: 0.9 };
    const kept = candidates(logits, options).map(({ id }) => to(id));
    assert.deepEqual(candidates(permuted, options).map(({ id }) => id), kept);
  }
});

Deno.test("-Infinity is never drawn", () => {
  const logits = Float32Array.of(-Infinity, 0, -Infinity, 0);
  for (let step = 0; step < 200; step++) {
    const id = sample(logits, { temperature: 5 }, uniform(1, step));
    assert.ok(id === 1 || id === 3);
  }
  assert.equal(sample(logits, { temperature: 5 }, 1 - 2 ** -24), 3);
});

Deno.test("extreme temperatures stay finite", () => {
  const logits = makeLogits(50, 4);
  const best = largest(logits);
  assert.equal(sample(logits, { temperature: 1e-300 }, 0.5), best);
  const hot = candidates(logits, { temperature: 1e300 });
  assert.ok(hot.every(({ probability }) => Math.abs(probability - 1 / 50) < 1e-9));
});

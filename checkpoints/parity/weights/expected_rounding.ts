/** What storing numbers in a type may cost: the expected square of the error, from the numbers themselves. */

/** How a type divides the range of the numbers that it stores together. */
interface Grid {
  /** Numbers that share a scale. */
  readonly width: number;
  /** Steps from zero to the largest magnitude; of a type with minimums from the smallest number, or zero, to the largest. */
  readonly steps: number;
  readonly hasMinimum?: boolean;
  /** Steps of the scales, which are integers of a scale that 256 numbers share; undefined where each is a 16-bit float. */
  readonly scaleSteps?: number;
}

/** Layouts as in ggml-common.h (llama.cpp v0.5.0). */
const GRIDS: Readonly<Record<string, Grid>> = {
  Q8_0: { width: 32, steps: 127 },
  Q5_0: { width: 32, steps: 16 },
  Q4_0: { width: 32, steps: 8 },
  Q5_1: { width: 32, steps: 31, hasMinimum: true },
  Q4_1: { width: 32, steps: 15, hasMinimum: true },
  Q6_K: { width: 16, steps: 32, scaleSteps: 128 },
  Q5_K: { width: 32, steps: 31, hasMinimum: true, scaleSteps: 63 },
  Q4_K: { width: 32, steps: 15, hasMinimum: true, scaleSteps: 63 },
  Q3_K: { width: 16, steps: 4, scaleSteps: 31 },
  Q2_K: { width: 16, steps: 3, hasMinimum: true, scaleSteps: 15 },
};

/** Numbers of K-quants that share 16-bit scales. */
const SUPER_BLOCK = 256;
/** Numbers of plain floats that are looked at together. */
const RUN = 32;

/** Significant bits behind the first one, and the smallest spacing, of plain floats. */
const FLOATS: Readonly<Record<string, { readonly bits: number; readonly smallest: number }>> = {
  F32: { bits: 23, smallest: 0 },
  F16: { bits: 10, smallest: 2 ** -24 },
  BF16: { bits: 7, smallest: 0 },
};

/** From what costs least to what costs most. */
const BY_COST = "F32 F16 BF16 Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 Q3_K Q2_K".split(" ");

/** Whether storing numbers in a type costs more than in another one. */
export function isCoarser(type: string, than: string): boolean {
  return BY_COST.indexOf(type) > BY_COST.indexOf(than);
}

/** Ours and the other side's type of a weight, in words. */
export function typesText([ours, theirs]: readonly [string, string]): string {
  return isPlain(ours) || isPlain(theirs)
    ? `${ours} for ${theirs}`
    : `${ours} and ${theirs}, both rounded`;
}

/** Whether each number of a type is rounded to its own size. */
export function isPlain(type: string): boolean {
  return Object.hasOwn(FLOATS, type);
}

/** Whether a type stores a minimum beside each scale, so that both may be chosen for a few numbers alone. */
export function hasMinimum(type: string): boolean {
  return GRIDS[type]?.hasMinimum === true;
}

/** Numbers for which one expectation holds; undefined for a type of which nothing is known. */
export function runWidth(type: string): number | undefined {
  return isPlain(type) ? RUN : GRIDS[type]?.width;
}

/**
 * The expected square of a number's rounding error, for each run of numbers that share a scale. A number that is rounded to steps of
 * size s is off by s²/12 in the mean square. s follows from the range of the run's numbers, not from the scale that is stored, which
 * may be the very thing that is damaged. Scales are rounded too: to 16-bit floats, and in K-quants to a few steps of the largest scale
 * of 256 numbers, which moves what the largest code stands for by as much as there are codes.
 *
 * @param numbers whole rows of a matrix: what was rounded, or what became of it
 * @param columns of a row; runs end with it
 * @param of whether the mean over the run is wanted, or what its largest number has: plain floats are rounded each to its own size
 * @returns [rows, runs of a row], row-major
 */
export function expectedSquares(
  type: string,
  numbers: Float32Array,
  columns: number,
  of: "mean" | "largest" = "mean",
): Float32Array {
  const grid = GRIDS[type];
  if (!grid) return floatSquares(type, numbers, columns, of);
  const count = numbers.length / grid.width;
  const steps = new Float64Array(count);
  const minimums = new Float64Array(count);
  const squares = new Float64Array(count);
  for (let run = 0, at = 0; run < count; run++) {
    let [low, high, sum] = [0, 0, 0];
    for (const end = at + grid.width; at < end; at++) {
      const value = numbers[at];
      if (value < low) low = value;
      if (value > high) high = value;
      sum += value * value;
    }
    steps[run] = (grid.hasMinimum ? high - low : Math.max(high, -low)) / grid.steps;
    minimums[run] = grid.hasMinimum ? -low : 0;
    squares[run] = sum / grid.width;
  }
  return grid.scaleSteps === undefined
    ? plainSquares(grid, steps, minimums, squares)
    : nestedSquares(grid, grid.scaleSteps, steps, minimums);
}

/**
 * Numbers as the plainest quantizer rounds them, which takes each run's scale from its range. Where they lie on a grid already, because
 * they were rounded before, its errors have an order: numbers that are 2.1 steps apart grow or shrink together.
 */
export function plainlyRounded(type: string, numbers: Float32Array): Float32Array {
  const grid = GRIDS[type];
  if (!grid) return numbers;
  const { width, steps, hasMinimum = false } = grid;
  const out = new Float32Array(numbers.length);
  for (let at = 0; at < numbers.length; at += width) {
    let [low, high] = [0, 0];
    for (let i = at; i < at + width; i++) {
      if (numbers[i] < low) low = numbers[i];
      else if (numbers[i] > high) high = numbers[i];
    }
    // Of types without minimums the largest number is the lowest code, and there is one code more below zero than above.
    const step = hasMinimum ? (high - low) / steps : (-low > high ? low : high) / -steps;
    const [first, least, most] = hasMinimum ? [low, 0, steps] : [0, -steps, steps - 1];
    if (step === 0) continue;
    for (let i = at; i < at + width; i++) {
      const code = Math.round((numbers[i] - first) / step);
      out[i] = first + step * Math.max(least, Math.min(most, code));
    }
  }
  return out;
}

/** Each run has a scale of its own, and a minimum: 16-bit floats. */
function plainSquares(
  { steps: codes, hasMinimum }: Grid,
  steps: Float64Array,
  minimums: Float64Array,
  squares: Float64Array,
): Float32Array {
  const out = new Float32Array(steps.length);
  for (let run = 0; run < out.length; run++) {
    const step = steps[run];
    const spacing = halfSpacing(step);
    // The mean of the squared codes, which the scale's own error is multiplied by.
    const code = hasMinimum || step === 0 ? codes * codes / 3 : squares[run] / (step * step);
    const minimum = hasMinimum ? halfSpacing(minimums[run]) : 0;
    out[run] = (step * step + code * spacing * spacing + minimum * minimum) / 12;
  }
  return out;
}

/** Scales and minimums are small integers of the 16-bit ones that a super-block has. */
function nestedSquares(
  { width, steps: codes, hasMinimum }: Grid,
  scaleSteps: number,
  steps: Float64Array,
  minimums: Float64Array,
): Float32Array {
  const out = new Float32Array(steps.length);
  const perBlock = SUPER_BLOCK / width;
  for (let first = 0; first < steps.length; first += perBlock) {
    let [largest, lowest] = [0, 0];
    for (let run = first; run < first + perBlock; run++) {
      if (steps[run] > largest) largest = steps[run];
      if (minimums[run] > lowest) lowest = minimums[run];
    }
    const unit = largest / scaleSteps;
    const minimumUnit = hasMinimum ? lowest / scaleSteps : 0;
    const minimum = hasMinimum ? scaleSteps * halfSpacing(minimumUnit) : 0;
    const spacing = halfSpacing(unit);
    const rest = codes * codes * unit * unit + minimumUnit * minimumUnit + minimum * minimum;
    for (let run = first; run < first + perBlock; run++) {
      const step = steps[run];
      const scale = codes * spacing * (unit > 0 ? step / unit : scaleSteps);
      out[run] = (step * step + rest + scale * scale) / 12;
    }
  }
  return out;
}

const MANTISSA = 23;
const EXPONENT_BIAS = 127;
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);
/** Distance of 16-bit floats by the exponent of a 32-bit one. */
const HALF_SPACINGS = Float64Array.from(
  { length: 256 },
  (_, exponent) => 2 ** Math.max(-24, exponent - EXPONENT_BIAS - 10),
);

/** Distance of 16-bit floats at a magnitude. */
function halfSpacing(value: number): number {
  float[0] = value;
  return HALF_SPACINGS[word[0] >>> MANTISSA & 0xff];
}

/** Plain floats: the spacing at each number. 32 bits are what is rounded. */
function floatSquares(
  type: string,
  numbers: Float32Array,
  columns: number,
  of: "mean" | "largest",
): Float32Array {
  const runs = Math.ceil(columns / RUN);
  const out = new Float32Array(numbers.length / columns * runs);
  if (type === "F32") return out;
  const { bits, smallest } = FLOATS[type];
  const squares = Float64Array.from({ length: 256 }, (_, exponent) => {
    const spacing = 2 ** (Math.max(1, exponent) - EXPONENT_BIAS - bits);
    return Math.max(spacing, smallest) ** 2 / 12;
  });
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  for (let row = 0, at = 0; at < numbers.length; row++) {
    for (let run = 0; run < runs; run++) {
      const width = Math.min(RUN, columns - run * RUN);
      let [sum, largest] = [0, 0];
      for (const end = at + width; at < end; at++) {
        const square = squares[words[at] >>> MANTISSA & 0xff];
        sum += square;
        if (square > largest) largest = square;
      }
      out[row * runs + run] = of === "mean" ? sum / width : largest;
    }
  }
  return out;
}

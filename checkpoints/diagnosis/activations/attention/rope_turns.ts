/** How the other side turned q or k, measured: which numbers form pairs, and by which angle each pair turned at each position. */
import { type Operation, ropeOf } from "../operation.ts";

/** Which numbers of a head form pairs. */
export interface Pairing {
  readonly style: "adjacent" | "half";
  /** The first number that turns, and how many do. */
  readonly first: number;
  readonly width: number;
}

/** Turns as complex numbers re + i·im, [T, pairs]. */
export interface Turns {
  readonly pairing: Pairing;
  readonly pairs: number;
  readonly re: Float64Array;
  readonly im: Float64Array;
  /** What lengths are multiplied by: the model's own magnitude, 1 of most, where a turn is all that happened. */
  readonly length: number;
}

/** What rotations leave of the numbers that they explain, as a part of their size. */
const LEFT = 1e-4;

/** Places of a pair's numbers in a head. */
export function placesOfPair(
  { style, first, width }: Pairing,
  pair: number,
): [a: number, b: number] {
  return style === "half"
    ? [first + pair, first + pair + width / 2]
    : [first + 2 * pair, first + 2 * pair + 1];
}

/** The pairing that the model should have. */
export function ownPairing(operation: Operation): Pairing {
  const { style, width } = ropeOf(operation);
  return { style, first: 0, width };
}

/** Measures the turns of x [T, heads, d] to the target, by each pairing that they could be of: the own one first. */
export function measureTurns(operation: Operation, target: Float32Array): Turns[] {
  const { inputs: [x], config: { headWidth: d } } = operation;
  const own = ownPairing(operation);
  const [low, high] = turnedPlaces(x, target, d);
  if (low > high) return [];
  const [first, end] = [low - low % 2, high + 1 + (high + 1) % 2];
  const candidates = [own, { ...own, style: own.style === "half" ? "adjacent" : "half" } as const]
    .flatMap(({ style }): Pairing[] =>
      [[0, own.width], [0, d], [0, end], [first, end - first], [first, d - first]]
        .map(([first, width]) => ({ style, first, width }))
    );
  const measured = new Map<string, { turns: Turns; left: number }>();
  for (const pairing of candidates) {
    const { style, first, width } = pairing;
    if (width < 2 || width % 2 === 1 || first + width > d || first + width <= high) continue;
    measured.set(`${style} ${first} ${width}`, turnsBy(operation, target, pairing));
  }
  const least = Math.min(...[...measured.values()].map(({ left }) => left));
  return [...measured.values()].filter(({ left }) =>
    left <= Math.min(LEFT, Math.max(4 * least, 1e-6))
  )
    .map(({ turns }) => turns);
}

/** The first and the last place in a head where the target differs. */
function turnedPlaces(x: Float32Array, target: Float32Array, d: number): [number, number] {
  let [low, high] = [d, -1];
  x.forEach((value, i) => {
    if (Math.abs(value - target[i]) <= 1e-6 * Math.abs(value)) return;
    low = Math.min(low, i % d);
    high = Math.max(high, i % d);
  });
  return [low, high];
}

/** The turns by one pairing, and what they leave: turns are the same for all heads, and lengths are for all positions. */
function turnsBy(
  operation: Operation,
  target: Float32Array,
  pairing: Pairing,
): { turns: Turns; left: number } {
  const { inputs: [x], config: { headWidth: d }, pass: { tokens: T }, step } = operation;
  const rope = ropeOf(operation);
  const { heads } = step.constants;
  const pairs = pairing.width / 2;
  const [re, im] = [new Float64Array(T * pairs), new Float64Array(T * pairs)];
  const sizes = new Float64Array(T * pairs);
  let [error, all, turned] = [0, 0, 0];
  for (let t = 0; t < T; t++) {
    for (let pair = 0; pair < pairs; pair++) {
      const at = t * pairs + pair;
      let theirs = 0;
      for (let head = 0; head < heads; head++) {
        const base = (t * heads + head) * d;
        const [a, b] = placesOfPair(pairing, pair).map((place) => base + place);
        re[at] += x[a] * target[a] + x[b] * target[b];
        im[at] += x[a] * target[b] - x[b] * target[a];
        sizes[at] += x[a] ** 2 + x[b] ** 2;
        theirs += target[a] ** 2 + target[b] ** 2;
      }
      if (sizes[at] === 0) continue;
      // Least squares: what is left of y by the best turn is |y|² − |x̄·y|² / |x|².
      error += Math.max(0, theirs - (re[at] ** 2 + im[at] ** 2) / sizes[at]);
      all += sizes[at];
      turned += (re[at] ** 2 + im[at] ** 2) / sizes[at];
      re[at] /= sizes[at];
      im[at] /= sizes[at];
    }
  }
  const length = Math.sqrt(turned / all);
  for (let at = 0; at < re.length; at++) {
    error += sizes[at] * (Math.hypot(re[at], im[at]) - length) ** 2;
  }
  const { magnitude } = rope;
  const isPure = Math.abs(length / magnitude - 1) < 1e-5;
  return {
    turns: { pairing, pairs, re, im, length: isPure ? magnitude : length },
    left: Math.sqrt(error / (all * length ** 2)),
  };
}

/** Each pair's angle from one position to the next; undefined with too few positions. */
export function frequenciesOf({ pairs, re, im }: Turns): Float64Array | undefined {
  const T = re.length / pairs;
  if (T < 4) return undefined;
  return Float64Array.from({ length: pairs }, (_, pair) => {
    const between = (from: number, to: number) => {
      const [a, b] = [from * pairs + pair, to * pairs + pair];
      return [re[a] * re[b] + im[a] * im[b], re[a] * im[b] - im[a] * re[b]];
    };
    let [x, y] = [0, 0];
    for (let t = 1; t < T; t++) {
      const [dx, dy] = between(t - 1, t);
      x += dx;
      y += dy;
    }
    let angle = Math.atan2(y, x);
    // Longer and longer stretches give more and more digits.
    for (let span = 2; span < T; span *= 2) {
      [x, y] = [0, 0];
      for (let t = span; t < T; t++) {
        const [dx, dy] = between(t - span, t);
        x += dx;
        y += dy;
      }
      const whole = Math.atan2(y, x);
      angle = (whole + Math.round((angle * span - whole) / (2 * Math.PI)) * 2 * Math.PI) / span;
    }
    return angle;
  });
}

/** How far turns are from others, given as angles: the largest distance. */
export function distance(
  { re, im, pairs, length }: Turns,
  angle: (t: number, pair: number) => number,
): number {
  let largest = 0;
  for (let at = 0; at < re.length; at++) {
    const theta = angle(Math.floor(at / pairs), at % pairs);
    const [x, y] = [re[at] - length * Math.cos(theta), im[at] - length * Math.sin(theta)];
    if (re[at] === 0 && im[at] === 0) continue; // nothing to be turned
    largest = Math.max(largest, Math.hypot(x, y));
  }
  return largest;
}

/** Turns x [T, heads, d] by angles. */
export function turnedBy(
  operation: Operation,
  pairing: Pairing,
  angle: (t: number, pair: number) => number,
  length: number = ropeOf(operation).magnitude,
  round: (number: number) => number = (number) => number,
): Float32Array {
  const { inputs: [x], config: { headWidth: d }, pass: { tokens: T }, step } = operation;
  const { heads } = step.constants;
  const out = x.slice();
  for (let t = 0; t < T; t++) {
    for (let pair = 0; pair < pairing.width / 2; pair++) {
      const theta = angle(t, pair);
      const [cos, sin] = [round(Math.cos(theta)), round(Math.sin(theta))];
      const places = placesOfPair(pairing, pair);
      for (let head = 0; head < heads; head++) {
        const [a, b] = places.map((place) => (t * heads + head) * d + place);
        out[a] = length * (x[a] * cos - x[b] * sin);
        out[b] = length * (x[a] * sin + x[b] * cos);
      }
    }
  }
  return out;
}

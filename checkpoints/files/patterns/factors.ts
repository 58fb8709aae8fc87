/** Factors between numbers that should be the same, and what they are. */
import type { Config } from "../../../engine/model/config.ts";

/** A factor and how well it does. */
export interface Factor {
  readonly factor: number;
  /** Σ(b − f·a)² / Σb²: what it leaves. */
  readonly left: number;
}

/** A factor that has a name. */
export interface NamedFactor {
  readonly value: number;
  /** All that it is in this model: `√D, 2⁴`. */
  readonly name: string;
}

/** The factor f that brings f·a nearest to b, by least squares. */
export function factorBetween(a: ArrayLike<number>, b: ArrayLike<number>): Factor {
  let [aa, ab, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    aa += a[i] * a[i];
    ab += a[i] * b[i];
    bb += b[i] * b[i];
  }
  const factor = aa > 0 ? ab / aa : 0;
  // A difference of large sums is no small number: summed once more.
  let rest = 0;
  for (let i = 0; i < a.length; i++) rest += (b[i] - factor * a[i]) ** 2;
  return { factor, left: bb > 0 ? rest / bb : 0 };
}

/** Sizes of a model that factors are made of. */
export type FactorSizes = Pick<Config, "width" | "headWidth" | "layers">;

/**
 * What a factor is, where it is one that models and engines have: roots and reciprocals of widths, angles in degrees, logarithms to
 * another base, powers of two, a sign. 1 is none.
 *
 * @param tolerance largest relative distance
 */
export function namedFactor(
  factor: number,
  sizes: FactorSizes,
  tolerance: number,
): NamedFactor | undefined {
  if (!Number.isFinite(factor) || factor === 0 || Math.abs(factor - 1) <= tolerance) {
    return undefined;
  }
  const found = [...knownFactors(sizes)]
    .filter(([, value]) => value !== 1 && Math.abs(factor / value - 1) <= tolerance);
  if (found.length === 0) return undefined;
  const nearest = Math.min(...found.map(([, value]) => Math.abs(factor / value - 1)));
  const same = found.filter(([, value]) => Math.abs(factor / value - 1) <= nearest + 1e-12);
  return { value: same[0][1], name: same.map(([name]) => name).join(", ") };
}

function* knownFactors(
  { width: D, headWidth: d, layers: L }: FactorSizes,
): Generator<[name: string, value: number]> {
  yield ["-1", -1];
  yield ["√D", Math.sqrt(D)];
  yield ["1/√D", 1 / Math.sqrt(D)];
  yield ["D", D];
  yield ["1/D", 1 / D];
  yield ["√d", Math.sqrt(d)];
  yield ["1/√d", 1 / Math.sqrt(d)];
  yield ["d", d];
  yield ["1/d", 1 / d];
  yield ["1/√(2L)", 1 / Math.sqrt(2 * L)];
  yield ["√(2L)", Math.sqrt(2 * L)];
  yield ["π/180", Math.PI / 180];
  yield ["180/π", 180 / Math.PI];
  yield ["log₂ e", Math.LOG2E];
  yield ["ln 2", Math.LN2];
  for (let k = 1; k <= 16; k++) {
    yield [`${2 ** k}`, 2 ** k];
    yield [`1/${2 ** k}`, 2 ** -k];
  }
}

/** Farther from a factor with a name than this, it is only about that. */
const ABOUT = 1e-3;

/** A factor in words: `0.125 (1/√d, 1/8)`, `0.973`, `1.98 (about 2)`. */
export function factorText(factor: number, sizes: FactorSizes, tolerance = 1e-4): string {
  const named = namedFactor(factor, sizes, tolerance);
  const short = (value: number) => `${Number(value.toPrecision(4))}`;
  if (!named) return short(factor);
  if (Math.abs(factor / named.value - 1) > ABOUT) return `${short(factor)} (about ${named.name})`;
  const value = short(named.value);
  return named.name === value ? value : `${value} (${named.name})`;
}

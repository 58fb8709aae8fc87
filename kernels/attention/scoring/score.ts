/** What a score is, beside q·k: scaled, capped, with ALiBi's bias; and masks. */
import type { Constants } from "../../kernel.ts";

/**
 * What scores hold at keys that are not seen: finite, since WGSL may assume that infinities do not occur. A score of that or less is a
 * mask wherever it comes from (edits may put −∞, or a number near the least float as other engines do). Its key weighs 0, and where no
 * key is seen all weights are 0. NaN stays NaN: a row with NaN or +∞ weighs NaN.
 */
export const MASKED = -1e30;

/** The least 32-bit score that is no mask. Largest scores begin with it: beside it e^{@linkcode MASKED} is 0. */
export const LEAST_SCORE = -9.999999394896025e29;

/**
 * ALiBi's slope of a head (Press et al. 2022): with n the largest power of two up to `heads`, 2^(−max_bias·(head + 1)/n), and behind
 * the first n heads those that 2n heads would have between them, beginning with the first. 0 where `max_bias` is 0 or missing.
 */
export function slopeOf({ heads, max_bias = 0 }: Constants, head: number): number {
  if (max_bias === 0) return 0;
  const power = 2 ** Math.floor(Math.log2(heads));
  const step = head < power ? head + 1 : head - power + 0.5;
  return 2 ** (-max_bias * step / power);
}

/**
 * What becomes of q·k: times `scale`; cap·tanh(score/cap), where there is a `cap`; less the head's slope for each position of the
 * `distance` between query and key.
 */
export function scoreOf(
  constants: Constants,
  product: number,
  head: number,
  distance: number,
): number {
  const { scale, cap = 0 } = constants;
  const scaled = product * scale;
  return (cap > 0 ? cap * Math.tanh(scaled / cap) : scaled) - slopeOf(constants, head) * distance;
}

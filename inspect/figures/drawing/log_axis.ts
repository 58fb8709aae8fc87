/** Logarithmic axes for numbers that can be 0: no error at all has a place too, below the smallest. */
import type { Axis } from "./figure.ts";

/** A logarithmic axis over some numbers, and where each of them stands. */
export interface LogAxis {
  /** The number itself; of 0 a place at the foot, of infinity one at the top, both named by a tick; NaN has none. */
  place(value: number): number;
  /** Range and ticks. */
  readonly axis: Pick<Axis, "type" | "range" | "tickvals" | "ticktext">;
}

/** Ticks that fit beside an axis. */
const MOST_TICKS = 10;
/** Between the last power and the places of 0 and infinity, in powers of ten. */
const APART = 0.7;

/**
 * @param values what is drawn; none of them below 0
 * @param around numbers that must be in sight too: a threshold
 */
export function logAxis(values: Iterable<number>, around: readonly number[] = []): LogAxis {
  let [low, high, zero, infinite] = [Infinity, -Infinity, false, false];
  for (const value of [...values, ...around]) {
    zero ||= value === 0;
    infinite ||= value === Infinity;
    if (!(value > 0) || value === Infinity) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high === -Infinity) [low, high] = [1e-7, 1];
  const first = Math.floor(Math.log10(low) + 1e-9);
  const last = Math.max(first + 1, Math.ceil(Math.log10(high) - 1e-9));
  const step = Math.ceil((last - first + 1) / MOST_TICKS);
  const powers = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    .filter((power) => power % step === 0);
  const scale = (last - first) / 8; // the same distance in pixels, however many powers
  const [foot, top] = [first - APART * scale, last + APART * scale];
  const ticks: [value: number, text: string][] = [
    ...(zero ? [[10 ** foot, "0"] as [number, string]] : []),
    ...powers.map((power): [number, string] => [10 ** power, powerText(power)]),
    ...(infinite ? [[10 ** top, "∞"] as [number, string]] : []),
  ];
  return {
    place: (value) => value === 0 ? 10 ** foot : value === Infinity ? 10 ** top : value,
    axis: {
      type: "log",
      range: [(zero ? foot : first) - 0.35 * scale, (infinite ? top : last) + 0.35 * scale],
      tickvals: ticks.map(([value]) => value),
      ticktext: ticks.map(([, text]) => text),
    },
  };
}

/** `10⁻⁵`; `1` and `10` as they are. */
function powerText(power: number): string {
  if (power === 0 || power === 1) return `${10 ** power}`;
  return `10<sup>${power < 0 ? "−" : ""}${Math.abs(power)}</sup>`;
}

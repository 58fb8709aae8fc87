/** Where an axis has ticks, and what they say: Plotly's choice, so that picture and figure agree. */
import * as vega from "npm:vega@6.4.0";
import type { Axis } from "../figure.ts";

/** A tick: its place (a power of ten on a log axis) and its HTML. */
export interface Tick {
  readonly at: number;
  readonly text: string;
  /** Of the label, as a part of the axis's font size. */
  readonly scale?: number;
}

/** What an axis is like where ticks are chosen. */
export interface TickedAxis {
  readonly letter: "x" | "y";
  /** In pixels. */
  readonly length: number;
  readonly layout: Pick<Axis, "type" | "tickvals" | "ticktext" | "tickformat" | "dtick">;
  /** Ends; powers of ten on a log axis. */
  readonly range: readonly [number, number];
  /** Of a category axis. */
  readonly categories?: readonly string[];
}

/** An axis's ticks that can be seen, in the order of their places. */
export function ticksOf(axis: TickedAxis): Tick[] {
  const { layout, range, categories } = axis;
  const low = Math.min(...range);
  const high = Math.max(...range);
  const slack = (high - low) * 1e-4;
  return all().filter(({ at }) => at >= low - slack && at <= high + slack);

  function all(): Tick[] {
    const { tickvals, ticktext } = layout;
    if (tickvals) {
      const step = autoStep(high - low, axis);
      return tickvals.map((value, i) => {
        const at = layout.type === "log" ? Math.log10(value) : value;
        return { at, text: ticktext?.[i] ?? tickText(value, step / 100, axis) };
      });
    }
    if (categories) {
      const step = Math.max(1, Math.ceil((high - low) / (axis.length / 15)));
      return categories.map((text, at) => ({ at, text })).filter(({ at }) => at % step === 0);
    }
    if (layout.type === "log") return logTicks(low, high, axis);
    const step = layout.dtick ?? autoStep(high - low, axis);
    return steps(low, high, step).map((at) => ({ at, text: tickText(at, step, axis) }));
  }
}

/** Multiples of a step. */
function steps(low: number, high: number, step: number): number[] {
  const first = Math.ceil(low / step - 1e-6);
  const count = Math.floor(high / step + 1e-6) - first + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => (first + i) * step);
}

/** About how far apart ticks may stand. */
function roughStep(span: number, { letter, length }: TickedAxis): number {
  return span / (Math.min(Math.max(length / (letter === "y" ? 40 : 80), 4), 9) + 1);
}

function autoStep(span: number, axis: TickedAxis): number {
  return roundStep(roughStep(span, axis));
}

/** The next larger of 2, 5, 10 times the power of ten below; the logarithm's rounding is Plotly's too. */
function roundStep(rough: number): number {
  if (!(rough > 0)) return 1;
  const base = 10 ** Math.floor(Math.log(rough) / Math.LN10);
  return base * ([2, 5].find((each) => each > rough / base) ?? 10);
}

function logTicks(low: number, high: number, axis: TickedAxis): Tick[] {
  const { layout } = axis;
  const rough = roughStep(high - low, axis);
  if (layout.dtick !== undefined || rough > 0.7) {
    const step = layout.dtick ?? Math.ceil(rough);
    return steps(low, high, step).map((at) => ({ at, text: powerText(at, axis) }));
  }
  if (high - low < 1) {
    const [from, to] = [10 ** low, 10 ** high];
    const step = roundStep((to - from) / (1.5 * (high - low) / rough));
    return steps(from, to, step).map((value) => ({
      at: Math.log10(value),
      text: tickText(value, step, axis),
    }));
  }
  const digits = rough > 0.3 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9];
  return steps(Math.floor(low), Math.ceil(high), 1).flatMap((power) =>
    digits.map((digit) =>
      digit === 1
        ? { at: power, text: powerText(power, axis) }
        : { at: power + Math.log10(digit), text: String(digit), scale: 0.75 }
    )
  );
}

const PREFIXES = ["f", "p", "n", "μ", "m", "", "k", "M", "B", "T"];
const isPrefixed = (exponent: number) => exponent >= -15 && exponent <= 14;
const minus = (text: string) => text.replace(/-/g, "−");

function powerText(power: number, axis: TickedAxis): string {
  if (axis.layout.tickformat !== undefined) return formatted(10 ** power, axis.layout.tickformat);
  if (isPrefixed(power)) {
    const thousands = Math.abs(power) > 3 ? Math.round((power - 1) / 3) : 0;
    return trimmed(10 ** (power - 3 * thousands)) + PREFIXES[thousands + 5];
  }
  return `10<sup>${minus(String(power))}</sup>`;
}

/** A number beside others that are a step apart. */
function tickText(value: number, step: number, axis: TickedAxis): string {
  if (axis.layout.tickformat !== undefined) return formatted(value, axis.layout.tickformat);
  const log = axis.layout.type === "log";
  const most = Math.max(...axis.range.map((end) => Math.abs(log ? 10 ** end : end)));
  const size = Math.floor(Math.log10(most || 1) + 0.01);
  const prefixed = isPrefixed(size);
  const exponent = Math.abs(size) <= 3 ? 0 : prefixed ? 3 * Math.round((size - 1) / 3) : size;
  const places = 2 - Math.floor(Math.log10(step) + 0.01);
  if (Math.abs(value) < 10 ** -places / 2) return "0";
  const digits = (Math.abs(value) / 10 ** exponent).toFixed(
    Math.min(Math.max(places + exponent, 0), 20),
  );
  const sign = value < 0 ? "−" : "";
  const unit = exponent === 0
    ? ""
    : prefixed
    ? PREFIXES[exponent / 3 + 5]
    : `×10<sup>${minus(String(exponent))}</sup>`;
  return sign + (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits) + unit;
}

function trimmed(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** d3's format, as Plotly uses it too. */
function formatted(value: number, format: string): string {
  return minus(d3.format(format)(value));
}

// Vega has it, its types do not.
const d3 = (vega as unknown as { defaultLocale(): vega.LocaleFormatters }).defaultLocale();

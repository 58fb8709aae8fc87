/** Where bars stand: beside each other, on each other. */
import type { Bar, Layout } from "../figure.ts";
import type { AxisKind } from "./axis.ts";
import { listOf } from "./values.ts";

/** A bar, on the linear scales of its axes. */
export interface PlacedBar {
  /** Which of the trace's values. */
  readonly index: number;
  /** Along the axis on which bars stand. */
  readonly from: number;
  readonly to: number;
  /** The same with the gap to its neighbours. */
  readonly room: readonly [number, number];
  /** Along the axis of the values. */
  readonly base: number;
  readonly top: number;
}

/** The bars of traces that share their axes, by trace. */
export function placeBars(
  traces: readonly { readonly trace: Bar; readonly x: AxisKind; readonly y: AxisKind }[],
  { barmode = "group", bargap = 0.2 }: Pick<Layout, "barmode" | "bargap">,
): PlacedBar[][] {
  const series = traces.map(({ trace, x, y }) => {
    const [along, across] = trace.orientation === "h" ? [y, x] : [x, y];
    const [places, values] = trace.orientation === "h" ? [trace.y, trace.x] : [trace.x, trace.y];
    return {
      trace,
      across,
      places: listOf(places).map((place) => along.linear(place)),
      values: listOf(values).map(Number),
      bases: trace.base && listOf(trace.base).map(Number),
    };
  });
  const apart = leastDifference(series.flatMap(({ places }) => places));
  const grouped = barmode === "group" && traces.length > 1;
  const room = apart * (1 - bargap) / (grouped ? traces.length : 1);
  const stacks = new Map<string, number>();
  return series.map(({ trace, places, values, bases, across }, s) => {
    const start = grouped ? (s - traces.length / 2) * room : -room / 2;
    return places.map((place, index) => {
      const own = typeof trace.width === "number" ? trace.width : trace.width?.[index];
      const from = place + (own === undefined ? start : -own / 2);
      const value = values[index];
      let base = bases?.[index] ?? 0;
      if (barmode === "stack" || barmode === "relative") {
        const stack = `${place} ${barmode === "relative" && value < 0}`;
        base = stacks.get(stack) ?? base;
        stacks.set(stack, base + (value || 0));
      }
      return {
        index,
        from,
        to: from + (own ?? room),
        room: [
          Math.min(place - apart / 2, from),
          Math.max(place + apart / 2, from + (own ?? room)),
        ],
        // A log axis has no zero: its bars stand on its end.
        base: across.log && base <= 0 ? -Infinity : across.linear(base),
        top: across.linear(base + value),
      };
    });
  });
}

function leastDifference(places: readonly number[]): number {
  const sorted = [...new Set(places)].filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length < 2 ? 1 : Math.min(...sorted.slice(1).map((place, i) => place - sorted[i]));
}

/** A figure's traces that are drawn, with their axes and colours. */
import type { Axis, Figure, Layout, Trace } from "../figure.ts";
import { AxisKind } from "./axis.ts";
import { listOf } from "./values.ts";

/** A trace and what it has from its figure. */
export interface Series<T extends Trace = Trace> {
  readonly trace: T;
  /** The colour that it has where it names none. */
  readonly color: string;
  readonly x: AxisKind;
  readonly y: AxisKind;
}

const COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2"];

/** The traces, hidden ones too, since axes and colours count them. */
export function seriesOf({ data, layout }: Figure): Series[] {
  const kinds = new Map<string, AxisKind>();
  const kind = (id: string) => {
    const known = kinds.get(id) ?? axisKind(id, data, layout);
    kinds.set(id, known);
    return known;
  };
  const colors = layout.colorway ?? COLORS;
  return data.map((trace, i) => ({
    trace,
    color: colors[i % colors.length],
    x: kind(trace.xaxis ?? "x"),
    y: kind(trace.yaxis ?? "y"),
  }));
}

/** Whether a trace is drawn. */
export function isShown({ visible }: Trace): boolean {
  return visible !== false && visible !== "legendonly";
}

function axisKind(id: string, data: readonly Trace[], layout: Layout): AxisKind {
  const letter = id[0] as "x" | "y";
  const own: Axis = layout[`${letter}axis${id.slice(1)}`] ?? {};
  const words = new Set(own.categoryarray);
  for (const trace of data) {
    if (trace.type !== "bar" || !isShown(trace) || (trace[`${letter}axis`] ?? letter) !== id) {
      continue;
    }
    for (const value of listOf(trace[letter])) if (typeof value === "string") words.add(value);
  }
  const isCategory = own.type === "category" || (own.type === undefined && words.size > 0);
  return new AxisKind(id, own, isCategory ? [...words] : undefined);
}

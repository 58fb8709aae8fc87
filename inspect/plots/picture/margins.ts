/** The plot's area: what the margins leave, and what legends and colour bars beside it push away. */
import type { Layout } from "../figure.ts";
import type { Box } from "./axis.ts";

/** Room that something needs on a side: pixels from a place, which is a part of the plot's area. */
export interface Side {
  readonly at: number;
  readonly size: number;
}

/** Room that something needs around itself. */
export interface Push {
  readonly left: Side;
  readonly right: Side;
  readonly bottom: Side;
  readonly top: Side;
}

/** The margins that a layout asks for. */
function givenMargins(
  { margin = {} }: Layout,
): { l: number; r: number; t: number; b: number } {
  return { l: margin.l ?? 80, r: margin.r ?? 80, t: margin.t ?? 100, b: margin.b ?? 80 };
}

/** The plot's area in a figure. Plotly's rule: each pair of things on opposite sides must have its room. */
export function plotArea(layout: Layout, pushes: readonly Push[]): Box {
  const { l, r, t, b } = givenMargins(layout);
  const white = Math.min(12, l, r, t, b);
  const add = ({ at, size }: Side) => ({ at, size: size + white });
  const all = [
    ...pushes.map((push) => ({
      left: add(push.left),
      right: add(push.right),
      bottom: add(push.bottom),
      top: add(push.top),
    })),
    {
      left: { at: 0, size: l },
      right: { at: 1, size: r },
      bottom: { at: 0, size: b },
      top: { at: 1, size: t },
    },
  ];
  const [left, right] = needed(all.map((each) => [each.left, each.right]), [l, r], layout.width);
  const [bottom, top] = needed(all.map((each) => [each.bottom, each.top]), [b, t], layout.height);
  return {
    x: left,
    y: top,
    width: layout.width - left - right,
    height: layout.height - top - bottom,
  };
}

/** Margins at the lower and the upper end of a direction. */
function needed(
  sides: readonly (readonly [Side, Side])[],
  given: readonly [number, number],
  whole: number,
): [number, number] {
  let [low, high] = given;
  for (const [one] of sides) {
    for (const [, other] of sides) {
      const apart = other.at - one.at;
      if (apart <= 0) continue;
      const newLow = (one.size * other.at + (other.size - whole) * one.at) / apart;
      const newHigh = (other.size * (1 - one.at) + (one.size - whole) * (1 - other.at)) / apart;
      if (newLow + newHigh > low + high) [low, high] = [newLow, newHigh];
    }
  }
  // Something is left of the plot whatever is asked for.
  const most = Math.max(whole - 10, 0) / Math.max(low + high, 1);
  const scale = Math.min(1, most);
  return [Math.round(low * scale), Math.round(high * scale)];
}

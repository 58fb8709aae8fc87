/** Vega's marks, as few as are needed: many of one kind from rows, whose columns are Vega's channels. */

/** One mark: `x`, `y`, `fill`, … as Vega names them; pixels of the picture. */
export type Row = Readonly<Record<string, Channel>>;

type Channel = string | number | boolean | readonly number[] | undefined;

/** A mark of a Vega spec. */
export interface Mark {
  readonly type: string;
  readonly [key: string]: unknown;
}

/**
 * Marks of one kind, one per row; `line` and `area` are one through all rows.
 *
 * @param same channels that all share
 */
export function marks(
  type: "rect" | "rule" | "symbol" | "text" | "image" | "line" | "area",
  rows: readonly Row[],
  same: Row = {},
): Mark[] {
  if (rows.length === 0) return [];
  const channels = new Set(rows.flatMap((row) => Object.keys(row)));
  return [{
    type: "group",
    data: [{ name: "rows", values: rows }],
    marks: [{
      type,
      from: { data: "rows" },
      interactive: false,
      encode: {
        enter: {
          ...Object.fromEntries([...channels].map((channel) => [channel, { field: channel }])),
          ...Object.fromEntries(
            Object.entries(same).map(([channel, value]) => [channel, { value }]),
          ),
        },
      },
    }],
  }];
}

/** Marks of which only what is inside a box shows. */
export function clipped(
  { x, y, width, height }: { x: number; y: number; width: number; height: number },
  inside: readonly Mark[],
): Mark {
  const value = (each: number) => ({ value: each });
  return {
    type: "group",
    encode: {
      enter: {
        x: value(x),
        y: value(y),
        width: value(width),
        height: value(height),
        clip: { value: true },
      },
    },
    // Inside, pixels are still those of the picture.
    marks: [{
      type: "group",
      encode: { enter: { x: value(-x), y: value(-y) } },
      marks: inside,
    }],
  };
}

/** Lengths of dashes and gaps. */
export function dashes(dash: "solid" | "dash" | "dot" | undefined, width: number): number[] {
  const unit = Math.max(width, 3);
  return dash === "dot" ? [unit, unit] : dash === "dash" ? [3 * unit, 3 * unit] : [];
}

/** One axis: from a trace's numbers and words to pixels. */
import type { Axis } from "../figure.ts";
import { ticksOf } from "./ticks.ts";
import type { Tick } from "./ticks.ts";

/** A part of the picture, in pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** An axis before it has a place. */
export class AxisKind {
  readonly letter: "x" | "y";
  readonly log: boolean;

  constructor(
    /** `x`, `y2`, … */
    readonly id: string,
    readonly layout: Axis,
    /** Of a category axis. */
    readonly categories?: readonly string[],
  ) {
    this.letter = id.startsWith("x") ? "x" : "y";
    this.log = layout.type === "log";
  }

  /** A value on a linear scale: its power of ten, its category's number. NaN where it has none. */
  linear(value: number | string): number {
    if (typeof value === "string") return this.categories?.indexOf(value) ?? NaN;
    return this.log ? value > 0 ? Math.log10(value) : NaN : value;
  }
}

/** An axis with its place in the picture. */
export class PlacedAxis {
  readonly ticks: readonly Tick[];
  readonly letter: "x" | "y";

  constructor(
    readonly kind: AxisKind,
    /** Ends on the linear scale: left or bottom first. */
    readonly range: readonly [number, number],
    /** Left or upper end, in pixels. */
    readonly start: number,
    /** In pixels. */
    readonly length: number,
  ) {
    this.letter = kind.letter;
    this.ticks = ticksOf({ ...kind, length, range });
  }

  get end(): number {
    return this.start + this.length;
  }

  /** Pixel of a place on the linear scale. */
  pixel(linear: number): number {
    const part = (linear - this.range[0]) / (this.range[1] - this.range[0]);
    return this.start + this.length * (this.letter === "x" ? part : 1 - part);
  }

  /** Pixel of a value. */
  at(value: number | string): number {
    return this.pixel(this.kind.linear(value));
  }

  /** Whether a pixel is on the axis. */
  shows(pixel: number): boolean {
    return pixel >= this.start - 0.5 && pixel <= this.end + 0.5;
  }
}

/** Where two axes cross. */
export function boxOf(x: PlacedAxis, y: PlacedAxis): Box {
  return { x: x.start, y: y.start, width: x.length, height: y.length };
}

/** Colours of numbers, and of words on them. */
import type { Colorscale } from "../figure.ts";

/** Red, green, blue from 0 to 255, alpha from 0 to 1. */
type Rgba = readonly [number, number, number, number];

/** `#rgb`, `#rrggbb`, `#rrggbbaa`, `rgb(…)` or `rgba(…)`; black for a colour's name. */
export function parseColor(color: string): Rgba {
  const hex = color.match(/^#([0-9a-f]{3,8})$/i)?.[1];
  if (hex) {
    const digits = hex.length < 6 ? [...hex].map((digit) => digit + digit).join("") : hex;
    const [r, g, b, a] = [0, 2, 4, 6].map((at) => parseInt(digits.slice(at, at + 2), 16));
    return [r, g, b, Number.isNaN(a) ? 1 : a / 255];
  }
  const [r = 0, g = 0, b = 0, a = 1] = color.match(/[\d.]+/g)?.map(Number) ?? [];
  return [r, g, b, a];
}

/** Colours of numbers from `low` to `high`; beyond, those of the ends. */
export function colorsOf(
  scale: Colorscale,
  low: number,
  high: number,
): (value: number) => [number, number, number] {
  const stops = scale.map(([place, color]) => ({ place, color: parseColor(color) }));
  return (value) => {
    const place = Math.min(Math.max((value - low) / (high - low || 1), 0), 1);
    const above = Math.max(stops.findIndex((stop) => stop.place >= place), 1);
    const [from, to] = [stops[above - 1], stops[above]];
    const part = (place - from.place) / (to.place - from.place || 1);
    return [0, 1, 2].map((c) =>
      Math.round(from.color[c] + part * (to.color[c] - from.color[c]))
    ) as [
      number,
      number,
      number,
    ];
  };
}

/** A colour as CSS. */
export function css([r, g, b]: readonly number[]): string {
  return `rgb(${r},${g},${b})`;
}

/** The same colour, half transparent. */
export function halved(color: string): string {
  const [r, g, b, a] = parseColor(color);
  return `rgba(${r},${g},${b},${a / 2})`;
}

const [LIGHT, DARK] = ["#ffffff", "#444444"];

/** Light or dark words for a background, where nothing else is said: those with the greater contrast. */
export function inkOn(background: readonly number[]): string {
  const contrast = (ink: string) => {
    const [a, b] = [luminance(parseColor(ink)), luminance(background)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  return contrast(LIGHT) > contrast(DARK) ? LIGHT : DARK;
}

/** Relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
function luminance(color: readonly number[]): number {
  const [r, g, b] = color.slice(0, 3).map((channel) => {
    const part = channel / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

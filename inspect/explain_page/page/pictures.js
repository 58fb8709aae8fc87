/** Pictures of numbers on canvases: matrices as colours, and attention maps with their tokens. */
import { tip } from "./dom.js";

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.style.colorScheme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A colour of the style sheet. */
export function ink(name) {
  const probe = document.getElementById("app");
  probe.style.outlineColor = `var(--${name})`;
  return getComputedStyle(probe).outlineColor;
}

/** Colours by place from 0 to 1: 256 of them, from a scale's stops. */
function ramp(stops) {
  const rgb = stops.map(([place, hex]) => [
    place,
    ...[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
  ]);
  return Array.from({ length: 257 }, (_, i) => {
    const place = i / 256;
    const after = Math.max(1, rgb.findIndex(([at]) => at >= place));
    const [a, b] = [rgb[after - 1], rgb[after]];
    const share = (place - a[0]) / (b[0] - a[0]);
    return [1, 2, 3].map((c) => Math.round(a[c] + (b[c] - a[c]) * share));
  });
}

/**
 * How numbers become colours: diverging around zero for signed ones, sequential from 0 for shares. `limit` is where the colours
 * end; numbers beyond it have the last one, and `beyond` says how many they are.
 */
export function scaleFor(values, scales, kind) {
  const stops = scales[isDark() ? "dark" : "light"][kind];
  const colors = ramp(stops);
  if (kind === "sequential") {
    return { kind, stops, limit: 1, beyond: 0, color: (value) => colors[Math.round(value * 256)] };
  }
  const sizes = Float32Array.from(values.filter(Number.isFinite), Math.abs).sort();
  const most = sizes.at(-1) || 1;
  const usual = sizes[Math.floor((sizes.length - 1) * 0.995)] || most;
  // A few huge numbers would make all others pale.
  const limit = most > 1.5 * usual ? usual : most;
  const beyond = sizes.length - sizes.findLastIndex((size) => size <= limit) - 1;
  const color = (value) => colors[Math.round((Math.max(-1, Math.min(1, value / limit)) + 1) * 128)];
  return { kind, stops, limit, beyond, count: sizes.length, color };
}

function context(canvas, width, height) {
  const density = Math.min(3, Math.max(1, devicePixelRatio || 1));
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const paint = canvas.getContext("2d");
  paint.scale(density, density);
  return paint;
}

/** A matrix as an image of one pixel a cell; hidden numbers (−∞ of a mask) stay clear. */
function image({ rows, columns, value }, scale) {
  const cells = new ImageData(columns, rows);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at += 4) {
      const number = value(row, column);
      if (number === undefined || Number.isNaN(number)) continue;
      if (number === -Infinity) continue;
      cells.data.set(scale.color(number), at);
      cells.data[at + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(cells, 0, 0);
  return small;
}

/**
 * Draws a matrix with labels.
 *
 * @param canvas
 * @param matrix `rows`, `columns`, `value(row, column)` (undefined: no number there)
 * @param scale
 * @param look `cell: [width, height]`; `left`, `top`: room for labels; `rowLabel(row)`, `columnLabel(column)`; `mark`: a cell,
 *   `markRow`: a row to be framed; `gap`: columns after which there is a line
 */
export function drawMatrix(canvas, matrix, scale, look) {
  const { rows, columns } = matrix;
  const { cell: [w, h], left = 0, top = 0, rowLabel, columnLabel, mark, markRow, gap } = look;
  const paint = context(canvas, left + columns * w + 1, top + rows * h + 1);
  paint.imageSmoothingEnabled = false;
  paint.drawImage(image(matrix, scale), left, top, columns * w, rows * h);
  paint.font = `${look.size ?? 11}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace`;
  paint.textBaseline = "middle";
  const [plain, strong, line] = [ink("faint"), ink("ink"), ink("line")];
  if (w >= 9 && h >= 9) grid(paint, { left, top, rows, columns, w, h, line });
  if (gap) {
    paint.fillStyle = ink("card");
    for (let column = gap; column < columns; column += gap) {
      paint.fillRect(left + column * w - 0.5, top, 1, rows * h);
    }
  }
  if (rowLabel) {
    paint.textAlign = "right";
    for (let row = 0; row < rows; row++) {
      paint.fillStyle = row === (markRow ?? mark?.[0]) ? strong : plain;
      paint.fillText(rowLabel(row), left - 6, top + (row + 0.5) * h);
    }
  }
  if (columnLabel) {
    paint.textAlign = "left";
    for (let column = 0; column < columns; column++) {
      paint.fillStyle = column === mark?.[1] ? strong : plain;
      paint.save();
      paint.translate(left + (column + 0.5) * w, top - 5);
      paint.rotate(-Math.PI / 3);
      paint.fillText(columnLabel(column), 0, 0);
      paint.restore();
    }
  }
  paint.strokeStyle = strong;
  paint.lineWidth = 1.5;
  if (markRow !== undefined && markRow >= 0) {
    paint.strokeRect(left + 0.25, top + markRow * h + 0.25, columns * w - 0.5, h - 0.5);
  }
  if (mark) {
    const [row, column] = mark;
    const size = Math.max(w, 5);
    paint.lineWidth = 2;
    paint.strokeRect(left + (column + 0.5) * w - size / 2, top + row * h, size, h);
  }
}

function grid(paint, { left, top, rows, columns, w, h, line }) {
  paint.strokeStyle = line;
  paint.lineWidth = 0.5;
  paint.beginPath();
  for (let row = 0; row <= rows; row++) {
    paint.moveTo(left, top + row * h);
    paint.lineTo(left + columns * w, top + row * h);
  }
  for (let column = 0; column <= columns; column++) {
    paint.moveTo(left + column * w, top);
    paint.lineTo(left + column * w, top + rows * h);
  }
  paint.stroke();
}

/** Makes a drawn matrix answer: `describe(row, column)` gives the lines of the tip, `pick(row, column)` takes a click. */
export function react(canvas, { rows, columns }, { cell: [w, h], left = 0, top = 0 }, actions) {
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - top) / h);
    const column = Math.floor((event.clientX - box.left - left) / w);
    return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : undefined;
  };
  canvas.addEventListener("pointermove", (event) => {
    const found = cellAt(event);
    tip(found && actions.describe(...found), event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", () => tip());
  canvas.addEventListener("click", (event) => {
    const found = cellAt(event);
    if (found && actions.pick) actions.pick(...found);
  });
}

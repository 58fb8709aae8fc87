/** The part of a canvas that Plotly's heatmaps draw on. */
import { encode } from "npm:fast-png@8.0.0";

interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

/** A canvas and its 2D context in one. What is drawn on it in boxes stays sharp at any scale. */
export class Canvas {
  width = 300;
  height = 150;
  fillStyle = "#000000";
  readonly #boxes: string[] = [];
  #pixels: Pixels | undefined;

  getContext(): this {
    return this;
  }

  createImageData(width: number, height: number): Pixels {
    return { width, height, data: new Uint8ClampedArray(4 * width * height) };
  }

  putImageData(pixels: Pixels): void {
    this.#pixels = pixels;
  }

  fillRect(x: number, y: number, width: number, height: number): void {
    if (width <= 0 || height <= 0 || this.fillStyle === "rgba(0,0,0,0)") return;
    this.#boxes.push(
      `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${this.fillStyle}"/>`,
    );
  }

  toDataURL(): string {
    const [type, bytes] = this.#pixels
      ? ["png", encode(this.#pixels)]
      : ["svg+xml", new TextEncoder().encode(this.#svg())];
    return `data:image/${type};base64,${bytes.toBase64()}`;
  }

  #svg(): string {
    const { width, height } = this;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">` +
      `${this.#boxes.join("")}</svg>`;
  }
}

/** A figure's static picture. */
import type { Figure } from "../figure.ts";

export function figureSvg(_figure: Figure): Promise<string> {
  throw new Error("not written yet");
}

export function figurePng(_figure: Figure, _scale: number): Promise<Uint8Array<ArrayBuffer>> {
  throw new Error("not written yet");
}

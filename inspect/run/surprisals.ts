/** What the logits of a sequence say of its tokens. */
import { logSumExp } from "../softmax.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import { rowPositions } from "./capture.ts";

/** The surprisals of a sequence, which may still grow, as the logits of its passes come by. */
export class Surprisals {
  readonly #values = new Map<number, number>();
  /** The latest row, whose next token may not be known yet. */
  #last: { readonly position: number; readonly logits: Float32Array } | undefined;

  constructor(readonly ids: readonly number[]) {}

  /** Takes the logits [n, V] of a pass's rows, the first of which is at `start`. */
  take(logits: HostTensor, start: number): void {
    const [rows, width] = logits.shape;
    const positions = rowPositions({ start, positions: logits.positions }, rows);
    for (const [row, position] of positions.entries()) {
      this.#settle();
      const values = logits.data.subarray(row * width, (row + 1) * width);
      // The last row stays: a copy, so that the others need not.
      this.#last = { position, logits: row === rows - 1 ? values.slice() : values };
    }
  }

  /** Takes surprisals [n] that a pass has computed of its rows' next tokens, and the logits [1, V] or [n, V] of the last row at least. */
  takeComputed(surprisals: HostTensor, logits: HostTensor, start: number): void {
    surprisals.data.forEach((value, row) => this.#values.set(start + row + 1, value));
    const width = logits.shape[1];
    const position = start + surprisals.data.length - 1;
    this.#last = { position, logits: logits.data.slice(logits.data.length - width) };
  }

  /** −ln p of each token given those before it, in nats; NaN where no logits came by. */
  get values(): Float64Array {
    this.#settle();
    return Float64Array.from(this.ids, (_, position) => this.#values.get(position) ?? NaN);
  }

  /** The logits [V] at a position, if it is the latest that came by. */
  logitsAt(position: number): Float32Array | undefined {
    return this.#last?.position === position ? this.#last.logits : undefined;
  }

  /** Looks at the token after the latest row, if it is there by now. */
  #settle(): void {
    if (!this.#last) return;
    const { position, logits } = this.#last;
    const next = this.ids[position + 1];
    if (next === undefined || this.#values.has(position + 1)) return;
    this.#values.set(position + 1, logSumExp(logits) - logits[next]);
  }
}

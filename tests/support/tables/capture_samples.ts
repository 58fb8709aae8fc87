/** What the captures of `capture_process.ts` are of, for it and for the tests that start it. */

export const PROMPT = "Once upon a time there was a little girl";

/** Of all five layers; held in memory they would add up. */
export const CAPTURED = ["blk.*.{out,ffn_gate,ffn_up,ffn_act,attn_scores,attn_probs}"];

/** Ids of text for a prompt of that many positions. */
export function promptOf(positions: number): number[] {
  return Array.from({ length: positions }, (_, i) => 260 + (i * 37) % 700);
}

/** How a process stands. */
export interface Standing {
  /** Tokens, positions or runs. */
  readonly done: number;
  /** Rows that its sink has written. */
  readonly rows: number;
  /** Bytes of buffers on the device. */
  readonly device: number;
  readonly rss: number;
  /** JavaScript's objects and array buffers, in bytes. */
  readonly heap: number;
}

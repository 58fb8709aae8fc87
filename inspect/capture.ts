/** What a run keeps of its passes: pieces, one per point, sequence and pass. */

/** One captured tensor of one pass, row-major, as the pass made it. */
export interface Piece {
  /** The canonical name: `blk.3.attn_probs`. */
  readonly point: string;
  /** Which sequence of the batch, from 0. */
  readonly sequence: number;
  /** 0 for the prompt's passes, n for the pass that ran the n-th generated token. */
  readonly step: number;
  /** Absolute position of the first row (of slot 0 for the cache: 0). */
  readonly start: number;
  /** [T, D], [T, H, d], [T, 1], [H, T, S] (attention) or [S, Hkv, d] (the cache). */
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
  /** Absolute positions of the rows where only some were kept; else `start`, `start + 1`, … */
  readonly positions?: readonly number[];
}

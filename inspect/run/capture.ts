/** What a run keeps of its passes: pieces, one per point, sequence and pass; and where they go. */
import type { Point } from "../points/points.ts";
import type { TableMeta } from "../tables/meta.ts";

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
  /** The numbers, row-major in that shape. */
  readonly data: Float32Array<ArrayBuffer>;
  /** Absolute positions of the rows where only some were kept; else `start`, `start + 1`, … */
  readonly positions?: readonly number[];
}

/** Absolute positions of that many rows of a piece. */
export function rowPositions(
  { start, positions }: Pick<Piece, "start" | "positions">,
  rows: number,
): readonly number[] {
  return positions ?? Array.from({ length: rows }, (_, i) => start + i);
}

/** What a sink may know of the run whose pieces it gets. */
export interface SinkSource {
  /** Asked for when a table begins and again when it is finished, when generated ids are known. */
  readonly meta: () => TableMeta;
  /** The token at a position of a sequence, for tables' index columns. */
  readonly token: TokenOf;
}

/** Where captured pieces go as they arrive, instead of into memory. The run calls all of this; a sink serves one run. */
export interface PieceSink {
  /** Before the first piece. */
  begin?(source: SinkSource): void;
  /** Takes a piece; the next one waits until the promise resolves. */
  write(point: Point, piece: Piece): Promise<void>;
  /** After the last piece of a run that ended well, or of a generation that was left. */
  finish?(): Promise<unknown>;
  /** After a run that failed. */
  close?(): Promise<void>;
}

/** Tells a sink of a run's beginning and end. */
export async function throughSink<T>(
  sink: PieceSink | undefined,
  source: () => SinkSource,
  run: () => Promise<T>,
): Promise<T> {
  if (!sink) return await run();
  sink.begin?.(source());
  let result: T;
  try {
    result = await run();
  } catch (error) {
    await sink.close?.();
    throw error;
  }
  await sink.finish?.();
  return result;
}

/** What stands at an absolute position of a sequence; undefined where it is not known. */
export type TokenOf = (
  sequence: number,
  position: number,
) => { readonly id: number; readonly text: string } | undefined;

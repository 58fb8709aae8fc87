/** Positions of a run as people name them: absolute, negative ones counted from the prompt's end. */

/** One position or several. */
export type Positions = number | readonly number[];

/** How far a sequence reaches. */
export interface Extent {
  /** Positions of the prompt. */
  readonly promptLength: number;
  /** Positions of prompt and generated tokens together. */
  readonly length: number;
}

/** A position that no sequence has. */
export class PositionError extends RangeError {
  /** The class's name. */
  override readonly name = "PositionError";
  /**
   * Thrown wherever positions are named, before anything runs.
   *
   * @param position what was asked for
   * @param extents how far the sequences reach
   */
  constructor(readonly position: number, readonly extents: readonly Extent[]) {
    const longest = (lengths: number[]) => lengths.reduce((a, b) => Math.max(a, b), 0);
    const promptLength = longest(extents.map(({ promptLength }) => promptLength));
    const length = longest(extents.map(({ length }) => length));
    super(
      `Cannot take position ${position}: positions go from 0 to ${length - 1}, ` +
        `or from -${promptLength} to -1 back from the end of the prompt`,
    );
  }
}

/** The absolute position that is meant, wherever it lies. */
export function absolutePosition(position: number, { promptLength }: Extent): number {
  return position < 0 ? position + promptLength : position;
}

/**
 * Those of the positions that a sequence has, as absolute numbers, ascending, each once; undefined (all of them) stays so.
 */
export function positionsIn(
  positions: Positions | undefined,
  extent: Extent,
): readonly number[] | undefined {
  if (positions === undefined) return undefined;
  const absolute = [positions].flat().map((position) => absolutePosition(position, extent));
  const inside = absolute.filter((position) => position >= 0 && position < extent.length);
  return [...new Set(inside)].sort((a, b) => a - b);
}

/**
 * Checks that each position is one of at least one sequence: of a ragged batch the short ones may lack it.
 *
 * @throws {PositionError}
 */
export function checkPositions(
  positions: Positions | undefined,
  extents: readonly Extent[],
): void {
  const wrong = [positions ?? []].flat().find((position) =>
    !Number.isInteger(position) ||
    extents.every((extent) => positionsIn(position, extent)!.length === 0)
  );
  if (wrong !== undefined) throw new PositionError(wrong, extents);
}

/** Measuring side by side: alternating rounds, medians and spread. */

/** Does something once and gives its figures by name. */
export type Sample = () => Promise<Readonly<Record<string, number>>>;

/** Median and spread of some figures. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** How many figures. */
  readonly rounds: number;
}

/** How rounds are run. */
export interface RoundOptions {
  readonly signal?: AbortSignal;
  /** Samples that were taken, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Takes every sample, then every one again: what slows the machine down for a while falls on all of them, and figures of one
 * round can be divided by each other. A first round, which compiles and warms up, does not count.
 *
 * @returns the figures by name, in the order of the rounds
 */
export async function alternate(
  samples: readonly Sample[],
  rounds: number,
  options: RoundOptions = {},
): Promise<Map<string, number[]>> {
  const figures = new Map<string, number[]>();
  let done = 0;
  for (let round = 0; round <= rounds; round++) {
    for (const sample of samples) {
      options.signal?.throwIfAborted();
      for (const [name, figure] of Object.entries(await sample())) {
        if (round > 0) figures.set(name, [...figures.get(name) ?? [], figure]);
      }
      options.onProgress?.(++done, samples.length * (rounds + 1));
    }
  }
  return figures;
}

/** A sample that takes long: it is taken in the first counting rounds only, and is not warmed up. */
export function seldom(rounds: number, sample: Sample): Sample {
  let round = 0;
  return async () => {
    const now = round++;
    return now > 0 && now <= rounds ? await sample() : {};
  };
}

/** Median, lowest and highest of some figures. */
export function spread(figures: readonly number[]): Spread {
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1
    ? sorted[middle]
    : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, low: sorted[0], high: sorted.at(-1)!, rounds: figures.length };
}

/** Figures divided by others, round by round, as far as there are both. */
export function ratios(of: readonly number[], to: readonly number[]): number[] {
  return of.slice(0, to.length).map((figure, round) => figure / to[round]);
}

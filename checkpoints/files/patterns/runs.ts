/** Lists of rows in words. */

/** Runs that are written out. */
const SHOWN = 3;

/** Runs of numbers that follow one another, each with its first and its last. `numbers` ascend. */
export function runsOf(numbers: readonly number[]): [first: number, last: number][] {
  const runs: [number, number][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run && run[1] === number - 1) run[1] = number;
    else runs.push([number, number]);
  }
  return runs;
}

/** `rows 3, 8 to 11 and 2 more`; `row 3`. `numbers` ascend. */
export function runsText(numbers: readonly number[], things: string): string {
  const runs = runsOf(numbers);
  const name = numbers.length === 1 ? things.replace(/s$/, "") : things;
  const shown = runs.slice(0, SHOWN).map(([a, b]) => a === b ? `${a}` : `${a} to ${b}`);
  const more = runs.slice(SHOWN).reduce((sum, [a, b]) => sum + b - a + 1, 0);
  const parts = more > 0 ? [...shown, `${more} more`] : shown;
  const text = parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0];
  return `${name} ${text}`;
}

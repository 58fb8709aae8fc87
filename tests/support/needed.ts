/**
 * What some tests need beside Deno: another engine, Python's packages, a compiler. Where it cannot be had they are skipped, saying so;
 * with `CI=true`, as `.ci/run` sets it, a test fails for it.
 *
 * @returns undefined where it cannot be had: `Deno.test({ ignore: library === undefined, … })`
 */
export async function needed<T>(what: string, get: () => Promise<T>): Promise<T | undefined> {
  try {
    return await get();
  } catch (error) {
    const why = error instanceof Error ? error.message : `${error}`;
    console.error(`tests are skipped, there is no ${what}: ${why}`);
    if (Deno.env.get("CI") === "true") {
      Deno.test(`there is ${what}`, () => {
        throw new Error(`no ${what}, so tests were skipped: ${why}`);
      });
    }
    return undefined;
  }
}

/** Memory that nobody holds any more goes back at once: the engine does not see that small objects hold gigabytes, and lets them lie. */

let pending: Promise<void> | undefined;

/**
 * Collects this thread's garbage as soon as whoever runs has finished. Where it cannot be asked for (in a browser) nothing happens: it
 * goes when the engine likes. worker.js does the same for its thread.
 *
 * V8 has the function when a flag is set. It stays: other threads may be about to do the same. https://nodejs.org/api/v8.html#v8setflagsfromstringflags
 */
export function collectGarbage(): Promise<void> {
  return pending ??= collect().finally(() => pending = undefined);
}

async function collect(): Promise<void> {
  await new Promise((done) => setTimeout(done));
  try {
    const [{ setFlagsFromString }, { runInNewContext }] = await Promise.all([
      import("node:v8"),
      import("node:vm"),
    ]);
    setFlagsFromString("--expose-gc");
    const gc = runInNewContext("gc");
    gc();
  } catch {
    // No V8 that can be told.
  }
}

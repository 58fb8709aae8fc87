/** Memory that nobody holds any more goes back at once: V8 does not see that small objects hold gigabytes, and lets them lie. */

/** What Deno and Node.js have of the function that gives their own modules. */
interface Host {
  readonly process?: { getBuiltinModule?(name: string): unknown };
}

let pending = false;

/**
 * Collects this thread's garbage as soon as whoever runs has finished. Where it cannot be asked for (in a browser) nothing happens: it
 * goes when the engine likes. worker.js does the same for its thread.
 *
 * V8 has the function when a flag is set. It stays: other threads may be about to do the same.
 * https://nodejs.org/api/v8.html#v8setflagsfromstringflags
 */
export function collectGarbage(): void {
  if (pending) return;
  pending = true;
  setTimeout(() => {
    pending = false;
    const { process } = globalThis as Host;
    const v8 = process?.getBuiltinModule?.("node:v8") as
      | { setFlagsFromString(flags: string): void }
      | undefined;
    const vm = process?.getBuiltinModule?.("node:vm") as
      | { runInNewContext(code: string): unknown }
      | undefined;
    v8?.setFlagsFromString("--expose-gc");
    vm?.runInNewContext("globalThis.gc?.()");
  });
}

/** Long work under a host that is no notebook: one bar, one Stop. */
import assert from "node:assert/strict";
import {
  installHost,
  longWork,
  stoppable,
  Stopped,
  untilStop,
  type WorkOptions,
} from "../../inspect/work.ts";

const NONE: WorkOptions = {};
const shown: string[] = [];
let stop = () => {};
const install = () =>
  installHost({
    progressBar: (name) => ({
      update: (done, total, what) => shown.push(`${name} ${done}/${total} ${what}`),
      finish: (how) => Promise.resolve(void shown.push(`${name} ${how}`)),
    }),
    onStop: (given) => stop = given,
  });

/** What was shown while something ran, and what it ended with. */
async function shownBy(work: () => Promise<unknown>): Promise<[string[], unknown]> {
  shown.length = 0;
  const result = await work().catch((error) => error);
  return [[...shown], result];
}

Deno.test("without a host work gets the caller's options as they are", async () => {
  const options = { signal: new AbortController().signal, onProgress() {}, other: 1 };
  assert.equal(await longWork("Work", options, (same) => Promise.resolve(same === options)), true);
  assert.equal(untilStop(() => "", options.signal).signal, options.signal);
});

Deno.test("with a host there is one bar, for the outermost work, unless the caller listens", async () => {
  install();
  const inner = (options: WorkOptions) =>
    longWork("Inner", options, ({ onProgress }) => Promise.resolve(onProgress?.(1, 2, "b")));
  const outer = (options: WorkOptions) =>
    longWork("Outer", options, async ({ onProgress }) => {
      onProgress?.(0, 3, "a");
      await inner(NONE);
    });
  assert.deepEqual((await shownBy(() => outer(NONE)))[0], ["Outer 0/3 a", "Outer done"]);
  const heard: number[] = [];
  const [bars] = await shownBy(() => inner({ onProgress: (done) => heard.push(done) }));
  assert.deepEqual([bars, heard], [[], [1]]);
  const [failed] = await shownBy(() => longWork("Work", NONE, () => Promise.reject(new Error())));
  assert.deepEqual(failed, ["Work failed"]);
});

Deno.test("its Stop ends everything that runs with the outermost's name; a caller's signal is none", async () => {
  stop(); // nothing runs
  const [bars, error] = await shownBy(() =>
    longWork("Outer", NONE, ({ onProgress }) => {
      onProgress?.(1, 3, "two");
      return longWork("Inner", NONE, ({ signal }) => {
        stop();
        return Promise.reject(signal?.aborted ? new Error("a worker died of it") : undefined);
      });
    })
  );
  assert.deepEqual(bars, ["Outer 1/3 two", "Outer stopped"]);
  assert.ok(error instanceof Stopped);
  assert.match(error.message, /^Outer was stopped \(two\); /);
  await assert.rejects(stoppable(() => Promise.resolve(stop())), Stopped);

  const own = new AbortController();
  const [, reason] = await shownBy(() =>
    longWork("Work", { signal: own.signal }, ({ signal }) => {
      own.abort(new Error("enough"));
      return Promise.reject(signal?.reason);
    })
  );
  assert.equal((reason as Error).message, "enough");
});

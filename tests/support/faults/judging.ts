/** Faults judged one after the other, by what a comparison says went wrong first. */
import assert from "node:assert/strict";
import { load } from "../../../inspect/run/loading.ts";
import { assertHonest, Board, judged, type Said } from "./board.ts";
import type { Expected, Faults, ModelName } from "./fault.ts";
import { Models, type Trial, trialsOf } from "./trials.ts";

/** What is expected of a fault, its point with the block, and what is said of it. */
export interface Judged {
  readonly expected: Expected;
  readonly said: Said | undefined;
}

/**
 * Tries faults, a step each: none has a wrong cause. At the end, where all were tried, nearly all have the right first tensor, and most
 * their name.
 */
export async function judgeFaults<Fault extends { on?: readonly ModelName[] }>(
  t: Deno.TestContext,
  title: string,
  faults: Readonly<Record<string, Faults<Fault>>>,
  judge: (models: Models, trial: Trial<Fault>) => Promise<Judged>,
): Promise<void> {
  await using models = new Models();
  await using held = new AsyncDisposableStack();
  const board = new Board(title);
  const trials = trialsOf(faults);
  // Loaded once for all faults, since they stay loaded.
  for (const on of new Set(trials.map(({ on }) => on))) {
    const loaded = await load((await models.get(on)).path);
    held.defer(() => loaded.release());
  }
  for (const trial of trials) {
    const { kind, name, on } = trial;
    await t.step(`${kind}: ${name} (${on})`, async () => {
      const where = { kind, fault: name, model: on };
      const { expected, said } = await board.orMissed(where, judge(models, trial));
      const outcome = judged(expected, said);
      board.add({ ...where, ...outcome });
      assertHonest(expected, said, outcome);
    });
  }
  await board.show();
  if (Deno.env.has("LAMINA_FAULT_ONLY")) return;
  await t.step("the first tensor is right in nearly all", () => board.assertPlaced());
  await t.step("the cause is named in most", () => board.assertNamed());
}

/** Fails where a fault leaves all numbers as they are. */
export function assertChanged(wrong: Float32Array, right: Float32Array): void {
  assert.ok(wrong.some((value, i) => !(value === right[i])), "the fault changes nothing");
}

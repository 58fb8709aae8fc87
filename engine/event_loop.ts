/** Work that never waits for anything holds up the event loop: Ctrl-C is then heard when it has ended. */

/** How long listeners and timers may have to wait, in ms, where the work comes in parts that are shorter. */
const LONGEST_WAIT = 50;

let turned = performance.now();

/** Lets listeners and timers run, unless they just had their turn. Between the parts of long work; a promise alone does not do it. */
export async function letEventsIn(): Promise<void> {
  if (performance.now() - turned < LONGEST_WAIT) return;
  await new Promise((resolve) => setTimeout(resolve));
  turned = performance.now();
}

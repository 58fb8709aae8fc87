/** A notebook's Stop, which is a SIGINT: Deno's kernel dies of it unless somebody listens. */

/** Has a function called at each Stop. A cell that computes without ever awaiting anything lets no signal in. */
export function onStop(stop: () => void): void {
  Deno.addSignalListener("SIGINT", stop);
}

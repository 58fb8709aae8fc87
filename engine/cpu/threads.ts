/** Workers that do not keep a process alive. */
import workerSource from "./worker.js" with { type: "text" };

/** A worker that runs worker.js. It needs no permission, since the text travels with the program. */
export function startThread(): Worker {
  const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
  try {
    const worker = new Worker(url, { type: "module" });
    unref(worker);
    return worker;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * Lets the process end while the worker waits. Deno has a method for that, by which its own `node:worker_threads` does it; its name is a
 * symbol without a description. A worker of node:worker_threads itself takes 70 ms to start instead of 17.
 */
function unref(worker: Worker): void {
  const prototype = Worker.prototype as unknown as Record<symbol, unknown>;
  const name = Object.getOwnPropertySymbols(prototype).find((symbol) => !symbol.description);
  const method = name && prototype[name];
  if (typeof method === "function") method.call(worker, false);
}

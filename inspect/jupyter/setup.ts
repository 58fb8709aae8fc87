/** What is done once, when Lamina is imported in a notebook. */
import { installHost } from "../work.ts";
import { shortenStacks } from "./errors.ts";
import { inNotebook, keepOutputs } from "./kernel.ts";
import { progressBar } from "./progress.ts";

if (inNotebook) {
  keepOutputs();
  shortenStacks();
  // Deno's kernel dies of SIGINT unless somebody listens. A cell that computes without ever awaiting anything lets no signal in.
  installHost({ progressBar, onStop: (stop) => Deno.addSignalListener("SIGINT", stop) });
}

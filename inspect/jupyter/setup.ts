/** What is done once, when Lamina is imported in a notebook. */
import { shortenStacks } from "./errors.ts";
import { listenToStop } from "./interrupt.ts";
import { inNotebook, keepOutputs } from "./kernel.ts";

if (inNotebook) {
  keepOutputs();
  shortenStacks();
  listenToStop();
}

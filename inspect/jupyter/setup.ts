/** What is done once, when Lamina is imported in a notebook. */
import { installHost } from "../work.ts";
import { shortenStacks } from "./errors.ts";
import { onStop } from "./interrupt.ts";
import { inNotebook, keepOutputs } from "./kernel.ts";
import { progressBar } from "./progress.ts";

if (inNotebook) {
  keepOutputs();
  shortenStacks();
  installHost({ progressBar, onStop });
}

// Pulls one model in a process of its own: `deno run -A pull_process.ts MODEL_AS_JSON`. Prints the
// path, or the reason of the failure and its message.
import { PullError } from "../../../models/error.ts";
import { pull } from "../../../models/pull.ts";

try {
  console.log(await pull(JSON.parse(Deno.args[0]), { retryDelay: 1 }));
} catch (error) {
  if (!(error instanceof PullError)) throw error;
  console.log(`${error.reason}: ${error.message}`);
  Deno.exit(1);
}

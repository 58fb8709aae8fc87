// Captures of the embedded model in a process of its own, to be measured, limited or killed from outside; the arguments are a
// backend and a task:
//
//   generate FOLDER TOKENS EVERY   streams a generation's captures into a folder, and says every so many tokens how it stands
//   run FOLDER POSITIONS           streams a prompt's captures into a folder
//   runs COUNT                     runs a prompt again and again, captures in memory, and says how it stands before and after
//
// Prints JSON lines; an error is the last one. Memory is measured after a collection where V8 exposes one.
import { openDevice } from "../../../inspect/run/loading.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { ArrowSink } from "../../../inspect/tables/sink.ts";
import { CAPTURED, PROMPT, promptOf, type Standing } from "../tables/capture_samples.ts";

const [backend, task, ...args] = Deno.args;
const encoder = new TextEncoder();
// Written at once: the process may be killed.
const say = (what: unknown) => Deno.stdout.writeSync(encoder.encode(`${JSON.stringify(what)}\n`));

using model = await loadModel("tiny", { backend: backend as "webgpu" | "cpu" });
const device = model.backend === "webgpu" ? await openDevice() : undefined;

function standing(done: number, rows = 0): Standing {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapUsed, external } = Deno.memoryUsage();
  return { done, rows, device: device?.allocated ?? 0, rss, heap: heapUsed + external };
}

async function generate(folder: string, tokens: number, every: number): Promise<void> {
  const sink = new ArrowSink(folder);
  const options = { maxTokens: tokens, ignoreEos: true, capture: CAPTURED, sink, onCapture() {} };
  let done = 0;
  try {
    // deno-lint-ignore no-unused-vars -- the sink takes what is made
    for await (const token of model.generate(PROMPT, options)) {
      if (++done % every === 0) say(standing(done, sink.rows));
    }
  } finally {
    say(standing(done, sink.rows));
  }
}

async function run(folder: string, positions: number): Promise<void> {
  const sink = new ArrowSink(folder);
  try {
    await model.run([promptOf(positions)], { capture: CAPTURED, sink });
  } finally {
    say(standing(positions, sink.rows));
  }
}

async function runs(count: number): Promise<void> {
  const once = () => model.run(PROMPT, { capture: CAPTURED });
  // What is compiled, cached and pooled is there after a while.
  for (let i = 0; i < 50; i++) await once();
  say(standing(0));
  for (let i = 0; i < count; i++) await once();
  say(standing(count));
}

try {
  if (task === "generate") await generate(args[0], Number(args[1]), Number(args[2]));
  if (task === "run") await run(args[0], Number(args[1]));
  if (task === "runs") await runs(Number(args[0]));
} catch (error) {
  say({ error: `${(error as Error).name}: ${(error as Error).message}` });
}

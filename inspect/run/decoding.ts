/** The passes behind a generation: a prompt, then one position after the other. */
import type { Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { choiceOf, LogitsError, type SamplingOptions } from "../../engine/sampling.ts";
import { type Collector, quietly, runInPasses, type Tensors } from "./runner.ts";

/** A prompt's passes in flight; with captures, two: one that runs, one that is taken in. */
const PROMPT_PASSES = 4;

/**
 * Work in flight, in ms: reading a result back takes 10 to 12 however little was computed, since Deno looks every 10. The device
 * chooses the ids, so that the steps after it are started before an id is known here.
 */
const AHEAD_MS = 25;
/** Steps in flight at least, so that the device has something to do while a result is on its way. */
const LEAST_AHEAD = 2;
/** Steps in flight at most. */
const MOST_AHEAD = 32;
/** Bytes of results in flight, about, where it is more than the least steps' own. */
const BYTES_AHEAD = 2 ** 25;

/** One generation's session, and what to do with each of its passes. */
export interface Decoding {
  readonly session: Session;
  readonly prompt: readonly number[];
  /** Ids to generate at most. */
  readonly count: number;
  readonly collector: Collector;
  /** Captures the passes of every n-th generated token. */
  readonly captureEvery: number;
  /** Absolute positions whose rows are captured. */
  readonly positions?: readonly number[];
  readonly edits: readonly Edit[];
  /** How ids are chosen. */
  readonly sampling: SamplingOptions;
  /** Whether steps begin before the ids before them are known here: a device runs them meanwhile. */
  readonly ahead: boolean;
  /** Told of logits [n, V] that came back, and of the position of their first row. */
  readonly onLogits?: (logits: HostTensor, start: number) => void;
}

/** Runs the prompt and gives the result of its last pass. */
async function runPrompt(decoding: Decoding, choice: readonly string[]): Promise<Tensors> {
  const { session, prompt, collector } = decoding;
  return await runInPasses(session, prompt, {
    most: collector.names.length > 0 ? 2 : PROMPT_PASSES,
    // A small result shows that a pass has run: no more begin than an abort may wait for.
    request: (ids, start, last) =>
      request(decoding, ids, { step: 0, start }, last ? choice : ["argmax"]),
    take: (tensors, start, { length: tokens }) =>
      take(decoding, tensors, { step: 0, start, tokens }),
  });
}

/** What a pass is asked for that begins at a position; `step` counts the generated tokens that have run. */
function request(
  { collector, captureEvery, positions, edits, sampling }: Decoding,
  ids: readonly number[] | "next",
  { step, start }: { step: number; start: number },
  choice: readonly string[],
): PassRequest {
  const tokens = ids === "next" ? 1 : ids.length;
  const captured = step % captureEvery === 0 ? collector.namesAt(start, tokens, positions) : [];
  const wanted = [...new Set([...choice, ...captured])];
  const rows = collector.allRows && captured.length > 0 ? tokens : 1;
  return { ids, wanted, rows, whole: choice, positions, edits, sampling };
}

/** Takes what a pass made of so many positions from `start` on; the last ones have logits. */
async function take(
  { collector, captureEvery, positions, onLogits }: Decoding,
  tensors: Tensors,
  { step, start, tokens = 1 }: { step: number; start: number; tokens?: number },
): Promise<void> {
  const logits = tensors.get("logits");
  if (logits) onLogits?.(logits, start + tokens - logits.shape[0]);
  if (step % captureEvery !== 0) return;
  await collector.add(tensors, { sequence: 0, step, start, positions });
}

/** Takes what the pass made that ran the generated token number `step`. */
async function takeStep(decoding: Decoding, step: number, tensors: Tensors): Promise<void> {
  await take(decoding, tensors, { step, start: decoding.prompt.length + step - 1 });
}

/** The numbers of a tensor's last row. */
function lastRow(tensors: Tensors, name: string): Float32Array {
  const { shape: [, width = 1], data } = tensors.get(name)!;
  return data.subarray(data.length - width);
}

/**
 * The id that was chosen.
 *
 * @throws {LogitsError} where there is none
 */
function chosenId(tensors: Tensors, choice: string): number {
  const [id] = lastRow(tensors, choice);
  if (id < 0) throw new LogitsError("a logit is NaN or +Infinity, or none is finite");
  return id;
}

/**
 * The ids, as they are chosen on the device, while the next steps run. Where whoever takes them stops early, the steps behind the
 * last id that was taken are discarded: the session stands where that id would be run next.
 */
export async function* chosenIds(decoding: Decoding): AsyncGenerator<number> {
  const { session, prompt, count, edits, sampling, onLogits } = decoding;
  const choice = choiceOf(sampling);
  // Whoever looks at logits gets those from which was drawn.
  const wanted = choice === "sample" && onLogits ? [choice, "logits"] : [choice];
  // A function may look at what was generated, and is called for no step that nobody has asked for.
  const oneByOne = !decoding.ahead || edits.some(({ kind }) => kind === "function");
  const depth = new Depth();
  const running: Promise<Tensors>[] = [];
  let started = 1;
  let id = chosenId(await runPrompt(decoding, wanted), choice);
  let taken = 1;
  try {
    for (;; taken++) {
      yield id;
      // Steps that have begun would still give their ids.
      session.check();
      const most = oneByOne ? 1 : depth.steps;
      for (; started < count && running.length < most; started++) {
        const place = { step: started, start: prompt.length + started - 1 };
        running.push(quietly(session.pass(request(decoding, "next", place, wanted))));
      }
      const next = running.shift();
      if (!next) return;
      const tensors = await next;
      depth.count(tensors);
      await takeStep(decoding, taken, tensors);
      id = chosenId(tensors, choice);
    }
  } finally {
    const end = prompt.length + taken - 1;
    if (session.position > end) session.rewind(end);
  }
}

/** How many steps are in flight: few at first, so that the first tokens arrive; then as many as take some time. */
class Depth {
  steps = LEAST_AHEAD;
  #arrived = 0;
  #since = performance.now();
  #bytes = 0;

  /** Takes note of a step that has come back. */
  count(tensors: Tensors): void {
    this.#bytes = Math.max(this.#bytes, bytesOf(tensors));
    // Results come back in bunches, 10 ms apart: only several of them tell how long each takes.
    this.#arrived++;
    const now = performance.now();
    const took = now - this.#since;
    if (this.#arrived < this.steps || took < 2 * AHEAD_MS) return;
    const wished = Math.ceil(AHEAD_MS * this.#arrived / took);
    const most = Math.min(MOST_AHEAD, 2 * this.steps, Math.floor(BYTES_AHEAD / this.#bytes));
    this.steps = Math.max(LEAST_AHEAD, Math.min(wished, most));
    this.#arrived = 0;
    this.#since = now;
  }
}

function bytesOf(tensors: Tensors): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** The passes behind a generation: a prompt, then one position after the other. */
import type { HostTensor, PassRequest, Session } from "../engine/backend.ts";
import type { Edit } from "../engine/edits.ts";
import { LogitsError } from "../engine/sampler.ts";
import type { Collector } from "./runner.ts";

/**
 * Passes in flight while the device chooses the ids itself: reading a result back takes 10 ms and more, so the next steps
 * are started before the last one's id is known here.
 */
const IN_FLIGHT = 4;

/** Captures from this size on have only two passes in flight: one that runs, one that is taken in. */
const LARGE_CAPTURE = 2 ** 20;

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
  /** Told of logits [n, V] that came back, and of the position of their first row. */
  readonly onLogits?: (logits: HostTensor, start: number) => void;
}

type Tensors = Map<string, HostTensor>;

/** Runs the prompt and gives the result of its last pass. What a pass made is taken while the next ones run. */
async function runPrompt(decoding: Decoding, choice: string): Promise<Tensors> {
  const { session, prompt, collector } = decoding;
  const { maxTokens } = session;
  const most = collector.names.length > 0 ? 2 : IN_FLIGHT;
  const running: Promise<void>[] = [];
  for (let start = 0;; start += maxTokens) {
    const ids = prompt.slice(start, start + maxTokens);
    const last = start + maxTokens >= prompt.length;
    const rows = collector.allRows ? ids.length : 1;
    // A small result shows that a pass has run: no more begin than an abort may wait for.
    const asked = { ...request(decoding, ids, 0, [last ? choice : "argmax"]), rows };
    const pass = quietly(session.pass(asked));
    const place = { step: 0, start, firstRow: start + ids.length - rows };
    const before = running.at(-1);
    running.push(quietly(pass.then(async (tensors) => {
      await before;
      await take(decoding, tensors, place);
    })));
    if (last) {
      await running.at(-1);
      return await pass;
    }
    if (running.length === most) await running.shift();
  }
}

/** A promise that is awaited later, or never: until then it may fail without a sound. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** What a pass is asked for; `step` counts the generated tokens that have run. */
function request(
  { collector, captureEvery, positions, edits }: Decoding,
  ids: readonly number[] | "next",
  step: number,
  choice: readonly string[],
): PassRequest {
  const captured = step % captureEvery === 0 ? collector.names : [];
  return { ids, wanted: [...new Set([...choice, ...captured])], whole: choice, positions, edits };
}

/** Takes what a pass made from position `start` on; from `firstRow` on there are logits. */
async function take(
  { collector, captureEvery, positions, onLogits }: Decoding,
  tensors: Tensors,
  { step, start, firstRow = start }: { step: number; start: number; firstRow?: number },
): Promise<void> {
  const logits = tensors.get("logits");
  if (logits) onLogits?.(logits, firstRow);
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
 * The id that the device chose.
 *
 * @throws {LogitsError} as a sampler does
 */
function chosenId(tensors: Tensors): number {
  const [id] = lastRow(tensors, "argmax");
  if (id < 0) throw new LogitsError("a logit is NaN or +Infinity, or none is finite");
  return id;
}

/** Ids chosen here, from the logits of each step. Its captures are taken while the next step runs. */
export async function* sampledIds(
  decoding: Decoding,
  choose: (logits: Float32Array, history: readonly number[]) => number,
): AsyncGenerator<number> {
  const { session, count } = decoding;
  const history = [...decoding.prompt];
  let tensors = await runPrompt(decoding, "logits");
  let collecting = Promise.resolve();
  try {
    for (let step = 1;; step++) {
      const id = choose(lastRow(tensors, "logits"), history);
      history.push(id);
      yield id;
      if (step === count) return;
      const pass = quietly(session.pass(request(decoding, [id], step, ["logits"])));
      await collecting;
      tensors = await pass;
      collecting = quietly(takeStep(decoding, step, tensors));
    }
  } finally {
    await collecting;
  }
}

/** The likeliest ids, chosen on the device: the next steps run before the last one's id is read back. */
export async function* greedyIds(decoding: Decoding): AsyncGenerator<number> {
  const { session, count, collector, captureEvery, edits } = decoding;
  // A function may look at what was generated, and is called for no step that nobody has asked for.
  const oneByOne = edits.some(({ kind }) => kind === "function");
  let most = oneByOne ? 1 : collector.names.length > 0 ? 2 : IN_FLIGHT;
  const running: Promise<Tensors>[] = [];
  let started = 1;
  let id = chosenId(await runPrompt(decoding, "argmax"));
  for (let step = 1;; step++) {
    yield id;
    // Steps that have begun would still give their ids.
    session.check();
    for (; started < count && running.length < most; started++) {
      running.push(quietly(session.pass(request(decoding, "next", started, ["argmax"]))));
    }
    const next = running.shift();
    if (!next) return;
    const tensors = await next;
    if (!oneByOne && step % captureEvery === 0) {
      most = bytesOf(tensors) < LARGE_CAPTURE ? IN_FLIGHT : 2;
    }
    await takeStep(decoding, step, tensors);
    id = chosenId(tensors);
  }
}

function bytesOf(tensors: Tensors): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** The passes behind a generation: a prompt, then one position after the other. */
import type { HostTensor, PassRequest, Session } from "../engine/backend.ts";
import type { Edit } from "../engine/edits.ts";
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
}

type Tensors = Map<string, HostTensor>;

/** Runs the prompt and gives the result of its last pass. What a pass made is taken while the next one runs. */
async function runPrompt(decoding: Decoding, choice: string): Promise<Tensors> {
  const { session, prompt, collector } = decoding;
  const { maxTokens } = session;
  let collecting = Promise.resolve();
  for (let start = 0;; start += maxTokens) {
    const ids = prompt.slice(start, start + maxTokens);
    const last = start + maxTokens >= prompt.length;
    const pass = quietly(session.pass(request(decoding, ids, 0, last ? [choice] : [])));
    await collecting;
    collecting = quietly(
      pass.then((tensors) =>
        collector.add(tensors, { sequence: 0, step: 0, start, rows: ids.length - 1 })
      ),
    );
    if (!last) continue;
    await collecting;
    return await pass;
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

/** Takes the captures of the pass that ran the generated token number `step`. */
async function collect(decoding: Decoding, step: number, tensors: Tensors): Promise<void> {
  if (step % decoding.captureEvery !== 0) return;
  const start = decoding.prompt.length + step - 1;
  await decoding.collector.add(tensors, { sequence: 0, step, start, rows: 0 });
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
      const id = choose(tensors.get("logits")!.data, history);
      history.push(id);
      yield id;
      if (step === count) return;
      const pass = quietly(session.pass(request(decoding, [id], step, ["logits"])));
      await collecting;
      tensors = await pass;
      collecting = quietly(collect(decoding, step, tensors));
    }
  } finally {
    await collecting;
  }
}

/** The likeliest ids, chosen on the device: the next steps run before the last one's id is read back. */
export async function* greedyIds(decoding: Decoding): AsyncGenerator<number> {
  const { session, count, collector, captureEvery, edits } = decoding;
  const idOf = (tensors: Tensors) => tensors.get("argmax")!.data[0];
  // A function may look at what was generated, and is called for no step that nobody has asked for.
  const oneByOne = edits.some(({ kind }) => kind === "function");
  let most = oneByOne ? 1 : collector.names.length > 0 ? 2 : IN_FLIGHT;
  const running: Promise<Tensors>[] = [];
  let started = 1;
  let id = idOf(await runPrompt(decoding, "argmax"));
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
    await collect(decoding, step, tensors);
    id = idOf(tensors);
  }
}

function bytesOf(tensors: Tensors): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** The passes behind a generation: a prompt, then one position after the other. */
import type { HostTensor, PassRequest, Session } from "../engine/backend.ts";
import type { Edit } from "../engine/edits.ts";
import type { Collector } from "./runner.ts";

/**
 * Passes in flight while the device chooses the ids itself: reading a result back takes 10 ms and more, so the next steps
 * are started before the last one's id is known here.
 */
const STEPS_AHEAD = 4;

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

/** Runs the prompt and gives the result of its last pass. */
async function runPrompt(decoding: Decoding, choice: string): Promise<Tensors> {
  const { session, prompt, collector } = decoding;
  const { maxTokens } = session;
  for (let start = 0;; start += maxTokens) {
    const ids = prompt.slice(start, start + maxTokens);
    const last = start + maxTokens >= prompt.length;
    const rows = collector.allRows ? ids.length : 1;
    const tensors = await session.pass({
      ...request(decoding, ids, 0, last ? [choice] : []),
      rows,
    });
    await take(decoding, tensors, { step: 0, start, firstRow: start + ids.length - rows });
    if (last) return tensors;
  }
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

/** Ids chosen here, from the logits of each step. */
export async function* sampledIds(
  decoding: Decoding,
  choose: (logits: Float32Array, history: readonly number[]) => number,
): AsyncGenerator<number> {
  const history = [...decoding.prompt];
  let tensors = await runPrompt(decoding, "logits");
  for (let step = 1; step <= decoding.count; step++) {
    const id = choose(lastRow(tensors, "logits"), history);
    history.push(id);
    yield id;
    if (step === decoding.count) return;
    tensors = await decoding.session.pass(request(decoding, [id], step, ["logits"]));
    await takeStep(decoding, step, tensors);
  }
}

/** The likeliest ids, chosen on the device: the next steps run before the last one's id is read back. */
export async function* greedyIds(decoding: Decoding): AsyncGenerator<number> {
  const { session, count } = decoding;
  const idOf = (tensors: Tensors) => lastRow(tensors, "argmax")[0];
  const running: Promise<Tensors>[] = [];
  let started = 1;
  const startNext = () => {
    const pass = session.pass(request(decoding, "next", started, ["argmax"]));
    // Steps that nobody waits for any more may fail silently.
    pass.catch(() => {});
    running.push(pass);
    started++;
  };
  let id = idOf(await runPrompt(decoding, "argmax"));
  for (let step = 1;; step++) {
    yield id;
    while (started < count && running.length < STEPS_AHEAD) startNext();
    const next = running.shift();
    if (!next) return;
    const tensors = await next;
    await takeStep(decoding, step, tensors);
    id = idOf(tensors);
  }
}

// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/**
 * Runs a program: records of steps, 64 words each, one after the other, on all threads at once. What the words of a record mean is in
 * engine/cpu/records.ts.
 */

import { embed, embed_positions } from "./embedding/embed.as.ts";
import { linear } from "./products/cpu/linear.as.ts";
import { head_result } from "./edits/head_result.as.ts";
import { center, normalize, rms, rms_norm, scale_columns } from "./norm/norm.as.ts";
import { rope, rope_store, store_rows } from "./rope/rope.as.ts";
import { mix, scores, softmax } from "./attention/steps.as.ts";
import { attention, attention_merge, attention_split } from "./attention/attention.as.ts";
import {
  activate,
  add,
  add_bias,
  cap,
  clamp,
  glu,
  scale,
  scale_by_position,
  take_rows,
  xielu,
} from "./elementwise/elementwise.as.ts";
import { argmax } from "./sampling/argmax.as.ts";
import { sample } from "./sampling/sampling.as.ts";
import { surprisal } from "./sampling/surprisal.as.ts";
import { edit } from "./edits/edit.as.ts";
import { add_expert_bias, combine, route, route_weights, weigh } from "./experts/experts.as.ts";
import { linear_experts } from "./experts/linear_experts.as.ts";
import { probe_product, probe_read } from "./probes/probes.as.ts";
export { read_row } from "./weights/read.as.ts";
import { take } from "./work.as.ts";
import { pack } from "./weights/tiles.as.ts";

/** Words of `control`, in bytes from its address. */
const ARRIVED: usize = 0; // threads that have reached the barrier
const ROUND: usize = 4; // barriers that all have passed
const SLEEPING: usize = 8; // threads that wait for the next round without spinning
const JOBS: usize = 12; // jobs that have been handed out

/** Looks at a word, a few microseconds long, before a thread goes to sleep: steps end at about the same time. */
const SPINS: i32 = 4000;
/** The same for what follows on a pass, which takes longer to be prepared. */
const IDLE_SPINS: i32 = 20000;

/** Waits until a word is no longer `seen`. */
function wait(word: usize, seen: i32, spins: i32, control: usize): void {
  for (let i = 0; i < spins; i++) {
    if (atomic.load<i32>(word) != seen) return;
  }
  atomic.add<i32>(control + SLEEPING, 1);
  while (atomic.load<i32>(word) == seen) atomic.wait<i32>(word, seen, -1);
  atomic.sub<i32>(control + SLEEPING, 1);
}

/** Changes a word by one, and wakes those that sleep until it changes. */
function signal(word: usize, control: usize): void {
  atomic.add<i32>(word, 1);
  if (atomic.load<i32>(control + SLEEPING) > 0) atomic.notify(word, -1);
}

/** Goes on when all threads are here. */
function barrier(control: usize, threads: i32): void {
  if (threads == 1) return;
  const round = atomic.load<i32>(control + ROUND);
  if (atomic.add<i32>(control + ARRIVED, 1) == threads - 1) {
    atomic.store<i32>(control + ARRIVED, 0);
    signal(control + ROUND, control);
  } else {
    wait(control + ROUND, round, SPINS, control);
  }
}

/** Hands a job out. */
export function start(control: usize): void {
  signal(control + JOBS, control);
}

/** Waits until there is another job than the last one, and gives its number. */
export function next(control: usize, last: i32): i32 {
  wait(control + JOBS, last, IDLE_SPINS, control);
  return atomic.load<i32>(control + JOBS);
}

/** Runs the steps `from` to `to` (exclusive): a barrier is behind each. */
export function run(
  steps: usize,
  from: i32,
  to: i32,
  control: usize,
  thread: i32,
  threads: i32,
): void {
  for (let i = from; i < to; i++) {
    const step = steps + (<usize> i << 8);
    runStep(step, thread, threads);
    barrier(control, threads);
    if (thread == 0) store<i32>(step, 0, 252); // all of its work was done; it is taken anew the next time
  }
}

/** What one thread does of a step: all that others have not taken. The operations have the numbers of engine/cpu/records.ts. */
export function runStep(step: usize, thread: i32, threads: i32): void {
  const pass = <usize> load<u32>(step, 4);
  switch (load<i32>(step)) {
    case 1:
      return embed(step, pass, thread, threads);
    case 2:
      return linear(step, pass, thread, threads);
    case 3:
      return head_result(step, pass, thread, threads);
    case 4:
      return rms(step, pass, thread, threads);
    case 5:
      return normalize(step, pass, thread, threads);
    case 6:
      return scale_columns(step, pass, thread, threads);
    case 7:
      return rms_norm(step, pass, thread, threads);
    case 8:
      return rope(step, pass, thread, threads);
    case 9:
      return store_rows(step, pass, thread, threads);
    case 10:
      return rope_store(step, pass, thread, threads);
    case 11:
      return scores(step, pass, thread, threads);
    case 12:
      return softmax(step, pass, thread, threads);
    case 13:
      return mix(step, pass, thread, threads);
    case 14:
      return attention(step, pass, thread, threads);
    case 15:
      return attention_split(step, pass, thread, threads);
    case 16:
      return attention_merge(step, pass, thread, threads);
    case 17:
      return add(step, pass, thread, threads);
    case 18:
      return add_bias(step, pass, thread, threads);
    case 19:
      return glu(step, pass, thread, threads);
    case 20:
      return take_rows(step, pass, thread, threads);
    case 21:
      return argmax(step, pass, thread, threads);
    case 22:
      return sample(step, pass, thread, threads);
    case 23:
      return edit(step, pass, thread, threads);
    case 24:
      return packTiles(step);
    case 25:
      return surprisal(step, pass, thread, threads);
    case 60:
      return route(step, pass, thread, threads);
    case 61:
      return linear_experts(step, pass, thread, threads);
    case 62:
      return add_expert_bias(step, pass, thread, threads);
    case 63:
      return combine(step, pass, thread, threads);
    case 64:
      return weigh(step, pass, thread, threads);
    case 65:
      return route_weights(step, pass, thread, threads);
    case 30:
      return probe_product(step, pass, thread, threads);
    case 31:
      return probe_read(step, pass, thread, threads);
    case 40:
      return center(step, pass, thread, threads);
    case 41:
      return activate(step, pass, thread, threads);
    case 42:
      return xielu(step, pass, thread, threads);
    case 43:
      return scale(step, pass, thread, threads);
    case 44:
      return cap(step, pass, thread, threads);
    case 45:
      return clamp(step, pass, thread, threads);
    case 46:
      return scale_by_position(step, pass, thread, threads);
    case 47:
      return embed_positions(step, pass, thread, threads);
  }
}

/** Puts a file's rows into tiles, each of which is a piece of work. */
function packTiles(step: usize): void {
  const source = <usize> load<u32>(step, 8), tiles = <usize> load<u32>(step, 48);
  const id = load<i32>(step, 96), rows = load<i32>(step, 100), columns = load<i32>(step, 104);
  const eightRows = <usize> load<u32>(step, 108), bytes = <usize> load<u32>(step, 112);
  const count = (rows + 7) >> 3;
  for (let tile = take(step, 8); tile < count; tile = take(step, 8)) {
    for (let i = tile, end = min(tile + 8, count); i < end; i++) {
      pack(id, source + i * eightRows, tiles + i * bytes, min(8, rows - 8 * i), columns);
    }
  }
}

export { pack };

/**
 * Every point of every layer against llama.cpp's own tensors, live, on a 32-bit copy of the weights: in a prompt, and while
 * decoding at the generated tokens 1, 8 and 64, where other kernels run. Two verdicts (checkpoints.md). Local: each step by our
 * kernels from llama.cpp's own inputs, without fusion and as plain passes fuse it. Cumulative: the whole pass against the
 * whole pass, where a value may also be four times as far from llama.cpp's as llama.cpp is from the 64-bit oracle.
 */
import { kindOf } from "../../../base/layer_names.ts";
import assert from "node:assert/strict";
import {
  type Allowance,
  compareTensors,
  type Difference,
  largestError,
  localAllowance,
  placeText,
} from "../../../checkpoints/parity/compare.ts";
import { checkpointOf, DECODING_STEPS } from "../../../checkpoints/parity/contract.ts";
import { f32Copy } from "../../../checkpoints/files/f32_copy.ts";
import { rowsOf } from "../../../checkpoints/parity/local.ts";
import type { HostTensor } from "../../../engine/host_tensor.ts";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { type GgufFile, openGguf, openGgufFile } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { oracle } from "../../../engine/oracle/oracle.ts";
import { webgpuEngine } from "../../../engine/webgpu/engine.ts";
import { openDevice } from "../../../inspect/run/loading.ts";
import { findModel } from "../../../models/mod.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { llamaCppLibrary, observedModel } from "../../support/engines/llamacpp_library.ts";
import { fusedValues, unfusedValues } from "../../support/engines/local_values.ts";
import {
  isPoint,
  type PassPlace,
  referencePoints,
  softmaxRows,
} from "../../support/engines/reference_points.ts";

const PROMPT =
  "Once upon a time there was a little girl who had a red ball. One day she went to the big park " +
  "with her friend and they saw a dog.";
const LAST_STEP = Math.max(...DECODING_STEPS);

type Tensors = ReadonlyMap<string, HostTensor>;

const library = await llamaCppLibrary();

for (const name of ["tiny", "smollm2-135m"]) {
  Deno.test({
    name: `${name}: every point of every layer against llama.cpp on 32-bit weights`,
    ignore: library === undefined,
    async fn(t) {
      const found = await findModel(name);
      const file = found.bytes
        ? await openGguf(bytesSource(name, found.bytes))
        : await openGgufFile(found.path);
      const config = readConfig(file);
      const prompt = createTokenizer(file.metadata).encode(PROMPT);
      const capacity = prompt.length + LAST_STEP;
      const llama = observedModel(library!, await f32Copy(found), capacity);
      const engine = await webgpuEngine(file, config, await openDevice());
      const session = engine.session({ capacity, ropeBuilder: "ggml" });
      const all: number[] = [];

      /** Runs a pass in both, compares everything, and gives llama.cpp's greedy id. */
      async function compare(title: string, ids: readonly number[]): Promise<number> {
        const place = { start: session.position, tokens: ids.length };
        all.push(...ids);
        const graph = llama.pass(ids, isPoint(config));
        const reference = await referencePoints(config, graph, place, (each) => weight(file, each));
        await t.step(`${title}: local verdict`, async () => {
          const pass = { session, ids, reference };
          const unfused = await unfusedValues(pass);
          const fused = await fusedValues(pass);
          assert.deepEqual(new Set(unfused.keys()), new Set(reference.keys()));
          assert.deepEqual(localFailures(unfused, reference, place.start, isCopy), [], "unfused");
          assert.deepEqual(localFailures(fused, reference, place.start), [], "fused");
        });
        const wanted = [...reference.keys()];
        const ours = await session.pass({ ids, rows: ids.length, wanted });
        await t.step(`${title}: cumulative verdict`, async () => {
          const own = new Map(reference);
          // The probabilities are judged by our own logits.
          const { data, shape } = ours.get("logits")!;
          own.set("probs", { shape, data: softmaxRows(data, config.vocabSize) });
          assert.deepEqual(await cumulativeFailures(file, all, ours, own, place), []);
          for (let layer = 0; layer < config.layers; layer++) {
            assertWritten(ours, `blk.${layer}.cache_k`, `blk.${layer}.k_rope`);
            assertWritten(ours, `blk.${layer}.cache_v`, `blk.${layer}.v`);
          }
        });
        return chosen(ours.get("argmax")!.data.at(-1)!, reference.get("logits")!.data, config);
      }

      let id = await compare("prompt", prompt);
      for (let step = 1; step <= LAST_STEP; step++) {
        if (DECODING_STEPS.some((each) => each === step)) {
          id = await compare(`generated token ${step}`, [id]);
          continue;
        }
        all.push(id);
        const graph = llama.pass([id], ({ name }) => name === "result_output");
        const ours = await session.pass({ ids: [id], wanted: ["argmax"] });
        id = chosen(ours.get("argmax")!.data[0], graph.get("result_output")![0].data, config);
      }
      session.dispose();
      engine.dispose();
      file.close();
    },
  });
}

async function weight(file: GgufFile, name: string): Promise<Float32Array> {
  const tensor = file.tensors.get(name)!;
  return dequantize(tensor.type, await file.readTensor(tensor));
}

/** What the verdicts allow; of points that belong to no checkpoint, what they allow the points that those are made of. */
function allowance(point: string): Allowance {
  return localAllowance(
    point.replace("head_result", "head_out").replace("last_rows", "blk.0.out"),
  );
}

function failureText(point: string, { place, ours, reference, allowed }: Difference): string {
  return `${point}, ${placeText(place)}: ${ours}, llama.cpp ${reference}, allowed ${allowed}`;
}

/** Points that a step only copies from its input. */
const isCopy = (point: string) => /^(cache_.|last_rows)$/.test(kindOf(point));

/** Points that are not what the step makes of the reference's inputs; of some the very numbers are wanted. */
function localFailures(
  found: Tensors,
  reference: Tensors,
  start: number,
  exactly: (point: string) => boolean = () => false,
): string[] {
  return [...found].flatMap(([point, value]) => {
    const allowed = exactly(point) || point === "argmax"
      ? { tolerance: 0, relative: 0 }
      : allowance(point);
    const difference = compareTensors(point, value, reference.get(point)!, allowed, start);
    return difference.passed ? [] : failureText(point, difference);
  });
}

/** Points that are too far from the reference's, also for how far that is from the oracle. */
async function cumulativeFailures(
  file: GgufFile,
  ids: readonly number[],
  ours: Tensors,
  reference: Tensors,
  { start, tokens }: PassPlace,
): Promise<string[]> {
  const judge = (point: string, atLeast = 0) =>
    compareTensors(point, ours.get(point)!, reference.get(point)!, {
      ...allowance(point),
      atLeast,
    }, start);
  // The last rows are the last block's, and the greedy choice has a rule of its own.
  const points = [...ours.keys()].filter((name) => name !== "last_rows" && name !== "argmax");
  const suspects = points.filter((point) => !judge(point).passed);
  if (suspects.length === 0) return [];
  // The oracle is slow, and its answer seldom needed.
  const exact = await oracle(file, ids, {
    points: (point) => suspects.includes(point),
    rows: "all",
    ropeTable: "ggml",
  });
  return suspects.flatMap((point) => {
    const theirs = reference.get(point)!;
    const arbiter = exact.points.get(point);
    const atLeast = arbiter
      ? 4 * largestError(point, theirs, rowsOf(point, arbiter, 0, start, tokens), start)
      : 0;
    const difference = judge(point, atLeast);
    return difference.passed ? [] : failureText(point, difference);
  });
}

/** The cache holds the very numbers that were written to it. */
function assertWritten(ours: Tensors, cache: string, written: string): void {
  const { data } = ours.get(written)!;
  assert.deepEqual(ours.get(cache)!.data.slice(-data.length), data, cache);
}

/** llama.cpp's greedy id. Ours is the same, or llama.cpp's own two best logits are nearer than the tolerance. */
function chosen(ours: number, logits: Float32Array, { vocabSize }: Config): number {
  const last = logits.subarray(logits.length - vocabSize);
  const theirs = last.indexOf(Math.max(...last));
  assert.ok(
    ours === theirs || last[theirs] - last[ours] < checkpointOf("logits").tolerance,
    `greedy id ${ours}, llama.cpp's ${theirs} by a margin of ${last[theirs] - last[ours]}`,
  );
  return theirs;
}

/**
 * A process that loads a model, runs its first passes, and says what they took: one line of JSON. Nothing else is in its memory.
 *
 * @module
 */
import process from "node:process";
import { timeGeneration } from "../../inspect/bench/model_bench.ts";
import type { LoadModelOptions } from "../../inspect/run/loading.ts";
import { loadModel } from "../../inspect/run/model.ts";

/** What the process is asked for, as JSON in its argument. */
export interface FirstPassesRequest extends Pick<LoadModelOptions, "backend" | "tune" | "threads"> {
  readonly model: string;
  /** Tokens of the very first prompt. */
  readonly first: number;
  /** Tokens of the prompt after which memory is looked at, if the context holds them, and how many are generated. */
  readonly prompt: number;
  readonly decode: number;
}

/** What it says. */
export interface FirstPasses {
  /** Tokens of the prompt that was run. */
  readonly prompt: number;
  /** Milliseconds from a prompt to its first token, right after the model was loaded. */
  readonly firstTokenMs: number;
  /** Most bytes of memory that the process has had. */
  readonly peakBytes: number;
  /** Bytes of buffers on the GPU; absent where there is none. */
  readonly allocatedBytes?: number;
}

async function main({ model: name, first, decode, ...request }: FirstPassesRequest) {
  const { prompt: wanted, ...options } = request;
  using model = await loadModel(name, { ...options, onProgress: () => {} });
  const { prefillMs } = await timeGeneration(model, first, 1);
  const prompt = Math.min(wanted, model.config.contextLength - decode);
  await timeGeneration(model, prompt, decode);
  const passes: FirstPasses = {
    prompt,
    firstTokenMs: prefillMs,
    peakBytes: process.resourceUsage().maxRSS * 1024,
    allocatedBytes: model.loaded.device?.allocated,
  };
  console.log(JSON.stringify(passes));
}

if (import.meta.main) await main(JSON.parse(Deno.args[0]));

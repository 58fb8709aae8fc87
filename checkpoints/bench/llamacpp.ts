/** llama.cpp as a peer: the file as people run it, on the CPU or on the GPU that Vulkan shows. */
import type { Peer, Task } from "../../inspect/bench/peer.ts";
import { ReferenceFailure } from "../reference.ts";
import { LlamaCppClient, type LlamaCppTimer } from "../references/llamacpp_client.ts";
import {
  LLAMA_CPP,
  type LlamaCppLibrary,
  llamaCppLibrary,
} from "../references/llamacpp_library.ts";
import type { PeerOptions } from "./peers.ts";

/** Tokens that are decoded to be timed. */
const DECODED = 16;
/** A first run on Vulkan compiles shaders: minutes, on a software device. */
const TIMEOUT_MS = 30 * 60_000;

/** Starts llama.cpp with the model. */
export async function llamaCppPeer(
  vulkan: boolean,
  { path, name, signal, onProgress }: PeerOptions,
): Promise<Peer> {
  const onFetch = (packageName: string) => onProgress(`fetching ${packageName} with npm`);
  const library = await llamaCppLibrary({ vulkan, onFetch, signal });
  const { client, release, device } = await clientWith(library, vulkan, signal);
  const timer = client.time({ task: "time", model: path, gpu: vulkan }, signal);
  const cores = navigator.hardwareConcurrency;
  let threads: number;
  try {
    threads = vulkan ? 1 : await bestThreads(timer, [Math.max(1, cores >> 1), cores]);
  } catch (error) {
    await timer[Symbol.asyncDispose]();
    throw error;
  }
  const where = vulkan ? device.description : `CPU, ${threads} of ${cores} threads (the faster)`;
  return {
    name: vulkan ? "llama.cpp:vulkan" : "llama.cpp",
    description: `llama.cpp ${release} (${library.origin}), ${where}; ${name} as it is`,
    kinds: vulkan
      ? ["prefill", "decode"]
      : ["prefill", "decode", "prefill captured", "decode captured"],
    async measure({ kind, tokens }: Task) {
      const observed = kind.endsWith("captured");
      const decode = kind.startsWith("decode") ? DECODED : 0;
      const timed = await timer.measure({ prompt: tokens, decode, threads, observed });
      return decode > 0 ? timed.decodeMs / decode : timed.prefillMs;
    },
    [Symbol.asyncDispose]: () => timer[Symbol.asyncDispose](),
  };
}

/** llama.cpp takes a software device only where its number is named. */
async function clientWith(library: LlamaCppLibrary, vulkan: boolean, signal?: AbortSignal) {
  for (const choice of vulkan ? [true, 0] : [false]) {
    const client = new LlamaCppClient(library, {
      ...{ asIs: true, vulkan: choice, timeout: TIMEOUT_MS },
    });
    const { release, devices } = await client.describe(signal);
    const device = devices.find(({ gpu }) => gpu === vulkan);
    if (device) return { client, release, device };
  }
  throw new ReferenceFailure(LLAMA_CPP, "it finds no GPU here");
}

/** ggml's threads wait for each other spinning: where the machine has other things to do, fewer can be faster. */
async function bestThreads(timer: LlamaCppTimer, choices: readonly number[]): Promise<number> {
  let [best, least] = [choices[0], Infinity];
  for (const threads of new Set(choices)) {
    const work = { prompt: 1, decode: 8, threads, observed: false };
    await timer.measure(work);
    const { decodeMs } = await timer.measure(work);
    if (decodeMs < least) [best, least] = [threads, decodeMs];
  }
  return best;
}

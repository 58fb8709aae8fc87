/** llama.cpp as a peer: the file as people run it, on the CPU or on the GPU that Vulkan shows. */
import type { Peer, Task } from "../../inspect/bench/peer.ts";
import { ReferenceFailure } from "../references/reference.ts";
import { LlamaCppClient } from "../references/llamacpp/client.ts";
import {
  LLAMA_CPP,
  type LlamaCppLibrary,
  llamaCppLibrary,
} from "../references/llamacpp/library.ts";
import type { PeerOptions } from "./peer_options.ts";

/** Tokens that are decoded to be timed. */
const DECODED = 16;
/** A first run on Vulkan compiles shaders: minutes, on a software device. */
const TIMEOUT_MS = 30 * 60_000;

/** Starts llama.cpp with the model. */
export async function llamaCppPeer(
  vulkan: boolean,
  { path, name, threads: wanted, signal, onProgress }: PeerOptions,
): Promise<Peer> {
  const onFetch = (packageName: string) => onProgress(`fetching ${packageName} with npm`);
  const library = await llamaCppLibrary({ vulkan, onFetch, signal });
  const { client, release, device } = await clientWith(library, vulkan, signal);
  const timer = client.time({ task: "time", model: path, gpu: vulkan }, signal);
  const cores = navigator.hardwareConcurrency;
  const threads = vulkan ? [1] : wanted ? [wanted] : [...new Set([Math.max(1, cores >> 1), cores])];
  const where = vulkan ? device.description : `CPU, ${threadsWords(threads)}`;
  return {
    name: vulkan ? "llama.cpp:vulkan" : "llama.cpp",
    description: `llama.cpp ${release} (${library.origin}), ${where}; ${name} as it is`,
    kinds: vulkan
      ? ["prefill", "decode"]
      : ["prefill", "decode", "prefill captured", "decode captured"],
    async measure({ kind, tokens }: Task) {
      const observed = kind.endsWith("captured");
      const decode = kind.startsWith("decode") ? DECODED : 0;
      let least = Infinity;
      // ggml's threads wait for each other spinning: where the machine has other things to do, fewer can be faster.
      for (const count of threads) {
        const work = { prompt: tokens, decode, threads: count, observed };
        const { prefillMs, decodeMs } = await timer.measure(work);
        least = Math.min(least, decode > 0 ? decodeMs / decode : prefillMs);
      }
      return least;
    },
    [Symbol.asyncDispose]: () => timer[Symbol.asyncDispose](),
  };
}

function threadsWords(counts: readonly number[]): string {
  return counts.length > 1
    ? `the faster of ${counts.join(" and ")} threads`
    : `${counts[0]} thread${counts[0] === 1 ? "" : "s"}`;
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

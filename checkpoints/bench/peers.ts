/** The peers by the names that people type. */
import type { PeerOptions } from "./peer_options.ts";
import type { Peer } from "../../inspect/bench/peer.ts";
import type { NotMeasured } from "../../inspect/bench/probe.ts";
import { ReferenceFailure } from "../references/reference.ts";
import { checkCpuOnly, pyTorchEnvironment } from "../references/pytorch/reference.ts";
import {
  pythonEnvironment,
  PythonEnvironmentError,
  type PythonPackage,
} from "../references/processes/python_environment.ts";
import { llamaCppPeer } from "./llamacpp.ts";
import { pythonPeer } from "./python.ts";

const OPEN: Readonly<Record<string, (options: PeerOptions) => Promise<Peer>>> = {
  "llama.cpp": (options) => llamaCppPeer(false, options),
  "llama.cpp:vulkan": (options) => llamaCppPeer(true, options),
  pytorch: async (options) =>
    await pythonPeer(
      { name: "pytorch", module: "transformers", kinds: ["prefill", "decode"] },
      await pyTorchEnvironment(options),
      options.config,
      options,
    ),
  transformerlens: async (options) =>
    await pythonPeer(
      {
        name: "transformerlens",
        module: "transformer_lens",
        kinds: ["prefill", "prefill captured", "patching sweep"],
      },
      await transformerLensEnvironment(options),
      options.config,
      options,
    ),
};

/** The peers that there are. */
export const PEERS: readonly string[] = Object.keys(OPEN);

/** Peers that run on a GPU only. */
const ON_GPU: readonly string[] = ["llama.cpp:vulkan"];

/** Opens peers; of one that cannot be had it says why. */
export async function openPeers(
  names: readonly string[],
  options: PeerOptions,
): Promise<{ readonly peers: Peer[]; readonly missing: NotMeasured[] }> {
  const peers: Peer[] = [];
  const missing: NotMeasured[] = [];
  try {
    for (const name of names) {
      if (options.backend === "cpu" && ON_GPU.includes(name)) {
        missing.push({ name, problem: "it runs on a GPU, and Lamina here on the CPU" });
        continue;
      }
      options.onProgress(`starting ${name}`);
      try {
        peers.push(await OPEN[name](options));
      } catch (error) {
        const known = error instanceof ReferenceFailure || error instanceof PythonEnvironmentError;
        if (!known) throw error;
        missing.push({ name, problem: error.message });
      }
    }
  } catch (error) {
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    throw error;
  }
  return { peers, missing };
}

const TRANSFORMER_LENS = new URL("./requirements-transformerlens.txt", import.meta.url);

/** Its own environment: TransformerLens and the reference's transformers want other versions of the same packages. */
async function transformerLensEnvironment({ onProgress, signal }: PeerOptions) {
  return await pythonEnvironment(TRANSFORMER_LENS, {
    signal,
    onWait: () => onProgress("waiting for another process to install TransformerLens"),
    onInstall(packages: readonly PythonPackage[]) {
      checkCpuOnly(packages);
      onProgress("installing TransformerLens for Python: about 0.4 GB to download");
    },
  });
}

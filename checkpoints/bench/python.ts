/** Python libraries as peers: transformers and TransformerLens, on PyTorch's CPU (peer.py). */
import { fileURLToPath } from "node:url";
import type { Config } from "../../engine/model/config.ts";
import type { Peer, TaskKind } from "../../inspect/bench/peer.ts";
import { OFFLINE } from "../references/pytorch/reference.ts";
import { RequestProcess } from "../references/processes/requests.ts";
import type { Frame } from "../references/processes/frames.ts";
import type { PythonEnvironment } from "../references/processes/python_environment.ts";
import type { PeerOptions } from "./peer_options.ts";

const SCRIPT = fileURLToPath(new URL("./peer.py", import.meta.url));
const TIMEOUT_MS = 30 * 60_000;

/** A library, and what it can be measured at. */
export interface Library {
  /** As people ask for it. */
  readonly name: string;
  readonly module: "transformers" | "transformer_lens";
  readonly kinds: readonly TaskKind[];
}

/** Starts a library with a model of this shape. */
export async function pythonPeer(
  { name, module, kinds }: Library,
  environment: PythonEnvironment,
  config: Config,
  { threads, signal }: Pick<PeerOptions, "threads" | "signal">,
): Promise<Peer> {
  const start = environment.start([SCRIPT, module]);
  const process = new RequestProcess(name, {
    ...start,
    env: { ...OFFLINE, WANDB_MODE: "disabled" },
    timeout: TIMEOUT_MS,
  });
  const ask = <T>(request: Record<string, unknown>, take: (frame: Frame) => T | undefined) =>
    process.ask(request, take, signal);
  try {
    const description = await ask(
      { load: config, threads: threads ?? null },
      ({ header }) => header.kind === "ready" ? String(header.description) : undefined,
    );
    return {
      name,
      description: `${description}; random weights of the same shape`,
      kinds,
      measure: (task) =>
        ask(
          { measure: task },
          ({ header }) => header.kind === "timed" ? Number(header.ms) : undefined,
        ),
      [Symbol.asyncDispose]: () => process.close(),
    };
  } catch (error) {
    await process.close();
    throw error;
  }
}

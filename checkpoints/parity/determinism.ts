/** Whether the same model, prompt and device give the same bits, run after run and process after process. */
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { Engine } from "../../engine/backend.ts";
import type { TuneMode } from "../../engine/webgpu/tuning/tuning.ts";

/** What is repeated. */
export interface DeterminismCase {
  readonly ids: readonly number[];
  /** Tokens that are generated greedily after them. */
  readonly generate: number;
}

/** What came of it. */
export interface Determinism {
  /** Runs that were asked for, and that were made: fewer where the time ran out. */
  readonly asked: number;
  readonly runs: number;
  /** Of these, runs in processes of their own. */
  readonly processes: number;
  readonly ids: readonly number[];
  /** Tokens that each run generated. */
  readonly tokens: number;
  /** SHA-256 over ids and all logits of the first run. */
  readonly digest: string;
  /** Whether all runs gave it. */
  readonly equal: boolean;
}

/** How it is run. */
export interface DeterminismOptions {
  readonly runs: number;
  /** Fresh processes among them. */
  readonly processes: number;
  /** What a fresh process loads. */
  readonly model: string;
  /** As the engine was loaded: fresh processes take what it found. */
  readonly tune?: TuneMode;
  /** Milliseconds after which no further run is begun. */
  readonly timeLimit?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** SHA-256 of a run's ids and of the bits of its logits, step by step. */
export async function digestOf(
  engine: Engine,
  { ids, generate }: DeterminismCase,
): Promise<string> {
  const hash = createHash("sha256");
  const session = engine.session({ capacity: ids.length + generate });
  try {
    for (let at = 0; at < ids.length; at += session.maxTokens) {
      const chunk = ids.slice(at, at + session.maxTokens);
      const tensors = await session.pass({ ids: chunk, wanted: ["logits", "argmax"] });
      for (const name of ["logits", "argmax"]) update(hash, tensors.get(name)!.data);
    }
    for (let step = 0; step < generate; step++) {
      const tensors = await session.pass({ ids: "next", wanted: ["logits", "argmax"] });
      for (const name of ["logits", "argmax"]) update(hash, tensors.get(name)!.data);
    }
  } finally {
    session.dispose();
  }
  return hash.digest("hex");
}

function update(hash: ReturnType<typeof createHash>, data: Float32Array): void {
  hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** Repeats a case here and in fresh processes. */
export async function determinism(
  engine: Engine,
  each: DeterminismCase,
  options: DeterminismOptions,
): Promise<Determinism> {
  const { runs: asked, timeLimit = Infinity, signal, onProgress, model } = options;
  // A process that went on tuning could choose what was not chosen here.
  const tune = options.tune === "never" ? "never" : "known";
  const started = performance.now();
  const first = await digestOf(engine, each);
  let equal = true;
  let runs = 1;
  const wanted = Math.min(options.processes, asked - 1);
  const late = () => performance.now() - started > timeLimit;
  let processes = 0;
  for (; processes < wanted && !late(); processes++, runs++) {
    signal?.throwIfAborted();
    onProgress?.(runs, asked);
    equal &&= await digestInProcess({ ...each, model, backend: engine.backend, tune }) === first;
  }
  for (; runs < asked && !late(); runs++) {
    signal?.throwIfAborted();
    onProgress?.(runs, asked);
    equal &&= await digestOf(engine, each) === first;
  }
  const { ids, generate: tokens } = each;
  return { asked, runs, processes, ids, tokens, digest: first, equal };
}

/** What a process is told. */
export interface ProcessCase extends DeterminismCase {
  readonly model: string;
  readonly backend: Engine["backend"];
  readonly tune?: TuneMode;
}

async function digestInProcess(each: ProcessCase): Promise<string> {
  const script = fileURLToPath(new URL("./determinism_process.ts", import.meta.url));
  const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
  const args = ["run", "-q", "--no-prompt", `--config=${config}`, "-P=parity", script];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args, JSON.stringify(each)],
    stdin: "null",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim().split("\n").at(-1));
  return new TextDecoder().decode(stdout).trim();
}

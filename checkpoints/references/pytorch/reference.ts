/** PyTorch as a reference: Hugging Face transformers on the CPU, in 32- or 16-bit floats, with eager attention (pytorch.py). */
import { kindOf } from "../../../base/layer_names.ts";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { toAdjacent } from "../../../inspect/points/points.ts";
import { POINT_KINDS } from "../../../inspect/points/kinds.ts";
import type { ChatMessage } from "../../../text/mod.ts";
import { ModelError } from "../../../models/error.ts";
import { readForeignJson } from "../../../models/foreign_json.ts";
import {
  type Reference,
  ReferenceFailure,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
} from "../reference.ts";
import { RequestProcess } from "../processes/requests.ts";
import { addToPass, type Frame } from "../processes/frames.ts";
import {
  type PythonEnvironment,
  pythonEnvironment,
  PythonEnvironmentError,
  type PythonPackage,
} from "../processes/python_environment.ts";

/** What {@linkcode pyTorchReference} is asked for. */
export interface PyTorchOptions {
  /** The file that is compared: its sizes and its row order count. */
  readonly file: GgufFile;
  /** What PyTorch runs: that file, dequantized, or a folder with the original's config.json and safetensors. */
  readonly weights: { readonly gguf: string } | { readonly folder: string };
  /** What weights and activations are rounded to; default `f32`. */
  readonly type?: PyTorchType;
  /** Its Python; made where it is not there yet ({@linkcode pyTorchEnvironment}). */
  readonly environment?: PythonEnvironment;
  /** Called with a line before something that takes long. */
  readonly onProgress?: (line: string) => void;
  /** Milliseconds for which it may be silent before it counts as hanging. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/** How {@linkcode pyTorchEnvironment} makes one. */
export interface PyTorchEnvironmentOptions {
  /** Fails where pip would take PyTorch's CUDA build, which is gigabytes. */
  readonly cpuOnly?: boolean;
  /** Called with a line before something that takes long: is told the size before anything is downloaded. */
  readonly onProgress?: (line: string) => void;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** Types that PyTorch computes a model in. */
export type PyTorchType = keyof typeof DTYPES;

/** PyTorch's names of them. */
const DTYPES = { f32: "float32", bf16: "bfloat16", f16: "float16" };

const NAME = "PyTorch";
const SCRIPT = fileURLToPath(new URL("./pytorch.py", import.meta.url));
const REQUIREMENTS = new URL("./requirements-pytorch.txt", import.meta.url);

const CPU_BUILD =
  "for the CPU build set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds, which its page Get Started names";

/**
 * Of two builds of PyTorch one brings gigabytes along.
 *
 * @throws {PythonEnvironmentError} for that one
 */
export function checkCpuOnly(packages: readonly PythonPackage[]): void {
  if (!packages.some(({ name }) => name.startsWith("nvidia-"))) return;
  throw new PythonEnvironmentError(`pip would take PyTorch's CUDA build, gigabytes: ${CPU_BUILD}`);
}

/** Nothing is fetched: what is not on the disk is an error. */
export const OFFLINE = {
  HF_HUB_OFFLINE: "1",
  HF_HUB_DISABLE_TELEMETRY: "1",
  TRANSFORMERS_VERBOSITY: "error",
  TOKENIZERS_PARALLELISM: "false",
};

/**
 * The Python environment with PyTorch and transformers. Made where it is not there yet: by pip, from wherever that is configured to
 * look.
 *
 * @throws {ReferenceFailure} when it cannot be made
 */
export async function pyTorchEnvironment(
  options: PyTorchEnvironmentOptions = {},
): Promise<PythonEnvironment> {
  const { onProgress = () => {}, signal, cpuOnly } = options;
  function onInstall(packages: readonly PythonPackage[]): void {
    const cuda = packages.some(({ name }) => name.startsWith("nvidia-"));
    if (cpuOnly) checkCpuOnly(packages);
    const size = cuda
      ? `the CUDA build, about 3 GB to download and 7 GB on disk; ${CPU_BUILD}`
      : "about 0.3 GB to download and 1.3 GB on disk";
    const torch = packages.find(({ name }) => name === "torch");
    onProgress(`installing PyTorch ${torch?.version} and transformers for Python: ${size}`);
  }
  const onWait = () => onProgress("waiting for another process to install PyTorch");
  try {
    return await pythonEnvironment(REQUIREMENTS, { onInstall, onWait, signal });
  } catch (error) {
    const isExpected = error instanceof PythonEnvironmentError || error instanceof ModelError;
    if (!isExpected) throw error;
    throw new ReferenceFailure(NAME, error.message);
  }
}

/**
 * PyTorch with a model. Loading it takes 6 s for `tiny` and 20 s for `smollm2-135m`; it then stays until it is closed.
 *
 * Points: all but the parts of norms (`*_rms`, `*_pre`) and `head_result`. A folder's tokenizer is there too; a GGUF file's is not:
 * transformers rebuilds it only nearly (spaces at the beginning go missing).
 *
 * Against the oracle on SmolLM2 it keeps the tolerances at every point with 60 tokens. It computes RoPE's angles in 32 bits,
 * so that with 500 tokens q_rope is 2.4 times as far off from exact angles as it may be, and its `provenance.rope` is `f32`. In `bf16` and
 * `f16` weights, activations and RoPE's cosines and sines are rounded, while norms and the softmax are computed in 32 bits within.
 *
 * @throws {ReferenceFailure} when there is no Python for it, or transformers cannot read the weights whole
 * @throws {GgufError} when the file is no model that is known
 */
export async function pyTorchReference(options: PyTorchOptions): Promise<Reference> {
  const { file, weights, type = "f32", signal, onProgress } = options;
  const config = readConfig(file);
  if ("gguf" in weights) checkReadable(config);
  else await checkFolder(weights.folder);
  const environment = options.environment ?? await pyTorchEnvironment({ onProgress, signal });
  const process = new RequestProcess(NAME, {
    ...environment.start([SCRIPT]),
    env: OFFLINE,
    timeout: options.timeout,
  });
  try {
    const from = "gguf" in weights
      ? { load: dirname(resolve(weights.gguf)), gguf: basename(weights.gguf) }
      : { load: resolve(weights.folder), gguf: null };
    const load = { ...from, dtype: DTYPES[type] };
    const ready = await process.ask(load, (frame) => readyOf(frame), signal);
    checkSizes(config, ready.sizes);
    return {
      provenance: {
        name: NAME,
        version: `${ready.torch} (transformers ${ready.transformers})`,
        device: "CPU",
        weights: "gguf" in weights
          ? `${basename(weights.gguf)}, dequantized to ${type.toUpperCase()}`
          : `${weights.folder} in ${type.toUpperCase()}`,
        rope: "f32",
        activations: type,
      },
      run: (request) => run(process, config, request),
      isOtherTokenizer: true,
      ...ready.tokenizer && {
        tokenize: (texts: readonly string[]) => process.ask({ tokenize: texts }, idsOf),
        renderChat: async (messages: readonly ChatMessage[]) =>
          (await process.ask({ chat: messages }, textOf)).text ?? undefined,
      },
      close: () => process.close(),
    };
  } catch (error) {
    await process.close();
    throw error;
  }
}

async function run(
  process: RequestProcess,
  config: Config,
  request: ReferenceRequest,
): Promise<ReferenceRun> {
  const { ids, generate, forced = [], steps, points, signal } = request;
  const passes = new Map<number, ReferencePass>();
  const { ids: chosen, margins } = await process.ask(
    { run: { ids, generate, forced, steps, points } },
    (frame) => {
      const { kind, step } = frame.header;
      if (kind === "tensor") addToPass(passes, inFileOrder(frame, config));
      if (kind === "pass" && steps.includes(Number(step))) addToPass(passes, frame);
      if (kind === "done") return frame.header as unknown as Pick<ReferenceRun, "ids" | "margins">;
    },
    signal,
  );
  return { passes: [...passes.values()], ids: chosen, margins };
}

/** Hugging Face's heads are in halves; those of a file may be in adjacent pairs. */
function inFileOrder(frame: Frame, { ropes: [rope], headWidth }: Config): Frame {
  const { rotary = false } = POINT_KINDS[kindOf(String(frame.header.point))] ?? {};
  if (!rotary || rope?.style !== "adjacent") return frame;
  return { ...frame, body: toAdjacent(frame.body, headWidth, rope.width) };
}

/** transformers takes some of a file's metadata for granted, and would be wrong without a word. */
function checkReadable({ ropes, architecture }: Config): void {
  if (ropes.every(({ scaling }) => scaling.type === "none")) return;
  throw new ReferenceFailure(
    NAME,
    `transformers cannot read this file whole, it leaves out ${architecture}.rope.scaling`,
  );
}

/** What transformers does not find on the disk it would look for under that name elsewhere. */
async function checkFolder(folder: string): Promise<void> {
  const config = await readForeignJson(join(folder, "config.json")).catch((error) => {
    throw new ReferenceFailure(NAME, error.message);
  });
  if (config) return;
  throw new ReferenceFailure(NAME, `${folder} is no folder with a config.json and safetensors`);
}

const SIZES = [
  "layers",
  "width",
  "ffnWidth",
  "heads",
  "kvHeads",
  "headWidth",
  "ropeWidth",
  "vocabSize",
] as const;

interface Ready {
  readonly torch: string;
  readonly transformers: string;
  readonly tokenizer: boolean;
  readonly sizes: Readonly<Record<typeof SIZES[number], number>>;
}

function readyOf({ header }: Frame): Ready | undefined {
  return header.kind === "ready" ? header as unknown as Ready : undefined;
}

function idsOf({ header }: Frame): readonly number[][] | undefined {
  return header.kind === "ids" ? header.ids as number[][] : undefined;
}

function textOf({ header }: Frame): { readonly text: string | null } | undefined {
  return header.kind === "text" ? header as unknown as { text: string | null } : undefined;
}

/** Of another model the numbers would be compared in vain. */
function checkSizes(config: Config, sizes: Ready["sizes"]): void {
  const own: Ready["sizes"] = { ...config, ropeWidth: config.ropes[0]?.width };
  const other = SIZES.find((name) => sizes[name] !== own[name]);
  if (other === undefined) return;
  throw new ReferenceFailure(
    NAME,
    `its model is another one: ${other} is ${sizes[other]}, in the file ${own[other]}`,
  );
}

/** llama.cpp as a reference: its own tensors, live, in a process of its own. */
import { join } from "node:path";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import { hasVocabulary } from "../../../inspect/run/vocabulary.ts";
import { isFile } from "../../../models/cache.ts";
import { identityOf, partPaths } from "../../../models/identity.ts";
import type { FoundModel } from "../../../models/mod.ts";
import { guarded } from "../../../models/part_file.ts";
import {
  f32Copy,
  type F32CopyOptions,
  f32Folder,
  f32Path,
  mayBeCopied,
} from "../../files/f32_copy.ts";
import {
  type ActivationType,
  type Provenance,
  type Reference,
  ReferenceFailure,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
} from "../reference.ts";
import { addToPass } from "../processes/frames.ts";
import {
  type Choices,
  choicesOf,
  LlamaCppClient,
  type Runner,
  runner,
  settledBy,
} from "./client.ts";
import { LLAMA_CPP, llamaCppLibrary } from "./library.ts";
import { f32Bytes, hasWindows, LayerWindows, windowLayers } from "./windows.ts";
import { makeScratch, type Scratch } from "../../files/scratch.ts";

/** Which model llama.cpp runs, and how. */
export interface LlamaCppOptions extends F32CopyOptions {
  readonly model: FoundModel;
  /** Whether it runs the file itself, as people do, where it rounds activations as the weights are rounded; default a 32-bit copy. */
  readonly asIs?: boolean;
  /**
   * Its Vulkan build, on the device with this number (`GGML_VK_VISIBLE_DEVICES`) or on those that it chooses; default the CPU. It
   * rounds some products to 16 bits whatever the weights are.
   */
  readonly vulkan?: boolean | number;
  /** Default: one for two processors. */
  readonly threads?: number;
  /**
   * Layers that are run at a time, each such window as a 32-bit file of its own, written when its turn comes; for models too
   * large for a whole copy. The ids of decoding steps have to be forced then. Default: all, or as many as `budget` allows.
   */
  readonly window?: number;
  /** The most bytes of 32-bit weights on disk, and so in memory; 6 GiB. */
  readonly budget?: number;
  /** A folder that holds llama.cpp's libraries; default those of npm's `@node-llama-cpp/…`, fetched on first use. */
  readonly library?: string;
  /** Called before they are fetched. */
  readonly onFetch?: (packageName: string) => void;
  /** Milliseconds without a sign of life after which its process counts as hanging; 5 minutes. */
  readonly timeout?: number;
}

/** What GELU makes. */
const GELU_POINTS = ["ffn_act", "ffn_expert_act", "ffn_shared_act"];

const BUDGET_BYTES = 6 * 2 ** 30;

/**
 * llama.cpp on a model, by default on its 32-bit copy, on the CPU: flash attention off, KV cache in F32, logits for every row. What
 * its graph does not show (the root mean squares, `probs`) is not there. Its process lives as long as a call.
 *
 * @throws {ReferenceFailure} when its library is missing, cannot be fetched, or has another version
 * @throws {GgufError} when the model is none that Lamina reads
 * @throws {ModelError} when the disk has no room for the 32-bit copy
 */
export async function llamaCppReference(options: LlamaCppOptions): Promise<Reference> {
  const { model, asIs = false, vulkan = false, env = Deno.env.get, signal } = options;
  const gpu = vulkan !== false;
  const library = await llamaCppLibrary({
    folder: options.library,
    vulkan: gpu,
    onFetch: options.onFetch,
    env,
    signal,
  });
  const llama = new LlamaCppClient(library, options);
  const { release, devices } = await llama.describe(signal);
  const device = devices.find((each) => each.gpu === gpu);
  if (device === undefined) throw new ReferenceFailure(LLAMA_CPP, "it finds no GPU here");

  const file = await openFound(model);
  let scratch: Scratch | undefined;
  async function close(): Promise<void> {
    file.close();
    await scratch?.[Symbol.asyncDispose]();
    scratch = undefined;
  }
  try {
    const config = readConfig(file, { like: "llama.cpp" });
    const layers = asIs ? config.layers : await layersAtATime(file, config, options);
    const windowed = layers < config.layers;
    if (windowed || (asIs && model.path === undefined)) {
      const folder = f32Folder(env);
      scratch = await guarded(model.name, folder, () => makeScratch(folder));
    }
    // What has the vocabulary, too.
    const path = windowed || asIs ? await onDisk(model, scratch) : await f32Copy(model, options);
    const settled = settledBy(config, gpu, options.threads);
    const run = runner(llama, settled);
    const windows = windowed
      ? new LayerWindows(file, config, {
        ...options,
        name: model.name,
        layers,
        folder: scratch!.path,
      })
      : undefined;
    const provenance: Provenance = {
      name: LLAMA_CPP,
      version: `${release} (${library.origin})`,
      device: gpu ? device.description : `CPU (${device.description})`,
      weights: asIs
        ? `${model.name} as it is`
        : `F32 copy of ${model.name}${windowed ? `, ${layers} layers at a time` : ""}`,
      rope: "ggml",
      activations: asIs ? activationsFor(file) : gpu ? "f16" : "f32",
      // On the CPU its GELU is a table of 16-bit floats: ggml-cpu/vec.h, GGML_GELU_FP16.
      ...config.activation === "gelu_tanh" && !gpu ? { halves: GELU_POINTS } : {},
    };
    return {
      provenance,
      needsForcedIds: windowed,
      async run(request) {
        checkIds(request, config);
        return await (windows ? windows.run(request, run) : runWhole(request, path, run));
      },
      ...(windows ? {} : {
        follow: ({ signal, ...request }) =>
          llama.follow({ ...request, ...settled, task: "follow", model: path }, signal),
      }),
      sample: (logits, options) => llama.sample(logits, options),
      ...(hasVocabulary(file) ? { tokenize: (texts) => llama.tokenize(path, texts) } : {}),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** How many layers fit: all where the whole copy does, or is there already. */
async function layersAtATime(
  file: GgufFile,
  config: Config,
  { model, window, budget = BUDGET_BYTES, env = Deno.env.get, signal }: LlamaCppOptions,
): Promise<number> {
  const fits = f32Bytes(file.tensors.values()) <= budget;
  if (window === undefined && fits) return config.layers;
  if (!hasWindows(config)) {
    if (window === undefined) return config.layers; // whole, whatever the budget
    throw new ReferenceFailure(
      LLAMA_CPP,
      `layers of ${config.architecture} differ by their number, so that it cannot run some at a time`,
    );
  }
  if (window !== undefined) return Math.min(window, config.layers);
  if (await mayBeCopied(file, env)) {
    const copy = await f32Path(model, file, await identityOf(model, env), { env, signal });
    if (await isFile(copy)) return config.layers;
  }
  return windowLayers(file, config, budget);
}

/** The model's own file; the first part of a split one, which llama.cpp wants to be told. */
async function onDisk(model: FoundModel, scratch: Scratch | undefined): Promise<string> {
  if (model.path !== undefined) return partPaths(model.path)[0];
  const path = join(scratch!.path, "model.gguf");
  await Deno.writeFile(path, model.bytes);
  return path;
}

/** To what ggml's CPU kernels round activations before a product with such weights. */
function activationsFor(file: GgufFile): ActivationType {
  const types = new Set<string>();
  for (const { type, shape } of file.tensors.values()) {
    if (shape.length > 1) types.add(type.blockSize > 1 ? "q8" : type.name.toLowerCase());
  }
  return (["q8", "bf16", "f16"] as const).find((type) => types.has(type)) ?? "f32";
}

function checkIds({ ids, forced = [] }: ReferenceRequest, { vocabSize }: Config): void {
  if (ids.length === 0) throw new ReferenceFailure(LLAMA_CPP, "no ids were given");
  const unknown = [...ids, ...forced].find((id) => !(id >= 0 && id < vocabSize));
  if (unknown !== undefined) throw new ReferenceFailure(LLAMA_CPP, `it knows no id ${unknown}`);
}

async function runWhole(
  request: ReferenceRequest,
  model: string,
  run: Runner,
): Promise<ReferenceRun> {
  const { signal, ...task } = request;
  const passes = new Map<number, ReferencePass>();
  let choices: Choices = { ids: [], margins: [] };
  for await (const frame of run({ ...task, model, firstLayer: 0 }, { signal })) {
    addToPass(passes, frame);
    if (frame.header.kind === "choices") choices = choicesOf(frame);
  }
  return { passes: [...passes.values()], ...choices };
}

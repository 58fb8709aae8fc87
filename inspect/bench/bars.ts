/** What Lamina is to reach, by backend and model. */
import type { Model } from "../run/model.ts";

/** The bars of a model on its backend; what is undefined has none. */
export interface Bars {
  /** Least speed over another engine's, by task and engine. */
  readonly against: Readonly<Record<string, number>>;
  /** Least percentage of the streaming read at which weights are read while decoding. */
  readonly read?: number;
  /** Least percentage of the best plain f32 products' speed at which a prompt runs. */
  readonly products?: number;
  /** How much longer a token may take after the longest context than after the shortest. */
  readonly longContext: number;
  /** Most milliseconds from starting a process to the first token, by model. */
  readonly start: Readonly<Record<string, number>>;
  /** Most bytes that a process may take beside the weights. */
  readonly memory?: number;
}

/** Of SmolLM2 on two cores, by backend: a GPU's are those of a software device. */
const SMOLLM2 = {
  webgpu: {
    "decode llama.cpp:vulkan": 10,
    "prefill llama.cpp:vulkan": 2,
    "decode pytorch": 2,
    "decode llama.cpp": 0.3,
    "decode captured llama.cpp": 1.3,
    "patching sweep transformerlens": 1,
  },
  cpu: {
    "decode llama.cpp": 0.6,
    "prefill llama.cpp": 0.9,
    "decode pytorch": 4,
    "prefill pytorch": 0.6,
    "decode captured llama.cpp": 1.3,
    "prefill captured transformerlens": 1,
    "patching sweep transformerlens": 8,
  },
};

/** Less than this a processor's caches may hold in part: how fast it is read says little of memory. */
const LARGE = 2 ** 30;

/** The bars of a model where it runs. */
export function barsOf(model: Model): Bars {
  const { backend, name, weightBytes } = model;
  const { fallback = false } = model.device ?? {};
  const known = name === "smollm2-135m" && (backend === "cpu" || fallback);
  const quantized = isQuantized(model);
  const against = known ? SMOLLM2[backend] : {};
  if (backend === "cpu") {
    return {
      against,
      read: weightBytes < LARGE ? undefined : quantized ? 50 : 70,
      longContext: 1.25,
      start: { tiny: 250, "smollm2-135m": 600 },
      memory: 2 ** 29,
    };
  }
  return {
    against,
    // Where arithmetic is slow it counts too.
    read: fallback ? (quantized ? 35 : 60) : (quantized ? 70 : 80),
    products: 70,
    longContext: 1.5,
    start: {},
    // Weights are in the process's own memory where there is no other.
    memory: fallback ? 2 ** 30 : undefined,
  };
}

/** Whether most of its matrices are. */
function isQuantized({ loaded }: Model): boolean {
  const types = [...loaded.file.tensors.values()]
    .filter(({ shape }) => shape.length > 1).map(({ type }) => type.blockSize > 1);
  return types.filter((is) => is).length > types.length / 2;
}

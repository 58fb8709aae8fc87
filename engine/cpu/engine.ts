/** The CPU backend: a model's weights in the memory of the processor's threads. */
import { type Engine, engineOf } from "../backend.ts";
import type { GgufFile } from "../gguf/reader.ts";
import { freeMemory } from "../model/capacity.ts";
import type { Config } from "../model/config.ts";
import { ropeFactors } from "../model/rope_table.ts";
import { unfused } from "../model/unfused.ts";
import { type Base, type LoadOptions, loadWeights } from "../model/weights.ts";
import { passPlan } from "../plan/pass_plan.ts";
import type { Block } from "./heap.ts";
import type { Processor } from "./processor.ts";
import { CpuSession } from "./session.ts";
import { type HeapLimits, LIMITS, TileMemory } from "./tile_memory.ts";

/** Most positions of one prompt pass. */
const MAX_TOKENS = 128;

/** Most bytes of one value: a heap holds both caches of a layer, and what passes need beside them. */
const LARGEST_VALUE = 7 * 2 ** 28;

/** How a model comes onto the processor. */
export interface CpuOptions extends LoadOptions {
  /** What goes into which heap; tests make it small. */
  readonly heapLimits?: HeapLimits;
}

/**
 * Loads a model's weights into the memory of a processor's threads.
 *
 * @param base as for {@linkcode loadWeights}
 */
export async function cpuEngine(
  file: GgufFile,
  config: Config,
  processor: Processor,
  options: CpuOptions = {},
  base?: Base<Block>,
): Promise<Engine> {
  const limits = options.heapLimits ?? LIMITS;
  const plan = passPlan(config);
  const own = unfused(file, config);
  const memory = new TileMemory(processor, own, { limits, base: base?.file, free: freeMemory() });
  const weights = await loadWeights(own, plan, memory, options, base);
  const twins = new Set<string>();
  const model = {
    processor,
    config,
    plan,
    weights,
    ropeFactors: await ropeFactors(file, config),
    numbers: weights.matrices.values().reduce((sum, { rows, columns }) => sum + rows * columns, 0),
    spared: limits.values,
    onTwins: (names: readonly string[]) => names.forEach((name) => twins.add(name)),
  };
  return engineOf({
    backend: "cpu",
    config,
    plan,
    weightBytes: weights.bytes,
    maxTokens: MAX_TOKENS,
    processor: {
      get threads() {
        return processor.threads;
      },
      twins,
    },
    variant: (other, config, { signal } = {}) =>
      cpuEngine(other, config, processor, { signal }, { file: own, weights }),
    // Of the points of a pass that come back, all may lie in one heap.
    room: () => ({ buffer: LARGEST_VALUE, together: memory.together, total: freeMemory() }),
    session: (options, maxTokens, handle) =>
      new CpuSession(model, { ...options, maxTokens, handle }),
    free: () => weights.destroy(),
  });
}

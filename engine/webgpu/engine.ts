/** The WebGPU backend: a model's weights on a GPU device. */
import type { Engine } from "../backend.ts";
import type { Config } from "../config.ts";
import { forward } from "../forward.ts";
import type { GgufFile } from "../gguf/reader.ts";
import { ropeFactors } from "../rope_factors.ts";
import { type Base, type LoadOptions, loadWeights } from "../weights.ts";
import { type AdapterCheckOptions, ensureAdapterChecked } from "./adapter_check.ts";
import { usedPairs } from "./check/pairs.ts";
import type { Device } from "./device.ts";
import { MAX_TOKENS, WebgpuSession } from "./session.ts";

/** How a model comes onto a GPU. */
export interface WebgpuOptions extends LoadOptions {
  /** Checks the kernels that the model runs before it runs, unless they have passed on this adapter before. */
  readonly adapterCheck?: AdapterCheckOptions;
}

/**
 * Loads a model's weights onto a GPU device.
 *
 * @param base as for {@linkcode loadWeights}
 * @throws {AdapterError} when the check finds a kernel that computes wrongly there
 */
export async function webgpuEngine(
  file: GgufFile,
  config: Config,
  device: Device,
  options: WebgpuOptions = {},
  base?: Base<GPUBuffer>,
): Promise<Engine> {
  const weights = await loadWeights(file, config, device, options, base);
  const plan = forward(config);
  if (options.adapterCheck) {
    try {
      await ensureAdapterChecked(device, usedPairs(plan, weights), options.adapterCheck);
    } catch (error) {
      weights.destroy();
      throw error;
    }
  }
  const model = {
    device,
    config,
    plan,
    weights,
    ropeFactors: await ropeFactors(file, config),
  };
  return {
    backend: "webgpu",
    config,
    plan,
    weightBytes: weights.bytes,
    maxTokens: MAX_TOKENS,
    session: (options) => new WebgpuSession(model, options),
    variant: (other, config, { signal } = {}) =>
      webgpuEngine(other, config, device, { ...options, onProgress: undefined, signal }, {
        file,
        weights,
      }),
    dispose: () => weights.destroy(),
  };
}

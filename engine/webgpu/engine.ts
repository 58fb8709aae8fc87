/** The WebGPU backend: a model's weights on a GPU device. */
import { type Engine, engineOf } from "../backend.ts";
import { freeMemory } from "../model/capacity.ts";
import type { Config } from "../model/config.ts";
import { passPlan } from "../plan/pass_plan.ts";
import type { GgufFile } from "../gguf/reader.ts";
import { ropeFactors } from "../model/rope_table.ts";
import { unfused } from "../model/unfused.ts";
import { type Base, type LoadOptions, loadWeights, type Weights } from "../model/weights.ts";
import { type AdapterCheckOptions, ensureAdapterChecked } from "./check/adapter_check.ts";
import { usedVariants } from "./check/kernel_variants.ts";
import type { Device } from "./device.ts";
import { WebgpuSession } from "./session.ts";
import { compileAhead } from "./compile_ahead.ts";
import { builtIn, tune, type TuningOptions } from "./tuning/tuning.ts";
import { usedSteps } from "./used_steps.ts";
import { MAX_TOKENS, Workspace } from "./workspace.ts";

/** How a model comes onto a GPU. */
export interface WebgpuOptions extends LoadOptions {
  /** Checks the kernels that the model runs before it runs, unless they have passed on this adapter before. */
  readonly adapterCheck?: AdapterCheckOptions;
  /** Chooses the products' knobs before they run; the built-in ones without. */
  readonly tuning?: TuningOptions;
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
  const plan = passPlan(config);
  const own = unfused(file, config);
  const buffers = device.gpu.limits.maxStorageBuffersPerShaderStage;
  const loaded = new AbortController();
  let compiling: Promise<void> | undefined;
  // A software driver compiles on the processor that packs weights: there would be nothing to gain.
  const onLayout = device.info.fallback ? undefined : (laidOut: Weights<GPUBuffer>) => {
    const known = options.tuning && options.tuning.mode !== "never"
      ? tune(device, plan, laidOut, { file: options.tuning.file, mode: "known" })
      : Promise.resolve(builtIn(device));
    compiling = known.then((knobsOf) =>
      compileAhead(device, laidOut, usedSteps(plan, laidOut, buffers), knobsOf, loaded.signal)
    );
    compiling.catch(() => {}); // it is awaited below, unless loading fails
  };
  const weights = await loadWeights(own, plan, device, { ...options, onLayout }, base)
    .finally(() => loaded.abort());
  await compiling;
  let knobsOf = builtIn(device);
  try {
    if (options.adapterCheck) {
      await ensureAdapterChecked(
        device,
        usedVariants(plan, weights, buffers),
        options.adapterCheck,
      );
    }
    if (options.tuning) {
      const { signal } = options;
      knobsOf = await tune(device, plan, weights, { signal, ...options.tuning });
    }
  } catch (error) {
    weights.destroy();
    throw error;
  }
  const room = () => ({
    buffer: device.largestBuffer,
    together: device.largestStaging,
    // A software device computes in this machine's memory; what a card has, nobody says.
    total: device.info.fallback ? freeMemory() : undefined,
  });
  const model = {
    device,
    config,
    plan,
    weights,
    ropeFactors: await ropeFactors(file, config),
    knobsOf,
    room,
  };
  /** That of a session that has ended, for the next one. */
  let idle: Workspace | undefined;
  return engineOf({
    backend: "webgpu",
    config,
    plan,
    weightBytes: weights.bytes,
    maxTokens: MAX_TOKENS,
    variant: (other, config, { signal } = {}) =>
      webgpuEngine(other, config, device, { ...options, onProgress: undefined, signal }, {
        file: own,
        weights,
      }),
    room,
    session(options, maxTokens, handle) {
      const { capacity, ropeBuilder, signal } = options;
      if (!idle?.serves(capacity, ropeBuilder)) {
        idle?.dispose();
        idle = undefined;
      }
      const workspace = idle ?? new Workspace(model, capacity, ropeBuilder);
      idle = undefined;
      const release = () => {
        idle?.dispose();
        idle = workspace.rest() ? workspace : undefined;
        if (!idle) workspace.dispose();
      };
      const made = { capacity, maxTokens, handle, signal, release };
      return new WebgpuSession(model, workspace, made);
    },
    free() {
      idle?.dispose();
      weights.destroy();
      device.trim();
    },
  });
}

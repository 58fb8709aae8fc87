/** The probes of what a model runs on, whichever it is. */
import type { ProductShape } from "../../kernels/probes/probes.ts";
import { openProcessor } from "../run/loading.ts";
import type { Model } from "../run/model.ts";
import { cpuProbes } from "./cpu_probes.ts";
import { gpuProbes } from "./gpu_probes.ts";
import type { DeviceProbes } from "./probe.ts";

/** How a device is probed. */
export interface ProbeOptions {
  /** Bytes that the read probe reads, about: more than the caches hold. */
  readonly bytes: number;
  /** Of the processor: as many as the model was loaded with. */
  readonly threads?: number;
}

/**
 * The probes of a model's GPU, or of the processor where it runs on that.
 *
 * @param shapes of the products
 */
export function deviceProbes(
  { loaded: { device } }: Model,
  shapes: readonly ProductShape[],
  { bytes, threads }: ProbeOptions,
): DeviceProbes {
  if (device) return gpuProbes(device, shapes, bytes);
  const processor = openProcessor(threads);
  processor.expect(Infinity);
  return cpuProbes(processor, shapes, bytes);
}

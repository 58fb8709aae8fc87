/**
 * The first load on an adapter: are the kernels right that the model is about to run? Drivers that compute wrongly without
 * saying so are what users of GPU programs meet most.
 */
import { digestOf, readCacheFile, writeCacheFile } from "../cache_file.ts";
import type { KernelCase } from "../../check/case.ts";
import { kernelCases } from "../../check/cases.ts";
import { type KernelResult, problemOf } from "../../check/results.ts";
import { type KernelVariant, variantName } from "../../check/variants.ts";
import { type Device, DeviceError, kernelSource } from "../device.ts";
import { adapterName } from "../driver.ts";
import { checkKernels } from "./kernel_check.ts";

/** An adapter that computes wrongly, or refuses a kernel. */
export class AdapterError extends Error {
  /** The class's name. */
  override readonly name = "AdapterError";

  /**
   * Thrown on the first load on an adapter, by the check of the kernels.
   *
   * @param kernel the kernel at fault
   * @param adapter the GPU's name
   * @param problem how it went wrong, as the message says it
   * @param packing the weights' packing, of kernels over packed weights
   * @param refused whether the GPU refused the kernel, so that nothing was computed
   */
  constructor(
    readonly kernel: string,
    readonly adapter: string,
    problem: string,
    readonly packing?: string,
    refused = false,
  ) {
    super(
      `the GPU ${adapter} ${refused ? "cannot run the model" : "computes wrongly"}: kernel ${
        packing ? `${kernel} for ${packing}` : kernel
      } ${problem}; ` +
        "update its driver, or use the CPU backend (--backend cpu); ./denow task doctor says more",
    );
  }
}

/** How an adapter is checked. */
export interface AdapterCheckOptions {
  /**
   * File that remembers which kernels passed, on which adapter. Where it cannot be read or written, or without it, kernels
   * are checked once in each process.
   */
  readonly cacheFile?: string;
  /** Called while kernels are compiled for the check, with cases; not where all have passed before. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What passed in this process. */
const passed = new WeakMap<Device, Set<string>>();

/**
 * Checks kernels on the device against their twins, unless they have passed before: in this process, or according to
 * the cache file with the same adapter, driver, Deno and WGSL. Nothing is compiled that the model would not compile anyway.
 *
 * @throws {AdapterError} for the first kernel that is wrong
 */
export async function ensureAdapterChecked(
  device: Device,
  variants: readonly KernelVariant[],
  options: AdapterCheckOptions = {},
): Promise<void> {
  const known = passed.get(device) ?? new Set<string>();
  passed.set(device, known);
  const unknown = async () => {
    const all = await Promise.all(
      variants.map(async (variant) => ({ variant, key: await key(device, variant) })),
    );
    return all.filter(({ key }) => !known.has(key));
  };
  if ((await unknown()).length === 0) return;
  const cache = await readCache(options.cacheFile);
  for (const each of cache) known.add(each);

  const unchecked = await unknown();
  if (unchecked.length === 0) return;
  await check(device, unchecked.map(({ variant }) => variant), options.onProgress);
  for (const { key } of unchecked) known.add(key);
  const lines = new Set([...cache, ...unchecked.map(({ key }) => key)]);
  await writeCacheFile(options.cacheFile, [...lines].sort().join("\n") + "\n");
}

async function check(
  device: Device,
  variants: readonly KernelVariant[],
  onProgress: AdapterCheckOptions["onProgress"],
): Promise<void> {
  const cases = variants.map((variant) => casesOf(variant));
  const all = cases.flat();
  let compiled = 0;
  onProgress?.(compiled, all.length);
  let results: KernelResult[];
  try {
    results = await checkKernels(device, all, () => onProgress?.(++compiled, all.length));
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    // One of them was refused: which?
    results = [];
    for (const [i, each] of cases.entries()) {
      try {
        results.push(...await checkKernels(device, each));
      } catch (refusal) {
        if (!(refusal instanceof DeviceError)) throw refusal;
        const { kernel, packing } = variants[i];
        const adapter = adapterName(device.info);
        throw new AdapterError(
          kernel.name,
          adapter,
          `was refused (${refusal.message})`,
          packing?.name,
          true,
        );
      }
    }
  }
  const wrong = results.find((result) => !result.passed);
  if (!wrong) return;
  throw new AdapterError(wrong.kernel, adapterName(device.info), problemOf(wrong), wrong.packing);
}

function casesOf({ kernel, packing, taps }: KernelVariant): KernelCase[] {
  return [...kernelCases(kernel, { packings: packing && [packing], taps })];
}

/** What a passed check depends on. */
async function key(device: Device, variant: KernelVariant): Promise<string> {
  const { vendor, architecture, device: model, description, driver } = device.info;
  const digest = await digestOf([
    [vendor, architecture, model, description, driver, device.knobs],
    Deno.version.deno,
    kernelSource(variant.kernel, device.knobs, variant.packing),
  ]);
  return `${variantName(variant)} ${digest}`;
}

/** The lines of the cache file; none where it cannot be read. */
async function readCache(path: string | undefined): Promise<Set<string>> {
  const text = await readCacheFile(path) ?? "";
  return new Set(text.split("\n").filter((line) => line !== ""));
}

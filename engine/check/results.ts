/** What a device's outputs are compared with, and how the comparison is told: the same for every device. */
import type { KernelCase } from "./case.ts";

/** What a kernel left in its outputs. */
export interface KernelRun {
  /** By binding, taps included; null for taps that were off. Integers as numbers. */
  readonly outputs: readonly (Float32Array<ArrayBuffer> | null)[];
  /** Whether what lies behind the outputs was left alone. */
  readonly withinBounds: boolean;
  /** What else went wrong. */
  readonly fault?: string;
}

/** A kernel compared with its twin on one case. */
export interface KernelResult {
  readonly kernel: string;
  /** The weights' packing, of kernels over packed weights. */
  readonly packing?: string;
  readonly case: string;
  readonly passed: boolean;
  /** The output and the index of the number that is farthest off, as a share of what is allowed. */
  readonly output: string;
  readonly at: number;
  /** Its error, and how large that may be. */
  readonly worst: number;
  readonly allowed: number;
  /** What went wrong, where it was not a number that is too far off. */
  readonly fault?: string;
  /** Whether the device refused the kernel: then nothing was computed. */
  readonly refused?: boolean;
}

/** Numbers behind each input (NaN) and each output (left alone by a right kernel). */
export const MARGIN = 64;
/** What outputs hold before a kernel runs: a whole number that no kernel makes. */
export const UNTOUCHED = 7654321;

/** What the 64-bit twin gives for a case, taps included. */
export function twinOutputs(each: KernelCase): Float32Array[] {
  const outputs = each.outputs.map((length) => new Float32Array(length).fill(UNTOUCHED));
  each.kernel.twin({ ...each, outputs });
  return outputs;
}

/**
 * Holds what a kernel left against what its twin gives.
 *
 * @param allowed how far each number of each output may be off
 */
export function compare(
  { kernel, packed, kind, name }: KernelCase,
  { outputs, withinBounds, fault }: KernelRun,
  expected: readonly Float32Array[],
  allowed: readonly Float64Array[],
): KernelResult {
  const names = kernel.bindings.filter(({ kind }) => kind === "output" || kind === "tap")
    .map(({ name }) => name);
  let worst = { output: names[0], at: 0, worst: 0, allowed: allowed[0][0] };
  let worstShare = 0;
  outputs.forEach((output, i) =>
    output?.forEach((value, at) => {
      // Where the twin gives NaN or an infinity, too.
      const error = Object.is(value, expected[i][at]) ? 0 : Math.abs(value - expected[i][at]);
      const share = error === 0 ? 0 : error / allowed[i][at];
      // Any other NaN is as wrong as can be, and stays.
      if (share <= worstShare || Number.isNaN(worstShare)) return;
      worstShare = share;
      worst = { output: names[i], at, worst: error, allowed: allowed[i][at] };
    })
  );
  return {
    kernel: kernel.name,
    packing: packed?.packing.name,
    case: `${name}, ${kind} numbers`,
    passed: worstShare <= 1 && withinBounds && fault === undefined,
    ...worst,
    fault: withinBounds ? fault : "wrote behind the end of its output",
  };
}

/** A kernel that could not be run: it has failed. */
export function failure(
  kernel: string,
  fault: string,
  details: Partial<KernelResult> = {},
): KernelResult {
  const nothing = { case: "", output: "", at: 0, worst: NaN, allowed: 0 };
  return { kernel, ...nothing, passed: false, fault, ...details };
}

/** A failure in words. */
export function problemOf({ case: name, output, at, worst, allowed, fault }: KernelResult): string {
  if (fault) return `${fault} (${name})`;
  return `is off by ${worst.toPrecision(2)} at ${output}[${at}], allowed is ${
    allowed.toPrecision(2)
  } (${name})`;
}

/** Bytes of inputs and outputs that are on a device at one time, about. */
const BATCH_BYTES = 32 * 2 ** 20;

/** Cases, as many at a time as fit on a device together. */
export function* batches(cases: Iterable<KernelCase>): Generator<KernelCase[]> {
  let batch: KernelCase[] = [];
  let bytes = 0;
  for (const each of cases) {
    batch.push(each);
    for (const { length } of each.inputs) bytes += length * 4;
    for (const length of each.outputs) bytes += length * 4;
    bytes += each.packed?.words.byteLength ?? 0;
    if (bytes > BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
  }
  if (batch.length > 0) yield batch;
}

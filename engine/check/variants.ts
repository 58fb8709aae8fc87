/** What is checked at a time: a kernel, for a packing where it reads packed weights. */
import { type Packing, PACKINGS } from "../../kernels/weights/packings.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** A kernel, the packing of the weights that it reads, and whether its taps are on. */
export interface KernelVariant {
  readonly kernel: Kernel;
  /** Of kernels over packed weights. */
  readonly packing?: Packing;
  readonly taps: boolean;
}

/** `linear Q4_K`, `softmax`, `rms_norm with taps`. */
export function variantName({ kernel, packing, taps }: KernelVariant): string {
  return [kernel.name, packing?.name, taps ? "with taps" : ""].filter(Boolean).join(" ");
}

/** Forms from the most to the least common in files that people have. */
const COMMON_PACKINGS = "Q4_K Q6_K Q8_0 F16 Q4_0 Q5_K Q3_K Q2_K Q4_1 Q5_0 Q5_1 BF16 F32"
  .split(" ")
  .map((name) => PACKINGS.get(name)!);

/** A packing that drivers compile quickly. */
const QUICK_PACKING = PACKINGS.get("Q4_1")!;

/**
 * All variants of some kernels, in the order in which a check with little time takes them: every kernel, with one packing; every packing;
 * then every kernel with every packing. Taps, which only store what is there, are checked for one packing.
 */
export function variantsOf(some: Iterable<Kernel>): KernelVariant[] {
  const kernels = [...some].sort((a, b) => sourceLength(a) - sourceLength(b));
  const others = COMMON_PACKINGS.filter((packing) => packing !== QUICK_PACKING);
  const packed = kernels.filter((kernel) => kernel.packed);
  const isProduct = ({ operation }: Kernel) =>
    operation === "linear" || operation === "linear_experts";
  const hasTaps = ({ bindings }: Kernel) => bindings.some(({ kind }) => kind === "tap");
  const withQuickPacking = (kernel: Kernel, taps = false): KernelVariant => ({
    kernel,
    packing: kernel.packed ? QUICK_PACKING : undefined,
    taps,
  });
  const withOthers = (kernels: readonly Kernel[]): KernelVariant[] =>
    others.flatMap((packing) => kernels.map((kernel) => ({ kernel, packing, taps: false })));
  return [
    ...kernels.map((kernel) => withQuickPacking(kernel)),
    ...kernels.filter(hasTaps).map((kernel) => withQuickPacking(kernel, true)),
    // These are compiled soon and read every packing; the products are not.
    ...withOthers(packed.filter((kernel) => !isProduct(kernel))),
    ...withOthers(packed.filter(isProduct)),
  ];
}

/** What drivers take long to compile has a long source. */
function sourceLength({ wgsl, packed }: Kernel): number {
  return wgsl.length + (packed ? QUICK_PACKING.wgsl.length : 0);
}

/** What is compiled and checked at a time: a kernel, for a weight form where it reads packed weights. */
import { type Form, FORMS } from "../../../kernels/weights/forms.ts";
import { canBind, type Kernel } from "../../../kernels/kernel.ts";
import { KERNELS } from "../../../kernels/mod.ts";
import type { Plan } from "../../plan/plan.ts";
import type { Weights } from "../../model/weights.ts";
import { usedSteps } from "../used_steps.ts";

/** A kernel, the form of the weights that it reads, and whether its taps are on. */
export interface KernelVariant {
  readonly kernel: Kernel;
  /** Of kernels over packed weights. */
  readonly form?: Form;
  readonly taps: boolean;
}

/** `linear Q4_K`, `softmax`, `rms_norm with taps`. */
export function variantName({ kernel, form, taps }: KernelVariant): string {
  return [kernel.name, form?.name, taps ? "with taps" : ""].filter(Boolean).join(" ");
}

/** Forms from the most to the least common in files that people have. */
const COMMON_FORMS = "Q4_K Q6_K Q8_0 F16 Q4_0 Q5_K Q3_K Q2_K Q4_1 Q5_0 Q5_1 BF16 F32"
  .split(" ")
  .map((name) => FORMS.get(name)!);

/** A form that drivers compile quickly. */
const QUICK_FORM = FORMS.get("Q4_1")!;

/**
 * All variants that a device can bind, in the order in which a check with little time takes them: every kernel, with one form; every
 * form; then every kernel with every form. Taps, which only store what is there, are checked for one form.
 *
 * @param buffers the device's limit of storage buffers for a stage; any number by default
 */
export function allVariants(buffers?: number): KernelVariant[] {
  const bound = [...KERNELS.values()].filter((kernel) => canBind(kernel, buffers));
  const kernels = bound.sort((a, b) => sourceLength(a) - sourceLength(b));
  const others = COMMON_FORMS.filter((form) => form !== QUICK_FORM);
  const packed = kernels.filter((kernel) => kernel.packed);
  const isProduct = ({ operation }: Kernel) => operation === "linear";
  const hasTaps = ({ bindings }: Kernel) => bindings.some(({ kind }) => kind === "tap");
  const withQuickForm = (kernel: Kernel, taps = false): KernelVariant => ({
    kernel,
    form: kernel.packed ? QUICK_FORM : undefined,
    taps,
  });
  const withOthers = (kernels: readonly Kernel[]): KernelVariant[] =>
    others.flatMap((form) => kernels.map((kernel) => ({ kernel, form, taps: false })));
  return [
    ...kernels.map((kernel) => withQuickForm(kernel)),
    ...kernels.filter(hasTaps).map((kernel) => withQuickForm(kernel, true)),
    // These are compiled soon and read every form; the products are not.
    ...withOthers(packed.filter((kernel) => !isProduct(kernel))),
    ...withOthers(packed.filter(isProduct)),
  ];
}

/** What drivers take long to compile has a long source. */
function sourceLength({ wgsl, packed }: Kernel): number {
  return wgsl.length + (packed ? QUICK_FORM.wgsl.length : 0);
}

/** The variants that generation with these weights runs: prompts, then one position at a time. `buffers` is the device's limit. */
export function usedVariants(
  plan: Plan,
  weights: Weights<unknown>,
  buffers?: number,
): KernelVariant[] {
  const variants = new Map<string, KernelVariant>();
  for (const { kernel, matrix } of usedSteps(plan, weights, buffers)) {
    const variant = { kernel, form: matrix?.form, taps: false };
    variants.set(variantName(variant), variant);
  }
  return [...variants.values()];
}

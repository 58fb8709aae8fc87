/** The shapes over which each kernel is checked: a few for a look at a device, many for the tests. */
import { type Packing, PACKINGS } from "../../kernels/weights/packings.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import type { KernelCase, Maker } from "./case.ts";
import { Noise } from "./data.ts";
import { edits } from "./edits.ts";
import { EXPERT_CASES } from "./experts.ts";
import { HEAD_CASES } from "./heads.ts";
import { PRODUCT_CASES } from "./products.ts";
import { ROW_CASES } from "./rows.ts";
import { samples } from "./samples.ts";

/** Which cases are made. */
export interface CaseOptions {
  /** All the shapes that the tests go over, instead of the one or two that show a wrong kernel. */
  readonly full?: boolean;
  /** Weight packings for kernels over packed weights; all of them by default. */
  readonly packings?: Iterable<Packing>;
  /** Whether taps are on; true. */
  readonly taps?: boolean;
}

const CASES: Readonly<Record<Kernel["operation"], Maker>> = {
  ...ROW_CASES,
  ...PRODUCT_CASES,
  ...HEAD_CASES,
  ...EXPERT_CASES,
  edit: edits,
  sample: samples,
};

/** The cases of a kernel, the same ones each time. */
export function* kernelCases(kernel: Kernel, options: CaseOptions = {}): Generator<KernelCase> {
  const { full = false, packings = PACKINGS.values(), taps = true } = options;
  for (const packing of kernel.packed ? packings : [undefined]) {
    const noise = new Noise(`${kernel.name} ${packing?.name ?? ""}`);
    for (const draft of CASES[kernel.operation]({ kernel, packing: packing!, full, noise })) {
      yield { kernel, kind: "real", weights: [], parts: 1, taps, ...draft };
    }
  }
}

/** All kernels. */
import { argmax } from "./sampling/argmax.ts";
import { attentionKernels } from "./attention/attention.ts";
import { addBias, elementwiseKernels } from "./elementwise/elementwise.ts";
import { editKernels } from "./edits/edit.ts";
import { embeddingKernels } from "./embedding/embed.ts";
import { expertKernels } from "./experts/linear_experts.ts";
import { routeKernels } from "./experts/routing/route.ts";
import { type Computation, computationName, type Kernel } from "./kernel.ts";
import { productKernels } from "./products/products.ts";
import { normKernels } from "./norm/norm.ts";
import { ropeKernels } from "./rope/rope.ts";
import { sample } from "./sampling/sampling.ts";
import { surprisal } from "./sampling/surprisal.ts";

/** Every kernel by its name, as people ask for it; code asks {@linkcode kernelOf}. */
export const KERNELS: ReadonlyMap<string, Kernel> = new Map(
  [
    ...embeddingKernels,
    ...normKernels,
    ...productKernels,
    addBias,
    ...ropeKernels,
    ...attentionKernels,
    ...elementwiseKernels,
    argmax,
    sample,
    surprisal,
    ...editKernels,
    ...routeKernels,
    ...expertKernels,
  ].map((kernel) => [kernel.name, kernel]),
);

/** The kernel whose fields are these; undefined where there is none. */
export function kernelOf(computation: Computation): Kernel | undefined {
  return KERNELS.get(computationName(computation));
}

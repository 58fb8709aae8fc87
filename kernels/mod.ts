/** All kernels. */
import { argmax } from "./sampling/argmax.ts";
import {
  attention,
  attentionFew,
  attentionMerge,
  attentionOfBranches,
  attentionSplit,
  mix,
  scores,
  softmax,
} from "./attention/attention.ts";
import { add, addBias, swiglu, takeRows, takeRowsOfBranches } from "./elementwise/elementwise.ts";
import { edit, headResult } from "./edits/edit.ts";
import { embed } from "./embedding/embed.ts";
import { type Computation, computationName, type Kernel } from "./kernel.ts";
import { products } from "./products/products.ts";
import { normalize, rms, rmsNorm, scaleColumns } from "./norm/norm.ts";
import { rope, ropeOfBranches, ropeStore, store } from "./rope/rope.ts";
import { sample } from "./sampling/sampling.ts";

/** Every kernel by its name, as people ask for it; code asks {@linkcode kernelOf}. */
export const KERNELS: ReadonlyMap<string, Kernel> = new Map(
  [
    embed,
    rms,
    normalize,
    scaleColumns,
    rmsNorm,
    ...products,
    addBias,
    rope,
    store,
    ropeStore,
    ...ropeOfBranches,
    scores,
    softmax,
    mix,
    attention,
    attentionFew,
    attentionSplit,
    attentionMerge,
    ...attentionOfBranches,
    add,
    swiglu,
    takeRows,
    takeRowsOfBranches,
    argmax,
    sample,
    edit,
    headResult,
  ].map((kernel) => [kernel.name, kernel]),
);

/** The kernel whose fields are these; undefined where there is none. */
export function kernelOf(computation: Computation): Kernel | undefined {
  return KERNELS.get(computationName(computation));
}

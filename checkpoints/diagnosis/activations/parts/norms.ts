/** Suspected faults of norms that some families have: of queries and keys, of what is added to the stream, and LayerNorm's mean. */
import { kindOf, layerOf } from "../../../../base/layer_names.ts";
import type { Chain } from "../chain.ts";
import type { Cause } from "../../causes.ts";
import type { Operation, Variant } from "../operation.ts";

/** x [T, groups, columns] → the same, not less its mean. */
export function centerVariants({ inputs: [x] }: Operation): Variant[] {
  return [{
    ...{ cause: "layernorm", what: "the mean is not subtracted: RMSNorm", early: true },
    make: () => x.slice(),
  }];
}

/** A whole norm of a chain: its last operation, what it reads, and its weight. */
interface Norm {
  readonly name: string;
  /** Places of the chain. */
  readonly first: number;
  readonly end: number;
  readonly x: Float32Array;
  readonly scaled?: Operation;
  readonly root: Operation;
  readonly bias?: Float32Array;
  readonly centred: boolean;
}

/** A norm that is made otherwise. */
export interface NormTrial {
  readonly cause: Cause;
  readonly detail: string;
  /** The first operation that it changes. */
  readonly from: number;
  make(): Promise<Float32Array>;
}

/** Norms of heads and of what is added that are left out, are over other rows, or stand elsewhere. */
export function normTrials(chain: Chain): NormTrial[] {
  const norms = normsOf(chain.operations);
  const last = chain.operations.at(-1)!;
  const isLong = new Set(norms.map(({ name }) => layerOf(name))).size > 1;
  if (isLong) return [];
  const causeOf = ({ name }: Norm) => isOfHeads(name) ? "qk-norm" : "post-norm";
  const detailOf = (name: string, what: string) => name === last.name ? what : `${name}: ${what}`;
  const trial = (
    what: string,
    of: readonly Norm[],
    made: (norm: Norm) => Float32Array | undefined,
  ): NormTrial[] => {
    const places = new Map(of.flatMap((norm) => {
      const values = made(norm);
      return values ? [[norm.end, values] as const] : [];
    }));
    if (places.size === 0) return [];
    const from = Math.min(...places.keys());
    return [{
      cause: causeOf(of[0]),
      detail: of.length === 1
        ? detailOf(of[0].name, what)
        : `${what} (${of.map(({ name }) => name).join(" and ")})`,
      from,
      make: () => chain.replaced(from, (_, i) => Promise.resolve(places.get(i))),
    }];
  };
  const heads = norms.filter(({ name }) => isOfHeads(name));
  // Queries and keys are normed alike: both have the fault where both are not shown.
  const sets = [...norms.map((norm) => [norm]), ...heads.length > 1 ? [heads] : []];
  return sets.flatMap((set) => [
    ...trial("the norm is left out", set, ({ x }) => x),
    ...trial(
      "it is over each head instead of the whole row",
      set,
      (norm) =>
        isOfHeads(norm.name) && norm.root.step.constants.groups === 1
          ? normed(norm, last.config.headWidth)
          : undefined,
    ),
    ...trial(
      "it is over the whole row instead of each head",
      set,
      (norm) =>
        isOfHeads(norm.name) && norm.root.step.constants.groups > 1
          ? normed(norm, norm.root.step.constants.columns * norm.root.step.constants.groups)
          : undefined,
    ),
    ...trial(
      "its weight is left out",
      set,
      (norm) =>
        norm.scaled && normed({ ...norm, scaled: undefined }, norm.root.step.constants.columns),
    ),
  ]).concat(misplaced(chain, norms));
}

/** That a norm of what is added comes after the addition. */
function misplaced(chain: Chain, norms: readonly Norm[]): NormTrial[] {
  return norms.filter(({ name }) => !isOfHeads(name)).flatMap((norm): NormTrial[] => {
    const at = chain.operations.findIndex(({ step }) =>
      step.operation === "add" && step.inputs[1].name === norm.name
    );
    if (at < 0) return [];
    const { inputs: [stream] } = chain.operations[at];
    const sum = stream.map((value, i) => value + norm.x[i]);
    return [{
      cause: "post-norm",
      detail: `${norm.name}: it stands after the addition instead of before`,
      from: at,
      make: () =>
        chain.replaced(at, (_, i) =>
          Promise.resolve(
            i === at ? normed({ ...norm, x: sum }, norm.root.step.constants.columns) : undefined,
          )),
    }];
  });
}

function isOfHeads(name: string): boolean {
  return /^[qk]_norm$/.test(kindOf(name));
}

/** The norms of heads and of what is added that a chain has from their first operation on. */
function normsOf(operations: readonly Operation[]): Norm[] {
  return operations.flatMap(({ name }, end): Norm[] => {
    if (!/^([qk]_norm|(attn|ffn)_post_norm)$/.test(kindOf(name))) return [];
    const of = (part: string) => operations.findIndex((each) => each.name === `${name}${part}`);
    const [centred, root] = [of("_centered"), of("_rms")];
    if (root < 0) return [];
    const first = centred < 0 ? root : centred;
    const scaled = operations.slice(first, end + 1)
      .find(({ step }) => step.operation === "scale_columns");
    const bias = operations.slice(first, end + 1)
      .find(({ step }) => step.operation === "add_bias")?.weights[0].data;
    const own = { scaled, bias, root: operations[root], centred: centred >= 0 };
    return [{ name, first, end, x: operations[first].inputs[0], ...own }];
  });
}

/** The norm over rows of so many numbers. */
function normed({ x, scaled, bias, root, centred }: Norm, columns: number): Float32Array {
  const { epsilon } = root.step.constants;
  const weight = scaled?.weights[0].data;
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += columns) {
    let [mean, square] = [0, 0];
    if (centred) { for (let i = row; i < row + columns; i++) mean += x[i] / columns; }
    for (let i = row; i < row + columns; i++) square += (x[i] - mean) ** 2 / columns;
    const divisor = Math.sqrt(square + epsilon);
    for (let i = row; i < row + columns; i++) {
      const own = (x[i] - mean) / divisor;
      out[i] = own * (weight?.[i % weight.length] ?? 1) + (bias?.[i % bias.length] ?? 0);
    }
  }
  return out;
}

/** Suspected faults of attention between scores and the mix of values: the mask, the softmax, the scale, a soft cap. */
import { layerOf } from "../../../../base/layer_names.ts";
import { localAllowance } from "../../../parity/compare.ts";
import type { Constants } from "../../../../kernels/kernel.ts";
import { hiddenText } from "../../../parity/divergence/formulas/attention.ts";
import { factorVariants } from "../any_operation.ts";
import type { Chain } from "../chain.ts";
import { type Extent, inHeads, isEmptyRow, type Mask, maskOf, maskShapes } from "./masks.ts";
import { minimum } from "../minimum.ts";
import { HIDDEN, type Operation, rerun, type Variant } from "../operation.ts";
import { scoreOf } from "../../../../kernels/attention/scoring/score.ts";
import { roundedOutcomes } from "../rounded.ts";
import {
  causal,
  extentOf,
  forRows,
  overQueries,
  type SoftmaxOptions,
  softmaxOver,
  visiblePlaces,
} from "./softmax.ts";

/** A score that is so far below the right one is a mask's: engines fill in, or add, −∞ or numbers from −1e4 on. */
const FLOOR = -5000;
/** Probabilities above this cannot vanish by rounding. */
const VISIBLE = 1e-6;
/** Shapes of each kind that are tried where none can be read off. */
const MOST_SHAPES = 4;
/** Windows that are all tried; of longer texts powers of two. */
const MOST_WINDOWS = 64;

/** Floors at keys that should be visible, read off the scores [H, T, S] of the other side. */
export function floorVariants(operation: Operation): Variant[] {
  const { output, target } = operation;
  if (!target) return [];
  const extent = extentOf(operation);
  const isFloor = (at: number) =>
    target[at] === -Infinity || (target[at] < FLOOR && target[at] - output[at] < FLOOR);
  const { queries, keys, start } = extent;
  const mask = maskOf(
    (head, query, key) =>
      key > query ? undefined : !isFloor((head * queries + query - start) * keys + key),
    extent,
  );
  if (!mask) return [];
  return [{
    cause: "mask",
    what: mask.what,
    make: () => output.map((value, at) => isFloor(at) && value > FLOOR ? target[at] : value),
  }];
}

/** scores [H, T, S] → probabilities [H, T, S] */
export function softmaxVariants(operation: Operation): Variant[] {
  const { inputs: [scores], target, name } = operation;
  if (!name.endsWith("attn_probs")) return [];
  const variants = target ? measuredMask(operation, target) : [];
  const extent = extentOf(operation);
  return [
    ...variants,
    {
      cause: "mask",
      what: "each row has one more key, with a score of 0 and no value (the sum plus 1)",
      make: () => softmaxOver(scores, extent, causal, { sink: true }),
    },
    {
      cause: "left-out",
      what: "there is no softmax: they are the scores",
      make: () => scores.slice(),
    },
    {
      cause: "unknown",
      what: "the softmax runs over queries instead of keys",
      make: () => overQueries(scores, extent),
    },
    ...target
      ? [
        ...temperature(operation, target),
        ...cappedSoftmax(operation, target),
        ...factorVariants(operation),
        ...roundedVisible(operation),
      ]
      : [],
  ];
}

/** Roundings of scores or probabilities [H, T, S], of the keys that queries see. */
export function roundedVisible(operation: Operation): Variant[] {
  const { output, target } = operation;
  const visible = visiblePlaces(operation);
  const seen = (x: Float32Array) => Float32Array.from(visible, (at) => x[at]);
  if (!target) return [];
  const part = { output: seen(output), target: seen(target), shape: [visible.length] };
  return roundedOutcomes({ ...operation, ...part }).map((variant) => ({
    ...variant,
    make() {
      const out = output.slice();
      variant.make().forEach((value, i) => out[visible[i]] = value);
      return out;
    },
  }));
}

/** Scores that went through a soft cap before the softmax: the cap that makes log p differ within rows as it does. */
function cappedSoftmax(operation: Operation, target: Float32Array): Variant[] {
  const { inputs: [scores] } = operation;
  const extent = extentOf(operation);
  let largest = 0;
  forRows(extent, (_, query, at) => {
    for (let i = at; i <= at + query; i++) {
      if (scores[i] > HIDDEN) largest = Math.max(largest, Math.abs(scores[i]));
    }
  });
  if (!(largest > 0 && largest < Infinity)) return [];
  const error = (log: number) => {
    const cap = Math.exp(log);
    let sum = 0;
    forRows(extent, (_, query, at) => {
      const off: number[] = [];
      for (let i = at; i <= at + query; i++) {
        if (target[i] > VISIBLE) off.push(Math.log(target[i]) - cap * Math.tanh(scores[i] / cap));
      }
      const mean = off.reduce((a, b) => a + b, 0) / off.length;
      for (const each of off) sum += (each - mean) ** 2;
    });
    return sum;
  };
  const fitted = Math.exp(minimum(error, Math.log(largest / 50), Math.log(largest * 50)));
  const round = Number(fitted.toPrecision(2));
  const cap = Math.abs(fitted / round - 1) < 1e-3 ? round : fitted;
  return [{
    cause: "soft-cap",
    what: `scores go through a soft cap of ${Number(cap.toPrecision(4))} before the softmax`,
    fitted: true,
    make: () =>
      softmaxOver(
        // Masks stay masks.
        scores.map((x) => x <= HIDDEN ? x : cap * Math.tanh(x / cap)),
        extent,
        causal,
        sinksOf(operation),
      ),
  }];
}

/** The sinks that a softmax has. */
function sinksOf({ weights: [sinks] }: Operation): Pick<SoftmaxOptions, "sinks"> {
  return { sinks: sinks?.data };
}

/** What probabilities tell of their mask: zeros where a key should be seen, and mass where none should. */
function measuredMask(operation: Operation, target: Float32Array): Variant[] {
  const { output } = operation;
  const extent = extentOf(operation);
  const { queries, keys, start } = extent;
  const seen = (head: number, query: number, key: number) => {
    const at = (head * queries + query - start) * keys + key;
    const value = target[at];
    if (Number.isNaN(value)) return undefined;
    if (key > query) return value > VISIBLE ? true : value === 0 ? false : undefined;
    return value > 0 ? true : output[at] > VISIBLE ? false : undefined;
  };
  const mask = maskOf(seen, extent);
  if (!mask) return [];
  const { inputs: [scores] } = operation;
  return [
    {
      cause: "mask",
      what: mask.what,
      make() {
        const out = softmaxOver(
          scores,
          extent,
          (q, k, h) => k <= q && mask.sees(q, k, h),
          sinksOf(operation),
        );
        // Of what goes to keys of the future only the amount counts: their scores need not be shown.
        forRows(extent, (_, query, at) => {
          let beyond = 0;
          for (let key = query + 1; key < keys; key++) beyond += target[at + key];
          if (!(beyond > VISIBLE)) return;
          for (let key = 0; key < keys; key++) {
            out[at + key] = key > query ? target[at + key] : out[at + key] * (1 - beyond);
          }
        });
        return withEmptyRows(out, extent, mask, target);
      },
    },
    {
      cause: "mask",
      what: `${mask.what}, and rows are not divided by what is left`,
      make() {
        const out = output.slice();
        forRows(extent, (head, query, at) => {
          for (let key = 0; key <= query; key++) {
            if (!mask.sees(query, key, head)) out[at + key] = 0;
          }
        });
        return out;
      },
    },
  ];
}

/** With rows in which no key is seen as the other side has them: no numbers, zeros, the same for all. */
function withEmptyRows(
  out: Float32Array,
  extent: Extent,
  mask: Mask,
  target: Float32Array,
): Float32Array {
  const { keys } = extent;
  forRows(extent, (head, query, at) => {
    if (isEmptyRow(mask, head, query, keys)) out.set(target.subarray(at, at + keys), at);
  });
  return out;
}

/** The mask by which rows of probabilities are no numbers, where it explains the others; undefined where none does. */
export function maskOfNoNumbers(
  operation: Operation,
  target: Float32Array,
): string | undefined {
  if (!operation.name.endsWith("attn_probs")) return undefined;
  const { tolerance } = localAllowance(operation.name);
  return measuredMask(operation, target).find(({ make }) => {
    const made = make();
    let isSame = true;
    forRows(extentOf(operation), (_, query, at) => {
      for (let i = at; i <= at + query; i++) {
        isSame &&= Number.isNaN(made[i])
          ? Number.isNaN(target[i])
          : Math.abs(made[i] - target[i]) <= tolerance;
      }
    });
    return isSame;
  })?.what;
}

/** Scores that are times a factor before the softmax: how much log p changes with the score, by least squares. */
function temperature(operation: Operation, target: Float32Array): Variant[] {
  const { inputs: [scores], config } = operation;
  const extent = extentOf(operation);
  let [above, below] = [0, 0];
  forRows(extent, (_, query, at) => {
    let [count, meanScore, meanLog] = [0, 0, 0];
    const shown: number[] = [];
    for (let i = at; i <= at + query; i++) {
      if (!(target[i] > VISIBLE)) continue;
      shown.push(i);
      count++;
      meanScore += scores[i];
      meanLog += Math.log(target[i]);
    }
    for (const i of shown) {
      const score = scores[i] - meanScore / count;
      above += score * (Math.log(target[i]) - meanLog / count);
      below += score * score;
    }
  });
  const factor = above / below;
  if (!(factor > 0) || Math.abs(factor - 1) < 1e-4) return [];
  const [name, scale] = knownFactor(factor, config);
  return [{
    cause: "scaled",
    what: `scores are times ${name} before the softmax`,
    make: () => softmaxOver(scores, extent, causal, { scale, ...sinksOf(operation) }),
  }];
}

/** A factor that has a name, exactly, where the one that was found is close to it; else itself. */
export function knownFactor(
  factor: number,
  { width, headWidth }: { readonly width: number; readonly headWidth: number },
): [name: string, factor: number] {
  const known: [string, number][] = [
    ["√d", Math.sqrt(headWidth)],
    ["1/√d", 1 / Math.sqrt(headWidth)],
    ["d", headWidth],
    ["1/d", 1 / headWidth],
    ["√(d/D)", Math.sqrt(headWidth / width)],
    ["ln 2", Math.LN2],
    ["1/ln 2", 1 / Math.LN2],
    ["π/180", Math.PI / 180],
    ["−1", -1],
  ];
  for (const [name, value] of known) {
    if (Math.abs(factor / value - 1) < 1e-4) {
      return [`${Number(value.toPrecision(5))} (${name})`, value];
    }
  }
  const round = Number(factor.toPrecision(3));
  const value = Math.abs(factor / round - 1) < 1e-5 ? round : factor;
  return [`${Number(value.toPrecision(6))}`, value];
}

/** Scores [H, T, S] that are times one factor, or went through a soft cap: fitted where they are shown, else the usual ones. */
export function scoreVariants(operation: Operation): Variant[] {
  const { output, target, config } = operation;
  const { attentionScale, headWidth, width } = config;
  const visible = visiblePlaces(operation);
  const { scale, cap: ownCap, max_bias: bias } = operation.step.constants;
  const isPlain = ownCap === 0 && bias === 0;
  const factors = new Map<string, number>();
  const caps = new Set([50, 30]);
  if (target && isPlain) {
    let [above, below] = [0, 0];
    for (const i of visible) {
      if (output[i] <= HIDDEN) continue;
      if (!(Math.abs(target[i]) < -FLOOR)) continue;
      above += output[i] * target[i];
      below += output[i] ** 2;
    }
    if (below > 0) factors.set(...knownFactor(above / below, config));
    const seen = visible.filter((i) => output[i] > HIDDEN && target[i] > HIDDEN);
    const cap = fittedCap(seen.map((i) => output[i]), seen.map((i) => target[i]));
    if (cap !== undefined) caps.add(cap);
  } else {
    for (
      const factor of [Math.sqrt(headWidth), 1 / Math.sqrt(headWidth), Math.sqrt(headWidth / width)]
    ) factors.set(...knownFactor(factor, config));
  }
  return [
    ...[...factors].filter(([, factor]) => Math.abs(factor - 1) > 1e-6).map((
      [name, factor],
    ): Variant => ({
      cause: "scaled",
      what:
        `scores are times ${name}: scaled by ${Number((attentionScale * factor).toPrecision(5))} ` +
        `instead of ${Number(attentionScale.toPrecision(5))}`,
      make: () => rerun(operation, { constants: { scale: scale * factor } }),
    })),
    ...[...caps].filter((cap) => cap !== ownCap).map((cap): Variant => ({
      cause: "soft-cap",
      what: `scores go through ${cap} · tanh(score / ${cap})`,
      make: () => rerun(operation, { constants: { cap } }),
    })),
  ];
}

/** The cap that makes y = cap · tanh(x / cap), by golden section on its logarithm; undefined where none could. */
export function fittedCap(x: readonly number[], y: readonly number[]): number | undefined {
  const largest = y.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  if (!(largest > 0 && largest < Infinity)) return undefined;
  const error = (log: number) => {
    const cap = Math.exp(log);
    return x.reduce((sum, value, i) => sum + (cap * Math.tanh(value / cap) - y[i]) ** 2, 0);
  };
  const cap = Math.exp(minimum(error, Math.log(largest), Math.log(largest * 1000)));
  const round = Number(cap.toPrecision(3));
  return Math.abs(cap / round - 1) < 1e-4 ? round : cap;
}

/** A mask that is tried on attention as a whole. */
export interface MaskTrial {
  readonly what: string;
  /** The first operation that it changes. */
  readonly first: number;
  /** Multiplications of attention, about. */
  readonly cost: number;
  make(): Promise<Float32Array>;
}

/** Masks to be tried where probabilities are not shown: from the scores on all keys are computed, those of the future too. */
export function maskTrials(chain: Chain): MaskTrial[] {
  const { operations } = chain;
  const last = operations.at(-1)!;
  const places = [...operations.keys()].filter((i) => isAttentionStep(operations[i]));
  if (!places.some((i) => operations[i].step.operation === "softmax")) return [];
  const [first] = places;
  const extent = extentOf(operations[first]);
  const { heads, queries, keys, start } = extent;
  const own = last.step.operation === "mix" ? wrongHeads(last) : undefined;
  const layers = [...new Set(places.map((i) => layerOf(operations[i].name)!))];
  const where = layers.length > 1
    ? `in blocks ${layers[0]} to ${layers.at(-1)}: `
    : isAttentionStep(last)
    ? ""
    : `${operations[places.at(-1)!].name}: `;
  const trial = (mask: Mask, options: SoftmaxOptions = {}): MaskTrial => ({
    what: `${where}${mask.what}`,
    first,
    cost: 2 * layers.length * heads * queries * keys * last.config.headWidth,
    make: () =>
      chain.replaced(first, (operation) => Promise.resolve(attended(operation, mask, options))),
  });
  const isNone = chain.target.some((value) => Number.isNaN(value));
  const trials = maskShapes(extent, MOST_SHAPES, MOST_WINDOWS).flatMap((shape) => {
    const mask = own ? inHeads(shape, own, heads) : shape;
    const hasEmpty = Array.from({ length: queries }, (_, t) => start + t)
      .some((query) => isEmptyRow(shape, 0, query, keys));
    if (!hasEmpty) return [trial(mask)];
    const fillings = isNone ? ["none"] as const : ["zeros", "uniform", "all"] as const;
    return fillings.map((empty) => trial(mask, { empty }));
  });
  const { constants } = operations[first].step;
  const right: Mask = {
    what: "rows are divided by the sum over all keys, hidden ones too",
    sees: (query, key) =>
      hiddenText(layers.length > 1 ? {} : ownSight(last, constants), query, key) === undefined,
  };
  // What is shown was measured already.
  return [...last.step.operation === "softmax" ? [] : trials, trial(right, { cut: true })];
}

/** The window or chunk of the layer that an operation is in. */
function ownSight({ config, name }: Operation, constants: Constants): Constants {
  const { window, chunk } = config.blocks[layerOf(name) ?? 0] ?? constants;
  return { window, chunk };
}

function isAttentionStep({ step: { operation }, name }: Operation): boolean {
  return /^(scores|mix)$/.test(operation) || name.endsWith("attn_probs");
}

/** Heads [T, H, d] that differ, where not all do. */
function wrongHeads({ output, target, config: { heads, headWidth } }: Operation) {
  if (!target) return undefined;
  const wrong = new Set<number>();
  output.forEach((value, i) => {
    const near = Math.abs(value - target[i]) <= 1e-4 + 1e-4 * Math.abs(value);
    if (!near) wrong.add(Math.floor(i / headWidth) % heads);
  });
  return wrong.size === 0 || wrong.size === heads ? undefined : [...wrong].sort((a, b) => a - b);
}

/** What probabilities of keys that should be hidden add to the mix, where they are not zero. */
export function hiddenMass(operation: Operation): Variant[] {
  const { inputs: [probs] } = operation;
  const extent = extentOf(operation);
  let isZero = true;
  forRows(extent, (_, query, at) => {
    for (let key = query + 1; key < extent.keys; key++) isZero &&= probs[at + key] === 0;
  });
  if (isZero) return [];
  return [{
    cause: "mask",
    what: "sees the future: keys after the query's own have probabilities, and are mixed in",
    make: () => attended(operation, { what: "", sees: () => true }, {})!,
  }];
}

/** An operation of attention with another mask; undefined for others. */
function attended(
  operation: Operation,
  { sees }: Mask,
  options: SoftmaxOptions,
): Float32Array | undefined {
  if (!isAttentionStep(operation)) return undefined;
  const extent = extentOf(operation);
  const { inputs: [first, second], step } = operation;
  if (step.operation === "softmax") {
    return softmaxOver(first, extent, sees, { ...options, ...sinksOf(operation) });
  }
  const { heads, queries, keys, start } = extent;
  const { kvHeads, headWidth } = operation.config;
  const isScores = step.operation === "scores";
  const out = new Float32Array(isScores ? heads * queries * keys : queries * heads * headWidth);
  forRows(extent, (head, query, row) => {
    const own = ((query - start) * heads + head) * headWidth;
    for (let key = 0; key < keys; key++) {
      const from = (key * kvHeads + Math.floor(head * kvHeads / heads)) * headWidth;
      if (isScores) {
        let sum = 0;
        for (let i = 0; i < headWidth; i++) sum += first[own + i] * second[from + i];
        out[row + key] = scoreOf(step.constants, sum, head, Math.max(0, query - key));
      } else {
        const weight = first[row + key];
        // A key that is not seen adds nothing, whatever stands there.
        if (weight === 0) continue;
        for (let i = 0; i < headWidth; i++) out[own + i] += weight * second[from + i];
      }
    }
  });
  return out;
}

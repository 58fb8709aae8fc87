/** Suspected faults of RoPE. */
import { layerOf } from "../../../../base/layer_names.ts";
import type { Rope } from "../../../../engine/model/config.ts";
import { factorsOf, ropeTable } from "../../../../engine/model/rope_table.ts";
import type { Step } from "../../../../engine/plan/plan.ts";
import { CAUSES } from "../../causes.ts";
import { minimum } from "../minimum.ts";
import { fastShare } from "../../../parity/divergence/formulas/attention.ts";
import { compute } from "../../../parity/steps_behind.ts";
import { type Operation, rerun, ropeOf, type Variant } from "../operation.ts";
import {
  distance,
  frequenciesOf,
  measureTurns,
  ownPairing,
  type Pairing,
  turnedBy,
  type Turns,
} from "./rope_turns.ts";

/** Farthest that positions are off. */
const MOST_OFFSET = 8;

/** x [T, heads, d], table [S, ropeWidth / 2, 2] → [T, heads, d] */
export function ropeVariants(operation: Operation): Variant[] {
  return [...measuredVariants(operation), ...usualVariants(operation)];
}

/** Faults that are tried whatever the other side shows. */
function usualVariants(operation: Operation): Variant[] {
  const { config: { headWidth }, step, inputs: [x], pass } = operation;
  const rope = ropeOf(operation);
  const { width: ropeWidth } = rope;
  const turnedByTable = (other: Float32Array) => rerun(operation, { inputs: [x, other] });
  const variants: Variant[] = [{
    cause: "rope-pairing",
    what: styleText(rope.style === "adjacent" ? "half" : "adjacent", rope),
    make: () => rerun(operation, { constants: { half_style: step.constants.half_style ? 0 : 1 } }),
  }];
  for (const base of CAUSES["rope-base"].undo) {
    if (base === rope.base) continue;
    variants.push({
      cause: "rope-base",
      what: `${base} instead of ${rope.base}`,
      make: () => turnedByTable(tableOf(operation, { base })),
    });
  }
  const own = scaleOf(rope);
  const factorsTried = CAUSES["rope-scaling"].undo.flatMap((factor) => [factor, 1 / factor]);
  for (const factor of new Set([...own === 1 ? [] : [1], ...factorsTried])) {
    if (factor === own) continue;
    const scaling = { type: "linear", factor } as const;
    variants.push({
      cause: "rope-scaling",
      what: `positions divided by ${factor} instead of ${own}`,
      make: () => turnedByTable(tableOf(operation, { scaling })),
    });
  }
  if (divisorsOf(operation)) {
    variants.push({
      cause: "rope-scaling",
      what: "without the file's rope_freqs",
      make: () => turnedByTable(tableOf({ ...operation, factors: new Map() })),
    });
  }
  const offsets = Array.from({ length: 2 * MOST_OFFSET + 1 }, (_, i) => i - MOST_OFFSET);
  for (const offset of new Set([...offsets, -pass.start])) {
    if (offset === 0) continue;
    variants.push({
      cause: "position-offset",
      what: `positions are off by ${offset}`,
      make: () => turnedByTable(shifted(operation, offset)),
    });
  }
  const pairing = ownPairing(operation);
  const angle = (of: number, width = ropeWidth) => (t: number, pair: number) =>
    of * (pass.start + t) * frequency(operation, pair, rope.base, width);
  variants.push(
    {
      cause: "rope-pairing",
      what: "pairs turn backwards",
      // Of q and k together only the angle between them counts.
      jointly: "pairs turn backwards, or positions count from the end",
      make: () => turnedBy(operation, pairing, angle(-1)),
    },
    {
      cause: "scaled",
      what: "angles are taken for degrees: they are times π/180",
      make: () => turnedBy(operation, pairing, angle(Math.PI / 180)),
    },
  );
  for (const width of new Set([headWidth, headWidth / 2, headWidth / 4])) {
    if (width === ropeWidth || width % 2 === 1) continue;
    for (const own of new Set([width, ropeWidth])) {
      variants.push({
        cause: "rope-pairing",
        what: widthText({ ...pairing, width }, operation, own),
        make: () => turnedBy(operation, { ...pairing, width }, angle(1, own)),
      });
    }
  }
  // At a single position that may be any of the above.
  variants.push({
    cause: "left-out",
    what: "RoPE is left out: nothing turns",
    make: () => x.slice(),
  });
  return variants;
}

/** A pair's angle per position. */
function frequency(
  operation: Operation,
  pair: number,
  base: number = ropeOf(operation).base,
  width: number = ropeOf(operation).width,
): number {
  const divisor = divisorsOf(operation)?.[pair] ?? 1;
  return base ** (-2 * pair / width) / divisor * squeezed(ropeOf(operation), pair);
}

function styleText(style: Pairing["style"], { style: own }: Rope): string {
  if (style === own) return "";
  return style === "half" ? "halves instead of neighbours" : "neighbours instead of halves";
}

/** Which numbers of a head turn, where those are others; and the width that the frequencies are those of. */
function widthText(
  { style, first, width }: Pairing,
  operation: Operation,
  frequencies: number,
): string {
  const { headWidth } = operation.config;
  const rope = ropeOf(operation);
  const { width: ropeWidth } = rope;
  const parts = [styleText(style, rope)];
  if (first > 0 || width !== ropeWidth) {
    const which = first === 0 ? "first" : first + width === headWidth ? "last" : `middle`;
    parts.push(
      width === headWidth
        ? `turns all ${headWidth} numbers of a head instead of the first ${ropeWidth}`
        : `turns only the ${which} ${width} of ${headWidth} numbers of a head`,
      ...width === frequencies ? [] : [`with the frequencies of ${frequencies}`],
    );
  }
  return parts.filter((part) => part !== "").join(", ");
}

/** An account of how the other side turns pairs. */
interface Account {
  readonly cause: Variant["cause"];
  readonly what: string;
  readonly angle: (t: number, pair: number) => number;
  /** The width whose frequencies they are, where it is not that of the pairing. */
  readonly frequencies?: number;
  readonly fitted?: boolean;
}

/** Accounts that fit what was measured: the simplest of those that fit as well as numbers can, else the best. */
function measuredVariants(operation: Operation): Variant[] {
  const { target } = operation;
  if (!target) return [];
  const found = measureTurns(operation, target).flatMap((turns) =>
    accountsOf(operation, turns).map((account) => ({
      ...{ account, turns },
      left: distance(turns, account.angle),
    }))
  );
  const simple = found.find(({ left, account }) => left < FITS && !account.fitted);
  if (simple) return toldOf(operation, simple.account, simple.turns);
  const [best] = found.filter(({ left }) => left < POOR).toSorted((a, b) => a.left - b.left);
  return [
    ...roundedTables(operation),
    ...best ? toldOf(operation, best.account, best.turns) : [],
  ];
}

/** An account in words, with the pairing that it is of. */
function toldOf(operation: Operation, account: Account, turns: Turns): Variant[] {
  const { pairing, length } = turns;
  const otherPairing = widthText(pairing, operation, account.frequencies ?? pairing.width);
  const { magnitude } = ropeOf(operation);
  const lengths = length === magnitude ? "" : `lengths are times ${figure(length / magnitude)}`;
  const what = [otherPairing, account.what, lengths].filter((text) => text !== "").join("; ");
  if (what === "") return [];
  return [{
    cause: otherPairing ? "rope-pairing" : account.what ? account.cause : "scaled",
    what,
    fitted: account.fitted,
    make: () => turnedBy(operation, pairing, account.angle, length),
  }];
}

/** Turns that fit an account so well leave nothing but the rounding of 32-bit numbers. */
const FITS = 5e-6;
/** Those that fit it worse are none of it. */
const POOR = 1e-3;

/** Entries that tables of sines and cosines have. */
const CIRCLES = [360, ...Array.from({ length: 11 }, (_, i) => 2 ** (i + 6))];

function accountsOf(operation: Operation, turns: Turns): Account[] {
  const { config: { headWidth }, pass: { start, tokens } } = operation;
  const rope = ropeOf(operation);
  const { base: ropeBase, width: ropeWidth } = rope;
  const { pairing: { width }, pairs } = turns;
  const own = scaleOf(rope);
  const position = (t: number) => start + t;
  const by = (
    cause: Account["cause"],
    what: string,
    frequencyOf: (pair: number) => number,
    positionOf: (t: number) => number = position,
    fitted = false,
  ): Account => ({
    cause,
    what,
    fitted,
    angle: (t, pair) => positionOf(t) * frequencyOf(pair),
  });
  const standard = (pair: number) => frequency(operation, pair, ropeBase, width);
  const ofOwnWidth = (pair: number) => frequency(operation, pair);
  const accounts: Account[] = [
    by("rope-pairing", "", standard),
    ...width === ropeWidth
      ? []
      : [{ ...by("rope-pairing", "", ofOwnWidth), frequencies: ropeWidth }],
    by("rope-pairing", "pairs turn backwards", (pair) => -standard(pair)),
    by(
      "scaled",
      "angles are taken for degrees: they are times π/180",
      (pair) => standard(pair) * Math.PI / 180,
    ),
    by(
      "rope-scaling",
      `positions divided by ${own / 2} instead of ${own}: RoPE is applied twice`,
      (pair) => 2 * standard(pair),
    ),
  ];
  for (let after = 2; after < start + tokens; after++) {
    const again = (t: number) => position(t) % after;
    accounts.push(
      by("position-offset", `positions begin again at 0 after ${after}`, standard, again),
    );
  }
  for (const steps of CIRCLES) {
    const step = 2 * Math.PI / steps;
    accounts.push({
      cause: "rounded",
      what: `angles are kept in ${steps} steps of a circle`,
      angle: (t, pair) => Math.round(position(t) * standard(pair) / step) * step,
    });
  }
  const offsets = Array.from({ length: MOST_OFFSET }, (_, i) => [i + 1, -i - 1]).flat();
  for (const offset of new Set([...offsets, -start])) {
    if (offset === 0) continue;
    const again = offset === -start ? "positions begin again at 0 in this pass: they" : "positions";
    accounts.push(
      by("position-offset", `${again} are off by ${offset}`, standard, (t) => position(t) + offset),
    );
  }
  if (divisorsOf(operation)) {
    const without = (pair: number) => ropeBase ** (-2 * pair / width) / own;
    accounts.push(by("rope-scaling", "without the file's rope_freqs", without));
  }
  if (width !== headWidth) {
    const byHead = (pair: number) => frequency(operation, pair, ropeBase, headWidth);
    const what = `exponents are divided by the head's width ${headWidth} instead of ${width}: ` +
      `as by a base of ${figure(ropeBase ** (width / headWidth))} instead of ${ropeBase}`;
    accounts.push(by("rope-base", what, byHead));
  }
  const measured = frequenciesOf(turns);
  if (!measured) return accounts;

  // One factor for all: the fast pairs tell it best.
  let [above, below] = [0, 0];
  for (let pair = 0; pair < pairs; pair++) {
    above += measured[pair] * standard(pair);
    below += standard(pair) ** 2;
  }
  const factor = rounded(own * below / above);
  if (factor > 0 && Math.abs(factor / own - 1) > 1e-6) {
    accounts.push(
      by(
        "rope-scaling",
        `positions divided by ${figure(factor)} instead of ${own}`,
        (pair) => standard(pair) * own / factor,
      ),
    );
  }
  const base = fittedBase(operation, turns, measured);
  if (base !== undefined && Math.abs(base / ropeBase - 1) > 1e-6) {
    accounts.push(
      by(
        "rope-base",
        `${figure(base)} instead of ${ropeBase}${ntk(base / ropeBase, width)}`,
        (pair) => frequency(operation, pair, base, width),
      ),
    );
  }
  if (tokens >= 4) {
    accounts.push(
      by("rope-scaling", sharesText(measured, standard), (pair) => measured[pair], position, true),
    );
  }
  return accounts;
}

/** The base that measured frequencies follow, by least squares. */
function fittedBase(
  operation: Operation,
  turns: Turns,
  measured: Float64Array,
): number | undefined {
  const { pass: { start } } = operation;
  const { base: ropeBase } = ropeOf(operation);
  const { pairing: { width }, pairs } = turns;
  const bases = Array.from(measured, (angle, pair) => {
    const ratio = angle / frequency(operation, pair, 1, width);
    return pair > 0 && ratio > 0 ? ratio ** (-width / (2 * pair)) : NaN;
  }).filter((base) => base > 1 && base < 1e12);
  if (bases.length === 0) return undefined;
  const rough = bases.toSorted((a, b) => a - b)[bases.length >> 1];
  const error = (log: number) => {
    const base = Math.exp(log);
    let sum = 0;
    for (let pair = 1; pair < pairs; pair++) {
      sum += (measured[pair] - frequency(operation, pair, base, width)) ** 2;
    }
    return sum;
  };
  const log = Math.log(rough);
  const base = Math.exp(minimum(error, log - 0.1, log + 0.1));
  const isRight = (value: number) =>
    distance(turns, (t, pair) => (start + t) * frequency(operation, pair, value, width)) < FITS;
  const round = [2, 3, 4, 5, 6].map((digits) => Number(base.toPrecision(digits))).find(isRight);
  return round ?? (Math.abs(base / ropeBase - 1) < 1e-9 ? undefined : base);
}

/** What a base larger by some factor is also known as: positions stretched by s, base · s^(d / (d − 2)) ("NTK-aware" scaling). */
function ntk(ratio: number, width: number): string {
  const stretch = ratio ** ((width - 2) / width);
  const round = Math.round(stretch * 4) / 4;
  return round > 1 && Math.abs(stretch / round - 1) < 1e-4
    ? ` (NTK: as for positions stretched by ${round})`
    : "";
}

/** Which pairs turn by which share of their angle. */
function sharesText(measured: Float64Array, standard: (pair: number) => number): string {
  const shares = Array.from(measured, (angle, pair) => Number((angle / standard(pair)).toFixed(3)));
  const runs: { first: number; last: number; share: number }[] = [];
  for (const [pair, share] of shares.entries()) {
    const run = runs.at(-1);
    if (run?.share === share) run.last = pair;
    else runs.push({ first: pair, last: pair, share });
  }
  const text = ({ first, last, share }: typeof runs[number]) =>
    `${first === last ? `pair ${first}` : `pairs ${first} to ${last}`} at ${share}`;
  const [head, tail] = [runs[0], runs.at(-1)!];
  const ends = runs.length <= 3
    ? runs.map(text).join(", ")
    : `${text(head)}, ${text(tail)}, between them gradually`;
  return `every pair turns by a share of its own: ${ends}`;
}

/** Frequencies, angles, or cosines and sines that are kept in 16 bits. */
function roundedTables(operation: Operation): Variant[] {
  const { pass: { start } } = operation;
  const pairing = ownPairing(operation);
  const types = { f16: (x: number) => Math.f16round(x), bf16: toBf16 };
  return Object.entries(types).flatMap(([type, round]): Variant[] => {
    const angle = (t: number, pair: number) => (start + t) * frequency(operation, pair);
    const rounded = (what: string, make: Variant["make"]): Variant => ({
      cause: "rounded",
      what: `${what} in ${type}`,
      make,
    });
    return [
      rounded(
        "cosines and sines are kept",
        () => turnedBy(operation, pairing, angle, undefined, round),
      ),
      rounded(
        "frequencies are kept",
        () =>
          turnedBy(
            operation,
            pairing,
            (t, pair) => (start + t) * round(frequency(operation, pair)),
          ),
      ),
      rounded(
        "angles are kept",
        () => turnedBy(operation, pairing, (t, pair) => round(angle(t, pair))),
      ),
      rounded(
        "frequencies and angles are kept",
        () =>
          turnedBy(
            operation,
            pairing,
            (t, pair) => round(round(start + t) * round(frequency(operation, pair))),
          ),
      ),
      rounded("frequencies, angles, cosines and sines are kept", () =>
        turnedBy(
          operation,
          pairing,
          (t, pair) => round(round(start + t) * round(frequency(operation, pair))),
          undefined,
          round,
        )),
    ];
  });
}

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** The nearest number with the upper 16 bits of a 32-bit float; of two the one that ends in 0. */
function toBf16(value: number): number {
  floats[0] = value;
  const word = words[0];
  words[0] = (word + 0x7fff + (word >>> 16 & 1)) & 0xffff0000;
  return floats[0];
}

/** A number of few digits, where one is very near. */
function rounded(value: number): number {
  const round = Number(value.toPrecision(4));
  return Math.abs(value / round - 1) < 1e-6 ? round : value;
}

function figure(value: number): number {
  return Number(value.toPrecision(6));
}

/** A product that RoPE turned though it should not have: v. */
export function rotatedVariants(x: Float32Array, heads: number, operation: Operation): Variant[] {
  const { headWidth } = operation.config;
  const { rope } = operation.config.blocks[layerOf(operation.name)!];
  if (!rope) return [];
  return [0, 1].map((half) => ({
    cause: "v-rotated",
    what: `turned by its position, ${half ? "in halves" : "in neighbours"}`,
    make() {
      const sizes = { heads, head_width: headWidth, rope_width: rope.width, rope_start: 0 };
      const { inputs: read, outputs } = operation.step;
      const constants = { ...sizes, half_style: half };
      const step: Step = { operation: "rope", inputs: read, weights: [], outputs, constants };
      const inputs = [x, tableOf(operation, rope)];
      return compute({ ...operation, step, inputs, weights: [] }, new Float32Array(x.length));
    },
  }));
}

/** What RoPE would have had to turn to make this. */
export function inverse(operation: Operation, turned: Float32Array): Float32Array {
  const { inputs: [, table] } = operation;
  const back = table.map((value, i) => i % 2 === 1 ? -value : value);
  return rerun(operation, { inputs: [turned, back] });
}

/** The share of its angle by which a pair turns, as positions are squeezed. */
function squeezed(rope: Rope, pair: number): number {
  const { scaling } = rope;
  if (scaling.type !== "yarn") return 1 / scaleOf(rope);
  const fast = fastShare(rope, scaling, pair);
  return fast + (1 - fast) / scaling.factor;
}

/** What a file has positions divided by. */
export function scaleOf({ scaling }: Rope): number {
  return scaling.type === "linear" ? scaling.factor : 1;
}

/** What divides each pair's angle; undefined where nothing does. */
function divisorsOf(operation: Operation): Float32Array | undefined {
  const { pass, factors } = operation;
  return factorsOf(ropeOf(operation), pass.start + pass.tokens, factors);
}

function tableOf(
  operation: Operation,
  changes: Partial<Rope> = {},
  positions: number = operation.pass.start + operation.pass.tokens,
): Float32Array {
  const { builder, factors } = operation;
  return ropeTable({ ...ropeOf(operation), ...changes }, positions, builder, factors);
}

/** The table with every position's turn where another's belongs. */
function shifted(operation: Operation, offset: number): Float32Array {
  const { inputs: [, table], pass } = operation;
  const { width: ropeWidth } = ropeOf(operation);
  const positions = pass.start + pass.tokens;
  const long = tableOf(operation, {}, positions + Math.abs(offset));
  const out = new Float32Array(table.length);
  for (let position = 0; position < positions; position++) {
    const at = position + offset;
    for (let i = 0; i < ropeWidth; i++) {
      const value = long[Math.abs(at) * ropeWidth + i];
      // Turning backwards is turning forwards with the sine's sign changed.
      out[position * ropeWidth + i] = at < 0 && i % 2 === 1 ? -value : value;
    }
  }
  return out;
}

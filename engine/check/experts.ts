/** Cases of mixtures of experts. */
import { choose, GATINGS } from "../../kernels/experts/routing/route.ts";
import type { Constants, Operation } from "../../kernels/kernel.ts";
import { type Draft, FEW, KINDS, type Maker, MANY, type Order, passOf } from "./case.ts";
import { type Kind, type Noise, numbersReader, packMatrices, randomBlocks } from "./data.ts";
import { BLOCK_COLUMNS, MOST_WORK } from "./products.ts";

/** Experts, how many of them a position has, groups, how many of those it has. */
const MIXTURES: readonly (readonly [number, number, number, number])[] = [
  [256, 8, 8, 4],
  [64, 6, 1, 1],
  [128, 8, 1, 1],
  [8, 2, 1, 1],
  [1, 1, 1, 1],
  [60, 4, 1, 1],
  [5, 5, 1, 1],
  [512, 10, 1, 1],
  [64, 6, 4, 2],
  [16, 1, 1, 1],
  [6, 2, 6, 3],
  [1000, 64, 2, 1],
];

/** What a device's rounding may not decide: numbers by which experts or groups are chosen are as far apart, or equal. */
const APART = 1e-5;

/** Whether nothing that is chosen among is nearly equal. */
function isDecided(numbers: readonly number[], chosen: number): boolean {
  const sorted = numbers.filter((number) => !Number.isNaN(number)).sort((a, b) => b - a);
  return sorted.slice(1, chosen + 1).every((number, i) => {
    const gap = sorted[i] - number;
    return gap === 0 || gap > APART;
  });
}

/** Logits [tokens, experts] whose choice is not a matter of rounding. */
function decidedLogits(
  noise: Noise,
  tokens: number,
  bias: readonly number[] | undefined,
  constants: Constants,
  kind: Kind,
): Float32Array {
  const { experts, used, groups_used } = constants;
  const rows: number[] = [];
  while (rows.length < tokens * experts) {
    const row = [...noise.numbers(experts, kind)];
    const { choice, groupScores } = choose(row, bias, constants);
    // Logits themselves are the same numbers everywhere.
    const decided = (!bias || isDecided(choice, used)) && isDecided(groupScores, groups_used);
    if (decided) rows.push(...row);
  }
  return Float32Array.from(rows);
}

function* routes({ kernel, full, noise }: Order): Generator<Draft> {
  let i = 0;
  for (const [experts, used, groups, groups_used] of full ? MIXTURES : MIXTURES.slice(0, 2)) {
    for (const gating of GATINGS.keys()) {
      // Whole numbers are equal by the dozen: the lower id counts. Sums of two of their gates may be nearly equal.
      const kind = groups === 1 && ++i % 2 ? "whole" : "real";
      const constants = {
        ...{ experts, used, gating, groups, groups_used },
        normalize: i % 3 === 0 ? 0 : 1,
        scale: i % 2 ? 1 : 2.5,
      };
      const tokens = full ? FEW[i % 10] : 3;
      const bias = kernel.biased ? noise.numbers(experts, kind) : undefined;
      yield {
        name: `${used} of ${experts} experts, ${groups} groups, ${GATINGS[gating]}`,
        kind,
        pass: passOf(tokens),
        constants,
        inputs: [decidedLogits(noise, tokens, bias && [...bias], constants, kind)],
        weights: bias ? [numbersReader(bias, experts)] : [],
        outputs: [tokens * used, tokens * used],
      };
    }
  }
}

/** Weights of experts that were chosen in whatever way. */
function* weightsOfChosen(order: Order): Generator<Draft> {
  for (const { constants, pass, inputs: [logits], name, kind } of routes(order)) {
    const { experts, used } = constants;
    const ids = chosenIds(order.noise, pass.tokens, experts, used);
    yield { name, kind, pass, constants, inputs: [logits, ids], outputs: [ids.length] };
  }
}

/** Ids [tokens, used] of different experts for each position; nobody chooses the last expert but 1 of four or more. */
function chosenIds(noise: Noise, tokens: number, experts: number, used: number): Float32Array {
  const some = Array.from({ length: experts }, (_, i) => i)
    .filter((i) => used === experts || experts < 4 || i !== experts - 2);
  const ids: number[] = [];
  for (let token = 0; token < tokens; token++) {
    const left = [...some];
    for (let k = 0; k < used; k++) ids.push(...left.splice(noise.bits() % left.length, 1));
  }
  return Float32Array.from(ids);
}

/** Experts, how many a position has, rows of one: tiles of four and of eight rows begin inside of experts, too. */
const MATRICES: readonly (readonly [number, number, number])[] = [
  [4, 2, 8],
  [5, 3, 13],
  [8, 8, 3],
  [3, 1, 65],
  [16, 4, 1],
  [6, 2, 40],
  [2, 2, 7],
];

function* products({ kernel, packing, full, noise }: Order): Generator<Draft> {
  const many = kernel.positions === "many";
  const all = BLOCK_COLUMNS[packing.blockSize];
  const columnsList = full ? all : packing.blockSize === 1 ? [65, 136] : all.slice(1, 2);
  let i = 0;
  for (const columns of columnsList) {
    for (const kind of KINDS) {
      for (const shared of [0, 1]) {
        const [experts, used, rows] = MATRICES[full ? i % 7 : 1];
        const most = Math.ceil(MOST_WORK / columns / rows / used);
        // The processor's kernels take an expert's positions otherwise from four or sixteen on.
        let tokens = Math.min(most, full ? (many ? MANY[i % 11] : FEW[i * 3 % 10]) : many ? 34 : 3);
        i++;
        const xRows = () => tokens * (shared ? 1 : used);
        // As in the engine: where rows of x begin anywhere, the kernel for many is taken.
        if (!many && columns % 4 && xRows() > 1) {
          if (!shared && used > 1) continue;
          tokens = 1;
        }
        const packed = packMatrices(
          packing,
          columns,
          [experts * rows],
          randomBlocks(packing, experts * rows * columns, noise, kind),
        );
        yield {
          name:
            `${columns} columns, ${used} of ${experts} experts of ${rows} rows, ${tokens} positions, ` +
            (shared ? "one x for all" : "an x for each"),
          kind,
          pass: passOf(tokens, i % 3),
          constants: {
            ...{ columns, rows, used, shared, out_row: 0, out_rows: experts * rows },
            ...{ heads: 0, epsilon: 0, head_width: 0, rope_width: 0, half_style: 0 },
          },
          inputs: [noise.numbers(xRows() * columns, kind), chosenIds(noise, tokens, experts, used)],
          weights: packed.readers,
          packed,
          parts: kind === "real" ? 1 + i % 4 : 1,
          outputs: [tokens * used * rows],
        };
      }
    }
  }
}

/** Cases over rows of each position's experts, made by `change` from their numbers. */
function rows(
  change: (
    shape: { experts: number; used: number; columns: number; tokens: number; kind: Kind },
    noise: Noise,
  ) => Partial<Draft> & Pick<Draft, "constants" | "inputs">,
) {
  return function* ({ full, noise }: Order): Generator<Draft> {
    const columnsList = full ? [1, 7, 64, 65, 576, 1000, 2048] : [65, 576];
    for (const [i, columns] of columnsList.entries()) {
      for (const kind of KINDS) {
        const [experts, used] = MATRICES[i];
        const tokens = MANY[i];
        yield {
          name: `${columns} columns, ${used} of ${experts} experts, ${tokens} positions`,
          kind,
          pass: passOf(tokens),
          outputs: [tokens * used * columns],
          ...change({ experts, used, columns, tokens, kind }, noise),
        };
      }
    }
  };
}

/** Makers by operation. */
export const EXPERT_CASES = {
  route: routes,
  route_weights: weightsOfChosen,
  linear_experts: products,
  add_expert_bias: rows(({ experts, used, columns, tokens, kind }, noise) => ({
    constants: { rows: columns, used },
    inputs: [
      noise.numbers(tokens * used * columns, kind),
      chosenIds(noise, tokens, experts, used),
    ],
    weights: [numbersReader(noise.numbers(experts * columns, kind), experts * columns)],
  })),
  combine: rows(({ used, columns, tokens, kind }, noise) => ({
    constants: { columns, used },
    inputs: [noise.numbers(tokens * used * columns, kind), noise.numbers(tokens * used, kind)],
    outputs: [tokens * columns],
  })),
  weigh: rows(({ used, columns, tokens, kind }, noise) => ({
    constants: { columns, used },
    inputs: [noise.numbers(tokens * used * columns, kind), noise.numbers(tokens * used, kind)],
  })),
} satisfies Partial<Record<Operation, Maker>>;

/** Which of the cached keys a row sees, and how they are shared out among workgroups. */
import { rowGap } from "../../branches/branches.ts";
import type { Constants, Pass, TwinArguments } from "../../kernel.ts";

/**
 * The first position that one sees: of a `window` it sees the last positions, its own included; of chunks its own (positions with the
 * same quotient by `chunk`); 0 and missing: all.
 */
export function firstSeen({ window = 0, chunk = 0 }: Constants, position: number): number {
  const first = window > 0 ? Math.max(0, position + 1 - window) : 0;
  return chunk > 0 ? Math.max(first, position - position % chunk) : first;
}

/** first, first + 1, …, up to `end`, exclusive. */
export function upTo(first: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
}

/** The slots that a row sees; `count` inputs come before `branch_gaps`. */
export function seenSlots(args: TwinArguments, count: number, token: number): number[] {
  const [gap, end] = rowGap(args, count, token);
  const own = args.pass.start + token;
  const first = firstSeen(args.constants, own - (end - gap));
  return [...upTo(first, gap), ...upTo(Math.max(first, gap) + end - gap, own + 1)];
}

/** How many positions a slot that it sees lies before a row; `count` inputs come before `branch_gaps`. */
export function distanceTo(
  slot: number,
  args: TwinArguments,
  count: number,
  token: number,
): number {
  const [gap, end] = rowGap(args, count, token);
  return args.pass.start + token - slot - (slot < gap ? end - gap : 0);
}

/** Keys of a part at least, and most parts: as in attention_parts.wgsl. */
const PART_KEYS = 128;
export const MOST_PARTS = 16;

/** Into how many parts the keys are shared out that a pass of one sequence sees any of, the first of them, and the keys of a part. */
export function partsOf(
  { start, tokens }: Pass,
  constants: Constants = {},
): { count: number; first: number; keys: number } {
  const first = firstSeen(constants, start);
  const span = start + tokens - first;
  const keys = Math.ceil(span / (PART_KEYS * MOST_PARTS)) * PART_KEYS;
  return { count: Math.ceil(span / keys), first, keys };
}

/** The parts that a position sees anything of, and of each the first key that it sees and their end. */
export function visibleParts(
  pass: Pass,
  constants: Constants,
  token: number,
): [part: number, first: number, end: number][] {
  const position = pass.start + token;
  const seen = firstSeen(constants, position);
  const { count, first, keys } = partsOf(pass, constants);
  return upTo(0, count)
    .map((part): [number, number, number] => {
      const begin = first + part * keys;
      return [part, Math.max(begin, seen), Math.min(begin + keys, position + 1)];
    })
    .filter(([, begin, end]) => begin < end);
}

/** What the files say of the weights behind a point, where both sides run one: the same as `task model diff`, proved on the point. */
import type { GgufFile } from "../../../../engine/gguf/reader.ts";
import { diffTensor, type Finding } from "../../../files/diff/diff.ts";
import { ggufWeights } from "../../../files/weight_file.ts";
import { type Cause, CAUSES } from "../../causes.ts";
import type { Chain } from "../chain.ts";
import type { Weight } from "../../../parity/steps_behind.ts";
import { rerun } from "../operation.ts";
import type { Suspicion } from "../suspicions.ts";

/**
 * The weights of a chain that are out of their band in the files, the last operation's first: each with what is found of it, and what the
 * point would be with the other file's numbers in its place. Where a finding has no name it is `unknown`.
 *
 * @param file ours, which should be what the other one is
 */
export async function differingWeights(
  chain: Chain,
  file: GgufFile,
  other: GgufFile,
): Promise<Suspicion[]> {
  const [ours, theirs] = [file, other].map(ggufWeights);
  const found: Suspicion[] = [];
  for (const [index, { weights, others }] of [...chain.operations.entries()].toReversed()) {
    for (const { name, rows, columns } of weights) {
      const finding = (await diffTensor(theirs, ours, name))?.finding;
      const right = finding && await others!.read(name);
      if (right?.rows !== rows || right.columns !== columns) continue;
      const inPlace = (all: readonly Weight[]) =>
        all.map((each) => each.name === name ? right : each);
      found.push({
        cause: causeOf(finding!),
        detail: detailOf(name, finding!),
        cost: chain.cost(index),
        make: () =>
          chain.replaced(index, (operation, i) =>
            Promise.resolve(
              i === index ? rerun(operation, { weights: inPlace(operation.weights) }) : undefined,
            )),
      });
    }
  }
  return found;
}

/** What only files can have, as another name, is no cause of a number. */
function causeOf({ cause }: Finding): Cause {
  return Object.hasOwn(CAUSES, cause) ? cause as Cause : "unknown";
}

function detailOf(name: string, { detail }: Finding): string {
  return `${name}: ${detail}${/\bA\b/.test(detail) ? " (A is the other file)" : ""}`;
}

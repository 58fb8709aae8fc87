/** Suspected faults of the embedding. */
import type { Operation, Variant } from "./operation.ts";

/** Rows of tokens that may be damaged, as a share. */
const FEW = 0.5;

/** ids [T] → [T, D]: few tokens have other numbers, and the same ones wherever they stand. */
export function embedVariants(
  { inputs: [ids], weights: [weight], output, target }: Operation,
): Variant[] {
  if (!target) return [];
  const { name, columns } = weight;
  const row = (of: Float32Array, t: number) => of.subarray(t * columns, (t + 1) * columns);
  const others = new Map<number, Float32Array>();
  for (const [t, id] of ids.entries()) {
    const theirs = row(target, t);
    const known = others.get(id);
    if (known?.some((value, i) => value !== theirs[i])) return [];
    others.set(id, theirs);
  }
  const wrong = [...others].filter(([id]) => {
    const t = ids.indexOf(id);
    return row(output, t).some((value, i) => value !== others.get(id)![i]);
  });
  if (wrong.length === 0 || wrong.length > FEW * others.size) return [];
  const [id, theirs] = wrong[0];
  const ours = row(output, ids.indexOf(id));
  const columnsOff = [...ours.keys()].filter((i) => ours[i] !== theirs[i]);
  const more = wrong.length > 1 ? ` and ${wrong.length - 1} more` : "";
  return [{
    cause: "dequant-block",
    what: `row ${id}${more}, columns ${columnsOff[0]} to ${columnsOff.at(-1)}`,
    where: name,
    fitted: true,
    make: () => Float32Array.from(target),
  }];
}

/** Suspected faults of a model's multipliers and limits: of embeddings, of what is added to the stream, of logits, of queries. */
import { kindOf } from "../../../../base/layer_names.ts";
import type { Cause } from "../../causes.ts";
import { softCapVariants } from "../any_operation.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

/** Which multiplier makes a point. */
function causeOf(name: string): Cause {
  const kind = kindOf(name);
  if (kind === "embd_scaled") return "embedding-scale";
  return kind.startsWith("logits") ? "logit-scale" : "residual-scale";
}

/** x [T, columns] → x · factor, left out, twice, or its reciprocal. */
export function multiplierVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants: { factor } }, name } = operation;
  const said = Number(factor.toPrecision(6));
  const by = (what: string, other: number): Variant => ({
    ...{ cause: causeOf(name), what, early: true },
    make: () => x.map((value) => value * other),
  });
  return [
    by(`the factor ${said} is left out`, 1),
    by(`the factor ${said} is there twice`, factor * factor),
    by(`numbers are divided by ${said} instead of multiplied`, 1 / factor),
  ];
}

/** x [T, columns] → within its soft cap, without it, or within another. */
export function capVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants: { cap } } } = operation;
  return [
    {
      ...{ cause: "soft-cap", what: `the soft cap of ${cap} is left out`, early: true },
      make: () => x.slice(),
    },
    ...softCapVariants({ ...operation, output: x }),
  ];
}

/** x [T, columns] → within ±limit, or not limited. */
export function clampVariants(
  { inputs: [x], step: { constants: { limit } } }: Operation,
): Variant[] {
  return [{
    ...{ cause: "clamp", what: `numbers are not limited to ±${limit}`, early: true },
    make: () => x.slice(),
  }];
}

/** x [T, columns] → times a factor of the position, left out, or counted from elsewhere. */
export function queryScalingVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants: { offset = 0 } } } = operation;
  const by = (what: string, make: Variant["make"]): Variant => ({
    ...{ cause: "query-scaling", what, early: true, make },
  });
  return [
    by("queries are not made longer by their positions", () => x.slice()),
    ...[0, 1].filter((other) => other !== offset).map((other) =>
      by(
        `positions count from ${other} instead of ${offset}`,
        () => rerun(operation, { constants: { offset: other } }),
      )
    ),
  ];
}

/** Suspected faults of RoPE in models that have several tables, or scale angles by YaRN or LongRoPE. */
import { layerOf } from "../../../../base/layer_names.ts";
import { type Rope, ropeOfTable, type RopeScaling } from "../../../../engine/model/config.ts";
import { ropeTable } from "../../../../engine/model/rope_table.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

/** x [T, heads, d], table [S, width / 2, 2] → [T, heads, d], turned by another table that the model or its scaling gives. */
export function partsOfRope(operation: Operation): Variant[] {
  const { config, step, inputs: [x, table], builder, factors, name } = operation;
  const rope = ropeOfTable(config, step.inputs[1].name);
  const positions = table.length / rope.width;
  const by = (cause: Variant["cause"], what: string, changes: Partial<Rope>): Variant => ({
    ...{ cause, what, early: true },
    make: () =>
      rerun(operation, {
        inputs: [x, ropeTable({ ...rope, ...changes }, positions, builder, factors)],
      }),
  });
  const layer = layerOf(name);
  const others = config.ropes.filter((other) => other !== rope && other.width === rope.width);
  return [
    ...others.map((other) => {
      const like = config.blocks.findIndex((block, i) =>
        block.rope?.table === other.table && i !== layer
      );
      const isBase = other.base !== rope.base;
      const said = isBase
        ? `${other.base} instead of ${rope.base}`
        : `scaling of another table (${scalingText(other.scaling)})`;
      return by(isBase ? "rope-base" : "rope-scaling", `${said}, as in block ${like}`, {
        ...{ base: other.base, scaling: other.scaling, magnitude: other.magnitude },
        factors: other.factors,
      });
    }),
    ...others.filter(({ base }) => base !== rope.base).map(({ base }) =>
      by("rope-base", `${base} instead of ${rope.base}, as other layers have it`, { base })
    ),
    ...magnitudeVariants(rope, by),
    ...scalingVariants(rope, by),
  ];
}

type By = (cause: Variant["cause"], what: string, changes: Partial<Rope>) => Variant;

function magnitudeVariants({ magnitude, scaling }: Rope, by: By): Variant[] {
  if (magnitude === 1) return [];
  const factor = Number(magnitude.toPrecision(5));
  const whose = scaling.type === "none" ? "" : ` (${scalingText(scaling)})`;
  return [
    by("rope-magnitude", `cosines and sines lack their factor ${factor}${whose}`, { magnitude: 1 }),
    by("rope-magnitude", `cosines and sines are times ${factor} twice${whose}`, {
      magnitude: magnitude ** 2,
    }),
  ];
}

function scalingVariants({ scaling, magnitude }: Rope, by: By): Variant[] {
  /** With the magnitude that belongs to it, and without. */
  const both = (cause: Variant["cause"], what: string, other: RopeScaling) => [
    by(cause, what, { scaling: other }),
    ...magnitude === 1
      ? []
      : [by(cause, `${what}, and no factor on lengths`, { scaling: other, magnitude: 1 })],
  ];
  switch (scaling.type) {
    case "yarn": {
      const { factor } = scaling;
      return [
        ...both("rope-scaling", "YaRN is left out", { type: "none" }),
        ...both("rope-scaling", `all pairs are divided by ${factor}, as without YaRN's ramp`, {
          type: "linear",
          factor,
        }),
      ];
    }
    case "longrope": {
      const { short, long } = scaling;
      return [
        ...both("longrope-factors", "the short and the long factors are exchanged", {
          ...scaling,
          ...{ short: long, long: short },
        }),
        ...both("rope-scaling", "LongRoPE's factors are left out", { type: "none" }),
      ];
    }
    default:
      return [];
  }
}

function scalingText({ type }: RopeScaling): string {
  return { none: "none", linear: "linear", yarn: "YaRN", longrope: "LongRoPE" }[type];
}

/** Suspected faults of what attention has in some families: windows, chunks, caps, ALiBi, sinks. */
import { layerOf } from "../../../../base/layer_names.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

/** q [T, H, d], keys [S, Hkv, d] → [H, T, S] by a model's own rules, but for one. */
export function partsOfScores(operation: Operation): Variant[] {
  const { config: { headWidth }, step: { constants } } = operation;
  const { cap, max_bias, scale } = constants;
  const usual = 1 / Math.sqrt(headWidth);
  const without = (cause: Variant["cause"], what: string, changed: Record<string, number>) =>
    ({
      ...{ cause, what, early: true },
      make: () => rerun(operation, { constants: changed }),
    }) satisfies Variant;
  return [
    ...windowVariants(operation),
    ...cap > 0 ? [without("soft-cap", `scores lack their soft cap of ${cap}`, { cap: 0 })] : [],
    ...max_bias > 0
      ? [without("alibi", "scores lack what ALiBi takes for the distance", { max_bias: 0 })]
      : [],
    ...Math.abs(scale / usual - 1) > 1e-4
      ? [without(
        "scaled",
        `scores are scaled by ${short(usual)} (1/√d) instead of ${short(scale)}`,
        { scale: usual },
      )]
      : [],
  ];
}

/** Windows that are off by one, missing, or those of other layers; and chunks in place of windows. */
function windowVariants(operation: Operation): Variant[] {
  const { config: { blocks }, step: { constants: { window, chunk } }, name } = operation;
  const layer = layerOf(name);
  const windows = blocks.map((block) => block.window);
  const others = new Set([...window > 0 ? [window + 1, window - 1, 0] : [], ...windows]);
  const own = window === 0 ? "none" : `${window}`;
  const variant = (what: string, constants: Record<string, number>): Variant => ({
    ...{ cause: "window", what, early: true },
    make: () => rerun(operation, { constants }),
  });
  const ofOthers = [...others].filter((other) => other !== window && (other > 0 || window > 0))
    .map((other) => {
      const like = windows.findIndex((each, i) => each === other && i !== layer);
      const where = like < 0 ? "" : `, as in block ${like}`;
      const there = other === 0 ? "there is no window" : `the window is ${other}`;
      return variant(`${there} instead of ${own}${where}`, { window: other });
    });
  if (chunk === 0) return ofOthers;
  return [
    ...ofOthers,
    variant(`there are no chunks of ${chunk}`, { chunk: 0 }),
    variant(`a window of ${chunk} instead of chunks`, { chunk: 0, window: chunk }),
  ];
}

/** scores [H, T, S] → probabilities without what the heads' sinks take. */
export function sinkVariants(operation: Operation): Variant[] {
  const { weights: [sinks] } = operation;
  if (!sinks) return [];
  return [
    {
      ...{ cause: "sinks", what: "they are ignored", where: sinks.name, early: true },
      make: () => rerun(operation, { weights: [] }),
    },
    {
      ...{ cause: "sinks", what: "they are taken for logarithms", where: sinks.name, early: true },
      make: () =>
        rerun(operation, {
          weights: [{ ...sinks, data: sinks.data.map((sink) => Math.log(Math.max(sink, 1e-30))) }],
        }),
    },
  ];
}

function short(value: number): string {
  return `${Number(value.toPrecision(5))}`;
}

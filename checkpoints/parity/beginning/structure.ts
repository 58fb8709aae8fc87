/** What two files of weights are before any number is read: what only one of them has, what has another shape, what they say differently. */
import { kindOf, layerOf } from "../../../base/layer_names.ts";
import type { Config } from "../../../engine/model/config.ts";
import { diffMetadata } from "../../files/diff/metadata.ts";
import type { WeightFile } from "../../files/weight_file.ts";
import type { Cause } from "../../diagnosis/causes.ts";
import { foundationFault, type ParityCheck } from "../checks.ts";

/** What is known of two sides before any number of a pass is compared. */
export interface Beginning {
  /** What failed already, and what passed: of checkpoint 0. */
  readonly checks: readonly ParityCheck[];
  /** What is not there, or not as the other side has it: a line each. Whether that is wrong is said by a check, or by the numbers. */
  readonly absent: readonly string[];
  /** What else is worth to know in front of the numbers: a line each. */
  readonly notes: readonly string[];
  /** Which numbers can be compared: all; none; or those of the common blocks, since the models end differently. */
  readonly comparable: "all" | "blocks" | "none";
}

/** A model's weights and sizes. */
interface Model {
  readonly weights: WeightFile;
  readonly config: Config;
}

/** Shapes that a check's line names. */
const SHAPES_SHOWN = 3;

/** Sizes without which no tensor of a pass has the other side's shape. */
const SIZES = ["width", "ffnWidth", "heads", "kvHeads", "headWidth"] as const;

/**
 * Compares names, shapes and metadata of two files that run. Blocks or shapes that differ fail checkpoint 0. What a model may have or
 * not (biases, an output matrix), and hyperparameters, are lines: the numbers show what they do.
 */
export function compareStructure(ours: Model, theirs: Model): Beginning {
  const [a, b] = [ours.config, theirs.config];
  const found = absentTensors(ours.weights, theirs.weights);
  const shapes = otherShapes(ours.weights, theirs.weights);
  const metadata = diffMetadata(ours.weights, theirs.weights).filter(({ matters }) => matters);
  const checks: ParityCheck[] = [];
  const fail = (cause: Cause, what: string) => checks.push(foundationFault(what, cause, "tensors"));
  if (a.layers !== b.layers) {
    const range = blockRange(Math.min(a.layers, b.layers), Math.max(a.layers, b.layers));
    fail(
      "absent",
      `${range} missing ${a.layers < b.layers ? "here" : "there"}: ` +
        `${counted(a.layers, "layer")} here, ${b.layers} there`,
    );
  }
  if (shapes.length > 0) {
    fail("absent", `other shapes: ${shapes.slice(0, SHAPES_SHOWN).join("; ")}`);
  }
  const sizes = SIZES.filter((size) => a[size] !== b[size]);
  if (sizes.length > 0 && shapes.length === 0) {
    const what = sizes.map((size) => `${size} ${a[size]} here, ${b[size]} there`);
    fail("head-grouping", `the same tensors are parted otherwise: ${what.join("; ")}`);
  }
  const endsAlike = a.layers === b.layers && a.vocabSize === b.vocabSize;
  return {
    checks,
    absent: [...checks.map(({ what }) => what), ...found, ...shapes.slice(SHAPES_SHOWN)],
    notes: metadata.map(({ key, a, b }) => `the files say: ${key} ${a} here, ${b} there`),
    comparable: sizes.length > 0 ? "none" : endsAlike ? "all" : "blocks",
  };
}

/** Tensors of which only one file has some, whole blocks left out: a line for each kind. */
function absentTensors(ours: WeightFile, theirs: WeightFile): string[] {
  const lines = (from: WeightFile, to: WeightFile, where: string, other: string) => {
    const layers = new Set([...to.weights.keys()].map(layerOf));
    const lost = [...from.weights.values()].filter(({ name }) =>
      !to.weights.has(name) && (layerOf(name) === undefined || layers.has(layerOf(name)))
    );
    return [...Map.groupBy(lost, ({ name }) => kindOf(name))].map(([, group]) => {
      const [{ name, shape }] = group;
      const more = group.length > 1 ? ` (in ${group.length} layers)` : "";
      return `${name}${more} is missing ${where}: ${other} it is [${shape.join(", ")}]`;
    });
  };
  return [...lines(theirs, ours, "here", "there"), ...lines(ours, theirs, "there", "here")];
}

/** Tensors that both have, in other shapes: one for each kind. */
function otherShapes(ours: WeightFile, theirs: WeightFile): string[] {
  const differ = [...ours.weights.values()].flatMap(({ name, shape }) => {
    const other = theirs.weights.get(name)?.shape;
    return other && `${other}` !== `${shape}` ? [{ name, shape, other }] : [];
  });
  return [...Map.groupBy(differ, ({ name }) => kindOf(name))].map(([, group]) => {
    const [{ name, shape, other }] = group;
    const more = group.length > 1 ? ` (in ${group.length} layers)` : "";
    return `${name}${more} is [${shape.join(", ")}] here, [${other.join(", ")}] there`;
  });
}

function blockRange(first: number, end: number): string {
  return end - first === 1 ? `blk.${first} is` : `blk.${first} to blk.${end - 1} are`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Points: the names of the tensors of a forward pass, in our words and in those of other engines. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import type { Config, Rope } from "../../engine/model/config.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import { type Dim, type Plan, planValues } from "../../engine/plan/plan.ts";
import { nearest } from "../../models/nearest.ts";
import { glob, lastComponent } from "./glob.ts";
import type { AliasModel, Axis, PointKind, Templates } from "./kind.ts";
import { POINT_KINDS, ROWS } from "./kinds.ts";
import { toAdjacent, toHalf } from "./row_order.ts";
import { streamStart } from "./stream.ts";

export { splitPatterns } from "./glob.ts";
export type { Axis } from "./kind.ts";
export { toAdjacent, toHalf } from "./row_order.ts";

/** A tensor of the forward pass that can be captured. */
export interface Point {
  /** The canonical name: `blk.3.attn_probs`, `logits`. */
  readonly name: string;
  /** From 0; undefined of what belongs to no layer. */
  readonly layer?: number;
  /** The name without `blk.<layer>.`. */
  readonly kind: string;
  /** T positions of a pass, S cached ones (these included), R last rows with logits; the rest are numbers. */
  readonly shape: readonly Dim[];
  /** What each dimension of the shape counts. */
  readonly axes: readonly Axis[];
  /** What it is, in one line. */
  readonly meaning: string;
  /**
   * Other names: llama.cpp's, TransformerLens's, Hugging Face's. The axes stay in our order where those engines have them in
   * another one, and heads stay apart where those join them.
   */
  readonly aliases: readonly string[];
  /** Those aliases whose numbers are not the point's own. */
  readonly conversions: ReadonlyMap<string, Conversion>;
  /** The order of each head's numbers, in points that RoPE turns or will turn; `width` of them, from the head's start. */
  readonly rope?: { readonly order: Rope["style"]; readonly width: number };
  /** A star does not select it: it must be named. */
  readonly onRequest: boolean;
}

/** How the numbers under an alias differ from those of its point. */
export interface Conversion {
  /** `half`: the heads are in half order where the file has adjacent pairs. */
  readonly rowOrder: "file" | "half";
  /** Our numbers times this are the alias's. */
  readonly factor: number;
}

/** A point, as somebody asked for it. */
export interface ResolvedPoint extends Conversion {
  readonly point: Point;
  /** The canonical name or the alias that was asked for, or that a pattern found. */
  readonly name: string;
}

/** A name or a pattern that fits no point. */
export class UnknownPointError extends RangeError {
  /** The class's name. */
  override readonly name = "UnknownPointError";
  /**
   * Thrown wherever points are named, before anything runs.
   *
   * @param point what was asked for
   * @param nearest names (for a pattern: patterns) that are most like it
   * @param layers how many the model has
   */
  constructor(
    readonly point: string,
    readonly nearest: readonly string[],
    layers: number,
  ) {
    const known = nearest.length > 0 ? `did you mean ${nearest.join(", ")}` : "points() lists all";
    super(`No point ${JSON.stringify(point)} in this model of ${layers} layers: ${known}`);
  }
}

const UNCHANGED: Conversion = { rowOrder: "file", factor: 1 };

/** All points of a model, in the order of computation. */
export function listPoints(config: Config, plan: Plan): Point[] {
  const points: Point[] = [];
  const values = planValues(plan);
  const kinds = new Set([...values.keys()].map((name) => kindOf(name)));
  const model: AliasModel = { config, has: (kind) => kinds.has(kind) };
  const start = streamStart(plan);
  for (const { name, shape } of values.values()) {
    const kind = kindOf(name);
    if (!Object.hasOwn(POINT_KINDS, kind)) continue;
    const layer = layerOf(name);
    const { axes: all, meaning, rotary, onRequest = false } = POINT_KINDS[kind];
    // A norm of all heads together has one root for each position.
    const axes = shape.length < all.length ? ROWS : all;
    const before = layer ?? (name === start ? -1 : undefined);
    const { aliases, conversions } = aliasesOf(POINT_KINDS[kind], model, before);
    const turned = layer === undefined ? undefined : config.blocks[layer].rope;
    const rope = rotary && turned ? { order: turned.style, width: turned.width } : undefined;
    points.push({
      name,
      layer,
      kind,
      shape,
      axes,
      meaning,
      aliases,
      conversions,
      rope,
      onRequest,
    });
  }
  return points;
}

/**
 * Finds points by canonical names, aliases and patterns: `*` within a component of a name (`blk.*.attn_probs`), a last
 * component `*` for everything below (`blk.3.*`; points that are only {@linkcode Point.onRequest} are left out), ranges of
 * layers (`blk.0-3.out`) and choices (`blk.{0,5}.{q,k}`). A pattern that fits canonical names selects those; else it is
 * tried on the aliases (`blocks.*.hook_resid_mid`).
 *
 * @returns each name once, in the order of the patterns, then of computation
 * @throws {UnknownPointError} when one of them fits nothing
 */
export function resolvePoints(
  points: readonly Point[],
  patterns: readonly string[],
): ResolvedPoint[] {
  const found = new Map<string, ResolvedPoint>();
  for (const pattern of patterns) {
    const matches = matching(points, pattern);
    if (matches.length === 0) throw unknownPoint(points, pattern);
    for (const match of matches) if (!found.has(match.name)) found.set(match.name, match);
  }
  return [...found.values()];
}

/** A point's numbers as its alias has them: in its row order, times its factor. The same array where nothing differs. */
export function asAsked(resolved: ResolvedPoint, data: Float32Array): Float32Array {
  const { point, rowOrder, factor } = resolved;
  const ordered = rowOrder === "half"
    ? toHalf(data, point.shape.at(-1) as number, point.rope?.width)
    : data;
  return factor === 1 ? ordered : ordered.map((value) => value * factor);
}

/** Undoes {@linkcode asAsked}: the numbers of an alias as its point has them. */
export function asStored(
  resolved: ResolvedPoint,
  data: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const { point, rowOrder, factor } = resolved;
  const own = factor === 1 ? data : data.map((value) => value / factor);
  return rowOrder === "half"
    ? toAdjacent(own, point.shape.at(-1) as number, point.rope?.width)
    : own;
}

/** Modules of a Llama's layer that other families' classes call otherwise, and GGUF's names of their weights. */
const LLAMA_MODULES = [
  ["self_attn.o_proj", "attn_output"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
] as const;

/** A template as a family's classes name their modules, given by GGUF's names; none where all of them have other names than a Llama's. */
function inModules(template: string, modules: Readonly<Record<string, string>>): string[] {
  const all = Object.entries(modules);
  const isOther = all.some(([, own]) => own === "token_embd");
  if (isOther) return template.startsWith("model.") ? [] : [template];
  const renamed = LLAMA_MODULES.find(([module]) => template.includes(`.${module}`));
  const other = renamed && all.find(([, own]) => own === renamed[1]);
  return [other ? template.replace(renamed[0], other[0]) : template];
}

/** The aliases of a point in a layer; −1 of what enters the first, undefined of what belongs to none. */
function aliasesOf(kind: PointKind, model: AliasModel, layer: number | undefined) {
  const { own = [], llamaCpp = [], transformerLens = [], huggingFace = [] } = kind;
  const { config } = model;
  const inHalves = kind.rotary && config.blocks[layer ?? -1]?.rope?.style === "adjacent";
  const aliases: string[] = [];
  const conversions = new Map<string, Conversion>();

  const modules = FAMILIES[config.architecture]?.huggingFace?.modules ?? {};
  const namesOf = (templates: Templates) =>
    typeof templates === "function" ? templates(model) : templates;

  function add(templates: readonly string[], rowOrder: Conversion["rowOrder"]): void {
    const next = layer === undefined ? config.layers : layer + 1;
    for (const template of templates) {
      if (template.includes("{next}") && next >= config.layers) continue;
      const alias = template.replace("{L}", `${layer}`).replace("{next}", `${next}`)
        .replace("{layers}", `${config.layers}`);
      const factor = kind.factors?.[template]?.(config) ?? 1;
      aliases.push(alias);
      if (rowOrder !== "file" || factor !== 1) conversions.set(alias, { rowOrder, factor });
    }
  }
  add(namesOf(own), "file");
  add(namesOf(llamaCpp), "file");
  add(namesOf(transformerLens), inHalves ? "half" : "file");
  add(namesOf(huggingFace).flatMap((name) => inModules(name, modules)), inHalves ? "half" : "file");
  return { aliases, conversions };
}

function matching(points: readonly Point[], pattern: string): ResolvedPoint[] {
  const fits = glob(pattern);
  const unnamed = lastComponent(pattern).includes("*");
  const eligible = points.filter(({ onRequest }) => !(onRequest && unnamed));
  const canonical = eligible.filter(({ name }) => fits(name));
  if (canonical.length > 0) {
    return canonical.map((point) => ({ point, name: point.name, ...UNCHANGED }));
  }
  return eligible.flatMap((point) =>
    point.aliases.filter(fits).map((name) => ({
      point,
      name,
      ...point.conversions.get(name) ?? UNCHANGED,
    }))
  );
}

function unknownPoint(points: readonly Point[], pattern: string): UnknownPointError {
  const names = [...points.map(({ name }) => name), ...points.flatMap(({ aliases }) => aliases)];
  const layers = new Set(points.map(({ layer }) => layer)).size - 1;
  const isPattern = /[*{]|\.\d+-\d+\./.test(pattern);
  const candidates = isPattern ? new Set(names.map((name) => name.replace(/\d+/, "*"))) : names;
  const asked = isPattern ? pattern.replace(/\{[^}]*\}|\d+-\d+/, "*") : pattern;
  return new UnknownPointError(pattern, nearest(asked, candidates), layers);
}

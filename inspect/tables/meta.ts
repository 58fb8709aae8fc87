/** What a table says about itself, in the metadata of its schema: texts under short keys. */
import { inLayer } from "../../base/layer_names.ts";
import type { Point } from "../points/points.ts";

/** What is known of the run that tables are made of. */
export interface TableMeta {
  /** The model's name. */
  readonly model: string;
  /** SHA-256 of the model's file, in hexadecimal digits. */
  readonly sha256?: string;
  /** The prompt of each sequence, where texts were given. */
  readonly prompts?: readonly string[];
  /** The ids of each sequence, prompt and generated ones. */
  readonly ids: readonly (readonly number[])[];
  /** How many ids of each sequence are its prompt. */
  readonly promptLengths?: readonly number[];
  /** Where it ran. */
  readonly device: string;
  /** Lamina's version. */
  readonly version: string;
  /** The engine that computed the numbers, where that is not Lamina. */
  readonly reference?: {
    /** The engine. */
    readonly name: string;
    /** The engine's version. */
    readonly version: string;
    /** The weights that it ran on. */
    readonly weights: string;
  };
  /** Order of a head's numbers in points that RoPE turns, where it is not the file's: an alias in half order. */
  readonly rowOrder?: "adjacent" | "half";
  /** The name under which a point was asked for, where that is an alias: its numbers may be in another order or scale. */
  readonly alias?: string;
}

/**
 * The metadata of a point's table. Plain texts: `point` (`blk.3.q`; `blk.*.q` for several layers; `token_embd, blk.*.out` for
 * several kinds under one alias), `alias`, `meaning`, `dtype` (`f32`), `row_order` (`adjacent` or `half`; only points that RoPE
 * turns), `model`, `sha256`, `device`, `version`, and of another engine's numbers `reference`, `reference_version` and `weights`.
 * JSON: `layers` (`[3]`; as the alias counts them), `axes` (`["position","head","feature"]`), `shape` (`["T",9,64]`: T positions of a pass, S cached ones, R rows with
 * logits), `prompt` (a text per sequence), `ids` (a list per sequence), `prompt_lengths` (a number per sequence).
 */
export function pointMetadata(points: readonly Point[], meta: TableMeta): Map<string, string> {
  const [{ name, layer, axes, shape, rope }] = points;
  const kinds = points.map(({ name }) => inLayer(name, "*"));
  const meanings = points.map(({ meaning }) => meaning);
  const metadata = new Map([
    ["point", points.length === 1 ? name : [...new Set(kinds)].join(", ")],
    ["meaning", [...new Set(meanings)].join("; ")],
    ["axes", JSON.stringify(axes)],
    ["shape", JSON.stringify(shape)],
    ["dtype", "f32"],
  ]);
  if (meta.alias !== undefined) metadata.set("alias", meta.alias);
  if (layer !== undefined) metadata.set("layers", JSON.stringify(points.map(({ layer }) => layer)));
  if (rope) metadata.set("row_order", meta.rowOrder ?? rope.order);
  for (const [key, value] of runMetadata(meta)) metadata.set(key, value);
  return metadata;
}

/** The part of {@linkcode pointMetadata} that tells of the run; what is not known is left out. */
export function runMetadata(meta: Partial<TableMeta>): Map<string, string> {
  const { model, sha256, prompts, ids, promptLengths, device, version, reference } = meta;
  const texts = {
    model,
    sha256,
    device,
    version,
    reference: reference?.name,
    reference_version: reference?.version,
    weights: reference?.weights,
  };
  const json = { prompt: prompts, ids, prompt_lengths: promptLengths };
  return new Map([
    ...Object.entries(texts).flatMap(([key, value]): [string, string][] =>
      value === undefined ? [] : [[key, value]]
    ),
    ...Object.entries(json).flatMap(([key, value]): [string, string][] =>
      value === undefined ? [] : [[key, JSON.stringify(value)]]
    ),
  ]);
}

/** A JSON value of a table's metadata; undefined where it is missing or not what it should be. */
export function metadataList(metadata: ReadonlyMap<string, string>, key: string) {
  try {
    const value: unknown = JSON.parse(metadata.get(key) ?? "null");
    return Array.isArray(value) ? value as unknown[] : undefined;
  } catch {
    return undefined; // somebody else's key of the same name
  }
}

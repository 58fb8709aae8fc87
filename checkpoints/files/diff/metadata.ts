/** Metadata of two files: which of the differences change what a model computes. */
import type { MetadataValue } from "../../../engine/gguf/reader.ts";
import { readKind } from "../../../text/kind.ts";
import { CONFIG_FILE, type WeightFile } from "../weight_file.ts";

/** A key that two files do not agree on. */
export interface MetadataDifference {
  /** GGUF's: `llama.rope.freq_base`. */
  readonly key: string;
  /** The values as short texts; `(default)` follows one that the file leaves out. */
  readonly a: string;
  readonly b: string;
  /** Whether it changes what the model computes; else it is a note. */
  readonly matters: boolean;
}

type Metadata = ReadonlyMap<string, MetadataValue>;

/** A key, what it means where a file leaves it out, and whether it changes results. */
interface Key {
  readonly key: string;
  readonly otherwise?: (metadata: Metadata, architecture: string) => MetadataValue | undefined;
  readonly note?: boolean;
}

/** Keys of the architecture: `<architecture>.<key>`. Defaults are llama.cpp's. */
const MODEL_KEYS: readonly Key[] = [
  { key: "context_length", note: true },
  { key: "block_count" },
  { key: "embedding_length" },
  { key: "feed_forward_length" },
  { key: "attention.head_count" },
  {
    key: "attention.head_count_kv",
    otherwise: (all, name) => scalar(all, `${name}.attention.head_count`),
  },
  { key: "attention.key_length", otherwise: headWidth },
  { key: "attention.value_length", otherwise: headWidth },
  { key: "attention.layer_norm_rms_epsilon" },
  { key: "attention.sliding_window", otherwise: () => 0 },
  { key: "attention.scale", otherwise: () => 0 },
  { key: "rope.freq_base", otherwise: () => 10000 },
  { key: "rope.dimension_count", otherwise: headWidth },
  { key: "rope.scaling.type", otherwise: () => "none" },
  { key: "rope.scaling.factor", otherwise: () => 1 },
  { key: "rope.scaling.attn_factor", otherwise: () => 1 },
  { key: "rope.scaling.original_context_length", otherwise: () => 0 },
  { key: "expert_count", otherwise: () => 0 },
  { key: "expert_used_count", otherwise: () => 0 },
  { key: "logit_scale", otherwise: () => 0 },
  { key: "attn_logit_softcapping", otherwise: () => 0 },
  { key: "final_logit_softcapping", otherwise: () => 0 },
];

/** Keys of the tokenizer: `tokenizer.ggml.<key>`. */
const TOKENIZER_KEYS: readonly Key[] = [
  { key: "model" },
  { key: "pre", otherwise: () => "default" },
  { key: "tokens" },
  { key: "token_type" },
  { key: "scores" },
  { key: "merges" },
  { key: "bos_token_id", otherwise: (all) => defaults(all)?.bos },
  { key: "eos_token_id", otherwise: (all) => defaults(all)?.eos },
  { key: "unknown_token_id", otherwise: (all) => defaults(all)?.unknown },
  { key: "add_bos_token", otherwise: (all) => defaults(all)?.addBos },
  { key: "add_eos_token", otherwise: () => false },
  { key: "add_space_prefix", otherwise: (all) => all.get("tokenizer.ggml.model") === "llama" },
];

/**
 * What two files say differently about the model and its tokenizer. Keys that a file of safetensors cannot have are left out. Without
 * a `config.json` beside it nothing can be compared, which is a difference by itself, unless neither file says anything.
 */
export function diffMetadata(a: WeightFile, b: WeightFile): MetadataDifference[] {
  const [missingA, missingB] = [a, b].map(({ format, metadata }) =>
    format === "safetensors" && metadata.size === 0
  );
  if (missingA || missingB) {
    const value = (missing: boolean) => missing ? "missing: metadata not compared" : "-";
    const matters = missingA !== missingB;
    return [{ key: CONFIG_FILE, a: value(missingA), b: value(missingB), matters }];
  }
  const differences: MetadataDifference[] = [];
  const [nameA, nameB] = [architecture(a), architecture(b)];
  const bothGguf = a.format === "GGUF" && b.format === "GGUF";
  function look(keyA: string, keyB: string, { otherwise, note }: Key): void {
    const [ownA, ownB] = [a.metadata.get(keyA), b.metadata.get(keyB)];
    if (ownA === undefined && ownB === undefined) return;
    // What stands in neither config.json nor tokenizer_config.json is no difference.
    if (!bothGguf && (ownA === undefined || ownB === undefined) && keyA.startsWith("tokenizer.")) {
      return;
    }
    const valueA = ownA ?? otherwise?.(a.metadata, nameA);
    const valueB = ownB ?? otherwise?.(b.metadata, nameB);
    if (same(valueA, valueB)) return;
    const [textA, textB] = shown(valueA, valueB);
    differences.push({
      key: keyA,
      a: ownA === undefined && valueA !== undefined ? `${textA} (default)` : textA,
      b: ownB === undefined && valueB !== undefined ? `${textB} (default)` : textB,
      matters: !note,
    });
  }
  look("general.architecture", "general.architecture", { key: "" });
  for (const key of MODEL_KEYS) look(`${nameA}.${key.key}`, `${nameB}.${key.key}`, key);
  for (const key of TOKENIZER_KEYS) {
    look(`tokenizer.ggml.${key.key}`, `tokenizer.ggml.${key.key}`, key);
  }
  look("tokenizer.chat_template", "tokenizer.chat_template", { key: "", note: true });
  return differences;
}

/** How a file's heads are laid out, where its metadata says so. */
export function headLayout(file: WeightFile): { width: number; rope: number } | undefined {
  const name = architecture(file);
  const width = scalar(file.metadata, `${name}.attention.key_length`) ??
    headWidth(file.metadata, name);
  if (width === undefined) return undefined;
  return { width, rope: scalar(file.metadata, `${name}.rope.dimension_count`) ?? width };
}

/** Widths and layers of a file's model, of which factors are made; undefined where its metadata does not say them. */
export function modelSizes(
  file: WeightFile,
): { width: number; headWidth: number; layers: number } | undefined {
  const name = architecture(file);
  const [width, layers] = ["embedding_length", "block_count"]
    .map((key) => scalar(file.metadata, `${name}.${key}`));
  const heads = headLayout(file)?.width;
  return width && layers && heads ? { width, headWidth: heads, layers } : undefined;
}

function architecture({ metadata }: WeightFile): string {
  return String(metadata.get("general.architecture") ?? "llama");
}

function headWidth(metadata: Metadata, name: string): number | undefined {
  const width = scalar(metadata, `${name}.embedding_length`);
  const heads = scalar(metadata, `${name}.attention.head_count`);
  return width !== undefined && heads ? Math.floor(width / heads) : undefined;
}

function scalar(metadata: Metadata, key: string): number | undefined {
  const value = metadata.get(key);
  const first = typeof value === "object" ? value[0] : value;
  return typeof first === "number" || typeof first === "bigint" ? Number(first) : undefined;
}

/** What the tokenizer's kind means by keys that are left out; nothing for kinds that we do not know. */
function defaults(metadata: Metadata) {
  try {
    return readKind(metadata).defaults;
  } catch {
    return undefined;
  }
}

function same(a: MetadataValue | undefined, b: MetadataValue | undefined): boolean {
  return firstDifference(a, b) === undefined;
}

/** The place at which two lists part; −1 for other values that differ, undefined for equal ones. */
function firstDifference(
  a: MetadataValue | undefined,
  b: MetadataValue | undefined,
): number | undefined {
  if (typeof a === "object" && typeof b === "object") {
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      if (!same(a[i], b[i])) return i;
    }
    return undefined;
  }
  // A number that holds for all layers may be there once for each.
  if (typeof a === "object" || typeof b === "object") {
    const [list, value] = typeof a === "object" ? [a, b] : [b as MetadataValue[], a];
    const equal = list.length > 0 &&
      Array.from<MetadataValue>(list).every((each) => same(each, value));
    return equal ? undefined : -1;
  }
  return number(a) === number(b) ? undefined : -1;
}

/** 64-bit integers as numbers, and decimals as files have them: in 32 bits. */
function number(value: MetadataValue | undefined): MetadataValue | undefined {
  return typeof value === "bigint" || typeof value === "number"
    ? Math.fround(Number(value))
    : value;
}

/** Two values that differ, in short; of lists the first entry that does. */
function shown(
  a: MetadataValue | undefined,
  b: MetadataValue | undefined,
): [a: string, b: string] {
  const at = firstDifference(a, b) ?? -1;
  return [text(a, at), text(b, at)];
}

function text(value: MetadataValue | undefined, at: number): string {
  if (value === undefined) return "-";
  if (typeof value === "object") {
    const entry = value[at] as MetadataValue | undefined;
    if (at < 0) return `${value.length} values`;
    return `${value.length} values, [${at}] ${entry === undefined ? "-" : text(entry, -1)}`;
  }
  if (typeof value === "number") return String(Number(value.toPrecision(7)));
  const whole = typeof value === "string" ? JSON.stringify(value) : String(value);
  return whole.length > 40 ? `${whole.slice(0, 37)}...` : whole;
}

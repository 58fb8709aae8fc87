import { sizeOf } from "../../base/shape.ts";
import type { GgufFile, MetadataValue, TensorInfo } from "../../engine/gguf/reader.ts";
import { llamaCppDoes } from "../../engine/model/hyperparameters.ts";
import { whatIsMissing } from "../../engine/plan/tensors.ts";
import { TokenizerError } from "../../text/error.ts";
import { hasVocabulary, tokenizerOf } from "../run/vocabulary.ts";
import { jsonLine, printable } from "../escape.ts";
import { formatBytes, formatTable } from "../format.ts";

const SHOWN_CHARACTERS = 80;
const SHOWN_ELEMENTS = 6;

/** What `info` prints of a GGUF: metadata with long values cut, tensors, totals. */
export function infoText(file: GgufFile): string {
  const tensors = [...file.tensors.values()];
  const order = file.littleEndian ? "little-endian" : "big-endian";
  return [
    printable(file.name),
    `GGUF version ${file.version}, ${order}, aligned to ${file.alignment}, ` +
    `${file.size} bytes (${formatBytes(file.size)})`,
    "",
    `metadata (${file.metadata.size})`,
    formatTable(
      [...file.metadata].map(([key, value]) => [`  ${key}`, valueText(value)]),
      "ll",
    ),
    "",
    `tensors (${tensors.length})`,
    tensorTable(tensors),
    "",
    "totals",
    totalsTable(tensors),
    "",
    ...abilitiesText(file),
  ].join("\n");
}

/** The same as one JSON object, with every value whole; integers beyond 2^53 become strings. */
export function infoJson(file: GgufFile): string {
  const tensors = [...file.tensors.values()].map((tensor) => ({
    name: tensor.name,
    type: tensor.type.name,
    shape: tensor.shape,
    bytes: tensor.bytes,
    offset: tensor.offset,
    part: tensor.source,
  }));
  const { parameters, bytes } = totals([...file.tensors.values()]);
  return jsonLine({
    name: file.name,
    version: file.version,
    little_endian: file.littleEndian,
    alignment: file.alignment,
    bytes: file.size,
    metadata: Object.fromEntries([...file.metadata].map(([key, value]) => [key, plain(value)])),
    tensors,
    parameters,
    tensor_bytes: bytes,
    bits_per_weight: bitsPerWeight(parameters, bytes),
    ...abilities(file),
  });
}

/** Whether it runs here, and what is missing of what it takes. */
function abilities(file: GgufFile): { runs: boolean; missing: string[] } {
  const missing = whatIsMissing(file);
  if (missing.length > 0) return { runs: false, missing };
  try {
    if (hasVocabulary(file)) tokenizerOf(file);
    return { runs: true, missing };
  } catch (error) {
    if (error instanceof TokenizerError) return { runs: true, missing: [error.message] };
    throw error;
  }
}

function abilitiesText(file: GgufFile): string[] {
  const { runs, missing } = abilities(file);
  const said = !runs
    ? "does not run here"
    : missing.length > 0
    ? "runs here, with token ids only"
    : "runs here";
  const does = runs ? llamaCppDoes(file) : undefined;
  return [
    said,
    ...missing.map((line) => `  ${printable(line)}`),
    ...does === undefined ? [] : [`  llama.cpp ${does}; --like llama.cpp does as it does`],
  ];
}

function tensorTable(tensors: readonly TensorInfo[]): string {
  const split = tensors.some(({ source }) => source > 0);
  const rows = tensors.map((tensor) => [
    `  ${tensor.name}`,
    tensor.type.name,
    tensor.shape.join(" x ") || "scalar",
    String(tensor.bytes),
    String(tensor.offset),
    ...(split ? [String(tensor.source + 1)] : []),
  ]);
  const head = ["  name", "type", "shape", "bytes", "offset", ...(split ? ["part"] : [])];
  return formatTable([head, ...rows], split ? "lllrrr" : "lllrr");
}

function totalsTable(tensors: readonly TensorInfo[]): string {
  const byType = Map.groupBy(tensors, ({ type }) => type.name);
  const groups = [...byType].map(([name, group]) => ({ name, group, ...totals(group) }))
    .sort((a, b) => b.bytes - a.bytes);
  const row = (name: string, group: readonly TensorInfo[]) => {
    const { parameters, bytes } = totals(group);
    const bits = bitsPerWeight(parameters, bytes);
    return [
      `  ${name}`,
      String(group.length),
      String(parameters),
      String(bytes),
      bits?.toFixed(3) ?? "-",
    ];
  };
  return formatTable([
    ["  type", "tensors", "weights", "bytes", "bits per weight"],
    ...groups.map(({ name, group }) => row(name, group)),
    row("all", tensors),
  ], "lrrrr");
}

function totals(tensors: readonly TensorInfo[]): { parameters: number; bytes: number } {
  let parameters = 0;
  let bytes = 0;
  for (const tensor of tensors) {
    parameters += sizeOf(tensor.shape);
    bytes += tensor.bytes;
  }
  return { parameters, bytes };
}

function bitsPerWeight(parameters: number, bytes: number): number | undefined {
  return parameters === 0 ? undefined : bytes * 8 / parameters;
}

function valueText(value: MetadataValue): string {
  if (typeof value === "string") return stringText(value);
  if (typeof value !== "object") return scalarText(value);
  const shown: string[] = [];
  for (let i = 0; i < Math.min(value.length, SHOWN_ELEMENTS); i++) {
    const element = value[i];
    shown.push(typeof element === "object" ? `[${element.length} values]` : valueText(element));
  }
  if (value.length > SHOWN_ELEMENTS) shown.push("...");
  return `${value.length} values: [${shown.join(", ")}]`;
}

function stringText(value: string): string {
  const cut = value.length > SHOWN_CHARACTERS;
  const head = cut ? value.slice(0, SHOWN_CHARACTERS) : value;
  const quoted = jsonLine(head);
  return cut ? `${quoted}... (${value.length} characters)` : quoted;
}

function scalarText(value: number | bigint | boolean): string {
  // A 32-bit float as short as it can be said: 1e-5 and not 0.000009999999747378752.
  if (typeof value === "number" && !Number.isInteger(value) && Math.fround(value) === value) {
    for (let digits = 1; digits <= 9; digits++) {
      const short = Number(value.toPrecision(digits));
      if (Math.fround(short) === value) return String(short);
    }
  }
  return String(value);
}

function plain(value: MetadataValue): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object") return value;
  return Array.from<MetadataValue, unknown>(value as Iterable<MetadataValue>, plain);
}

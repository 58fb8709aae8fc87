/** A reference's own tensors: as a run, and as files: Arrow tables like those of a capture, or .npy files with a manifest. */
import { join } from "node:path";
import deno from "../../deno.json" with { type: "json" };
import type { Config } from "../../engine/model/config.ts";
import { type Piece, throughSink } from "../../inspect/run/capture.ts";
import type { Point } from "../../inspect/points/points.ts";
import type { TableMeta, TokenOf } from "../../inspect/tables/mod.ts";
import { WholeFile } from "../../inspect/tables/output.ts";
import { ArrowSink, type SinkOptions } from "../../inspect/tables/sink.ts";
import { isAttention } from "../parity/compare.ts";
import {
  MANIFEST,
  type Manifest,
  type ManifestPass,
  type ManifestTensor,
} from "./engine_folder/manifest.ts";
import { writeNpy } from "../files/npy.ts";
import type { Provenance, ReferencePass, ReferenceRun, ReferenceTensor } from "./reference.ts";

/** What a reference ran, and of what. */
export interface Extract {
  readonly run: ReferenceRun;
  readonly provenance: Provenance;
  readonly config: Config;
  readonly points: readonly Point[];
  readonly promptIds: readonly number[];
  /** Where the prompt was a text. */
  readonly prompt?: string;
  readonly sha256?: string;
  /** A token as people read it. */
  readonly token: (id: number) => string;
}

/** A file that was written. */
export interface ExtractedFile {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Writes an Arrow file per point, with the schema of a capture; the metadata also say which engine it was.
 *
 * @throws {OutputError} when it cannot be written
 */
export async function writeArrow(
  folder: string,
  extract: Extract,
  options: Pick<SinkOptions, "overwrite"> = {},
): Promise<readonly ExtractedFile[]> {
  const ids = sequence(extract);
  const meta: TableMeta = {
    ...engineMeta(extract),
    prompts: extract.prompt === undefined ? undefined : [extract.prompt],
    ids: [ids],
    promptLengths: [extract.promptIds.length],
  };
  const token: TokenOf = (_sequence, position) => {
    const id = ids.at(position);
    return id === undefined ? undefined : { id, text: extract.token(id) };
  };
  const sink = new ArrowSink(folder, options);
  await throughSink(sink, () => ({ meta: () => meta, token }), async () => {
    for (const { point, piece } of piecesOf(extract)) await sink.write(point, piece);
  });
  return sink.files;
}

/** What tables say of the engine and its model. */
export function engineMeta(
  { provenance: { name, version, weights, device }, config, sha256 }: Extract,
): Pick<TableMeta, "model" | "sha256" | "device" | "version" | "reference"> {
  const reference = { name, version, weights };
  return { model: config.name, sha256, device, version: deno.version, reference };
}

/** Its tensors as a run keeps them. */
export function* piecesOf(
  extract: Extract,
): Generator<{ readonly point: Point; readonly piece: Piece }> {
  for (const { point, pass, tensor: { shape, positions, data } } of tensorsOf(extract)) {
    const place = { sequence: 0, step: pass.step, start: startOf(point, pass) };
    yield { point, piece: { point: point.name, ...place, shape, positions, data: f32(data) } };
  }
}

/**
 * Writes a .npy file per point and step, and a manifest (engine_folder/README.md). What attention hides is −∞ in scores and 0 in
 * probabilities.
 *
 * @throws {OutputError} when it cannot be written
 */
export async function writeNpyFolder(
  folder: string,
  extract: Extract,
): Promise<readonly ExtractedFile[]> {
  const { run, provenance, config, promptIds } = extract;
  const files: ExtractedFile[] = [];
  const tensors = new Map<ReferencePass, Record<string, ManifestTensor>>();
  for (const { point, pass, tensor } of tensorsOf(extract)) {
    const file = `step${pass.step}/${point.name}.npy`;
    const path = join(folder, file);
    await Deno.mkdir(join(folder, `step${pass.step}`), { recursive: true });
    const data = isAttention(point.name) ? causal(point, pass, tensor) : f32(tensor.data);
    await writeNpy(path, tensor.shape, data);
    files.push({ path, bytes: (await Deno.stat(path)).size });
    const { shape, positions } = tensor;
    const own = tensors.get(pass) ?? {};
    tensors.set(pass, { ...own, [point.name]: { file, shape, axes: point.axes, positions } });
  }
  const manifest: Manifest & { dtype: "f32"; margins: readonly number[]; weights: string } = {
    format: "lamina-engine-tensors",
    version: 1,
    model: config.name,
    engine: provenance.name,
    engine_version: provenance.version,
    device: provenance.device,
    weights: provenance.weights,
    rope: config.ropes[0]?.style,
    angles: provenance.rope,
    dtype: "f32",
    activations: provenance.activations ?? "f32",
    prompt_ids: promptIds,
    ids: run.ids,
    margins: run.margins,
    passes: run.passes.map((pass): ManifestPass => {
      const { step, start, ids } = pass;
      return { step, start, ids, tensors: tensors.get(pass) ?? {} };
    }),
  };
  const file = await WholeFile.create(join(folder, MANIFEST));
  await file.write([new TextEncoder().encode(`${JSON.stringify(manifest, null, 1)}\n`)]);
  await file.finish();
  return [...files, { path: file.path, bytes: file.bytes }];
}

/** All ids that ran, in the order of their positions. */
function sequence({ run, promptIds }: Extract): readonly number[] {
  return [...promptIds, ...run.passes.filter(({ step }) => step > 0).flatMap(({ ids }) => ids)];
}

function* tensorsOf({ run, points }: Extract) {
  const byName = new Map(points.map((point) => [point.name, point]));
  for (const pass of run.passes) {
    for (const [name, tensor] of pass.tensors) {
      const point = byName.get(name);
      if (point) yield { point, pass, tensor };
    }
  }
}

/** Absolute position of a tensor's first row: the cache begins with slot 0. */
function startOf({ axes }: Point, { start }: ReferencePass): number {
  return axes[0] === "slot" ? 0 : start;
}

function f32(data: Float32Array | Float64Array): Float32Array<ArrayBuffer> {
  return data instanceof Float32Array ? data as Float32Array<ArrayBuffer> : Float32Array.from(data);
}

/** Attention [H, T, S] whose hidden keys hold nothing of their engine's own. */
function causal(
  { kind }: Point,
  { start }: ReferencePass,
  { shape: [heads, queries, keys], data, positions }: ReferenceTensor,
): Float32Array {
  const rows = Float32Array.from(data);
  for (let row = 0; row < heads * queries; row++) {
    const query = row % queries;
    const visible = (positions?.[query] ?? start + query) + 1;
    rows.fill(kind === "attn_scores" ? -Infinity : 0, row * keys + visible, (row + 1) * keys);
  }
  return rows;
}

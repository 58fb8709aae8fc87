/** A small run, and folders of its tensors as other engines write them. */
import assert from "node:assert/strict";
import { folderReference } from "../../../checkpoints/references/engine_folder/engine_folder.ts";
import { writeNpy } from "../../../checkpoints/files/npy.ts";
import {
  ReferenceFailure,
  type ReferenceRequest,
  type ReferenceRun,
} from "../../../checkpoints/references/reference.ts";
import type { Folder } from "../folder.ts";
import { type RandomModel, randomModel } from "../models/random_model.ts";
import type { Run } from "../../../inspect/run/run.ts";

export const IDS = [1, 5, 9, 2, 7];
export const T = IDS.length;
export const [H, HKV, WIDTH, D, F, V] = [4, 2, 16, 64, 128, 96];
export const GENERATED = 3;
export const POINTS = ["blk.*", "token_embd", "output_norm", "logits"];

export const { model, config, run } = await made();

/** A prompt and three generated tokens on a model of two layers, all points. */
export async function made() {
  const { model }: RandomModel = await randomModel({ kvHeads: HKV, seed: 3 });
  const generation = model.generate(IDS, { capture: POINTS, maxTokens: GENERATED });
  // deno-lint-ignore no-unused-vars -- the run is what is wanted
  for await (const token of generation);
  return { model, config: model.config, run: generation.run };
}

export function request(points: readonly string[], options: Partial<ReferenceRequest> = {}) {
  return { ids: IDS, generate: 0, steps: [0], points, ...options };
}

/** The numbers of a point in one step, as the run has them. */
export function numbers(
  of: Run,
  point: string,
  step = 0,
): { shape: readonly number[]; data: Float32Array } {
  return of.pieces(point).find((piece) => piece.step === step)!;
}

/** Numbers of a run whose hidden keys do not count. */
export function visible(
  point: string,
  { shape, data }: { shape: readonly number[]; data: ArrayLike<number> },
) {
  if (!/attn_(scores|probs)$/.test(point)) return Array.from(data);
  const [, queries, keys] = shape;
  return Array.from(data).filter((_, i) => {
    const query = Math.floor(i / keys) % queries;
    return i % keys <= query + keys - queries;
  });
}

export function assertHolds(
  found: ReferenceRun,
  of: Run,
  points: readonly string[],
  step = 0,
): void {
  const pass = found.passes.find((pass) => pass.step === step)!;
  assert.deepEqual([...pass.tensors.keys()].sort(), [...points].sort());
  for (const point of points) {
    const expected = numbers(of, point, step);
    const tensor = pass.tensors.get(point)!;
    assert.deepEqual(tensor.shape, expected.shape, point);
    assert.deepEqual(visible(point, tensor), visible(point, expected), point);
  }
}

/** Writes a `.npy` file and gives its entry for the manifest. */
export async function npy(
  folder: Folder,
  file: string,
  shape: readonly number[],
  data: Float32Array,
  axes?: readonly string[],
) {
  await writeNpy(folder.at(file), shape, data);
  return { file, shape, axes };
}

export function manifest(tensors: Record<string, unknown>, more: Record<string, unknown> = {}) {
  return JSON.stringify({
    format: "lamina-engine-tensors",
    version: 1,
    model: "random",
    prompt_ids: IDS,
    passes: [{ step: 0, start: 0, ids: IDS, tensors }],
    ...more,
  });
}

/** The folder must be refused, or its run, with one line that names the folder and matches. */
export async function refused(
  folder: Folder,
  message: RegExp,
  asked = request(["blk.0.q", "logits"]),
) {
  const error: unknown = await folderReference(folder.path, config)
    .then((reference) => reference.run(asked)).then(() => undefined, (reason) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.match(error.message, message);
  assert.ok(!/[\r\n]/.test(error.message) && error.message.length < 400, error.message);
}

/** `checkpoint_<name>.bin` in bytes; counts may lie. */
export function bin(
  data: Float32Array,
  shape: readonly number[],
  dimensions = shape.length,
): Uint8Array {
  const bytes = new Uint8Array(4 + 8 * shape.length + data.byteLength);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, dimensions, true);
  shape.forEach((size, i) => view.setBigInt64(4 + 8 * i, BigInt(size), true));
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 4 + 8 * shape.length);
  return bytes;
}

/** The product of a weight with activations, ours and another file's, judged without an engine. */
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Step } from "../../../engine/plan/plan.ts";
import { alteredFile } from "../../../checkpoints/files/altered_file.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import type { Difference } from "../../../checkpoints/parity/compare.ts";
import { judgeOf } from "../../../checkpoints/parity/judge.ts";
import type { LocalValue } from "../../../checkpoints/parity/local.ts";
import { OtherWeights } from "../../../checkpoints/parity/weights/other_weights.ts";
import type { ReferencePass } from "../../../checkpoints/references/reference.ts";

/** Activations [T, columns]. */
export interface Activations {
  readonly T: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/** Normal numbers; of `massive` ones two columns are a thousand times as large at the first position, as in real models. */
export function activations(T: number, columns: number, kind: "normal" | "massive"): Activations {
  const random = new Random(11);
  const data = Float32Array.from({ length: T * columns }, () => random.normal());
  if (kind === "massive") { for (const column of [7, columns - 5]) data[column] *= 1000; }
  return { T, data };
}

/** A file with other bytes in one tensor. */
export async function withBytes(
  file: GgufFile,
  name: string,
  change: (bytes: Uint8Array<ArrayBuffer>) => void,
): Promise<GgufFile> {
  const { type, shape } = file.tensors.get(name)!;
  const bytes = (await file.readTensor(file.tensors.get(name)!)).slice();
  change(bytes);
  const tensor = { type, shape, bytes: () => Promise.resolve(bytes) };
  return alteredFile(file, { tensors: new Map([[name, tensor]]) });
}

/** What the products of both files' weights are judged, each in 64 bits and rounded; `change` is done to ours. */
export async function judgedProduct(
  [ours, theirs]: readonly [GgufFile, GgufFile],
  name: string,
  x: Activations,
  more: Partial<LocalValue> & { readonly change?: (ours: Float32Array) => void } = {},
): Promise<Difference> {
  const { change, ...value } = more;
  const [a, b] = await Promise.all([product(ours, name, x), product(theirs, name, x)]);
  change?.(a);
  const columns = x.data.length / x.T;
  const input = { name: "x", shape: ["T", columns], dtype: "f32", kind: "result" } as const;
  const step: Step = {
    operation: "linear",
    inputs: [input],
    weights: [name],
    outputs: [],
    constants: {},
  };
  const shape = [x.T, a.length / x.T];
  const pass: ReferencePass = {
    step: 0,
    start: 0,
    ids: new Array(x.T).fill(0),
    tensors: new Map([["x", { shape: [x.T, columns], data: x.data }]]),
  };
  const config = readConfig(ours);
  const judge = judgeOf({}, { weights: new OtherWeights(ours, theirs) }, {
    ...{ plan: forward(config), config, rope: "exact" },
  });
  const both = { ours: { shape, data: a }, reference: { shape, data: b } };
  return await judge({ point: "blk.0.ffn_up", ...both, start: 0, step, ...value }, pass);
}

async function product(
  file: GgufFile,
  name: string,
  { T, data: x }: Activations,
): Promise<Float32Array<ArrayBuffer>> {
  const tensor = file.tensors.get(name)!;
  const weights = dequantize(tensor.type, await file.readTensor(tensor));
  const [columns, rows] = tensor.shape;
  const out = new Float32Array(T * rows);
  for (let t = 0; t < T; t++) {
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += x[t * columns + c] * weights[row * columns + c];
      out[t * rows + row] = sum;
    }
  }
  return out;
}

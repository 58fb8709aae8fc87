/** Engines that misread the blocks of a quantized weight: each misreading is told from all others by what the engine made. */
import assert from "node:assert/strict";
import { judgeOf } from "../../../checkpoints/parity/judge.ts";
import { explain } from "../../../checkpoints/diagnosis/activations/cause.ts";
import {
  type Misreading,
  misreadingsOf,
  PACKED_TYPES,
} from "../../../checkpoints/diagnosis/block_layouts.ts";
import type { Explanation } from "../../../checkpoints/diagnosis/causes.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { type GgufFile, openGgufFile } from "../../../engine/gguf/reader.ts";
import { ForeignEngine, type RunOptions } from "../../support/engines/faulty_engine.ts";
import { Folder } from "../../support/folder.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const IDS = [1, 40, 7, 33, 90, 12, 51, 8];

/** A weight that is misread, by the point that shows it. */
const WEIGHTS = { "blk.1.v": "blk.1.attn_v.weight", "token_embd": "token_embd.weight" };
type Point = keyof typeof WEIGHTS;

/** What an engine does that reads other numbers. */
function withNumbers(point: Point, data: Float32Array, width: number): RunOptions {
  if (point === "blk.1.v") {
    const weight = (name: string, right: { rows: number; columns: number; data: Float32Array }) =>
      name === "attn_v.weight" ? { ...right, data } : right;
    return { mistakes: { weight }, where: 1 };
  }
  const made = (name: string, numbers: Float32Array) =>
    name === point
      ? numbers.map((_, i) => data[IDS[Math.floor(i / width)] * width + i % width])
      : numbers;
  return { mistakes: { made }, where: "outside" };
}

/** Explains what an engine makes of a weight that it misreads. */
async function explained(
  file: GgufFile,
  engine: ForeignEngine,
  { read }: Misreading,
  point: Point,
): Promise<Explanation> {
  const tensor = file.tensors.get(WEIGHTS[point])!;
  const data = read(await file.readTensor(tensor));
  const { passes: [pass] } = engine.run(IDS, 0, withNumbers(point, data, tensor.shape[0]));
  const config = readConfig(file);
  const plan = forward(config);
  const judge = judgeOf({}, { file }, { plan, config, rope: "exact" });
  return await explain({ plan, config, file, pass, point, rope: "exact", judge });
}

for (const type of PACKED_TYPES) {
  Deno.test(`${type}: what an engine misreads is named, in a product and in the embedding`, async () => {
    const path = folder.at(`${type}.gguf`);
    const size = type.endsWith("K") ? 256 : 64;
    await Deno.writeFile(path, randomLlama({ width: size, ffnWidth: size, heads: 4, type }));
    const engine = await ForeignEngine.open(path);
    const file = await openGgufFile(path);
    try {
      for (const misreading of misreadingsOf(type)) {
        for (const point of ["blk.1.v", "token_embd"] as const) {
          const { cause, detail } = await explained(file, engine, misreading, point);
          // Bytes exchanged make infinities of some scales, which are said as such.
          if (/^(nan|f16-overflow)$/.test(cause)) {
            assert.match(misreading.what, /^the bytes of half floats exchanged$/);
            continue;
          }
          assert.equal(cause, "block-layout", `${point}, ${misreading.what}: ${detail}`);
          assert.ok(detail.endsWith(`: ${misreading.what}`), `${misreading.what}: ${detail}`);
        }
      }
    } finally {
      file.close();
    }
  });
}

/** Configs that no family has, files with random numbers for them, and the oracle's pass over these. */
import assert from "node:assert/strict";
import { Random } from "../../../checkpoints/files/random.ts";
import { type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import type { Block, Config, Rope } from "../../../engine/model/config.ts";
import type { OraclePoint } from "../../../engine/oracle/oracle.ts";
import { forwardPass, noPast } from "../../../engine/oracle/pass.ts";
import type { Past } from "../../../engine/oracle/step.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { expectedTensors } from "../../../engine/plan/tensors.ts";
import { writeGguf, type WriterTensor } from "./gguf_writer.ts";

export const [D, H, Hkv, d, F, V] = [12, 3, 1, 4, 10, 17];
export const IDS = [3, 1, 4, 1, 5, 9, 2];
export const T = IDS.length;

export const TURNS: Rope = {
  table: "rope_table",
  base: 100,
  width: 4,
  style: "half",
  scaling: { type: "none" },
  magnitude: 1,
};
export const BLOCK: Block = { window: 0, chunk: 0, rope: TURNS };
export const NORMS = ["attn_norm.weight", "ffn_norm.weight", "output_norm.weight"];

export const PLAIN: Config = {
  architecture: "test",
  name: "test",
  contextLength: 16,
  layers: 2,
  width: D,
  ffnWidth: F,
  heads: H,
  kvHeads: Hkv,
  headWidth: d,
  vocabSize: V,
  embedding: { scale: 1, positions: false, norm: false },
  normKind: "rms",
  normEpsilon: 1e-5,
  norms: { attention: "attn_norm", ffn: "ffn_norm" },
  parallel: false,
  attentionScale: 0.5,
  attentionCap: 0,
  alibi: 0,
  sinks: false,
  qkvLimit: 0,
  ropes: [TURNS],
  blocks: [BLOCK, BLOCK],
  activation: "silu",
  gated: true,
  residualScale: 1,
  logitScale: 1,
  logitCap: 0,
  outputNorm: "output_norm",
  tiedOutput: false,
  optional: new Set(NORMS),
  fused: { qkv: false, gateUp: false },
};

/** A file of a config with random numbers. */
export function fileOf(config: Config): Promise<GgufFile> {
  const random = new Random(1);
  const tensors = expectedTensors(config).map(({ name, shape }): WriterTensor => {
    const numbers = new Float32Array(shape.reduce((product, size) => product * size, 1));
    const data = numbers.map(() => random.normal(shape.length > 1 ? 0.5 : 1));
    return { name, type: "F32", shape, data: new Uint8Array(data.buffer) };
  });
  return openGguf(bytesSource("test", writeGguf({ metadata: {}, tensors })));
}

export type Points = Map<string, OraclePoint>;

export async function run(
  config: Config,
  file: GgufFile,
  ids: readonly number[] = IDS,
  past: Past = noPast(),
  capacity = T,
): Promise<Points> {
  const points: Points = new Map();
  await forwardPass({
    ...{ file, config, ids, past, capacity, rope: "exact", rows: "all" },
    keep: (name, shape, data) => points.set(name, { shape, data }),
  });
  return points;
}

export async function pointsOf(config: Config): Promise<(name: string) => Float64Array> {
  const points = await run(config, await fileOf(config));
  return (name) => {
    assert.ok(points.has(name), name);
    return points.get(name)!.data;
  };
}

export function near(found: Float64Array, expected: ArrayLike<number>): void {
  assert.equal(found.length, expected.length);
  for (const [i, value] of found.entries()) {
    const bound = 1e-12 * Math.max(1, Math.abs(expected[i]));
    assert.ok(Math.abs(value - expected[i]) <= bound, `${i}: ${value}, not ${expected[i]}`);
  }
}

export const sum = (...parts: Float64Array[]) =>
  parts[0].map((_, i) => parts.reduce((total, part) => total + part[i], 0));
export const times = (x: Float64Array, factor: number) => x.map((value) => value * factor);

export function product(x: Float64Array, weight: Float32Array, columns: number): number[] {
  const out: number[] = [];
  for (let t = 0; t < x.length; t += columns) {
    for (let r = 0; r < weight.length; r += columns) {
      let total = 0;
      for (let i = 0; i < columns; i++) total += x[t + i] * weight[r + i];
      out.push(total);
    }
  }
  return out;
}

export async function numbers(file: GgufFile, name: string): Promise<Float32Array> {
  return new Float32Array((await file.readTensor(file.tensors.get(name)!)).slice().buffer);
}

/** What holds for every config: the points are those of the plan, and a prompt may come in pieces. */
export function testPasses(configs: Readonly<Record<string, Config>>): void {
  for (const [name, config] of Object.entries(configs)) {
    Deno.test(`the points are those of the plan: ${name}`, async () => {
      const points = await run(config, await fileOf(config));
      const sizes: Readonly<Record<string, number>> = { T, S: T, R: T };
      const planned = forward(config).flatMap(({ outputs }) => outputs)
        .filter((output) => output !== null)
        .map(({ name, shape }) => [name, shape.map((dim) => sizes[dim] ?? dim)] as const)
        .filter(([name]) => !/^(argmax|sample|last_rows)$|\.head_result$/.test(name));
      const found = [...points].map(([name, { shape }]) => [name, [...shape]]);
      assert.deepEqual(Object.fromEntries(found), Object.fromEntries(planned));
      for (const [name, { shape, data }] of points) {
        assert.equal(data.length, shape.reduce((product, size) => product * size, 1), name);
        assert.ok(!data.some(Number.isNaN), name);
      }
    });

    Deno.test(`a prompt in pieces is the prompt in one: ${name}`, async () => {
      const file = await fileOf(config);
      const whole = (await run(config, file)).get("logits")!.data;
      const past = noPast();
      const pieces: number[] = [];
      for (const ids of [IDS.slice(0, 3), IDS.slice(3, 4), IDS.slice(4)]) {
        pieces.push(...(await run(config, file, ids, past)).get("logits")!.data);
      }
      near(whole, pieces);
    });
  }
}

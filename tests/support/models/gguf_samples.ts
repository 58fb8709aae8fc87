import assert from "node:assert/strict";
import { GgufError, type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import type { TypedValue, WriterOptions, WriterTensor } from "./gguf_writer.ts";
import { Random, randomBlocks, type RandomType } from "../../../checkpoints/files/random.ts";

/** Opens a file in memory under the name test.gguf. */
export function open(bytes: Uint8Array): Promise<GgufFile> {
  return openGguf(bytesSource("test.gguf", bytes));
}

/** A tensor with random numbers. */
export function tensor(name: string, type: RandomType, shape: readonly number[]): WriterTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return { name, type, shape, data: randomBlocks(type, count, 1, new Random(count)) };
}

/** Runs `action`, which has to fail with one line that names the file, and returns the error. */
export async function refusal(action: () => Promise<unknown>): Promise<GgufError> {
  const error: unknown = await action().then(() => undefined, (reason) => reason);
  assert.ok(error instanceof GgufError, `not a GgufError: ${error}`);
  assert.ok(!/[\n\r\u2028\u2029]/.test(error.message), error.message);
  assert.ok(error.message.startsWith(`${error.file}: `), error.message);
  assert.ok(error.message.length < 400, error.message);
  return error;
}

const NESTED: TypedValue = {
  type: "array",
  of: "array",
  value: [
    { type: "array", of: "u8", value: [1, 2, 3] },
    { type: "array", of: "string", value: ["a", "é"] },
    {
      type: "array",
      of: "array",
      value: [
        { type: "array", of: "bool", value: [true, false] },
        { type: "array", of: "i16", value: [] },
      ],
    },
  ],
};

/** Every metadata type, alone and in arrays. */
export const METADATA = {
  "general.architecture": "llama",
  "t.u8": { type: "u8", value: 200 },
  "t.i8": { type: "i8", value: -100 },
  "t.u16": { type: "u16", value: 60000 },
  "t.i16": { type: "i16", value: -30000 },
  "t.u32": { type: "u32", value: 4000000000 },
  "t.i32": { type: "i32", value: -2000000000 },
  "t.f32": { type: "f32", value: 0.1 },
  "t.bool": true,
  "t.string": "ünï ▁\ud83d\ude00",
  "t.u64": { type: "u64", value: 2 ** 53 - 1 },
  "t.u64.large": { type: "u64", value: 2n ** 63n + 1n },
  "t.i64": { type: "i64", value: -5 },
  "t.i64.large": { type: "i64", value: -(2n ** 60n) },
  "t.f64": { type: "f64", value: 0.1 },
  "a.u8": Uint8Array.of(1, 255),
  "a.i8": Int8Array.of(1, -1),
  "a.u16": Uint16Array.of(1, 65535),
  "a.i16": Int16Array.of(1, -1),
  "a.u32": Uint32Array.of(1, 4294967295),
  "a.i32": Int32Array.of(1, -1),
  "a.f32": Float32Array.of(1.5, -0.1),
  "a.f64": Float64Array.of(1.5, -0.1),
  "a.u64": BigUint64Array.of(1n, 2n ** 64n - 1n),
  "a.i64": BigInt64Array.of(1n, -1n),
  "a.bool": [true, false, true],
  "a.string": ["", "a", "\ufeffbyte order mark", "ünï"],
  "a.empty": { type: "array", of: "string", value: [] },
  "a.nested": NESTED,
} satisfies WriterOptions["metadata"];

/** One to four dimensions, plain and quantized. */
export const TENSORS = [
  tensor("token_embd.weight", "F32", [5, 3]),
  tensor("vector", "F16", [7]),
  tensor("cube", "BF16", [3, 2, 2, 2]),
  tensor("blocks", "Q4_0", [64, 3]),
  tensor("k", "Q6_K", [256, 2]),
];

/** Little enough to know where its bytes are. */
export const SMALL: WriterOptions = {
  metadata: { key: "value" },
  tensors: [tensor("a", "F32", [8]), tensor("b", "F32", [8])],
};

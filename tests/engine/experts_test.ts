/** A mixture of experts as a small plan on both backends, its matrices whole and split. */
import assert from "node:assert/strict";
import { Noise, numbersReader, packMatrices, randomBlocks } from "../../engine/check/data.ts";
import type { Block } from "../../engine/cpu/heap.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import { scratchBytes } from "../../engine/cpu/places.ts";
import { Program, type SessionPlaces } from "../../engine/cpu/program.ts";
import { rowReader, TileMemory } from "../../engine/cpu/tile_memory.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { loadWeights, type Matrix, type Memory, type Weights } from "../../engine/model/weights.ts";
import { forward } from "../../engine/plan/forward.ts";
import { applyEdits } from "../../engine/plan/passes/edit.ts";
import { fuse } from "../../engine/plan/passes/fuse.ts";
import { elementCount, type Plan, type Value } from "../../engine/plan/plan.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { Executable } from "../../engine/webgpu/executable.ts";
import { builtIn } from "../../engine/webgpu/tuning/tuning.ts";
import type { Pass, RowReader } from "../../kernels/kernel.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { randomFile } from "../support/models/random_llama.ts";

const EXPERTS = 6;
const USED = 2;
const WIDTH = 64;
/** Rows of an expert: no multiple of eight, so that tiles have rows of two experts. */
const INNER = 36;

const value = (name: string, ...shape: (number | "T")[]): Value => ({
  name,
  shape,
  dtype: "f32",
  kind: "result",
});

const x = value("x", "T", WIDTH);
const logits = value("logits", "T", EXPERTS);
const ids: Value = { ...value("ids", "T", USED), dtype: "i32" };
const weights = value("weights", "T", USED);
const up = value("up", "T", USED, INNER);
const biased = value("biased", "T", USED, INNER);
const weighed = value("weighed", "T", USED, INNER);
const down = value("down", "T", USED, WIDTH);
const out = value("out", "T", WIDTH);

const ROUTE = {
  ...{ experts: EXPERTS, used: USED, gating: 0, normalize: 1, scale: 1 },
  ...{ groups: 1, groups_used: 1 },
};
const UP = { columns: WIDTH, rows: INNER, used: USED, shared: 1 };
const DOWN = { columns: INNER, rows: WIDTH, used: USED, shared: 0 };

const PLAN: Plan = [
  {
    operation: "linear",
    inputs: [x],
    weights: ["router"],
    outputs: [logits],
    constants: { columns: WIDTH, rows: EXPERTS },
  },
  {
    operation: "route",
    inputs: [logits],
    weights: [],
    outputs: [ids],
    constants: ROUTE,
  },
  {
    operation: "route_weights",
    inputs: [logits, ids],
    weights: [],
    outputs: [weights],
    constants: ROUTE,
  },
  { operation: "linear_experts", inputs: [x, ids], weights: ["up"], outputs: [up], constants: UP },
  {
    operation: "add_expert_bias",
    inputs: [up, ids],
    weights: ["bias"],
    outputs: [biased],
    constants: { rows: INNER, used: USED },
  },
  {
    operation: "weigh",
    inputs: [biased, weights],
    weights: [],
    outputs: [weighed],
    constants: { columns: INNER, used: USED },
  },
  {
    operation: "linear_experts",
    inputs: [weighed, ids],
    weights: ["down"],
    outputs: [down],
    constants: DOWN,
  },
  {
    operation: "combine",
    inputs: [down, weights],
    weights: [],
    outputs: [out],
    constants: { columns: WIDTH, used: USED },
  },
];

const kept = new Set(PLAN.flatMap(({ outputs }) => outputs.map((value) => value!.name)));

/** The plan with the choice and its weights in one step. */
function fused(plan: Plan): Plan {
  return fuse(plan, { wanted: kept, adjacent: () => false });
}

/** The matrices' types, rows and columns, as a file has them: of the experts one behind another. */
const MATRICES = [
  { name: "router", packing: PACKINGS.get("F32")!, rows: EXPERTS, columns: WIDTH },
  { name: "up", packing: PACKINGS.get("Q8_0")!, rows: EXPERTS * INNER, columns: WIDTH },
  { name: "down", packing: PACKINGS.get("F16")!, rows: EXPERTS * WIDTH, columns: INNER },
];
const noise = new Noise("experts");
const BYTES = new Map(
  MATRICES.map(({ name, packing, rows, columns }) => [
    name,
    randomBlocks(packing, rows * columns, noise, "real"),
  ]),
);
const BIAS = noise.numbers(EXPERTS * INNER);

/** Puts the weights where a backend has them, as loading does. */
async function weightsIn<Storage>(memory: Memory<Storage>): Promise<Weights<Storage>> {
  const storages: Storage[] = [];
  const create = (words: number, label: string) => {
    const storage = memory.create(words, label);
    storages.push(storage);
    return storage;
  };
  const writer = memory.writer();
  const matrices = new Map<string, Matrix<Storage>>();
  for (const shape of MATRICES) {
    const [parts] = memory.layOut([shape], create);
    const matrix = { ...shape, parts };
    matrices.set(shape.name, matrix);
    const rowBytes = BYTES.get(shape.name)!.length / shape.rows;
    for (const part of parts) {
      const first = part.row * rowBytes;
      const bytes = BYTES.get(shape.name)!.subarray(first, first + part.rows * rowBytes);
      await writer.writeRows(matrix, part, 0, part.rows, bytes);
    }
  }
  const bias = create(BIAS.length, "bias");
  await writer.write(bias, 0, new Uint32Array(BIAS.buffer));
  await writer.flush();
  await writer.close();
  return {
    matrices,
    vectors: new Map([["bias", bias]]),
    bytes: 0,
    adjacent: () => false,
    destroy: () => storages.forEach((storage) => memory.destroy(storage)),
  };
}

type Values = Map<string, Float32Array>;

function lengthsOf({ tokens: T }: Pass) {
  return { T, S: T, R: 1 };
}

/** Every value by the 64-bit twins. */
function twins(pass: Pass, given: Float32Array): Values {
  const readers = new Map<string, RowReader>([["bias", numbersReader(BIAS, BIAS.length)]]);
  for (const { name, packing, rows, columns } of MATRICES) {
    readers.set(name, packMatrices(packing, columns, [rows], BYTES.get(name)!).readers[0]);
  }
  const values: Values = new Map([["x", given]]);
  for (const step of PLAN) {
    const outputs = step.outputs.map((value) =>
      new Float32Array(elementCount(value!.shape, lengthsOf(pass)))
    );
    kernelOf(step)!.twin({
      pass,
      constants: step.constants,
      inputs: step.inputs.map(({ name }) => values.get(name)!),
      weights: step.weights.map((name) => readers.get(name)!),
      outputs,
    });
    step.outputs.forEach((value, i) => values.set(value!.name, outputs[i]));
  }
  return values;
}

async function onGpu(
  device: Device,
  weights: Weights<GPUBuffer>,
  pass: Pass,
  given: Map<string, Float32Array<ArrayBuffer>>,
  plan = PLAN,
): Promise<Values> {
  const uniform = device.borrow(256, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  device.gpu.queue.writeBuffer(uniform, 0, Uint32Array.of(pass.tokens, 0, 1, 0));
  const external = { pass: uniform, tailOffset: 0, buffers: new Map<string, GPUBuffer>() };
  const executable = new Executable(device, weights, external, plan, {
    operands: given,
    largest: lengthsOf(pass),
    kept,
    knobsOf: builtIn(device),
  });
  const encoder = device.gpu.createCommandEncoder();
  const compute = encoder.beginComputePass();
  executable.encode(compute, pass, pass, 0, plan.length);
  compute.end();
  const values: Values = new Map();
  const read: (() => Promise<void>)[] = [];
  for (const { name, shape, dtype } of plan.flatMap(({ outputs }) => outputs.map((out) => out!))) {
    const bytes = 4 * elementCount(shape, lengthsOf(pass));
    const staging = device.borrow(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    encoder.copyBufferToBuffer(executable.buffer(name), 0, staging, 0, bytes);
    read.push(async () => {
      const data = await device.readBack(staging, bytes, (mapped) => mapped.slice(0, bytes));
      values.set(
        name,
        dtype === "i32" ? Float32Array.from(new Int32Array(data)) : new Float32Array(data),
      );
    });
  }
  device.gpu.queue.submit([encoder.finish()]);
  for (const each of read) await each();
  executable.dispose();
  device.giveBack(uniform);
  return values;
}

function onCpu(
  processor: Processor,
  weights: Weights<Block>,
  pass: Pass,
  given: Map<string, Float32Array>,
  plan = PLAN,
): Values {
  const heap = processor.home;
  const bytes = scratchBytes(WIDTH, pass.tokens);
  const scratch = heap.take(bytes * processor.threads)!;
  const numbers = heap.take(64)!;
  heap.words(numbers.address, 5).set([pass.tokens, 0, 1, scratch.address, bytes]);
  const session: SessionPlaces = {
    place: () => assert.fail("nothing outlives the pass"),
    passNumbers: () => ({ all: numbers.address, last: numbers.address }),
  };
  const largest = lengthsOf(pass);
  const program = new Program(processor, weights, session, plan, {
    operands: given,
    largest,
    kept,
  });
  assert.deepEqual(program.twins, []);
  program.run(0, plan.length, pass, pass);
  const outputs = plan.flatMap(({ outputs }) => outputs.map((out) => out!));
  const values = new Map(
    outputs.map((each) => [each.name, program.read(each, 0, elementCount(each.shape, largest))]),
  );
  program.dispose();
  for (const block of [scratch, numbers]) heap.giveBack(block);
  return values;
}

function assertClose(found: Values, expected: Values, what: string): void {
  for (const [name, numbers] of found) {
    const right = expected.get(name)!;
    assert.equal(numbers.length, right.length);
    const size = right.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
    numbers.forEach((each, i) => {
      // Sums of 64 terms, three one behind another.
      const allowed = name === "ids" ? 0 : 1e-5 * size;
      assert.ok(
        Math.abs(each - right[i]) <= allowed,
        `${what}: ${name}[${i}] is ${each}, not ${right[i]}`,
      );
    });
  }
}

/** Passes of one position, of few and of many. */
const TOKENS = [1, 5, 40];

function passOf(tokens: number): { pass: Pass; given: Map<string, Float32Array<ArrayBuffer>> } {
  const numbers = new Noise(`x ${tokens}`).numbers(tokens * WIDTH);
  return { pass: { tokens, start: 0, rows: 1 }, given: new Map([["x", numbers]]) };
}

const processor = new Processor(2);
processor.expect(Infinity);
const tiles = new TileMemory(processor, { tensors: new Map() } as unknown as GgufFile);

Deno.test("a mixture of experts on the processor", async () => {
  const weights = await weightsIn(tiles);
  for (const tokens of TOKENS) {
    const { pass, given } = passOf(tokens);
    const expected = twins(pass, given.get("x")!);
    const found = onCpu(processor, weights, pass, given);
    assertClose(found, expected, `${tokens} positions`);
    assert.deepEqual(onCpu(processor, weights, pass, given, fused(PLAN)), found);
  }
  weights.destroy();
  assert.equal(processor.home.used, 0);
});

Deno.test("a mixture of experts on a GPU; matrices in parts give the same bits", async () => {
  const device = await Device.open();
  const whole = await weightsIn(device);
  Object.defineProperty(device, "limit", { value: 4000 });
  const split = await weightsIn(device);
  Object.defineProperty(device, "limit", { value: 2 ** 27 });
  assert.equal(whole.matrices.get("up")!.parts.length, 1);
  // Some parts end within an expert.
  const parts = split.matrices.get("up")!.parts;
  assert.ok(parts.length > 3 && parts.some(({ row }) => row % INNER !== 0));
  for (const tokens of TOKENS) {
    const { pass, given } = passOf(tokens);
    const found = await onGpu(device, whole, pass, given);
    assertClose(found, twins(pass, given.get("x")!), `${tokens} positions`);
    assert.deepEqual(await onGpu(device, whole, pass, given, fused(PLAN)), found);
    assert.deepEqual(await onGpu(device, split, pass, given), found);
  }
  whole.destroy();
  split.destroy();
  device.dispose();
});

Deno.test("experts that are handed in are taken; on the processor those that there are not give NaN, and nobody else", async () => {
  const plan = PLAN.slice(3, 4);
  const { pass, given } = passOf(3);
  const chosen = Float32Array.of(5, 0, 3, 2, 1, 4);
  const operands = new Map([...given, ["ids", chosen]]);
  const right = new Float32Array(6 * INNER);
  const { packing, rows, columns } = MATRICES[1];
  kernelOf(plan[0])!.twin({
    pass,
    constants: UP,
    inputs: [given.get("x")!, chosen],
    weights: packMatrices(packing, columns, [rows], BYTES.get("up")!).readers,
    outputs: [right],
  });
  const expected: Values = new Map([["up", right]]);
  const device = await Device.open();
  const there = await weightsIn(device);
  assertClose(await onGpu(device, there, pass, operands, plan), expected, "GPU");
  there.destroy();
  device.dispose();
  const weights = await weightsIn(tiles);
  assertClose(onCpu(processor, weights, pass, operands, plan), expected, "CPU");
  for (const wrong of [-1, EXPERTS, 2 ** 30]) {
    operands.set("ids", chosen.with(3, wrong));
    const found = onCpu(processor, weights, pass, operands, plan).get("up")!;
    found.forEach((each, i) => assert.equal(Number.isNaN(each), Math.floor(i / INNER) === 3));
  }
  weights.destroy();
});

Deno.test("logits that are not numbers choose different experts that there are", async () => {
  const plan = fused(PLAN.slice(1, 3));
  assert.deepEqual(plan.map(({ operation }) => operation), ["route"]);
  const pass: Pass = { tokens: 4, start: 0, rows: 1 };
  const rows = [
    new Array(EXPERTS).fill(NaN),
    [NaN, 1, NaN, NaN, NaN, NaN],
    [Infinity, -Infinity, Infinity, 0, NaN, 1],
    new Array(EXPERTS).fill(-Infinity),
  ];
  const operands = new Map([["logits", Float32Array.from(rows.flat())]]);
  const expected = [0, 1, 1, 0, 0, 2, 0, 1];
  const device = await Device.open();
  const there = await weightsIn(device);
  const weights = await weightsIn(tiles);
  for (
    const found of [
      await onGpu(device, there, pass, operands, plan),
      onCpu(processor, weights, pass, operands, plan),
    ]
  ) {
    assert.deepEqual([...found.get("ids")!], expected);
    assert.ok(found.get("weights")!.subarray(0, 4).every(Number.isNaN));
  }
  there.destroy();
  device.dispose();
  weights.destroy();
});

Deno.test("matrices of a file that are [columns, rows, experts] are loaded as one matrix", async () => {
  const file = await randomFile({ layers: 1, type: "Q8_0" });
  const config = readConfig(file);
  const name = "blk.0.ffn_down.weight";
  const tensor = file.tensors.get(name)!;
  const [columns, rows] = tensor.shape;
  const shape = [columns, rows / 4, 4];
  const stacked: GgufFile = {
    ...file,
    tensors: new Map(file.tensors).set(name, { ...tensor, shape }),
  };
  const bytes = await file.readTensor(tensor);
  const [right] = packMatrices(PACKINGS.get("Q8_0")!, columns, [rows], bytes).readers;
  const weights = await loadWeights(stacked, forward(config), new TileMemory(processor, stacked));
  const reader = rowReader(processor, weights, name);
  assert.deepEqual([reader.rows, reader.columns], [rows, columns]);
  const [found, expected] = [new Float32Array(columns), new Float32Array(columns)];
  for (let row = 0; row < rows; row++) {
    reader.read(row, found);
    right.read(row, expected);
    assert.deepEqual(found, expected);
  }
  weights.destroy();
  const device = await Device.open();
  Object.defineProperty(device, "limit", { value: columns * 8 });
  const there = await loadWeights(stacked, forward(config), device);
  const { parts } = there.matrices.get(name)!;
  assert.ok(parts.length > 1);
  assert.equal(parts.reduce((sum, part) => sum + part.rows, 0), rows);
  there.destroy();
  device.dispose();
});

Deno.test("weights of experts can be edited, a choice only by a function", () => {
  const zero = { kind: "linear", scale: 0 } as const;
  const { plan } = applyEdits(PLAN, [{ ...zero, point: "weights" }], 64);
  const [edit] = plan.filter(({ operation }) => operation === "edit");
  assert.equal(edit.outputs[0]!.name, "weights");
  assert.throws(
    () => applyEdits(PLAN, [{ ...zero, point: "ids" }], 64),
    /indices: only a function/,
  );
  const chosen = applyEdits(PLAN, [{ kind: "function", point: "ids", apply: () => {} }], 64).plan;
  // The weights are then those of the experts that the function has chosen.
  const route = chosen.findIndex(({ operation }) => operation === "route");
  assert.deepEqual(
    fused(chosen).slice(route, route + 3).map(({ operation }) => operation),
    ["route", "host", "route_weights"],
  );
});

Deno.test("threads end", () => processor.close());

/** The tensors that a forward pass reads, and where the file has them. */
import { layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import { isDequantizable } from "../gguf/dequantize.ts";
import { GgufError, quoted } from "../gguf/error.ts";
import type { Config } from "../model/config.ts";
import { familyOf, readHyperparameters, type ReadOptions } from "../model/hyperparameters.ts";
import type { ConfigSource } from "../model/keys.ts";
import { divisorNames } from "../model/rope_table.ts";
import { partsOf } from "../model/unfused.ts";
import { forward } from "./forward.ts";
import type { Plan, Step } from "./plan.ts";

/** A tensor that a model needs, with its shape in ggml's order: [columns, rows]. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * Reads the hyperparameters of a model and checks that all the tensors of its forward pass are there, in the right
 * shapes and in types that can be computed on, and no others. Keys and defaults are llama.cpp's.
 *
 * @throws {GgufError} one line that names the key or tensor at fault
 */
export function readConfig(file: ConfigSource, options: ReadOptions = {}): Config {
  const config = readHyperparameters(file, options);
  const { value: problem } = tensorProblems(file, config).next();
  if (problem) throw problem;
  return config;
}

/** Every weight that the steps read, in the order of computation. Of vectors the shape is [numbers]. */
export function planWeights(plan: Plan): ExpectedTensor[] {
  const weights = new Map<string, ExpectedTensor>();
  let experts = 1;
  for (const step of plan) {
    // A mixture's products follow the step that chooses its experts.
    experts = step.constants.experts ?? experts;
    for (const name of step.weights) weights.set(name, { name, shape: shapeOf(step, experts) });
  }
  return [...weights.values()];
}

function shapeOf({ operation, constants }: Step, experts: number): number[] {
  const { columns, rows } = constants;
  switch (operation) {
    case "softmax":
      return [columns]; // a sink for each head
    case "route":
      return [experts];
    case "linear_experts":
      return [columns, rows, experts];
    case "add_expert_bias":
      return [rows * experts];
    default:
      return rows === undefined ? [columns] : [columns, rows];
  }
}

/** Every tensor that a file of a model of this config has, in model order. */
export function expectedTensors(config: Config): ExpectedTensor[] {
  const wholes = fusedNames(config);
  const tensors = new Map<string, number[]>();
  const plan = forward(config);
  const biases = new Set(
    plan.flatMap(({ operation, weights }) => operation === "add_expert_bias" ? weights : []),
  );
  for (const { name, shape: planned } of planWeights(plan)) {
    // Biases of experts are rows in files, and vectors for kernels.
    const { count } = config.blocks[layerOf(name) ?? 0].experts ?? { count: 1 };
    const shape = biases.has(name) ? [planned[0] / count, count] : planned;
    const whole = wholes.get(name) ?? name;
    const before = tensors.get(whole);
    const rows = shape.at(-1)! + (wholes.has(name) ? before?.at(-1) ?? 0 : 0);
    tensors.set(whole, shape.with(-1, rows));
    if (name !== "token_embd.weight") continue;
    for (const each of turns(config)) tensors.set(...each);
  }
  return Array.from(tensors, ([name, shape]) => ({ name, shape }));
}

/** The tensors of the file that hold several weights, by those weights' names. */
function fusedNames(config: Config): Map<string, string> {
  const names = new Map<string, string>();
  for (let layer = 0; layer < config.layers; layer++) {
    for (
      const kind of ["attn_qkv", "ffn_up"].flatMap((each) => [`${each}.weight`, `${each}.bias`])
    ) {
      for (const [part] of partsOf(config, kind) ?? []) {
        names.set(`blk.${layer}.${part}`, `blk.${layer}.${kind}`);
      }
    }
  }
  return names;
}

/** The tensors that tables of turns are made of: [width / 2]. */
function turns({ ropes }: Config): [name: string, shape: number[]][] {
  return ropes.flatMap((rope) =>
    divisorNames(rope).map((name): [string, number[]] => [name, [rope.width / 2]])
  );
}

/** What keeps the tensors of a file from being those of its config, in the order of the model. */
function* tensorProblems(file: ConfigSource, config: Config): Generator<GgufError> {
  const expected = expectedTensors(config);
  for (const { name, shape } of expected) {
    const facts = { file: file.name, tensor: name };
    const tensor = file.tensors.get(name);
    if (tensor === undefined) {
      yield new GgufError(
        `the tensor ${name} is missing; convert or download the model again`,
        facts,
      );
      continue;
    }
    // A vector may be written as rows: one for each head.
    const fits = shape.length === 1
      ? sizeOf(tensor.shape) === shape[0]
      : withoutTrailingOnes(tensor.shape) === withoutTrailingOnes(shape);
    if (!fits) {
      yield new GgufError(
        `the tensor ${name} is ${tensor.shape.join(" x ")} where the metadata asks for` +
          ` ${shape.join(" x ")}; convert the model again`,
        facts,
      );
    } else if (!isDequantizable(tensor.type)) {
      yield new GgufError(
        `the tensor ${name} has type ${tensor.type.name}, which is not supported yet;` +
          " take the model in another quantization, such as Q4_K_M or Q8_0",
        facts,
      );
    }
  }
  const names = new Set(expected.map(({ name }) => name));
  const { unread } = familyOf(file);
  for (const name of file.tensors.keys()) {
    if (names.has(name) || unread?.test(name)) continue;
    // Leaving it out would give wrong text without a word.
    yield new GgufError(
      `the tensor ${quoted(name)} is no part of the ${config.architecture} architecture` +
        ` with ${config.layers} layers; such models are not supported yet`,
      { file: file.name, tensor: name },
    );
  }
}

/**
 * Why a file does not run here, in lines: first what its metadata ask for, then its tensors, those of a kind in one line. None where
 * it runs.
 */
export function whatIsMissing(file: ConfigSource): string[] {
  const plain = ({ message }: GgufError) => message.replace(`${file.name}: `, "");
  let config: Config;
  try {
    config = readHyperparameters(file);
  } catch (error) {
    if (error instanceof GgufError) return [plain(error)];
    throw error;
  }
  const kinds = Map.groupBy(
    tensorProblems(file, config),
    (problem) => plain(problem).replaceAll(/blk\.\d+\./g, "blk.*."),
  );
  return Array.from(
    kinds,
    ([, [first, ...others]]) =>
      plain(first) + (others.length > 0 ? ` (and ${others.length} more like it)` : ""),
  );
}

function withoutTrailingOnes(shape: readonly number[]): string {
  return shape.join(" x ").replace(/( x 1)+$/, "");
}

/**
 * What a divergence can be followed with, as files of a proof bundle: `divergence.json` says what the operations are and which file is
 * what; each tensor is a `.npy` file, quantized blocks are `.bin` files of their bytes.
 */
import { join } from "node:path";
import { sizeOf } from "../../../base/shape.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import type { Explanation } from "../../diagnosis/causes.ts";
import { readNpy, TensorFileError, writeNpy } from "../../files/npy.ts";
import type {
  DivergenceEvidence,
  NamedTensor,
  OperationEvidence,
  OperationRecord,
  Settings,
  WeightRows,
} from "./evidence.ts";
import { formulaAt } from "./formula.ts";
import { recompute, type Right } from "./recompute.ts";
import { sizeProblem } from "./sizes.ts";

/** The file that names the others. */
export const DIVERGENCE = "divergence.json";

/** Evidence out of a bundle, with what the bundle says of it. */
export interface ToldEvidence {
  readonly evidence: DivergenceEvidence;
  /** Whose number it says is right; undefined where token ids differ. */
  readonly right?: Right;
}

/** Files of a divergence that are not what they should be. */
export class DivergenceError extends Error {
  override readonly name = "DivergenceError";
}

/** Writes evidence into a folder that is there. */
export async function writeEvidence(
  folder: string,
  evidence: DivergenceEvidence,
  { cause, explained, detail, look }: Explanation,
): Promise<void> {
  const json = async (value: unknown) =>
    await Deno.writeTextFile(join(folder, DIVERGENCE), `${JSON.stringify(value, null, 2)}\n`);
  const because = { cause, explained, detail, look };
  if (evidence.kind === "ids") return await json({ ...evidence, because });

  const files = new Map<Float32Array | Uint8Array, string>();
  const tensorFile = async (prefix: string, { data, ...rest }: NamedTensor) => {
    const { name, shape, source } = rest;
    let file = files.get(data);
    if (file === undefined) {
      files.set(data, file = `${prefix}${name}.npy`);
      await writeNpy(join(folder, file), shape, data);
    }
    return { name, shape, source, file };
  };
  const weightFile = async (prefix: string, { data, blocks, ...rest }: WeightRows) => {
    const { name, rows, kept, columns } = rest;
    const file = `${prefix}${name}.npy`;
    await writeNpy(join(folder, file), [kept?.length ?? rows, columns], data);
    if (!blocks) return { ...rest, file };
    const bytes = `${prefix}${name}.bin`;
    await Deno.writeFile(join(folder, bytes), blocks);
    return { ...rest, file, bytes };
  };
  const settingsFiles = async (whose: string, { constants, inputs, weights, rope }: Settings) => ({
    constants,
    inputs: await inOrder(
      inputs,
      (each) => tensorFile(`${whose}${each.source === "computed" ? "hidden" : "input"}.`, each),
    ),
    weights: await inOrder(weights, (each) => weightFile(`${whose}weight.`, each)),
    rope,
  });
  const { ours, reference, operations, ...rest } = evidence;
  const found = recompute(evidence);
  await json({
    ...rest,
    because,
    right: found.right,
    formula: found.formula.text,
    operations: await inOrder(operations, async (operation) => ({
      point: operation.point,
      operation: operation.operation,
      formula: formulaAt(operation, operation, evidence.pass, evidence.place)?.text,
      ...await settingsFiles("", operation),
      output: await tensorFile(
        operation.point === evidence.point ? "exact." : "hidden.",
        operation.output,
      ),
      other: operation.other && await settingsFiles("against.", operation.other),
    })),
    ours: await tensorFile("ours.", ours),
    reference: await tensorFile("reference.", reference),
  });
}

async function inOrder<T, U>(items: readonly T[], map: (item: T) => Promise<U>): Promise<U[]> {
  const made: U[] = [];
  for (const item of items) made.push(await map(item));
  return made;
}

/**
 * Reads evidence. Nothing of it is taken as said: whatever is computed from has the sizes that its operation needs.
 *
 * @throws {DivergenceError} for files that are not what they should be
 */
export async function readEvidence(folder: string): Promise<ToldEvidence> {
  try {
    const told = new Fields(JSON.parse(await Deno.readTextFile(join(folder, DIVERGENCE))));
    return told.text("kind") === "ids"
      ? { evidence: readIds(told) }
      : await readOperations(folder, told);
  } catch (error) {
    const isExpected = error instanceof DivergenceError || error instanceof SyntaxError ||
      error instanceof TensorFileError || error instanceof Deno.errors.NotFound;
    if (!isExpected) throw error;
    throw new DivergenceError(`${DIVERGENCE}: ${error.message}`);
  }
}

function readIds(told: Fields): DivergenceEvidence {
  return {
    ...{ kind: "ids", point: "token ids", checkpoint: told.text("checkpoint") },
    ...{ referenceName: told.text("referenceName"), case: told.text("case") },
    text: told.has("text") ? told.text("text") : undefined,
    ours: told.list("ours").map(token),
    reference: told.list("reference").map(token),
  };
}

function token(told: Fields) {
  return { id: told.count("id"), text: told.text("text") };
}

async function readOperations(folder: string, told: Fields): Promise<ToldEvidence> {
  const tensor = async (each: Fields): Promise<NamedTensor> => {
    const shape = each.counts("shape");
    const { data, shape: found } = await readNpy(join(folder, each.file("file")));
    if (`${found}` !== `${shape}`) {
      throw new DivergenceError(`${each.text("file")} has the shape [${found}], not [${shape}]`);
    }
    const source = each.choice("source", ["reference", "computed", "given"]);
    return { name: each.text("name"), shape, source, data: Float32Array.from(data) };
  };
  const weight = async (each: Fields): Promise<WeightRows> => {
    const [name, type] = [each.text("name"), each.text("type")];
    const [rows, columns] = [each.count("rows"), each.count("columns")];
    const kept = each.has("kept") ? each.counts("kept") : undefined;
    const { data } = await readNpy(join(folder, each.file("file")));
    const found = GGML_TYPES.find((known) => known.name === type);
    const expected = sizeOf([kept?.length ?? rows, columns]);
    if (!found || data.length !== expected || kept?.some((row) => row >= rows)) {
      throw new DivergenceError(`${name} has not the numbers that it says`);
    }
    const blocks = each.has("bytes")
      ? await Deno.readFile(join(folder, each.file("bytes")))
      : undefined;
    if (blocks && blocks.length !== expected / found.blockSize * found.blockBytes) {
      throw new DivergenceError(`${name} has not the bytes that it says`);
    }
    return { name, type, rows, columns, kept, data: Float32Array.from(data), blocks };
  };
  const settings = async (each: Fields): Promise<Settings> => ({
    constants: each.numbers("constants"),
    inputs: await inOrder(each.list("inputs"), tensor),
    weights: await inOrder(each.list("weights"), weight),
    rope: each.has("rope") ? readRope(each.object("rope")) : undefined,
  });
  const counts = told.object("pass");
  const pass = {
    tokens: counts.count("tokens"),
    start: counts.count("start"),
    rows: counts.count("rows"),
  };
  const operations = await inOrder(told.list("operations"), async (each) => {
    const operation: OperationRecord = {
      point: each.text("point"),
      operation: each.text("operation") as OperationRecord["operation"],
      ...await settings(each),
      output: await tensor(each.object("output")),
      other: each.has("other") ? await settings(each.object("other")) : undefined,
    };
    const problem = sizeProblem(operation, pass);
    if (problem) throw new DivergenceError(`${operation.point}: ${problem}`);
    return operation;
  });
  const place = told.object("place");
  const optional = (name: string) => place.has(name) ? { [name]: place.count(name) } : {};
  const [ours, reference] = [
    await tensor(told.object("ours")),
    await tensor(told.object("reference")),
  ];
  const last = operations.at(-1);
  for (const { shape } of [ours, reference]) {
    if (`${shape}` !== `${last?.output.shape}`) {
      throw new DivergenceError("the outcomes have not the shape of the operation's");
    }
  }
  const evidence: OperationEvidence = {
    ...{ kind: "operation", point: told.text("point"), checkpoint: told.text("checkpoint") },
    ...{ referenceName: told.text("referenceName"), case: told.text("case"), pass },
    activations: told.choice("activations", ["f32", "f16", "bf16", "q8"]),
    hasOtherFile: told.flag("hasOtherFile"),
    step: told.count("step"),
    tokens: told.list("tokens").map(token),
    place: {
      ...optional("layer"),
      ...optional("head"),
      position: place.count("position"),
      index: place.count("index"),
    },
    allowed: told.has("allowed") ? told.number("allowed") : undefined,
    ...{ operations, ours, reference, leftOut: told.texts("leftOut") },
  };
  const right = ["ours", "reference", "both", "neither", "each", "unknown"] as const;
  return { evidence, right: told.choice("right", right) };
}

function readRope(told: Fields): NonNullable<Settings["rope"]> {
  return {
    base: told.number("base"),
    width: told.count("width"),
    scaling: readScaling(told.object("scaling")),
    ...(told.has("factors") ? { factors: told.realNumbers("factors") } : {}),
    ...(told.has("magnitude") ? { magnitude: told.number("magnitude") } : {}),
    builder: told.choice("builder", ["exact", "ggml", "f32"]),
  };
}

function readScaling(told: Fields): NonNullable<Settings["rope"]>["scaling"] {
  const type = told.choice("type", ["none", "linear", "yarn", "longrope"]);
  switch (type) {
    case "none":
      return { type };
    case "linear":
      return { type, factor: told.number("factor") };
    case "longrope":
      return {
        type,
        originalLength: told.count("originalLength"),
        short: told.text("short"),
        long: told.text("long"),
      };
    case "yarn":
      return {
        type,
        factor: told.number("factor"),
        originalLength: told.count("originalLength"),
        betaFast: told.number("betaFast"),
        betaSlow: told.number("betaSlow"),
        share: told.number("share"),
      };
  }
}

/** An object out of a file, field by field. */
class Fields {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(value: unknown, readonly where = "the whole") {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new DivergenceError(`${where} is no object`);
    }
    this.#fields = value as Record<string, unknown>;
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null;
  }

  object(name: string): Fields {
    return new Fields(this.#fields[name], name);
  }

  list(name: string): Fields[] {
    return this.#array(name).map((each, i) => new Fields(each, `${name}[${i}]`));
  }

  text(name: string): string {
    return this.#is(name, typeof this.#fields[name] === "string") as string;
  }

  texts(name: string): string[] {
    const all = this.#array(name);
    return this.#is(name, all.every((each) => typeof each === "string")) as string[];
  }

  number(name: string): number {
    return this.#is(name, typeof this.#fields[name] === "number") as number;
  }

  flag(name: string): boolean {
    return this.#is(name, typeof this.#fields[name] === "boolean") as boolean;
  }

  count(name: string): number {
    return this.#is(name, isCount(this.#fields[name])) as number;
  }

  counts(name: string): number[] {
    return this.#is(name, this.#array(name).every(isCount)) as number[];
  }

  realNumbers(name: string): number[] {
    const all = this.#array(name);
    return this.#is(name, all.every((each) => typeof each === "number")) as number[];
  }

  numbers(name: string): Record<string, number> {
    const all = Object.entries(this.object(name).#fields);
    this.#is(name, all.every(([, value]) => typeof value === "number"));
    return Object.fromEntries(all) as Record<string, number>;
  }

  choice<const T extends string>(name: string, words: readonly T[]): T {
    return this.#is(name, words.some((word) => word === this.#fields[name])) as T;
  }

  /** A file of this folder. */
  file(name: string): string {
    const file = this.text(name);
    this.#is(name, /^\w[\w.]*$/.test(file));
    return file;
  }

  #array(name: string): readonly unknown[] {
    return this.#is(name, Array.isArray(this.#fields[name])) as unknown[];
  }

  #is(name: string, holds: boolean): unknown {
    if (holds) return this.#fields[name];
    throw new DivergenceError(`${this.where}: ${name} is not what it should be`);
  }
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

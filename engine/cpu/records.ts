/**
 * Records: what the threads read of a step. A record has {@linkcode RECORD_WORDS} words of 32 bits:
 *
 * | words   | meaning                                                                                                             |
 * | ------- | ------------------------------------------------------------------------------------------------------------------- |
 * | 0       | the operation, a number of {@linkcode OPERATIONS}                                                                   |
 * | 1       | address of the pass's numbers: {@linkcode PASS_WORDS} of them                                                       |
 * | 2 – 7   | addresses of inputs, as the kernel binds them                                                                       |
 * | 8 – 11  | of weights: of a matrix its descriptor (tile_memory.ts), of a vector its numbers                                    |
 * | 12 – 23 | of outputs; 0 for a tap that nobody wants                                                                           |
 * | 24 – 39 | constants: the kernel's, in its order; of products `columns`, epilogue (a number of {@linkcode EPILOGUES}), whether it norms, epsilon, activation |
 * | 40      | 1 where rows belong to several branches                                                                             |
 * | 41      | address of scratch that all threads share, where the kernel asks for it                                             |
 * | 42      | 1 for few positions                                                                                                 |
 * | 63      | a counter: how much of the work has been taken                                                                      |
 *
 * A pass's numbers are T, start, R, the address of scratch for the threads, and the bytes that each of them has of it.
 */
import type { Constants, Kernel, Operation } from "../../kernels/kernel.ts";
import type { Step } from "../plan/plan.ts";

/** Words of a record. */
export const RECORD_WORDS = 64;

/** Words of a pass's numbers. */
export const PASS_WORDS = 8;

/** The operations that have a kernel in WebAssembly; program.as.ts has the same numbers. Others run as their 64-bit twins. */
export const OPERATIONS: ReadonlyMap<Operation, number> = new Map<Operation, number>([
  ["embed", 1],
  ["linear", 2],
  ["head_result", 3],
  ["rms", 4],
  ["normalize", 5],
  ["scale_columns", 6],
  ["rms_norm", 7],
  ["rope", 8],
  ["store", 9],
  ["rope_store", 10],
  ["scores", 11],
  ["softmax", 12],
  ["mix", 13],
  ["attention", 14],
  ["attention_split", 15],
  ["attention_merge", 16],
  ["add", 17],
  ["add_bias", 18],
  ["glu", 19],
  ["take_rows", 20],
  ["argmax", 21],
  ["sample", 22],
  ["edit", 23],
  ["surprisal", 25],
  ["center", 40],
  ["activate", 41],
  ["xielu", 42],
  ["scale", 43],
  ["cap", 44],
  ["clamp", 45],
  ["scale_by_position", 46],
  ["embed_positions", 47],
  ["route", 60],
  ["linear_experts", 61],
  ["add_expert_bias", 62],
  ["combine", 63],
  ["weigh", 64],
  ["route_weights", 65],
]);

/** What becomes of a product's sums, as records say it. */
const EPILOGUES: readonly Step["epilogue"][] = [undefined, "residual", "qkv", "glu"];

/** Whether there is a kernel in WebAssembly for a step. */
export function hasRecord({ operation, epilogue }: Pick<Step, "operation" | "epilogue">): boolean {
  return OPERATIONS.has(operation) && EPILOGUES.includes(epilogue);
}

/** Where a step's numbers lie. */
export interface Addresses {
  readonly pass: number;
  readonly inputs: readonly number[];
  readonly weights: readonly number[];
  /** 0 for a tap that nobody wants. */
  readonly outputs: readonly number[];
  readonly scratch: number;
}

/** What a record says of a step. */
export type RecordedStep = Omit<Step, "inputs" | "weights" | "outputs">;

/** Writes a step's record. */
export function writeRecord(
  record: Uint32Array,
  step: RecordedStep,
  kernel: Kernel,
  { pass, inputs, weights, outputs, scratch }: Addresses,
): void {
  record.fill(0);
  record.set([OPERATIONS.get(step.operation)!, pass]);
  record.set(inputs, 2);
  record.set(weights, 8);
  record.set(outputs, 12);
  constantsOf(step, kernel).forEach(([value, type], i) => {
    if (type === "u32") record[24 + i] = value;
    else new Float32Array(record.buffer, record.byteOffset + (24 + i) * 4, 1)[0] = value;
  });
  record[40] = step.branches ? 1 : 0;
  record[41] = scratch;
  record[42] = step.positions === "few" ? 1 : 0;
}

function constantsOf(
  { operation, epilogue, normed, constants }: RecordedStep,
  kernel: Kernel,
): [value: number, type: "u32" | "f32"][] {
  const named = (names: Readonly<Record<string, "u32" | "f32">>, from: Constants) =>
    Object.entries(names).map(([name, type]) => [from[name], type] as [number, "u32" | "f32"]);
  switch (operation) {
    case "linear":
      return [
        [constants.columns, "u32"],
        [EPILOGUES.indexOf(epilogue), "u32"],
        [normed ? 1 : 0, "u32"],
        [constants.epsilon ?? 0, "f32"],
        [constants.activation ?? 0, "u32"],
      ];
    case "embed":
    case "embed_positions":
      return named({ columns: "u32" }, constants);
    case "linear_experts":
      return named({ columns: "u32", rows: "u32", used: "u32", shared: "u32" }, constants);
    case "head_result":
      return named({ heads: "u32", columns: "u32", rows: "u32" }, constants);
    default:
      return named(kernel.constants, constants);
  }
}

/** The operation that puts a file's rows into tiles; no step of a plan. */
const PACK = 24;

/** What is packed: a file's bytes of whole rows, into tiles of eight. */
export interface PackJob {
  /** Address of the file's bytes. */
  readonly source: number;
  /** Address of the tiles. */
  readonly tiles: number;
  /** Of the type of weights. */
  readonly id: number;
  readonly rows: number;
  readonly columns: number;
  /** Bytes of a row in the file. */
  readonly rowBytes: number;
  /** Bytes of a tile. */
  readonly tile: number;
}

/** Writes the record of a {@linkcode PackJob}: word 2 the source, 12 the tiles, from 24 on type, rows, columns, bytes of eight rows and of a tile. */
export function writePackRecord(record: Uint32Array, job: PackJob): void {
  const { source, tiles, id, rows, columns, rowBytes, tile } = job;
  record.fill(0);
  record.set([PACK, 0, source]);
  record[12] = tiles;
  record.set([id, rows, columns, 8 * rowBytes, tile], 24);
}

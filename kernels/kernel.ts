/**
 * What a kernel is: WGSL for the device, a 64-bit twin for the CPU, and the few facts that an encoder needs.
 *
 * Every kernel's binding group 0 begins alike: binding 0 is the uniform `Pass` (the numbers of this forward pass),
 * binding 1 the uniform `Step` (the constants of this step). The kernel's own bindings follow from 2 on, in the order
 * in which it lists them.
 */

import type { Packing } from "./weights/packings.ts";

/** The numbers that change from pass to pass. */
export interface Pass {
  /** T: positions computed in this pass. */
  readonly tokens: number;
  /** Positions that the cache held before; S = start + tokens. */
  readonly start: number;
  /** R: last rows of the pass whose logits are asked for. */
  readonly rows: number;
}

/** Weights as the CPU reads them: the exact f32 numbers of one row at a time. */
export interface RowReader {
  readonly rows: number;
  readonly columns: number;
  /** Writes row `row` to `out[0..columns)`. */
  read(row: number, out: Float32Array): void;
}

/** The constants of a step by name: whole numbers and floats. */
export type Constants = Readonly<Record<string, number>>;

/** What a twin is given. All arrays are dense, in the shapes that the kernel's docstring states. */
export interface TwinArguments {
  readonly pass: Pass;
  readonly constants: Constants;
  readonly inputs: readonly Float32Array[];
  readonly weights: readonly RowReader[];
  /** `null` where an optional output is not wanted. */
  readonly outputs: readonly (Float32Array | null)[];
}

/** The kernels' only knobs. */
export interface Knobs {
  /** Invocations of a workgroup in row-wise and elementwise kernels: a power of two. */
  readonly lanes: number;
  /** Invocations of a workgroup in products and in attention: the subgroup size or near it, a power of two. */
  readonly dotLanes: number;
  /** Of those, how many share one dot product in products with few positions; the others have other rows. Divides `dotLanes`. */
  readonly columnLanes: number;
  /** Whether lanes that need the same columns load one each and hand them on within the subgroup. */
  readonly broadcast: boolean;
}

/** What is computed. `host` is whatever a function of the user makes of a value: it has no kernel. */
export type Operation =
  | "embed"
  | "embed_positions"
  | "center"
  | "rms"
  | "normalize"
  | "scale_columns"
  | "rms_norm"
  | "linear"
  | "head_result"
  | "add_bias"
  | "rope"
  | "store"
  | "rope_store"
  | "scores"
  | "softmax"
  | "mix"
  | "attention"
  | "attention_split"
  | "attention_merge"
  | "add"
  | "glu"
  | "activate"
  | "xielu"
  | "scale"
  | "cap"
  | "clamp"
  | "scale_by_position"
  | "take_rows"
  | "argmax"
  | "sample"
  | "surprisal"
  | "edit"
  | "route"
  | "route_weights"
  | "linear_experts"
  | "add_expert_bias"
  | "combine"
  | "weigh"
  | "host";

/** What is computed, in fields: a step says what it needs, a kernel what it is for. */
export interface Computation {
  /** What becomes of its inputs. */
  readonly operation: Operation;
  /** What a `linear` does with its sums beside storing them. */
  readonly epilogue?: "residual" | "qkv" | "qkv_rope" | "glu";
  /** Whether a `linear` norms its x itself. */
  readonly normed?: boolean;
  /** Whether heads have sinks: scores without a value that take a share of the weights. */
  readonly sinks?: boolean;
  /** For how many positions it is made, where that is not any number of them. */
  readonly positions?: "few" | "many";
  /** Whether a `route` adds a bias to the gates by which it chooses. */
  readonly biased?: boolean;
  /** Whether its rows belong to several branches. */
  readonly branches?: boolean;
}

/** What people call a computation, its fields one behind another: `linear_qkv_normed`. No name is ever taken apart again. */
export function computationName(
  { operation, epilogue, normed, biased, sinks, positions, branches }: Computation,
): string {
  return [
    operation,
    epilogue,
    normed && "normed",
    biased && "biased",
    sinks && "sinks",
    positions,
    branches && "branches",
  ]
    .filter(Boolean).join("_");
}

/**
 * What numbers are, in 32 bits each: `u32` and `i32` are whole ones, which the CPU holds as floats; `bits` are words that mean whatever
 * their reader takes them for.
 */
export type Dtype = "f32" | "u32" | "i32" | "bits";

/**
 * One binding of a kernel; a `vector` is the last weight of a kernel over packed weights where that is not packed, a `tap` an output
 * that may be left out, `scratch` what it needs while it runs.
 */
export interface Binding {
  readonly kind: "input" | "weight" | "vector" | "output" | "tap" | "scratch";
  readonly name: string;
  readonly dtype: Dtype;
}

/** One kernel: what it computes, and how. */
export interface Kernel extends Computation {
  readonly operation: Exclude<Operation, "host">;
  /** For people, and for what is remembered about it. */
  readonly name: string;
  /** The WGSL text without the shared beginning; of a kernel over packed weights, what follows the packing. */
  readonly wgsl: string;
  /** True for kernels over packed weights, whose source begins with weights.wgsl and the weight's packing. */
  readonly packed?: boolean;
  /** The fields of the WGSL's `struct Step`, in order. */
  readonly constants: Readonly<Record<string, "u32" | "f32">>;
  readonly bindings: readonly Binding[];
  /** The value of the override `LANES`. */
  lanes(knobs: Knobs): number;
  /** Values of its other overrides: what a step's constants say may be compiled in. */
  overrides?(knobs: Knobs, constants: Constants): Record<string, number>;
  /** WGSL in front of its own that depends on the knobs and on the weights' packing. */
  prologue?(knobs: Knobs, packing?: Packing): string;
  /** Numbers of 32 bits that its `scratch` holds. */
  scratch?(constants: Constants): number;
  /** Workgroups to dispatch. */
  grid(
    pass: Pass,
    constants: Constants,
    lanes: number,
    knobs: Knobs,
  ): [x: number, y: number, z: number];
  /** The same computation in 64-bit floats, each output rounded once. */
  twin(args: TwinArguments): void;
}

/** A kernel, with its name; of `knobs.lanes` where it does not say so otherwise. */
export function kernel(parts: Omit<Kernel, "name" | "lanes"> & Partial<Kernel>): Kernel {
  return { lanes: (knobs) => knobs.lanes, ...parts, name: computationName(parts) };
}

/** Whether a kernel binds no more storage buffers than a device has for a stage; any number by default. */
export function canBind({ bindings }: Kernel, buffers = Infinity): boolean {
  return bindings.length <= buffers;
}

/** The override that switches a tap on: `TAP_` and its name in capitals. */
export function tapOverride(name: string): string {
  return `TAP_${name.toUpperCase()}`;
}

/** Makes a binding list from words like `"input x"`, `"weight w"`, `"output y"`, `"tap rms"`; a third word is a dtype other than f32. */
export function bindings(...words: string[]): Binding[] {
  return words.map((word) => {
    const [kind, name, dtype = "f32"] = word.split(" ");
    return { kind: kind as Binding["kind"], name, dtype: dtype as Dtype };
  });
}

/** WGSL with which every kernel begins. */
export const PASS_WGSL = `struct Pass { tokens: u32, start: u32, rows: u32, unused: u32 }
@group(0) @binding(0) var<uniform> pass_: Pass;
@group(0) @binding(1) var<uniform> step: Step;
`;

/** Grid of an elementwise kernel: `columns` invocations for each of the pass's positions. */
export function perToken(columns: number, pass: Pass, lanes: number): [number, number, number] {
  return [Math.ceil(columns / lanes), pass.tokens, 1];
}

/** The same where each position has `groups` rows of `columns` numbers; the group is the invocation's z. */
export function perGroup(
  columns: number,
  groups: number,
  pass: Pass,
  lanes: number,
): [number, number, number] {
  return [Math.ceil(columns / lanes), pass.tokens, groups];
}

/** Sizes of what an operation reads and makes: whatever was read from a file is computed with only where it has them. */
import type { Constants, Pass } from "../../../kernels/kernel.ts";
import type { OperationRecord, Settings } from "./evidence.ts";

/** Numbers of each input and of the output, and the shape of each weight. */
interface Sizes {
  readonly inputs: readonly number[];
  readonly weights?: readonly (readonly [rows: number, columns: number])[];
  readonly output: number;
}

/** An elementwise operation on so many columns. */
const OF_EACH = ({ columns }: Constants, T: number): Sizes => ({
  inputs: [T * columns],
  output: T * columns,
});

/** T, S and R as in a plan; of a shape with heads columns is their product. */
const SIZES: Readonly<Record<string, (constants: Constants, T: number, S: number) => Sizes>> = {
  embed: ({ rows, columns }, T) => ({
    inputs: [T],
    weights: [[rows, columns]],
    output: T * columns,
  }),
  embed_positions: ({ rows, columns }, T) => ({
    inputs: [],
    weights: [[rows, columns]],
    output: T * columns,
  }),
  center: ({ columns, groups }, T) => ({
    inputs: [T * groups * columns],
    output: T * groups * columns,
  }),
  rms: ({ columns, groups }, T) => ({
    inputs: [T * groups * columns],
    output: T * groups,
  }),
  normalize: ({ columns, groups }, T) => ({
    inputs: [T * groups * columns, T * groups],
    output: T * groups * columns,
  }),
  scale_columns: ({ columns, groups }, T) => ({
    inputs: [T * groups * columns],
    weights: [[1, columns]],
    output: T * groups * columns,
  }),
  linear: ({ rows, columns }, T) => ({
    inputs: [T * columns],
    weights: [[rows, columns]],
    output: T * rows,
  }),
  add_bias: ({ columns, groups }, T) => ({
    inputs: [T * groups * columns],
    weights: [[1, columns]],
    output: T * groups * columns,
  }),
  rope: ({ heads, head_width, rope_width }, T, S) => ({
    // Of a table for more positions the first ones.
    inputs: [T * heads * head_width, S * rope_width],
    output: T * heads * head_width,
  }),
  store: ({ columns }, T, S) => ({ inputs: [T * columns], output: S * columns }),
  scores: ({ heads, kv_heads, head_width }, T, S) => ({
    inputs: [T * heads * head_width, S * kv_heads * head_width],
    output: heads * T * S,
  }),
  softmax: ({ columns, causal }, T, S) => {
    const size = causal ? columns * T * S : T * columns;
    return { inputs: [size], output: size };
  },
  mix: ({ heads, kv_heads, head_width, value_width = 0 }, T, S) => ({
    inputs: [heads * T * S, S * kv_heads * (value_width || head_width)],
    output: T * heads * (value_width || head_width),
  }),
  add: ({ columns }, T) => ({ inputs: [T * columns, T * columns], output: T * columns }),
  glu: ({ columns }, T) => ({ inputs: [T * columns, T * columns], output: T * columns }),
  activate: OF_EACH,
  xielu: OF_EACH,
  scale: OF_EACH,
  cap: OF_EACH,
  clamp: OF_EACH,
  scale_by_position: OF_EACH,
  take_rows: OF_EACH,
  // A bias is told by its presence.
  route: ({ experts, used }, T) => ({ inputs: [T * experts], output: T * used }),
  route_weights: ({ experts, used }, T) => ({
    inputs: [T * experts, T * used],
    output: T * used,
  }),
  // How many experts there are, the weight says.
  linear_experts: ({ columns, rows, used, shared }, T) => ({
    inputs: [T * (shared ? 1 : used) * columns, T * used],
    output: T * used * rows,
  }),
  add_expert_bias: ({ rows, used }, T) => ({
    inputs: [T * used * rows, T * used],
    output: T * used * rows,
  }),
  combine: ({ columns, used }, T) => ({
    inputs: [T * used * columns, T * used],
    output: T * columns,
  }),
  weigh: ({ columns, used }, T) => ({
    inputs: [T * used * columns, T * used],
    output: T * used * columns,
  }),
};

/** Constants that are no counts. */
const REAL: ReadonlySet<string> = new Set([
  ...["epsilon", "scale", "factor", "cap", "limit", "max_bias"],
  ...["alpha_n", "alpha_p", "beta"],
]);

/** Vectors that an operation may have or not: of softmax its sinks, of a choice of experts a bias; and whole sets of experts. */
const OPTIONAL: Readonly<
  Record<string, (constants: Constants) => { readonly rows?: number; readonly columns: number }>
> = {
  softmax: ({ columns }) => ({ rows: 1, columns }),
  route: ({ experts }) => ({ rows: 1, columns: experts }),
  linear_experts: ({ columns }) => ({ columns }),
};

/** What of an operation has another size than it needs; undefined where all is well. What was left out is empty. */
export function sizeProblem(record: OperationRecord, pass: Pass): string | undefined {
  const { operation, output, other } = record;
  if (!Object.hasOwn(SIZES, operation)) return `${operation} is no operation that is recomputed`;
  const isWhole = (settings: Settings): string | undefined => {
    const bad = Object.entries(settings.constants).find(([name, value]) =>
      !(REAL.has(name) ? Number.isFinite(value) : Number.isSafeInteger(value) && value >= 0)
    );
    if (bad) return `${bad[0]} is ${bad[1]}`;
    const sizes = SIZES[operation](settings.constants, pass.tokens, pass.start + pass.tokens);
    for (const [i, size] of sizes.inputs.entries()) {
      const found = settings.inputs.at(i)?.data.length ?? -1;
      const isTable = operation === "rope" && i === 1;
      if (found !== 0 && (isTable ? found < size : found !== size)) {
        return `input ${i} has ${found} numbers, not ${size}`;
      }
    }
    for (const [i, [rows, columns]] of (sizes.weights ?? []).entries()) {
      const found = settings.weights.at(i);
      if (found?.rows !== rows || found.columns !== columns) {
        return `weight ${i} is not [${rows}, ${columns}]`;
      }
    }
    const [own] = settings.weights;
    const optional = own && OPTIONAL[operation]?.(settings.constants);
    if (
      optional && (own.columns !== optional.columns || own.rows !== (optional.rows ?? own.rows))
    ) return `weight 0 has rows of ${own.columns}, not of ${optional.columns}`;
    const isMissing = own === undefined && /^(linear_experts|add_expert_bias)$/.test(operation);
    if (isMissing) return "weight 0 is not there";
    const found = output.data.length;
    return found === 0 || found === sizes.output
      ? undefined
      : `it makes ${found} numbers, not ${sizes.output}`;
  };
  return isWhole(record) ?? (other && isWhole(other));
}

/** Whether all that a twin needs is there: tensors that were left out are empty. */
export function isComplete({ inputs, output }: OperationRecord): boolean {
  return [...inputs, output].every(({ data }) => data.length > 0);
}

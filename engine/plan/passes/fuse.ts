/**
 * Puts neighbouring steps together where one kernel does the work of several. What was an intermediate value becomes an
 * optional output of the fused kernel, so that looking at it changes nothing.
 */
import { canFuseAttention } from "../../../kernels/attention/attention.ts";
import { MOST_PARTS } from "../../../kernels/attention/scoring/seen.ts";
import { canBind, type Computation, type Operation } from "../../../kernels/kernel.ts";
import { canNorm } from "../../../kernels/products/products.ts";
import { kernelOf } from "../../../kernels/mod.ts";
import { onLastRows, type Plan, type Step, type Value } from "../plan.ts";

export interface FuseOptions {
  /** Points that must be materialised. */
  readonly wanted: ReadonlySet<string>;
  /** Whether these weights lie one behind another on the device, so that one dispatch can compute all of them. */
  readonly adjacent: (weights: readonly string[]) => boolean;
  /** Most buffers that a kernel may bind; any number by default. */
  readonly buffers?: number;
  /** Whether a device can do it, where it has not all kernels. */
  readonly has?: (computation: Computation) => boolean;
  /** Whether the steps will be those of several branches, whose kernels bind more. */
  readonly branches?: boolean;
  /** Which steps have few positions: there norms go into products, and attention shares its keys out. None by default. */
  readonly few?: (step: Step) => boolean;
}

/** A rule looks at what neighbouring steps compute; `make` gives the fused step, or nothing when they do not fit. */
interface Rule {
  readonly operations: readonly Operation[];
  make(steps: readonly Step[], options: FuseOptions): Step | undefined;
}

/** The steps' only outputs. */
function results(steps: readonly Step[]): Value[] {
  return steps.map((step) => step.outputs[0]!);
}

function tap(value: Value, { wanted }: FuseOptions): Value | null {
  return wanted.has(value.name) ? value : null;
}

const RULES: Rule[] = [
  {
    operations: ["rms", "normalize", "scale_columns"],
    make(steps, options) {
      const [rms, pre, norm] = results(steps);
      const [x] = steps[0].inputs;
      if (steps[1].inputs[0] !== x || steps[1].inputs[1] !== rms) return;
      if (steps[2].inputs[0] !== pre) return;
      // A weight may be of other rows than the norm: of all heads together.
      if (steps[2].constants.groups !== steps[0].constants.groups) return;
      return {
        operation: "rms_norm",
        inputs: steps[0].inputs,
        weights: steps[2].weights,
        outputs: [norm, tap(rms, options), tap(pre, options)],
        constants: steps[0].constants,
      };
    },
  },
  {
    operations: ["linear", "linear", "linear"],
    make(steps, { adjacent }) {
      const x = steps[0].inputs[0];
      const weights = steps.flatMap((step) => step.weights);
      if (steps.some((step) => step.inputs[0] !== x) || !adjacent(weights)) return;
      const [q, k, v] = steps.map((step) => step.constants.rows);
      return {
        operation: "linear",
        epilogue: "qkv",
        inputs: [x],
        weights,
        outputs: results(steps),
        constants: {
          columns: steps[0].constants.columns,
          rows: q + k + v,
          out_row: q,
          out_rows: k,
        },
      };
    },
  },
  {
    operations: ["rope", "rope", "store", "store"],
    make(steps, options) {
      const [qRope, kRope, cacheK, cacheV] = results(steps);
      if (steps[2].inputs[0] !== kRope) return;
      const { heads, ...constants } = steps[0].constants;
      const kv_heads = steps[1].constants.heads;
      // Values of another width than keys, and keys that are turned otherwise than queries, take steps of their own.
      if (steps[3].constants.columns !== kv_heads * constants.head_width) return;
      const { heads: _, ...ofKeys } = steps[1].constants;
      if (Object.entries(ofKeys).some(([name, value]) => constants[name] !== value)) return;
      if (steps[0].inputs[1] !== steps[1].inputs[1]) return;
      return {
        operation: "rope_store",
        inputs: [steps[0].inputs[0], steps[1].inputs[0], steps[3].inputs[0], steps[0].inputs[1]],
        weights: [],
        outputs: [qRope, cacheK, cacheV, tap(kRope, options)],
        constants: { heads, kv_heads, ...constants },
      };
    },
  },
  {
    operations: ["scores", "softmax", "mix"],
    make(steps, { wanted }) {
      const [scores, probs, out] = results(steps);
      if (wanted.has(scores.name) || wanted.has(probs.name)) return;
      if (steps[1].inputs[0] !== scores || steps[2].inputs[0] !== probs) return;
      const { head_width } = steps[0].constants;
      const { value_width = head_width } = steps[2].constants;
      if (!canFuseAttention(head_width, value_width)) return;
      return {
        operation: "attention",
        sinks: steps[1].sinks,
        inputs: [...steps[0].inputs, steps[2].inputs[1]],
        weights: steps[1].weights,
        outputs: [out],
        constants: { ...steps[0].constants, value_width },
      };
    },
  },
  {
    operations: ["linear", "linear", "glu"],
    make(steps, options) {
      const [gate, up, act] = results(steps);
      const weights = [...steps[0].weights, ...steps[1].weights];
      if (steps[0].inputs[0] !== steps[1].inputs[0] || !options.adjacent(weights)) return;
      if (steps[2].inputs[0] !== gate || steps[2].inputs[1] !== up) return;
      return {
        operation: "linear",
        epilogue: "glu",
        inputs: steps[0].inputs,
        weights,
        outputs: [act, tap(gate, options), tap(up, options)],
        constants: { ...steps[0].constants, activation: steps[2].constants.activation },
      };
    },
  },
  {
    operations: ["route", "route_weights"],
    make([choice, weights]) {
      const [ids] = results([choice]);
      const same = choice.inputs[0] === weights.inputs[0] && ids === weights.inputs[1];
      if (!same || choice.outputs.length > 1) return;
      return {
        ...choice,
        outputs: [ids, ...results([weights])],
        constants: { ...choice.constants, ...weights.constants },
      };
    },
  },
  {
    operations: ["linear", "add"],
    make(steps, options) {
      const [product, sum] = results(steps);
      const [residual, added] = steps[1].inputs;
      if (added !== product) return;
      return {
        operation: "linear",
        epilogue: "residual",
        inputs: [steps[0].inputs[0], residual],
        weights: steps[0].weights,
        outputs: [sum, tap(product, options)],
        constants: steps[0].constants,
      };
    },
  },
];

/** Fuses what can be fused, from the first step to the last. */
export function fuse(plan: Plan, options: FuseOptions): Plan {
  const fused: Step[] = [];
  for (let i = 0; i < plan.length;) {
    const made = RULES
      .filter(({ operations }) => operations.every((each, j) => plan[i + j]?.operation === each))
      .map((rule) => ({
        length: rule.operations.length,
        step: rule.make(plan.slice(i, i + rule.operations.length), options),
      }))
      .find(({ step }) => step && binds(step, options));
    fused.push(made?.step ?? plan[i]);
    i += made?.length ?? 1;
  }
  return fuseRope(fuseNorms(fused, options), options).flatMap((step) =>
    options.few?.(step) ? splitAttention(step) : [step]
  );
}

/** q, k and v of few positions are turned and stored by the product that makes them. */
function fuseRope(plan: Plan, options: FuseOptions): Plan {
  const fused: Step[] = [];
  for (const step of plan) {
    const before = fused.at(-1);
    const [q, k, v, ...norms] = before?.outputs ?? [];
    const fits = step.operation === "rope_store" && before?.epilogue === "qkv" && before.normed &&
      [q, k, v].every((value, i) => value === step.inputs[i]) &&
      binds({ ...before, epilogue: "qkv_rope" }, options);
    if (!fits) {
      fused.push(step);
      continue;
    }
    const { head_width, rope_width, half_style, rope_start } = step.constants;
    const [qRope, cacheK, cacheV, kRope] = step.outputs;
    fused[fused.length - 1] = {
      ...before,
      epilogue: "qkv_rope",
      inputs: [before.inputs[0], step.inputs[3]],
      outputs: [
        ...[qRope, cacheK, cacheV],
        ...[q, k, v].map((value) => tap(value!, options)),
        kRope,
        ...norms,
      ],
      constants: { ...before.constants, head_width, rope_width, half_style, rope_start },
    };
  }
  return fused;
}

/** Norms that only products with few positions read go into them: each of their workgroups norms for itself. */
function fuseNorms(plan: Plan, options: FuseOptions): Plan {
  const norms = new Map<Value, Step>();
  for (const step of plan) {
    if (step.operation !== "rms_norm" || step.constants.groups !== 1) continue;
    const [norm] = results([step]);
    const readers = plan.filter(({ inputs }) => inputs.includes(norm));
    if (readers.length > 0 && readers.every((reader) => takesNorm(reader, options))) {
      norms.set(norm, step);
    }
  }
  const made = new Set<Value>();
  return plan.flatMap((step) => {
    if (step.operation === "rms_norm" && norms.has(step.outputs[0]!)) return [];
    const before = norms.get(step.inputs[0]);
    if (!before) return [step];
    const [norm, rms, pre] = before.outputs;
    const taps = made.has(norm!) ? [null, null, null] : [tap(norm!, options), rms, pre];
    made.add(norm!);
    return [{
      ...step,
      normed: true,
      inputs: before.inputs,
      weights: [...step.weights, ...before.weights],
      outputs: [...step.outputs, ...taps],
      constants: { ...step.constants, epsilon: before.constants.epsilon },
    }];
  });
}

/** The norm in front of the logits stays: its row has the same bits whether it is made alone or among all. */
function takesNorm(step: Step, options: FuseOptions): boolean {
  return options.few?.(step) === true && !onLastRows(step) && canNorm(step.constants.columns) &&
    binds({ ...step, normed: true }, options);
}

/** Whether there is a kernel for it that binds no more buffers than there may be. */
function binds(computation: Computation, { buffers, branches, has }: FuseOptions): boolean {
  if (has && !has(computation)) return false;
  const ofBranches = branches ? kernelOf({ ...computation, branches }) : undefined;
  const kernel = ofBranches ?? kernelOf(computation);
  return kernel !== undefined && canBind(kernel, buffers);
}

/**
 * Attention over few positions, in one step or, of long contexts, in two: over parts of the keys, and those together. Which of them
 * are dispatched depends on the pass. A sink is no part's: it comes with the second step.
 */
function splitAttention(step: Step): Step[] {
  if (step.operation !== "attention") return [step];
  const { heads, value_width } = step.constants;
  const [out] = results([step]);
  const parts: Value = {
    name: `${out.name}~parts`,
    shape: ["T", heads, MOST_PARTS, value_width + 4],
    dtype: "f32",
    kind: "result",
  };
  return [
    { ...step, positions: "few" },
    { ...step, operation: "attention_split", sinks: undefined, weights: [], outputs: [parts] },
    { ...step, operation: "attention_merge", inputs: [parts] },
  ];
}

import type { Operation } from "../../../kernels/kernel.ts";
import type { Plan, Step, Value } from "../plan.ts";

/** Operations that make each row of that row of their inputs alone, wherever it stands. */
const BY_ROW: ReadonlySet<Operation> = new Set<Operation>([
  "rms",
  "normalize",
  "scale_columns",
  "linear",
  "add",
  "add_bias",
  "center",
  "glu",
  "activate",
  "xielu",
  "scale",
]);

/**
 * Takes the last rows as early as possible: behind the last layer's attention all steps treat rows one by one, and only those that get
 * logits go on. What such steps make then has R rows instead of T.
 *
 * @param plan edited and selected
 * @param wanted points that must have all of their rows
 */
export function narrow(plan: Plan, wanted: ReadonlySet<string>): Plan {
  const take = plan.find(({ operation }) => operation === "take_rows");
  if (!take || wanted.has(take.outputs[0]!.name)) return plan;
  const narrowed = new Set<Step>();
  /** Values of which somebody reads other rows too. */
  const whole = new Set<Value | null>();
  for (const step of plan.toReversed()) {
    const fits = BY_ROW.has(step.operation) && step.outputs[0]?.shape[0] === "T" &&
      step.outputs.every((value) => value && !whole.has(value) && !wanted.has(value.name));
    if (step === take || fits) narrowed.add(step);
    else for (const value of step.inputs) whole.add(value);
  }

  const made = new Set([...narrowed].flatMap(({ outputs }) => outputs));
  const renewed = new Map<Value, Value>();
  const few = (value: Value): Value => {
    let own = renewed.get(value);
    if (!own) {
      const name = made.has(value) ? value.name : `${value.name}~last`;
      own = { ...value, name, shape: ["R", ...value.shape.slice(1)], kind: "result" };
      renewed.set(value, own);
    }
    return own;
  };
  for (const step of narrowed) for (const value of step.inputs) few(value);
  // The last rows themselves are what was made of them.
  renewed.set(take.outputs[0]!, few(take.inputs[0]));
  /** Stands right behind what makes the value, so that neighbours stay together. */
  const taking = (value: Value | null): Step[] => {
    if (!value || !renewed.has(value) || made.has(value)) return [];
    const columns = value.shape.slice(1).reduce<number>((all, dim) => all * (dim as number), 1);
    return [{ ...take, inputs: [value], outputs: [few(value)], constants: { columns } }];
  };
  const makes = new Set(plan.flatMap(({ outputs }) => outputs));
  const handedIn = [...renewed.keys()].filter((value) => !makes.has(value));
  return [
    ...handedIn.flatMap(taking),
    ...plan.flatMap((step): Step[] => {
      if (step === take) return [];
      if (!narrowed.has(step)) {
        const inputs = step.inputs.map((value) => value === take.outputs[0] ? few(value) : value);
        return [{ ...step, inputs }, ...step.outputs.flatMap(taking)];
      }
      return [{
        ...step,
        inputs: step.inputs.map(few),
        outputs: step.outputs.map((value) => value && few(value)),
      }];
    }),
  ];
}

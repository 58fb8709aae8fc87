/** Puts edits into a plan: after the step that makes a value, a step that changes it. */
import { type Edit, EditError, type LinearEdit } from "../edits.ts";
import type { Plan, Step, Value } from "../plan.ts";

/** A plan with its edits, and the numbers that the edits bring along, by value name. */
export interface EditedPlan {
  readonly plan: Plan;
  readonly operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
}

/**
 * The edited value keeps the point's name, since that is what later steps read and captures show; what the step made itself is
 * called `<point>~1`, then `~2`, … after each edit.
 *
 * @param capacity positions of the session
 * @throws {EditError} for a point that the plan does not have or that cannot be edited, and for operands of another shape
 */
export function applyEdits(plan: Plan, edits: readonly Edit[], capacity: number): EditedPlan {
  if (edits.length === 0) return { plan, operands: new Map() };
  const operands = new Map<string, Float32Array<ArrayBuffer>>();
  const byPoint = new Map<string, Edit[]>();
  for (const edit of edits) byPoint.set(edit.point, [...byPoint.get(edit.point) ?? [], edit]);

  const edited: Step[] = [];
  for (const step of plan) {
    const output = step.outputs[0]!;
    const own = byPoint.get(output.name);
    if (!own) {
      edited.push(step);
      continue;
    }
    byPoint.delete(output.name);
    if (output.kind !== "result") {
      throw new EditError(output.name, "the cache is what k_rope and v wrote; edit those");
    }
    if (output.dtype !== "f32" && own.some(({ kind }) => kind !== "function")) {
      throw new EditError(output.name, "its numbers are indices: only a function can change them");
    }
    if (output.shape.length < 2) throw new EditError(output.name, "it has no rows");
    if (!plan.some(({ inputs }) => inputs.some(({ name }) => name === output.name))) {
      throw new EditError(
        output.name,
        "nothing in the pass reads it, so that would change nothing",
      );
    }
    // What the step made, then what each edit makes of it; the last one has the point's own name.
    const names = own.map((_, i) => `${output.name}~${i + 1}`).concat(output.name);
    let value: Value = { ...output, name: names[0] };
    edited.push({ ...step, outputs: [value] });
    own.forEach((edit, i) => {
      const next = i === own.length - 1 ? output : { ...output, name: names[i + 1] };
      edited.push(
        edit.kind === "function"
          ? {
            operation: "host",
            inputs: [value],
            weights: [],
            outputs: [next],
            constants: { edit: edits.indexOf(edit) },
          }
          : linearStep(edit, value, next, capacity, operands),
      );
      value = next;
    });
  }
  for (const point of byPoint.keys()) throw new EditError(point, "the plan has no such point");
  return { plan: edited, operands };
}

function linearStep(
  edit: LinearEdit,
  value: Value,
  next: Value,
  capacity: number,
  operands: Map<string, Float32Array<ArrayBuffer>>,
): Step {
  const { point, scale, vector, rows } = edit;
  const attention = value.shape.at(-1) === "S";
  const heads = attention
    ? value.shape[0] as number
    : value.shape.length === 3
    ? value.shape[1] as number
    : 1;
  const features = attention ? 0 : value.shape.at(-1) as number;
  const columns = attention ? rows?.keys ?? 0 : features;
  const rowSize = heads * columns;
  if (vector && (attention || vector.length !== rowSize)) {
    throw new EditError(
      point,
      `the vector has ${vector.length} numbers, a row has ${attention ? "one per key" : rowSize}`,
    );
  }
  const where = { ...edit.where };
  if (rows) {
    const count = rows.data.length / rowSize;
    const end = rows.firstPosition + count;
    if (!Number.isInteger(count)) {
      throw new EditError(point, `the rows given are not of ${rowSize} numbers`);
    }
    if (attention && columns < end) {
      throw new EditError(
        point,
        `the rows given have ${columns} keys, position ${end - 1} sees ${end}`,
      );
    }
    where.positions = (where.positions ?? Array.from({ length: capacity }, (_, i) => i))
      .filter((position) => position >= rows.firstPosition && position < end);
  }
  const featureFlags = where.features ? (attention ? capacity : features) : 0;
  const selected = new Float32Array(heads + featureFlags + (where.positions ? capacity : 0));
  const choose = (
    list: readonly number[] | undefined,
    first: number,
    count: number,
    what: string,
  ) => {
    for (const index of list ?? []) {
      if (!Number.isInteger(index) || index < 0 || index >= count) {
        throw new EditError(point, `there is no ${what} ${index}; they go from 0 to ${count - 1}`);
      }
      selected[first + index] = 1;
    }
  };
  choose(where.heads, 0, heads, "head");
  choose(where.features, heads, attention ? capacity : features, attention ? "key" : "feature");
  choose(where.positions, heads + featureFlags, capacity, "position");

  const operand = keep(
    operands,
    `${next.name}~operand`,
    vector ?? rows?.data ?? new Float32Array(1),
  );
  return {
    operation: "edit",
    inputs: [value, operand, keep(operands, `${next.name}~selected`, selected)],
    weights: [],
    outputs: [next],
    constants: {
      heads,
      features,
      scale,
      operand: vector ? 1 : rows ? 2 : 0,
      operand_columns: columns,
      first_position: rows?.firstPosition ?? 0,
      some_heads: where.heads ? 1 : 0,
      some_features: featureFlags,
      some_positions: where.positions ? 1 : 0,
    },
  };
}

function keep(
  operands: Map<string, Float32Array<ArrayBuffer>>,
  name: string,
  data: Float32Array,
): Value {
  operands.set(name, Float32Array.from(data));
  return { name, shape: [data.length], dtype: "f32", kind: "edit" };
}

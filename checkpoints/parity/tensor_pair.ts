/** One compared tensor, ours and the reference's, as two matrices with labels: what a figure draws side by side. */
import { layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import type { Engine } from "../../engine/backend.ts";
import { analysisTable } from "../../inspect/analyses/analysis_table.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import { printable } from "../../inspect/escape.ts";
import { previewBundle } from "../../inspect/tables/html.ts";
import type { Loaded } from "../../inspect/run/loading.ts";
import { type Axis, listPoints } from "../../inspect/points/points.ts";
import { pieceOf } from "../../inspect/run/vocabulary.ts";
import { type Difference, isAttention } from "./compare.ts";
import { localValues, pointsAround } from "./local.ts";
import { cacheBefore } from "./cache.ts";
import type { ParityRow } from "./comparison.ts";
import {
  type Provenance,
  type Reference,
  ReferenceFailure,
  type ReferencePass,
  type ReferenceTensor,
} from "../references/reference.ts";
import { joinPieces, ownRun } from "./lamina.ts";

/** `local` compares what our kernels make of the reference's own inputs, `cumulative` each side's own run. */
export type Verdict = "local" | "cumulative";

/** Which of the compared tensors is meant. */
export interface PairOptions {
  /** 0 for the prompt, n for the pass of the n-th generated token. */
  readonly step?: number;
  /** `prompt` or `long prompt`. */
  readonly case?: string;
  /** Default: the one that failed, else `local`. */
  readonly verdict?: Verdict;
  /** Ends the runs. */
  readonly signal?: AbortSignal;
}

/** An axis of a matrix. */
export interface PairAxis {
  /** What it counts. */
  readonly axis: Axis;
  /** Absolute positions, or places within the row. */
  readonly places: readonly number[];
  /** Tokens of positions and of logits, else the places. */
  readonly labels: readonly string[];
}

const COLUMNS = {
  row: "int32",
  row_label: "utf8",
  column: "int32",
  column_label: "utf8",
  ours: "float64",
  reference: "float64",
  difference: "float64",
} as const;

/** What a pair is made of. */
type PairParts =
  & Pick<TensorPair, "model" | "verdict" | "head" | "rows" | "columns" | "ours" | "reference">
  & { readonly referenceName: string; readonly row: ParityRow };

/** A tensor on both sides: matrices [rows, columns], row-major. Of a tensor with heads the head that is worst. */
export class TensorPair {
  /** Whose it is. */
  readonly model: string;
  /** `blk.3.q` */
  readonly point: string;
  /** The checkpoint that it belongs to: `2`. */
  readonly checkpoint: string;
  /** 0 for the prompt, n for the pass of the n-th generated token. */
  readonly step: number;
  /** Which prompt: `prompt` or `long prompt`. */
  readonly case: string;
  /** What is compared: {@linkcode Verdict} says how. */
  readonly verdict: Verdict;
  /** Whether all of it is within its tolerance. */
  readonly passed: boolean;
  /** The head that is shown; undefined for a tensor without heads. */
  readonly head: number | undefined;
  /** What the rows are. */
  readonly rows: PairAxis;
  /** What the columns are. */
  readonly columns: PairAxis;
  /** Our numbers [rows, columns]. Keys that a query does not see are NaN on both sides. */
  readonly ours: Float32Array;
  /** The reference's numbers [rows, columns]. */
  readonly reference: Float32Array;
  /** Who the reference is; `oracle` where it does not show the point. */
  readonly referenceName: string;
  readonly #judged: Difference;

  /** Use {@linkcode ParityReport.worst} or {@linkcode ParityReport.pair}. */
  constructor(parts: PairParts) {
    const { row, verdict } = parts;
    this.#judged = row[verdict]!;
    this.passed = this.#judged.passed;
    ({ point: this.point, checkpoint: this.checkpoint, step: this.step, case: this.case } = row);
    ({ model: this.model, referenceName: this.referenceName, head: this.head } = parts);
    ({ rows: this.rows, columns: this.columns, verdict: this.verdict } = parts);
    ({ ours: this.ours, reference: this.reference } = parts);
  }

  /** Ours less the reference's [rows, columns]. */
  get difference(): Float32Array {
    return this.ours.map((value, i) => value - this.reference[i]);
  }

  /** The number that takes most of what is allowed it: its row and column, both values, its error and its tolerance. */
  get worst(): {
    readonly row: number;
    readonly column: number;
    readonly ours: number;
    readonly reference: number;
    readonly error: number;
    readonly tolerance: number;
  } {
    const { place, ours, reference, error, allowed } = this.#judged;
    return {
      row: this.rows.places.indexOf(place.position),
      column: place.index,
      ...{ ours, reference, error, tolerance: allowed },
    };
  }

  /** A row per number: its row and column with labels, `ours`, `reference` and `difference`. */
  table(): Table {
    const { model, rows, columns, ours, reference } = this;
    const width = columns.places.length;
    const table = Array.from(ours, (value, i) => {
      const [row, column] = [Math.floor(i / width), i % width];
      return {
        row: rows.places[row],
        row_label: rows.labels[row],
        column: columns.places[column],
        column_label: columns.labels[column],
        ours: value,
        reference: reference[i],
        difference: value - reference[i],
      };
    });
    return analysisTable("tensor_pair", COLUMNS, table, {
      meaning: `${this.#name}: ours and ${this.referenceName}'s`,
      model,
      point: this.point,
      reference: this.referenceName,
      verdict: this.verdict,
      rows: rows.axis,
      columns: columns.axis,
      step: this.step,
    });
  }

  get #name(): string {
    return this.head === undefined ? this.point : `${this.point}, head ${this.head}`;
  }

  /** One line: what it is and how far off it is. */
  toString(): string {
    const { rows, columns, worst } = this;
    return printable(
      `${this.#name} [${rows.axis} ${rows.places.length}, ${columns.axis} ${columns.places.length}], ` +
        `${this.verdict}: ours ${worst.ours.toPrecision(6)}, ${this.referenceName}'s ${
          worst.reference.toPrecision(6)
        } ` +
        `at row ${worst.row}, column ${worst.column}; off by ${
          worst.error.toExponential(1)
        }, allowed ${worst.tolerance.toExponential(1)}`,
    );
  }

  /** What a notebook cell shows: the table. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return previewBundle(this.table().preview());
  }

  /** What `console.log` shows. */
  [Symbol.for("Deno.customInspect")](): string {
    return `${this}`;
  }
}

/** Which tensor of which pass is read. */
interface PairRequest {
  readonly row: ParityRow;
  readonly verdict: Verdict;
  /** Of the prompt. */
  readonly ids: readonly number[];
  /** Ids that both sides run after it. */
  readonly forced?: readonly number[];
  /** Passes that were compared: those before tell what the cache held. */
  readonly steps: readonly number[];
  readonly signal?: AbortSignal;
}

/**
 * Runs both sides once more and takes one tensor.
 *
 * @throws {ReferenceFailure} when the reference fails, or does not show the point any more
 */
export async function readPair(
  model: Loaded,
  { reference, oracle }: { readonly reference: Reference; readonly oracle?: Reference },
  { row, verdict, ids, forced = [], steps, signal }: PairRequest,
): Promise<TensorPair> {
  const { engine } = model;
  const { point, step } = row;
  const request = { ids, generate: step, forced, steps: [step], signal };
  const points = verdict === "local" ? pointsAround(engine, point) : [point];
  const earlier = verdict === "local" ? steps.filter((each) => each < step) : [];
  const { passes } = await reference.run({ ...request, steps: [...earlier, step], points });
  const pass = passes.find((each) => each.step === step);
  const shown = pass?.tensors.get(point);
  let name = reference.provenance.name;
  let theirs = shown;
  if (!theirs && oracle) {
    name = oracle.provenance.name;
    theirs = (await oracle.run({ ...request, points })).passes[0]?.tensors.get(point);
  }
  if (!theirs) throw new ReferenceFailure(name, `it does not show ${point}`);
  const { rope } = reference.provenance;
  const ours = verdict === "local" && pass && shown
    ? await localTensor(
      engine,
      { ...pass, before: cacheBefore(pass, passes, engine.plan) },
      point,
      rope,
    )
    : (await ownRun(engine, { ...request, points: [point] }, rope)).passes[0].tensors.get(point)!;
  const all = [...ids, ...forced.slice(0, step)];
  const start = step === 0 ? 0 : ids.length + step - 1;
  return pairOf(model, { row, verdict, name, ours, theirs, all, start });
}

/** What our kernels make of a pass's own inputs, at one point that it shows; `pass` has the cache before it. */
export async function localTensor(
  engine: Engine,
  pass: ReferencePass,
  point: string,
  rope: Provenance["rope"],
): Promise<ReferenceTensor> {
  const layer = layerOf(point) ?? (point === "token_embd" ? 0 : engine.config.layers - 1);
  const pieces: (ReferenceTensor & { data: Float32Array<ArrayBuffer> })[] = [];
  for await (const each of localValues(engine, pass, rope, [layer, layer])) {
    if (each.point === point) pieces.push(each.ours);
  }
  return joinPieces(point, pieces, engine.config);
}

/** A tensor of both sides, and where its pass stands. */
interface Both {
  readonly row: ParityRow;
  readonly verdict: Verdict;
  /** Of the reference. */
  readonly name: string;
  readonly ours: ReferenceTensor;
  readonly theirs: ReferenceTensor;
  /** Ids of all positions. */
  readonly all: readonly number[];
  /** Position of the first row. */
  readonly start: number;
}

function pairOf(model: Loaded, { row, verdict, name, ours, theirs, all, start }: Both): TensorPair {
  const { config, plan } = model.engine;
  const { axes, kind } = listPoints(config, plan).find((each) => each.name === row.point)!;
  const { shape } = theirs;
  const { head = 0 } = row[verdict]!.place;
  const headAxis = axes.findIndex((axis) => axis === "head" || axis === "kv_head");
  const [rowAxis, columnAxis] = axes.map((_, i) => i).filter((i) => i !== headAxis);
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const from = headAxis < 0 ? 0 : head * strides[headAxis];
  const [height, width] = [shape[rowAxis], shape[columnAxis]];
  const isCache = axes[0] === "slot";
  const first = isCache ? 0 : start;
  const piece = pieceOf(model.file);
  const rowPlaces = Array.from({ length: height }, (_, i) => theirs.positions?.[i] ?? first + i);
  const matrix = ({ data }: ReferenceTensor) =>
    Float32Array.from({ length: height * width }, (_, i) => {
      const [r, c] = [Math.floor(i / width), i % width];
      if (isAttention(row.point) && c > rowPlaces[r]) return NaN;
      return data[from + r * strides[rowAxis] + c * strides[columnAxis]];
    });
  const token = (position: number) => all[position] === undefined ? "" : piece(all[position]);
  const columnPlaces = Array.from({ length: width }, (_, i) => i);
  const columnLabel = axes[columnAxis] === "key"
    ? token
    : kind === "logits" || kind === "probs"
    ? piece
    : String;
  return new TensorPair({
    model: model.found.name,
    referenceName: name,
    row,
    verdict,
    head: headAxis < 0 ? undefined : head,
    rows: { axis: axes[rowAxis], places: rowPlaces, labels: rowPlaces.map(token) },
    columns: {
      axis: axes[columnAxis],
      places: columnPlaces,
      labels: columnPlaces.map((place) => columnLabel(place)),
    },
    ours: matrix(ours),
    reference: matrix(theirs),
  });
}

/**
 * Direct logit attribution: what each part of the model adds to a logit by itself, past all later layers. The last residual
 * stream is a sum, and with the final norm's scale held fixed a logit is linear in it (Elhage et al., "A mathematical framework
 * for transformer circuits", 2021).
 */
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import { absolutePosition, checkPositions } from "../run/positions.ts";
import { pieceOf } from "../run/vocabulary.ts";
import { dot } from "./numbers.ts";
import {
  analysisTable,
  asRun,
  extentsOf,
  placesOf,
  type Row,
  SEQUENCE,
  type Subject,
  TOKEN,
} from "./analysis_table.ts";
import { tokenId, type TokenName } from "./tokens.ts";
import { logitDirection } from "./unembedding.ts";
import { streamStart, streamWrites } from "../points/stream.ts";
import type { Step } from "../../engine/plan/plan.ts";

/** Which logit is taken apart, and where. */
export interface AttributionOptions {
  /** Whose logit is taken apart. */
  readonly token: TokenName;
  /** With it, the difference of the two logits is taken apart. */
  readonly against?: TokenName;
  /** Absolute; a negative one counts from the prompt's end. Default −1: the prompt's last. */
  readonly position?: number;
  /** Sequence of the run; 0. A negative one counts from the last. */
  readonly sequence?: number;
  /** Ends the run of a prompt; the analysis then fails with the signal's reason. */
  readonly signal?: AbortSignal;
}

const SCHEMA = {
  ...SEQUENCE,
  layer: "int32",
  head: "int32",
  ...TOKEN,
  component: "utf8",
  value: "float64",
} as const;

/**
 * The contribution of the embedding (`component` "embedding", layer −1), of each head ("head"), of the attention's bias where
 * there is one ("attention bias"), of each layer's FFN ("ffn"), and of biases at the end ("output bias", layer −1) to a logit, or
 * to a difference of two. Their sum is the logit itself (where the model caps logits, the one before the cap). Norms and factors
 * between what a half makes and what it adds are held fixed like the last one. `head` is null for all but heads. A run must have
 * captured what {@linkcode attributionPoints} names: of a Llama `token_embd`, `blk.*.head_result`, `blk.*.ffn_out` and `output_norm_rms`.
 *
 * @throws {NotCapturedError | PositionError}
 * @throws {TokenError} for a text that is not one token
 */
export async function directLogitAttribution(
  model: Model,
  subject: Subject,
  options: AttributionOptions,
): Promise<Table> {
  const { position: asked = -1, signal } = options;
  const { direction, ...target } = await logitDirection(model, tokenId(model, options.token));
  let { constant } = target;
  if (options.against !== undefined) {
    const other = await logitDirection(model, tokenId(model, options.against));
    other.direction.forEach((value, i) => direction[i] -= value);
    constant -= other.constant;
  }
  const capture = attributionPoints(model);
  const run = await asRun(model, subject, { capture, positions: [asked], signal });
  const sequence = run.sequenceIndex(options.sequence);
  const extent = extentsOf(run)[sequence];
  checkPositions(asked, [extent]);
  const position = absolutePosition(asked, extent);
  const vector = (point: string) => run.tensor(point, { sequence }).at({ position });
  const rms = vector("output_norm_rms").toFloat32Array()[0];

  const place = placesOf(run, sequence)(position);
  const rows: Row<typeof SCHEMA>[] = [];
  const add = (component: string, layer: number, head: number | null, part: ArrayLike<number>) =>
    rows.push({ ...place, layer, head, component, value: dot(part, direction) / rms });
  add("embedding", -1, null, vector(streamStart(model.plan)).toFloat32Array());
  for (const { layer, half, made, between } of streamWrites(model.plan)) {
    const passed = await Promise.all(
      between.map((step) => held(model, step, (point) => vector(point).toFloat32Array())),
    );
    const whole = (part: ArrayLike<number>) =>
      passed.reduce<ArrayLike<number>>((part, pass) => pass(part), part);
    if (half === "ffn") {
      add("ffn", layer, null, whole(vector(made).toFloat32Array()));
      continue;
    }
    const heads = vector(`blk.${layer}.head_result`);
    for (let head = 0; head < model.config.heads; head++) {
      add("head", layer, head, whole(heads.at({ head }).toFloat32Array()));
    }
    const bias = await attentionBias(model, layer);
    if (bias) add("attention bias", layer, null, whole(bias));
  }
  if (constant !== 0) {
    rows.push({ ...place, layer: -1, head: null, component: "output bias", value: constant });
  }
  const text = pieceOf(model);
  return analysisTable("direct_logit_attribution", SCHEMA, rows, {
    meaning: "what each part of the model adds to a logit by itself; the sum is the logit",
    model: run.meta.model,
    target: text(tokenId(model, options.token)),
    ...(options.against === undefined ? {} : { against: text(tokenId(model, options.against)) }),
  });
}

/** The points that a run must have captured for {@linkcode directLogitAttribution}. */
export function attributionPoints({ plan }: Model): string[] {
  const between = streamWrites(plan).flatMap((write) => write.between);
  const divisors = between.filter(({ operation }) => operation === "normalize")
    .map(({ inputs: [, rms] }) => rms.name);
  return [streamStart(plan), "blk.*.head_result", "blk.*.ffn_out", "output_norm_rms", ...divisors];
}

/** What a step makes of a part of its input, what it divides by being held fixed: all that it does is linear then. */
async function held(
  model: Model,
  { operation, inputs, weights, constants }: Step,
  captured: (point: string) => Float32Array,
): Promise<(part: ArrayLike<number>) => ArrayLike<number>> {
  const scaled = (factor: (i: number) => number) => (part: ArrayLike<number>) =>
    Float64Array.from(part, (value, i) => value * factor(i));
  switch (operation) {
    case "normalize": {
      const [rms] = captured(inputs[1].name);
      return scaled(() => 1 / rms);
    }
    case "scale_columns": {
      const gain = await model.weightRows(weights[0]);
      return scaled((i) => gain[i]);
    }
    case "scale":
      return scaled(() => constants.factor);
    case "center":
      return (part) => {
        const mean = Array.from(part).reduce((sum, value) => sum + value, 0) / part.length;
        return Float64Array.from(part, (value) => value - mean);
      };
    default:
      return (part) => part;
  }
}

/** What attention adds whatever its heads do: its own bias. */
async function attentionBias(model: Model, layer: number): Promise<Float32Array | undefined> {
  if (!model.config.optional.has("attn_output.bias")) return undefined;
  return await model.weightRows(`blk.${layer}.attn_output.bias`);
}

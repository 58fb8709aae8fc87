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

/** What a run must have captured. */
const PARTS = ["token_embd", "blk.*.head_result", "blk.*.ffn_out", "output_norm_rms"];

/**
 * The contribution of the embedding (`component` "embedding", layer −1), of each head ("head"), of the attention's bias where
 * there is one ("attention bias") and of each layer's FFN ("ffn") to a logit, or to a difference of two. Their sum is the logit
 * itself. `head` is null for all but heads. A run must have captured `token_embd`, `blk.*.head_result`, `blk.*.ffn_out` and
 * `output_norm_rms`.
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
  const direction = await logitDirection(model, tokenId(model, options.token));
  if (options.against !== undefined) {
    const other = await logitDirection(model, tokenId(model, options.against));
    other.forEach((value, i) => direction[i] -= value);
  }
  const run = await asRun(model, subject, { capture: PARTS, positions: [asked], signal });
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
  add("embedding", -1, null, vector("token_embd").toFloat32Array());
  for (let layer = 0; layer < model.config.layers; layer++) {
    const heads = vector(`blk.${layer}.head_result`);
    for (let head = 0; head < model.config.heads; head++) {
      add("head", layer, head, heads.at({ head }).toFloat32Array());
    }
    if (model.config.optional.has("attn_output.bias")) {
      const bias = await model.weightRows(`blk.${layer}.attn_output.bias`);
      add("attention bias", layer, null, bias);
    }
    add("ffn", layer, null, vector(`blk.${layer}.ffn_out`).toFloat32Array());
  }
  const text = pieceOf(model);
  return analysisTable("direct_logit_attribution", SCHEMA, rows, {
    meaning: "what each part of the model adds to a logit by itself; the sum is the logit",
    model: run.meta.model,
    target: text(tokenId(model, options.token)),
    ...(options.against === undefined ? {} : { against: text(tokenId(model, options.against)) }),
  });
}

/** What an id is drawn from, ours and the reference's, of the same logits. */
import { type Candidates, candidates } from "../../engine/sampling.ts";
import type { ParityCheck } from "./checks.ts";
import type { ParityCase } from "./cases.ts";
import type { Reference, ReferenceRun, SampledWith } from "../references/reference.ts";

/** llama.cpp's defaults, all of them on. */
const SAMPLED_WITH: SampledWith = { topK: 40, topP: 0.95, minP: 0.05, temperature: 0.8 };

/** Largest relative difference of a probability, and of the sum or the ratio at which a filter cuts. */
const TOLERANCE = 1e-5;
/** Two roundings of a logit to 32 bits, once as it is and once divided by the temperature. */
const ROUNDINGS = 2 * 2 ** -23;

/** Checkpoint 11: the candidates that top-k, top-p and min-p leave, and their probabilities after the temperature, of our own logits. */
export async function checkSampler(
  reference: Pick<Reference, "sample">,
  { name }: Pick<ParityCase, "name">,
  { passes }: Pick<ReferenceRun, "passes">,
): Promise<ParityCheck[]> {
  const logits = passes.flatMap(({ tensors }) => {
    const shown = tensors.get("logits");
    return shown ? [Float32Array.from(shown.data.subarray(-shown.shape.at(-1)!))] : [];
  });
  if (!reference.sample || logits.length === 0) return [];
  const theirs = await reference.sample(logits, SAMPLED_WITH);
  const problems = logits.flatMap((each, i) =>
    candidatesPart(each, candidates(each, SAMPLED_WITH), theirs[i]) ?? []
  );
  const count = theirs.reduce((sum, { ids }) => sum + ids.length, 0);
  const what = problems.length > 0 ? problems[0] : `${count} candidates of the sampler equal`;
  return [{ checkpoint: "11", case: name, passed: problems.length === 0, what }];
}

/** In what two sets of candidates part; one that stands at the edge of a filter may be in either. */
export function candidatesPart(
  logits: Float32Array,
  ours: Candidates,
  theirs: Candidates,
): string | undefined {
  const common = Math.min(ours.ids.length, theirs.ids.length);
  const [longer, who] = ours.ids.length > common ? [ours, "here"] : [theirs, "there"];
  const more = longer.ids.slice(common);
  if (more.length > 1 || more.some((id) => !isAtEdge(logits, longer.ids.slice(0, common), id))) {
    return `the sampler leaves ${ours.ids.length} candidates here, ${theirs.ids.length} there: ${
      more[0]
    } ${who} alone`;
  }
  const allowed = TOLERANCE + ROUNDINGS * Math.abs(logits[ours.ids[0]]) / SAMPLED_WITH.temperature;
  // Without the one at the edge both are parts of a whole.
  const [a, b] = [ours, theirs].map(({ ids, probabilities }) => {
    const kept = probabilities.slice(0, common);
    const sum = kept.reduce((sum, p) => sum + p, 0);
    return new Map(kept.map((p, i) => [ids[i], p / sum]));
  });
  for (const [id, p] of a) {
    const other = b.get(id);
    if (other === undefined) {
      if (isTied(logits, id, theirs.ids)) continue;
      return `the sampler leaves ${id} here, not there`;
    }
    if (Math.abs(p - other) > allowed * other) {
      return `the sampler gives ${id} the probability ${p.toPrecision(7)} here, ${
        other.toPrecision(7)
      } there`;
    }
  }
  return undefined;
}

/** Whether a candidate stands where a filter cuts: roundings decide on which side. */
function isAtEdge(logits: Float32Array, before: readonly number[], id: number): boolean {
  const { topK, topP, minP } = SAMPLED_WITH;
  const best = logits[before[0]];
  const weight = (id: number) => Math.exp(logits[id] - best);
  if (Math.abs(weight(id) / minP - 1) < TOLERANCE) return true;
  const kept = Float64Array.from(logits, (logit) => Math.exp(logit - best)).sort().slice(-topK);
  const total = kept.reduce((sum, each) => sum + each, 0);
  const share = before.reduce((sum, id) => sum + weight(id), 0) / total;
  return Math.abs(share / topP - 1) < TOLERANCE;
}

/** Whether another candidate has the same logit: which of two equal ones a filter keeps is nobody's fault. */
function isTied(logits: Float32Array, id: number, others: readonly number[]): boolean {
  return others.some((other) => other !== id && logits[other] === logits[id]);
}

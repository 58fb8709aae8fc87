/** The largest logit's id (of equal ones the lowest), and its distance from the second. NaN is never the largest. */
export function greedy(logits: Float32Array | Float64Array): { id: number; margin: number } {
  let id = 0;
  let [best, second] = [-Infinity, -Infinity];
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > best) [second, best, id] = [best, logits[i], i];
    else if (logits[i] > second) second = logits[i];
  }
  return { id, margin: best - second };
}

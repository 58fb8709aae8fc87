/** Two models' predictions against each other. */
import { logSumExp } from "../../inspect/softmax.ts";

/**
 * Kullback–Leibler divergence of two distributions over the next token, Σ p·(ln p − ln q), in nats and 64-bit floats: what is lost when
 * q is taken for p. As llama.cpp's perplexity tool has it, p is the original.
 *
 * @param p logits [V]
 * @param q logits [V]
 */
export function divergence(p: Float32Array, q: Float32Array): number {
  const [normP, normQ] = [logSumExp(p), logSumExp(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = p[i] - normP;
    sum += Math.exp(logP) * (logP - (q[i] - normQ));
  }
  // Of distributions that are nearly the same, rounding may leave less than nothing.
  return Math.max(0, sum);
}

/** −ln p of a token, from logits [V], in nats. */
export function surprisalOf(logits: Float32Array, id: number): number {
  return logSumExp(logits) - logits[id];
}

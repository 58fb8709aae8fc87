/** RoPE's cosines and sines, read by the kernels from a table because WGSL's own are too coarse. */
import type { Config } from "./config.ts";

/**
 * How the angles are made: in 64-bit floats; as ggml does, by repeated f32 multiplication; or as PyTorch's models do, position times
 * frequency, both in f32.
 */
export type RopeBuilder = "exact" | "ggml" | "f32";

/**
 * The table [positions, ropeWidth / 2, 2] of (cos, sin) of position · base^(−2i / ropeWidth) (Su et al. 2021), divided
 * by the file's frequency factor of pair i where it has them, and by the factor of linear scaling.
 *
 * `ggml` repeats ggml's f32 arithmetic (ggml_rope_cache_init of llama.cpp), whose angles drift from the exact ones by more
 * than parity's tolerances from a few hundred positions on. `f32` repeats what Hugging Face's modeling_llama.py does (LlamaRotaryEmbedding):
 * 1 / base^(2i / ropeWidth) rounded at each step, and its product with the position rounded.
 */
export function ropeTable(
  config: Config,
  positions: number,
  builder: RopeBuilder = "exact",
  factors?: Float32Array,
): Float32Array<ArrayBuffer> {
  const pairs = config.ropeWidth / 2;
  const squeeze = config.ropeScaling.type === "linear" ? config.ropeScaling.factor : 1;
  const table = new Float32Array(positions * pairs * 2);
  const f = Math.fround;
  const frequencies = Float32Array.from(
    { length: pairs },
    (_, pair) =>
      f(1 / f(Math.pow(f(config.ropeBase), f(2 * pair / config.ropeWidth)))) /
      (factors?.[pair] ?? 1) / squeeze,
  );
  const ratio = f(Math.pow(f(config.ropeBase), f(-2 / config.ropeWidth)));
  for (let position = 0, at = 0; position < positions; position++) {
    let turning = position;
    for (let pair = 0; pair < pairs; pair++, at += 2) {
      const factor = factors?.[pair] ?? 1;
      const angle = builder === "ggml"
        ? f(f(1 / squeeze) * f(turning / factor))
        : builder === "f32"
        ? f(position * frequencies[pair])
        : position * Math.pow(config.ropeBase, -2 * pair / config.ropeWidth) / factor / squeeze;
      table[at] = Math.cos(angle);
      table[at + 1] = Math.sin(angle);
      turning = f(turning * ratio);
    }
  }
  return table;
}

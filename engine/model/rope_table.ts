/** RoPE's cosines and sines, read by the kernels from tables because WGSL's own are too coarse. */
import { dequantize } from "../gguf/dequantize.ts";
import type { GgufFile } from "../gguf/reader.ts";
import type { Config, Rope, Yarn } from "./config.ts";

/**
 * How the angles are made: in 64-bit floats; as ggml does, by repeated f32 multiplication; or as PyTorch's models do, position times
 * frequency, both in f32.
 */
export type RopeBuilder = "exact" | "ggml" | "f32";

/** A file's divisors of the pairs' angles [width / 2], by the names of their tensors. */
export type RopeFactors = ReadonlyMap<string, Float32Array>;

/** Names of the tensors [width / 2] that a table is made with. */
export function divisorNames({ factors, scaling }: Rope): string[] {
  return [
    ...factors === undefined ? [] : [factors],
    ...scaling.type === "longrope" ? [scaling.long, scaling.short] : [],
  ];
}

/** Reads the divisors that a model's tables are made with; most models have none. */
export async function ropeFactors(
  file: Pick<GgufFile, "tensors" | "readTensor">,
  { ropes }: Config,
): Promise<RopeFactors> {
  const factors = new Map<string, Float32Array>();
  for (const name of ropes.flatMap(divisorNames)) {
    const tensor = file.tensors.get(name);
    if (tensor) factors.set(name, dequantize(tensor.type, await file.readTensor(tensor)));
  }
  return factors;
}

/** The divisors of a table for so many positions; undefined where all are 1. */
export function factorsOf(
  { factors, scaling }: Rope,
  positions: number,
  known: RopeFactors,
): Float32Array | undefined {
  if (factors !== undefined) return known.get(factors);
  if (scaling.type !== "longrope") return undefined;
  return known.get(positions > scaling.originalLength ? scaling.long : scaling.short);
}

/**
 * The table [positions, width / 2, 2] of (cos, sin) of position · base^(−2i / width) (Su et al. 2021), divided by the file's
 * factor of pair i where it has them, squeezed as the model's scaling says, times its magnitude.
 *
 * `ggml` repeats ggml's f32 arithmetic (ggml_rope_cache_init of llama.cpp), whose angles drift from the exact ones by more
 * than parity's tolerances from a few hundred positions on. `f32` repeats what Hugging Face's modeling_llama.py does (LlamaRotaryEmbedding):
 * 1 / base^(2i / width) rounded at each step, and its product with the position rounded.
 *
 * @param positions that a session has room for; LongRoPE's factors depend on it
 */
export function ropeTable(
  rope: Rope,
  positions: number,
  builder: RopeBuilder = "exact",
  known: RopeFactors = new Map(),
): Float32Array<ArrayBuffer> {
  const { base, width, scaling } = rope;
  const pairs = width / 2;
  const factors = factorsOf(rope, positions, known);
  const f = builder === "exact" ? (value: number) => value : Math.fround;
  // Hugging Face computes the ends of YaRN's ramp in 64 bits.
  const fast = scaling.type === "yarn"
    ? fastShares(rope, scaling, f, builder === "ggml" ? f : (value) => value)
    : new Float64Array(pairs);
  const squeeze = scaling.type === "linear" || scaling.type === "yarn" ? scaling.factor : 1;
  const divisor = (pair: number) => factors?.[pair] ?? 1;
  const powers = Float64Array.from(
    { length: pairs },
    (_, pair) =>
      builder === "exact" ? base ** (-2 * pair / width) : f(Math.pow(f(base), f(2 * pair / width))),
  );
  /** Of a fast pair the angle as it is, of a slow one the squeezed one. ggml's compilers round the first product and the sum once. */
  const mixed = (squeezed: number, own: number, pair: number) => {
    if (fast[pair] === 0) return squeezed;
    const slow = squeezed * f(1 - fast[pair]);
    return f((builder === "f32" ? f(slow) : slow) + f(own * fast[pair]));
  };
  const frequencies = Float32Array.from({ length: pairs }, (_, pair) => {
    if (scaling.type === "longrope") return 1 / f(divisor(pair) * powers[pair]);
    if (scaling.type !== "yarn") return f(1 / powers[pair]) / divisor(pair) / squeeze;
    const own = f(f(1 / powers[pair]) / divisor(pair));
    return mixed(f(f(1 / f(squeeze * powers[pair])) / divisor(pair)), own, pair);
  });
  const ratio = f(Math.pow(f(base), f(-2 / width)));
  const magnitude = f(rope.magnitude);
  const table = new Float32Array(positions * width);
  for (let position = 0, at = 0; position < positions; position++) {
    let turning = position;
    for (let pair = 0; pair < pairs; pair++, at += 2) {
      const own = builder === "exact"
        ? position * powers[pair] / divisor(pair)
        : f(turning / divisor(pair));
      const angle = builder === "f32"
        ? f(position * frequencies[pair])
        : mixed(builder === "ggml" ? f(f(1 / squeeze) * own) : own / squeeze, own, pair);
      table[at] = f(Math.cos(angle)) * magnitude;
      table[at + 1] = f(Math.sin(angle)) * magnitude;
      turning = f(turning * ratio);
    }
  }
  return table;
}

/** The tables of a model by their names; see {@linkcode ropeTable}. */
export function ropeTables(
  { ropes }: Config,
  positions: number,
  builder?: RopeBuilder,
  known?: RopeFactors,
): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    ropes.map((rope) => [rope.table, ropeTable(rope, positions, builder, known)]),
  );
}

/**
 * How far each pair [width / 2] counts as fast, which YaRN leaves as it is: 1 where it turns at least `betaFast` times within the
 * first training length, 0 where at most `betaSlow` times, and a ramp between (Peng et al. 2023, section 3.2).
 */
function fastShares(
  { base, width }: Rope,
  { originalLength, betaFast, betaSlow, share }: Yarn,
  f: (value: number) => number,
  ends: (value: number) => number,
): Float64Array {
  /** The pair that turns so many times within the first training length. */
  const pairOf = (turns: number) => {
    const once = ends(originalLength / ends(ends(turns) * 2 * ends(Math.PI)));
    return ends(ends(width * ends(Math.log(once))) / ends(2 * ends(Math.log(ends(base)))));
  };
  const low = Math.max(0, Math.floor(pairOf(betaFast)));
  const high = Math.min(width - 1, Math.ceil(pairOf(betaSlow)));
  return Float64Array.from({ length: width / 2 }, (_, pair) => {
    const ramp = f((pair - low) / Math.max(f(0.001), high - low));
    return f(f(1 - Math.min(1, Math.max(0, ramp))) * share);
  });
}

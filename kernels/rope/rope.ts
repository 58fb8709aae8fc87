/** Rotary position embedding (Su et al. 2021) and the KV cache's writes, single and fused. */
import { ofBranches, ofWholePasses, rowGap } from "../branches/branches.ts";
import { bindings, kernel, perToken, type TwinArguments } from "../kernel.ts";
import ropeWgsl from "./rope.wgsl" with { type: "text" };
import storeWgsl from "./store.wgsl" with { type: "text" };
import ropeStoreWgsl from "./rope_store.wgsl" with { type: "text" };

/**
 * Turns every head of x [T, heads, head_width]; `emit` gets the index in x and the turned number. `count` inputs come before
 * `branch_gaps`.
 */
function turn(
  x: Float32Array,
  table: Float32Array,
  heads: number,
  args: TwinArguments,
  count: number,
  emit: (at: number, value: number) => void,
): void {
  const { pass, constants } = args;
  const { head_width: width, rope_width, half_style, rope_start = 0 } = constants;
  const turned = rope_width / 2;
  for (let token = 0; token < pass.tokens; token++) {
    const [gap, end] = rowGap(args, count, token);
    const position = pass.start + token - (end - gap);
    for (let head = 0; head < heads; head++) {
      const base = (token * heads + head) * width;
      const begin = base + rope_start;
      for (let i = base; i < begin; i++) emit(i, x[i]);
      for (let i = begin + rope_width; i < base + width; i++) emit(i, x[i]);
      for (let pair = 0; pair < turned; pair++) {
        const first = begin + (half_style ? pair : 2 * pair);
        const second = half_style ? first + turned : first + 1;
        const at = (position * turned + pair) * 2;
        const [cos, sin] = [table[at], table[at + 1]];
        emit(first, x[first] * cos - x[second] * sin);
        emit(second, x[first] * sin + x[second] * cos);
      }
    }
  }
}

/**
 * x [T, heads, head_width], table [positions, rope_width / 2, 2] of (cos, sin) → the same shape. Pairs are neighbours
 * (`half_style` 0, as in Llama's GGUF files) or lie rope_width / 2 apart (1, as in GPT-NeoX). The `rope_width` numbers of a head from
 * `rope_start` on are turned, both even; the others stay.
 */
const rope = kernel({
  operation: "rope",
  wgsl: ropeWgsl,
  constants: {
    heads: "u32",
    head_width: "u32",
    rope_width: "u32",
    half_style: "u32",
    rope_start: "u32",
  },
  bindings: bindings("input x", "input table", "output y"),
  grid: (pass, { heads, head_width }, lanes) => perToken(heads * head_width / 2, pass, lanes),
  twin(args) {
    const [x, table] = args.inputs;
    turn(x, table, args.constants.heads, args, 2, (at, value) => args.outputs[0]![at] = value);
  },
});

/** x [T, columns] → slots start … start + T − 1 of a cache [slots, columns]. */
const store = kernel({
  operation: "store",
  wgsl: storeWgsl,
  constants: { columns: "u32" },
  bindings: bindings("input x", "output cache"),
  grid: (pass, { columns }, lanes) => perToken(columns, pass, lanes),
  twin({ pass, constants: { columns }, inputs: [x], outputs: [cache] }) {
    cache!.set(x, pass.start * columns);
  },
});

/** q, k, v → q_rope, cache_k, cache_v, with k_rope as a tap: `rope` twice and `store` twice in one dispatch. */
export const ropeStore = kernel({
  operation: "rope_store",
  wgsl: ropeStoreWgsl,
  constants: {
    heads: "u32",
    kv_heads: "u32",
    head_width: "u32",
    rope_width: "u32",
    half_style: "u32",
    rope_start: "u32",
  },
  bindings: bindings(
    "input q",
    "input k",
    "input v",
    "input table",
    "output q_rope",
    "output cache_k",
    "output cache_v",
    "tap k_rope",
  ),
  grid: (pass, { heads, kv_heads, head_width }, lanes) =>
    perToken((heads + kv_heads) * head_width / 2, pass, lanes),
  twin(args) {
    const { heads, kv_heads, head_width } = args.constants;
    const [q, k, v, table] = args.inputs;
    const [qRope, cacheK, cacheV, kRope] = args.outputs;
    const slot = args.pass.start * kv_heads * head_width;
    turn(q, table, heads, args, 4, (at, value) => qRope![at] = value);
    turn(k, table, kv_heads, args, 4, (at, value) => {
      cacheK![slot + at] = value;
      if (kRope) kRope[at] = value;
    });
    cacheV!.set(v, slot);
  },
});

/** Of branches, positions count from where they go on. */
export const ropeKernels = [
  ofWholePasses(rope),
  store,
  ofWholePasses(ropeStore),
  ...[rope, ropeStore].map(ofBranches),
];

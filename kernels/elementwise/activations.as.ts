// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Activations of four numbers at a time: see activations.ts. */
import { exp4 } from "../math.as.ts";

/** Places in ACTIVATIONS. */
export const SILU: i32 = 0;
export const GELU_TANH: i32 = 1;
export const GELU: i32 = 2;
export const RELU2: i32 = 3;
export const RELU: i32 = 4;
export const SIGMOID: i32 = 5;
export const SWIGLU_CLAMPED: i32 = 6;

/** Constants lie in memory, four times each: see math.as.ts. The polynomial of gelu comes first, from its highest power. */
const NUMBERS: usize = memory.data<f32>([
  -0.020612820982933044, -0.020612820982933044, -0.020612820982933044, -0.020612820982933044,
  0.11237573623657227, 0.11237573623657227, 0.11237573623657227, 0.11237573623657227,
  -0.22806739807128906, -0.22806739807128906, -0.22806739807128906, -0.22806739807128906,
  0.19158154726028442, 0.19158154726028442, 0.19158154726028442, 0.19158154726028442,
  -0.07924721390008926, -0.07924721390008926, -0.07924721390008926, -0.07924721390008926,
  0.09605776518583298, 0.09605776518583298, 0.09605776518583298, 0.09605776518583298,
  0.07842560112476349, 0.07842560112476349, 0.07842560112476349, 0.07842560112476349,
  0.1102273166179657, 0.1102273166179657, 0.1102273166179657, 0.1102273166179657,
  0.11957284063100815, 0.11957284063100815, 0.11957284063100815, 0.11957284063100815,
  0.11968663334846497, 0.11968663334846497, 0.11968663334846497, 0.11968663334846497,
  0.3, 0.3, 0.3, 0.3,
  14, 14, 14, 14, // beyond it exp(−x²/2) is 0 in f32
  -0.5, -0.5, -0.5, -0.5,
  1, 1, 1, 1,
  1.5957691216057308, 1.5957691216057308, 1.5957691216057308, 1.5957691216057308, // 2·√(2/π)
  0.044715, 0.044715, 0.044715, 0.044715,
  7, 7, 7, 7,
  -7, -7, -7, -7,
  -1.702, -1.702, -1.702, -1.702,
], 16);

/** x / (1 + exp(w)). */
@inline
function over(x: v128, w: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(w)));
}

/** x·σ(2·√(2/π)·(x + 0.044715 x³)). */
@inline
function geluTanh(x: v128): v128 {
  const cube = f32x4.relaxed_madd(v128.load(NUMBERS, 240), f32x4.mul(x, x), v128.load(NUMBERS, 208));
  return over(x, f32x4.neg(f32x4.mul(f32x4.mul(v128.load(NUMBERS, 224), x), cube)));
}

/** x·Φ(x), with Φ(−a) = exp(−a²/2)·q(1 / (1 + 0.3 a)): see activations.wgsl. */
@inline
function gelu(x: v128): v128 {
  // Of pmin the first argument stays where it is NaN.
  const a = f32x4.pmin(f32x4.abs(x), v128.load(NUMBERS, 176)), one = v128.load(NUMBERS, 208);
  const t = f32x4.div(one, f32x4.relaxed_madd(v128.load(NUMBERS, 160), a, one));
  let q = f32x4.relaxed_madd(v128.load(NUMBERS), t, v128.load(NUMBERS, 16));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 32));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 48));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 64));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 80));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 96));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 112));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 128));
  q = f32x4.relaxed_madd(q, t, v128.load(NUMBERS, 144));
  const density = exp4(f32x4.mul(f32x4.mul(v128.load(NUMBERS, 192), a), a));
  const part = f32x4.mul(x, f32x4.mul(f32x4.mul(q, t), density));
  return v128.bitselect(part, f32x4.sub(x, part), f32x4.lt(x, f32x4.splat(0)));
}

/** An activation of each number, of those that are not gates only. A caller that knows which has no branch. */
@inline
export function activate4(activation: i32, x: v128): v128 {
  if (activation == GELU_TANH) return geluTanh(x);
  if (activation == GELU) return gelu(x);
  // Of pmax the first argument stays where it is NaN.
  if (activation == RELU2) return f32x4.mul(f32x4.pmax(x, f32x4.splat(0)), f32x4.pmax(x, f32x4.splat(0)));
  if (activation == RELU) return f32x4.pmax(x, f32x4.splat(0));
  if (activation == SIGMOID) return over(f32x4.splat(1), f32x4.neg(x));
  return over(x, f32x4.neg(x));
}

/** act(gate) · up. */
@inline
export function gated4(activation: i32, gate: v128, up: v128): v128 {
  if (activation != SWIGLU_CLAMPED) return f32x4.mul(activate4(activation, gate), up);
  const seven = v128.load(NUMBERS, 256);
  const g = f32x4.pmin(gate, seven);
  const u = f32x4.pmax(f32x4.pmin(up, seven), v128.load(NUMBERS, 272));
  return f32x4.mul(over(g, f32x4.mul(v128.load(NUMBERS, 288), g)), f32x4.add(u, v128.load(NUMBERS, 208)));
}

/** Nonlinearities by number. */
export const ACTIVATIONS: readonly string[] = [
  "silu",
  "gelu_tanh",
  "gelu",
  "relu2",
  "relu",
  "sigmoid",
  "swiglu_clamped",
];

/** Tensors on their way between the engine and its users. */

/** A dense tensor in host memory, row-major. */
export interface HostTensor {
  /** The size along each axis. */
  readonly shape: readonly number[];
  /** The numbers. On the CPU they may be the pass's own. */
  readonly data: Float32Array<ArrayBuffer>;
  /** Absolute positions of its rows, where only some were asked for. */
  readonly positions?: readonly number[];
}

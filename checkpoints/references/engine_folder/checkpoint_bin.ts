/**
 * `checkpoint_<name>.bin`, as llorch-checkpoint-extractor (veighnsche/llama-orch) writes it:
 *
 *     [n_dims: int32][shape: int64 × n_dims][data: float32]
 *
 * all little-endian. The shape is ggml's, the fastest axis first and without the trailing ones; it is given here in row-major
 * order, the slowest axis first. The data are the same.
 */
import { sizeOf } from "../../../base/shape.ts";
import { checkLength, type StoredTensor, TensorFileError } from "../../files/npy.ts";

/** ggml has four; some leave room for a batch. */
const MOST_DIMENSIONS = 8;

/**
 * The tensor in a file's bytes.
 *
 * @throws {TensorFileError} for a file that is shorter or longer than its shape says
 */
export function decodeCheckpointBin(bytes: Uint8Array): StoredTensor {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 4) throw new TensorFileError("it ends within its header");
  const dimensions = view.getInt32(0, true);
  if (!(dimensions >= 0 && dimensions <= MOST_DIMENSIONS)) {
    throw new TensorFileError(`${dimensions} dimensions: no checkpoint_<name>.bin`);
  }
  const start = 4 + 8 * dimensions;
  if (bytes.length < start) throw new TensorFileError("it ends within its header");
  const shape = Array.from(
    { length: dimensions },
    (_, i) => Number(view.getBigInt64(4 + 8 * i, true)),
  );
  if (shape.some((size) => size < 0)) throw new TensorFileError(`shape [${shape.join(", ")}]`);
  checkLength(shape, 4 * sizeOf(shape), bytes.length - start);
  return { shape: shape.toReversed(), data: new Float32Array(bytes.slice(start).buffer) };
}

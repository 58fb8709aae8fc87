/**
 * How a reference in a process of its own hands over tensors: frames on its standard output, so that its crash, its hang or its
 * memory are not ours. A frame is
 *
 *     [bytes of the header: u32, little-endian][header: JSON, UTF-8][body: f32 values, little-endian, row-major]
 *
 * and every header has a `kind`. A `tensor` says `step`, `start`, `ids`, `point`, `shape` and perhaps `positions`, and has a body of that
 * shape. `done` is the last; what else there is has no body. Whatever the process prints for people goes to stderr.
 */
import { parseForeignJson } from "../../../models/foreign_json.ts";
import { ReferenceFailure, type ReferencePass, type ReferenceTensor } from "../reference.ts";

/** A frame that has arrived. */
export interface Frame {
  readonly header: Readonly<Record<string, unknown>> & { readonly kind: string };
  readonly body: Float32Array<ArrayBuffer>;
}

/** Longest header: a prompt's ids are in it. */
const MOST_HEADER = 2 ** 24;
/** Largest tensor in numbers. */
const MOST_NUMBERS = 2 ** 30;

/** Writes one frame, whole, before it returns. */
export function writeFrame(
  write: (bytes: Uint8Array) => number,
  header: Readonly<Record<string, unknown>>,
  body?: Float32Array,
): void {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  const chunks: Uint8Array[] = [length, text];
  if (body) chunks.push(new Uint8Array(body.buffer, body.byteOffset, body.byteLength));
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) at += write(chunk.subarray(at));
  }
}

/**
 * Reads frames to the end of the stream.
 *
 * @param name of the reference, for errors
 * @throws {ReferenceFailure} for what is no frame, and for a stream that ends within one
 */
export async function* readFrames(
  name: string,
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<Frame> {
  const input = new Chunks(stream);
  try {
    while (true) {
      const length = await input.take(4);
      if (length.length === 0) return;
      const cut = () => new ReferenceFailure(name, "its output ended in the middle of a tensor");
      if (length.length < 4) throw cut();
      const headerBytes = new DataView(length.buffer).getUint32(0, true);
      if (headerBytes > MOST_HEADER) throw new ReferenceFailure(name, "its output is no frame");
      const text = await input.take(headerBytes);
      if (text.length < headerBytes) throw cut();
      const header = parseHeader(name, text);
      const numbers = header.kind === "tensor" ? countOf(name, header.shape) : 0;
      const body = await input.take(numbers * 4);
      if (body.length < numbers * 4) throw cut();
      yield { header, body: new Float32Array(body.buffer) };
    }
  } finally {
    await input.cancel();
  }
}

/**
 * Puts what a frame says of a pass into it: a `tensor`, or that it is wanted, though it may show none of the points (`pass`).
 *
 * @param passes by step; grows
 */
export function addToPass(passes: Map<number, ReferencePass>, { header, body }: Frame): void {
  if (header.kind !== "tensor" && header.kind !== "pass") return;
  const { step, start, ids } = header as unknown as ReferencePass;
  const pass = passes.get(step) ?? { step, start, ids, tensors: new Map() };
  passes.set(step, pass);
  if (header.kind !== "tensor") return;
  const { point, shape, positions } = header as unknown as ReferenceTensor & { point: string };
  (pass.tensors as Map<string, ReferenceTensor>).set(point, { shape, data: body, positions });
}

function parseHeader(name: string, text: Uint8Array): Frame["header"] {
  try {
    const header = parseForeignJson(text) as Frame["header"];
    if (typeof header?.kind === "string") return header;
  } catch {
    // said below
  }
  throw new ReferenceFailure(name, "its output is no frame");
}

function countOf(name: string, shape: unknown): number {
  const valid = Array.isArray(shape) && shape.every((n) => Number.isInteger(n) && n >= 0);
  const count = valid ? shape.reduce((product: number, n: number) => product * n, 1) : NaN;
  if (count <= MOST_NUMBERS) return count;
  throw new ReferenceFailure(name, `it sent a tensor of shape ${JSON.stringify(shape)}`);
}

/** Bytes of a stream, taken in the sizes that are wanted. */
class Chunks {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest = new Uint8Array(0);

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** That many bytes, in a buffer of their own; fewer at the end of the stream. */
  async take(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      if (this.#rest.length === 0) {
        const { value, done } = await this.#reader.read();
        if (done) break;
        this.#rest = new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.length);
      }
      const part = this.#rest.subarray(0, length - at);
      bytes.set(part, at);
      at += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return at === length ? bytes : bytes.slice(0, at);
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}

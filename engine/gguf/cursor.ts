import { GgufError } from "./error.ts";
import { decodeFileText } from "../../base/file_text.ts";
import type { ByteSource } from "./source.ts";

/** Bytes fetched at a time: a header without a vocabulary fits, one of Llama 3 takes eight. */
const WINDOW_BYTES = 1024 * 1024;

/** The most that is ever held of a header at once, and so the largest single value in it. */
const LARGEST_VALUE_BYTES = 64 * 1024 * 1024;

/**
 * No header is longer than this. The largest known vocabularies (260,000 strings and their merges)
 * take about 20 MiB; the limit keeps a lying count in a file of many GiB from filling the memory.
 */
const LARGEST_HEADER_BYTES = 256 * 1024 * 1024;

/**
 * Reads a header front to back through a sliding window. The scalar methods are synchronous, for
 * speed over hundreds of thousands of strings; `need` has to be awaited for their bytes first.
 */
export class HeaderCursor {
  littleEndian = true;
  readonly source: ByteSource;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** File offset of the window's first byte. */
  #start = 0;
  /** Where we are in the window. */
  #at = 0;

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** File offset of the next byte. */
  get offset(): number {
    return this.#start + this.#at;
  }

  /** Bytes from here to the end of the file, or to the longest header that we read. */
  get remaining(): number {
    return Math.min(this.source.size, LARGEST_HEADER_BYTES) - this.offset;
  }

  /** Whether the next `length` bytes are in the window. */
  has(length: number): boolean {
    return this.#bytes.length - this.#at >= length;
  }

  /**
   * Makes the next `length` bytes available.
   *
   * @throws {GgufError} when the file has fewer, or no header value is that long.
   */
  async need(length: number): Promise<void> {
    if (this.has(length)) return;
    if (length > this.source.size - this.offset) {
      throw this.error(
        `the file ends inside its header, which goes on for at least ${length} bytes here;` +
          " it is truncated or damaged, get it again",
      );
    }
    if (length > Math.min(this.remaining, LARGEST_VALUE_BYTES)) {
      throw this.error(`a header value of ${length} bytes is larger than any real one`);
    }
    this.#start = this.offset;
    this.#at = 0;
    const window = Math.min(
      Math.max(length, WINDOW_BYTES),
      this.source.size - this.#start,
    );
    this.#bytes = await this.source.read(this.#start, window);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, window);
  }

  uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  int8(): number {
    return this.#view.getInt8(this.#advance(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2), this.littleEndian);
  }

  int16(): number {
    return this.#view.getInt16(this.#advance(2), this.littleEndian);
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), this.littleEndian);
  }

  int32(): number {
    return this.#view.getInt32(this.#advance(4), this.littleEndian);
  }

  float32(): number {
    return this.#view.getFloat32(this.#advance(4), this.littleEndian);
  }

  float64(): number {
    return this.#view.getFloat64(this.#advance(8), this.littleEndian);
  }

  uint64(): number | bigint {
    return exact(this.#view.getBigUint64(this.#advance(8), this.littleEndian));
  }

  int64(): number | bigint {
    return exact(this.#view.getBigInt64(this.#advance(8), this.littleEndian));
  }

  /**
   * A length, count or offset of 64 bits, to the nearest number: the caller compares it with the
   * file's size, and every number that passes is exact.
   */
  count64(): number {
    const at = this.#advance(8);
    const first = this.#view.getUint32(at, this.littleEndian);
    const second = this.#view.getUint32(at + 4, this.littleEndian);
    return this.littleEndian ? first + second * 2 ** 32 : first * 2 ** 32 + second;
  }

  /** The next bytes as text, without a loss: {@linkcode decodeFileText}. */
  text(length: number): string {
    const at = this.#advance(length);
    return decodeFileText(this.#bytes.subarray(at, at + length));
  }

  /** The next bytes, as a copy of their own. */
  copy(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#advance(length);
    return this.#bytes.slice(at, at + length);
  }

  /** An error that names the file and this place. */
  error(problem: string, tensor?: string): GgufError {
    return new GgufError(problem, { file: this.source.name, offset: this.offset, tensor });
  }

  #advance(length: number): number {
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

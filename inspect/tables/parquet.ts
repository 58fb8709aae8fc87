/**
 * Parquet, by the package `parquet-wasm` (arrow-rs in WebAssembly, 5 MB), which takes Arrow as it is: vectors come back as
 * fixed-size lists, with the schema's metadata. Its name is no literal in `import`, so that only those who write Parquet load it.
 */
const PACKAGE = "npm:parquet-wasm@0.8.0";

/** What is used of the package; `free` is called by those that take an object over. */
interface ParquetWasm {
  readonly Table: {
    fromIPCStream(bytes: Uint8Array): { recordBatches(): unknown[]; free(): void };
  };
  readonly WriterPropertiesBuilder: new () => Properties;
  readonly Compression: { readonly ZSTD: number };
  transformParquetStream(
    batches: ReadableStream<unknown>,
    properties: unknown,
  ): Promise<ReadableStream<Uint8Array>>;
}

interface Properties {
  setCompression(compression: number): Properties;
  setDictionaryEnabled(enabled: boolean): Properties;
  setMaxRowGroupSize(rows: number): Properties;
  setCreatedBy(name: string): Properties;
  build(): unknown;
}

/** Numbers of a row group: it is in memory until it is written. */
const GROUP_NUMBERS = 4 * 2 ** 20;

/**
 * Turns Arrow into Parquet, a row group at a time. Floats are not put into dictionaries: activations do not repeat.
 *
 * @param batches IPC streams, each whole and all of one schema
 * @param numbersPerRow for the size of row groups
 * @returns the bytes of the file
 */
export async function* parquetBytes(
  batches: AsyncIterable<Uint8Array>,
  numbersPerRow: number,
): AsyncGenerator<Uint8Array> {
  const { Table, WriterPropertiesBuilder, Compression, transformParquetStream } = await load();
  const rows = Math.max(64, Math.floor(GROUP_NUMBERS / Math.max(1, numbersPerRow)));
  const properties = new WriterPropertiesBuilder().setCompression(Compression.ZSTD)
    .setDictionaryEnabled(false).setMaxRowGroupSize(rows).setCreatedBy("Lamina").build();
  const source = batches[Symbol.asyncIterator]();
  let failure: { reason: unknown } | undefined;
  const input = new ReadableStream<unknown>({
    async pull(controller) {
      try {
        const { done, value } = await source.next();
        if (done) return controller.close();
        const table = Table.fromIPCStream(value);
        for (const batch of table.recordBatches()) controller.enqueue(batch);
        table.free();
      } catch (reason) {
        failure = { reason };
        controller.error(reason);
      }
    },
    async cancel() {
      await source.return?.();
    },
  }, { highWaterMark: 1 });
  try {
    yield* await transformParquetStream(input, properties);
  } catch (error) {
    throw failure ? failure.reason : error; // else it is the package's own, which says nothing
  }
}

async function load(): Promise<ParquetWasm> {
  try {
    return await import(PACKAGE);
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new Error(
      `Parquet needs ${PACKAGE}, which cannot be loaded (${why}); write Arrow instead`,
    );
  }
}

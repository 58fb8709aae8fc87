/**
 * `./denow task kernels`: compiles the CPU kernels, `*.as.ts`, into kernels.wasm.base64. The file is committed, so that nobody needs the
 * compiler who only runs Lamina; a test compiles them again and compares the bytes.
 *
 * @module
 */
import asc from "npm:assemblyscript@0.28.20/asc";

/** The room's folder. */
const ROOM = new URL("./", import.meta.url);

/** A memory's size in pages of 64 KiB, always the whole 4 GiB: checks of bounds cost less where it cannot grow. Untouched pages cost nothing. */
const PAGES = "65536";

/**
 * Level 1: above it the optimizer nests what belongs to one sum, so that values that all sums share do not stay in registers. Products lose up
 * to a third by that.
 */
const OPTIONS = [
  ...["--enable", "simd", "--enable", "relaxed-simd", "--enable", "threads"],
  ...["--importMemory", "--sharedMemory", "--initialMemory", PAGES, "--maximumMemory", PAGES],
  ...["-O1", "--noAssert", "--runtime", "stub"],
];

/**
 * Compiles `program.as.ts` and what it imports.
 *
 * @param program another program's text in its place, as tests have
 * @returns the module's bytes
 * @throws {Error} with the compiler's messages
 */
export async function buildKernels(program?: string): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  let messages = "";
  const { error } = await asc.main(["program.as.ts", "--outFile", "kernels.wasm", ...OPTIONS], {
    stderr: { write: (text: string) => messages += text },
    // The compiler puts .ts behind what is imported; Deno wants it there in the first place.
    readFile: (name: string) =>
      name === "program.as.ts" && program !== undefined
        ? program
        : Deno.readTextFile(new URL(name.replace(/\.ts\.ts$/, ".ts"), ROOM)).catch(() => null),
    writeFile: (_name: string, content: string | Uint8Array) => {
      if (typeof content !== "string") bytes = Uint8Array.from(content);
    },
    listFiles: () => [],
  });
  if (error || !bytes) throw new Error(`Cannot compile the kernels: ${messages || error}`);
  return bytes;
}

/** As the file holds them: lines of 120 characters. */
export function base64Lines(bytes: Uint8Array): string {
  const lines = bytes.toBase64().match(/.{1,120}/g) ?? [];
  return lines.join("\n") + "\n";
}

if (import.meta.main) {
  const bytes = await buildKernels();
  await Deno.writeTextFile(new URL("kernels.wasm.base64", ROOM), base64Lines(bytes));
  console.log(`kernels.wasm.base64: ${bytes.length} bytes of WebAssembly`);
}

/**
 * What commands print. Deno's own ways give up with "Resource temporarily unavailable" where a pipe or a terminal is non-blocking, as
 * some programs leave theirs, and full; these wait for its reader, as they would at any other pipe.
 */

/** How often a full pipe is tried. */
const WAIT_MS = 5;

const encoder = new TextEncoder();

/** Prints a text on stdout as it is. */
export function printText(text: string): void {
  // Rust's stdout, to which Deno writes, has a buffer of 1024 bytes for what is no whole line. So of each of these pieces it is known
  // what a write that failed has taken: nothing of a line's end; all of another piece, which is in the buffer and goes with the next
  // write, be it of nothing.
  for (const [piece] of text.matchAll(/\n|[^\n]{1,250}/gu)) {
    const bytes = encoder.encode(piece);
    if (tryWrite(Deno.stdout, bytes) !== undefined) continue;
    const rest = piece === "\n" ? bytes : new Uint8Array();
    do wait(); while (tryWrite(Deno.stdout, rest) === undefined);
  }
}

/** Prints a text on stderr as it is. */
export function printErrorText(text: string): void {
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length;) {
    const written = tryWrite(Deno.stderr, bytes.subarray(at));
    if (written === undefined) wait();
    else at += written;
  }
}

/** Prints a line on stdout. */
export function printLine(line: string): void {
  printText(`${line}\n`);
}

/** Prints a line on stderr. */
export function printError(line: string): void {
  printErrorText(`${line}\n`);
}

/** The bytes that were written; undefined where that would have to be waited for. */
function tryWrite(
  to: { writeSync(bytes: Uint8Array): number },
  bytes: Uint8Array,
): number | undefined {
  try {
    return to.writeSync(bytes);
  } catch (error) {
    if (error instanceof Deno.errors.WouldBlock) return undefined;
    throw error;
  }
}

function wait(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
}

/** The notebook's kernel, where there is one: what of `Deno.jupyter` is used, and the mending of it. */

/** The forms of something on its way to a notebook, by MIME type. */
export type Bundle = Readonly<Record<string, unknown>>;

/** How things say what they look like in a notebook. */
export const DISPLAY: unique symbol = Symbol.for("Jupyter.display") as never;

/** The part of `Deno.jupyter` that is used. */
interface Jupyter {
  broadcast(type: string, content: Readonly<Record<string, unknown>>): void;
  format(value: unknown): Promise<Bundle>;
}

/** Undefined outside a notebook. */
const jupyter = findJupyter();

/** Whether this is a notebook's kernel. */
export const inNotebook: boolean = jupyter !== undefined;

/** Elsewhere even looking at `Deno.jupyter` throws. */
function findJupyter(): Jupyter | undefined {
  try {
    return (Deno as { readonly jupyter?: Jupyter }).jupyter;
  } catch {
    return undefined;
  }
}

/** Shows a bundle, or puts it in the place of the one that was shown under the same id. */
export function showBundle(id: string, data: Bundle, update: boolean, metadata: Bundle = {}): void {
  const content = { data, metadata, transient: { display_id: id } };
  leaving(() => jupyter?.broadcast(update ? "update_display_data" : "display_data", content));
}

/** What the kernel makes of any value: what it says itself, or its inspection as text. */
export async function format(value: unknown): Promise<Bundle> {
  return await jupyter!.format(value);
}

/** Until everything that was sent has probably left. */
let leavesAt = 0;

/** Sends something. Handing it over takes about a quarter of the time that its way out takes. */
function leaving(send: () => void): void {
  const started = performance.now();
  send();
  const sent = performance.now();
  leavesAt = Math.max(leavesAt, sent) + 4 * (sent - started);
}

/** What even the smallest output needs, in ms. */
const WAY_OUT = 40;

/** Waits until what was sent has left the kernel. */
export async function outputsLeft(): Promise<void> {
  const wait = Math.max(0, leavesAt - performance.now()) + WAY_OUT;
  await new Promise((resolve) => setTimeout(resolve, wait));
}

type BroadcastResult = (count: number, result: unknown) => Promise<void>;

/**
 * Deno 2.9's kernel may say that a cell has ended before the cell's outputs have left, which come from another thread; notebooks
 * then drop them (of one cell in three, on two cores). So that a cell ends a little later than its last output.
 */
export function keepOutputs(): void {
  const { internal } = Deno as unknown as { readonly internal: symbol };
  const internals = (Deno as unknown as Record<symbol, unknown>)[internal] as
    | { jupyter?: { broadcastResult?: BroadcastResult } }
    | undefined;
  const kernel = internals?.jupyter;
  const broadcastResult = kernel?.broadcastResult;
  if (!kernel || !broadcastResult) return;
  kernel.broadcastResult = async (count, result) => {
    const shown = result === undefined ? undefined : await formatted(result);
    const started = performance.now();
    await broadcastResult(count, shown);
    leavesAt = Math.max(leavesAt, started) + 4 * (performance.now() - started);
    await outputsLeft();
  };
}

/** A value that has its bundle at hand, so that sending it is all that takes time. */
async function formatted(value: unknown): Promise<unknown> {
  try {
    const bundle = await format(value);
    return { [DISPLAY]: () => bundle };
  } catch (error) {
    return {
      [DISPLAY]() {
        throw error;
      },
    };
  }
}

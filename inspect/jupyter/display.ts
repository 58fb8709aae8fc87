/** Something in a notebook's cell that is drawn over in place. */
import { type Bundle, DISPLAY, format, inNotebook, outputsLeft, showBundle } from "./kernel.ts";

/** No more than five times a second, and no more than a quarter of the time. */
const REDRAW_MS = 200;
const LARGEST_SHARE = 0.25;
/** What is not updated for this long gets its picture. */
const SETTLED_MS = 1_000;

/**
 * A place in a notebook's output that shows one thing after the other: a figure, a table, a text, or anything else that a cell's
 * last line would show.
 *
 * Updates are cheap: at most five a second are drawn, the others are skipped, and figures come without their static picture. `done`
 * shows the last one whole, so that the saved notebook has a picture too. Outside a notebook nothing is shown.
 */
export class Display {
  readonly #id = crypto.randomUUID();
  #next: { readonly value: unknown } | undefined;
  #last: { readonly value: unknown } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drawing: Promise<void> | undefined;
  #drawnAt = -Infinity;
  #interval = REDRAW_MS;
  #failed: { readonly error: unknown } | undefined;
  #shown = false;

  /**
   * Shows something else from now on.
   *
   * @param value what to show; a function is called for it when it is drawn, so not at all for updates that are skipped
   * @throws what an earlier function threw
   */
  update(value: unknown): void {
    this.#throwFailure();
    if (!inNotebook) return;
    this.#next = { value };
    this.#schedule();
  }

  /**
   * Shows the last value whole, with its picture. To be awaited, once, when no more updates come.
   *
   * @param value replaces the last update's
   * @throws what a function that was to be drawn threw
   */
  async done(value?: unknown): Promise<void> {
    if (!inNotebook) return;
    if (value !== undefined) this.#next = { value };
    await this.#drawing;
    clearTimeout(this.#timer);
    this.#next ??= this.#last;
    if (this.#next) await (this.#drawing = this.#draw(true));
    this.#throwFailure();
    await outputsLeft();
  }

  #throwFailure(): void {
    const failed = this.#failed;
    this.#failed = undefined;
    if (failed) throw failed.error;
  }

  #schedule(): void {
    if (this.#drawing || !this.#next) return;
    clearTimeout(this.#timer);
    const wait = this.#drawnAt + this.#interval - performance.now();
    if (wait <= 0) this.#drawing = this.#draw(false);
    else this.#timer = setTimeout(() => this.#drawing = this.#draw(false), wait);
  }

  async #draw(picture: boolean): Promise<void> {
    this.#last = this.#next;
    this.#next = undefined;
    const started = performance.now();
    try {
      showBundle(this.#id, await bundleOf(this.#last!.value, picture), this.#shown);
      this.#shown = true;
    } catch (error) {
      this.#failed = { error };
    }
    this.#drawnAt = performance.now();
    this.#interval = Math.max(REDRAW_MS, (this.#drawnAt - started) / LARGEST_SHARE);
    this.#drawing = undefined;
    if (this.#next) this.#schedule();
    // Shown whole, it is not needed any more: the kernel keeps each cell's last value, which may be this display.
    else if (picture) this.#last = undefined;
    // For loops that end without `done`.
    else this.#timer = setTimeout(() => this.#settle(), SETTLED_MS);
  }

  #settle(): void {
    this.#next = this.#last;
    this.#drawing = this.#draw(true);
  }
}

/**
 * Shows something in a notebook's cell, in a place of its own that can be updated.
 *
 * ```ts
 * import { attentionMap, display, loadModel } from "../../mod.ts";
 * const model = await loadModel("tiny");
 * const generation = model.generate("Once upon a time", { capture: "blk.3.attn_probs" });
 * const view = await display("…");
 * for await (const _ of generation) {
 *   view.update(() => attentionMap(generation.run, { layer: 3, head: 2 }));
 * }
 * await view.done();
 * model.dispose();
 * ```
 *
 * @param value what a cell's last line would show; a function is called for it
 */
export async function display(value?: unknown): Promise<Display> {
  const view = new Display();
  if (value !== undefined) await view.done(value);
  return view;
}

/** What a value looks like. */
async function bundleOf(value: unknown, picture: boolean): Promise<Bundle> {
  const shown = typeof value === "function" ? await value() : value;
  if (typeof shown === "string") return { "text/plain": shown };
  const own = (shown as { [DISPLAY]?: (options: { picture: boolean }) => Bundle } | null)
    ?.[DISPLAY];
  return own ? await own.call(shown, { picture }) : await format(shown);
}

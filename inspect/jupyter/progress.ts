/** A progress bar in a notebook's cell. */
import { formatDuration } from "../format.ts";
import { Meter } from "../meter.ts";
import { escapeHtml } from "../escape.ts";
import type { ProgressBar } from "../work.ts";
import { outputsLeft, showBundle } from "./kernel.ts";

/** What is done this soon needs no progress. */
const PATIENCE_MS = 500;
const REDRAW_MS = 200;
/** Larger numbers are shares of something that nobody counts: bytes. */
const MOST_COUNTED = 10_000;

/** Marks an output, in its metadata, as progress: it has the time in it, so that it is not committed. */
export const PROGRESS = "lamina_progress";

/** A bar that is drawn over, and comes after half a second, whether anything was told by then or not; at its end a line of text stays. */
export function progressBar(name: string): ProgressBar {
  const id = crypto.randomUUID();
  const started = performance.now();
  let meter = new Meter(started);
  let latest: { done: number; total?: number; what?: string } = { done: 0 };
  let shownAt: number | undefined;

  function show(html: string, text: string, update: boolean): void {
    showBundle(id, { "text/html": html, "text/plain": text }, update, { [PROGRESS]: true });
  }

  function draw(): void {
    const now = performance.now();
    const { done, total, what } = latest;
    const share = total ? Math.min(1, done / total) : undefined;
    const rate = meter.rate(done, now);
    const figures: string[] = [];
    if (what) figures.push(what);
    if (share !== undefined && total !== undefined) {
      figures.push(
        total > MOST_COUNTED ? `${Math.floor(share * 100)} %` : `${done} of ${total}`,
      );
      if (rate && done < total) figures.push(`${formatDuration((total - done) / rate)} left`);
    }
    const text = [name, figures.join(", ")].filter((each) => each).join(": ");
    show(barHtml(text, share), text, shownAt !== undefined);
    shownAt = now;
  }

  const timer = setTimeout(draw, PATIENCE_MS);
  return {
    update(done, total, what) {
      const now = performance.now();
      // Another part has another pace.
      if (what !== latest.what && total !== latest.total) meter = new Meter(now);
      latest = { done, total, what };
      meter.add(done, now);
      if (now - (shownAt ?? started + PATIENCE_MS - REDRAW_MS) >= REDRAW_MS) draw();
    },
    async finish(how) {
      clearTimeout(timer);
      // What went well needs no line: only what the cell was for stays.
      const text = how === "done" ? "" : `${name}: ${how}`;
      if (shownAt !== undefined) show(text && lineHtml(text), text, true);
      if (how !== "done") await outputsLeft();
    },
  };
}

const LINE = "font-size:13px;line-height:1.5;font-variant-numeric:tabular-nums;opacity:.75";

function lineHtml(text: string): string {
  return `<div style="${LINE}">${escapeHtml(text)}</div>`;
}

/** In the page's own colours, for light and dark notebooks. Without a share the bar is empty. */
function barHtml(text: string, share = 0): string {
  const track = "width:280px;height:6px;border-radius:3px;overflow:hidden;margin:5px 0 1px;" +
    "background:color-mix(in srgb, currentColor 14%, transparent)";
  const bar = `width:${(share * 100).toFixed(1)}%;height:100%;background:#0072b2`;
  return `<div style="${track}"><div style="${bar}"></div></div>${lineHtml(text)}`;
}

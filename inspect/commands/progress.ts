import type { LoadPhase } from "../run/loading.ts";
import { Meter } from "../meter.ts";
import { formatBytes, formatBytesOf, formatDuration } from "../format.ts";
import { printErrorText } from "./print.ts";
import { printable } from "../escape.ts";

/** How progress is shown; what is left out is taken from the process. */
export interface ProgressOptions {
  /** Shows nothing: for `--json`. */
  readonly quiet?: boolean;
  /** Whether lines can be drawn over: stderr is a terminal. */
  readonly terminal?: boolean;
  /** Width of the terminal in columns. */
  readonly columns?: number;
  /** Where it goes: stderr. */
  readonly write?: (text: string) => void;
  /** The time in milliseconds. */
  readonly now?: () => number;
}

/** Shows how far something got. */
export interface Progress {
  /** Can be handed on as a listener: it needs no `this`. `total` may be unknown. */
  readonly update: (done: number, total?: number) => void;
  /** Ends the line. To be called whatever happens; what comes after it starts a new line. */
  readonly finish: () => void;
}

/** What is done this soon needs no progress. */
const PATIENCE_MS = 500;
const REDRAW_MS = 100;
const NOTICE_MS = 1_000;
/** Plain lines come once per this share of the whole, or this often where that is unknown. */
const LINE_SHARE = 0.1;
const LINE_MS = 10_000;
const BAR_COLUMNS = 10;
const CLEAR_LINE = "\x1b[K";

/**
 * Shows bytes, rate and time left on stderr: a line that is drawn over on a terminal, else a plain
 * line about every tenth part. Of what is done within half a second nothing is shown.
 *
 * @param what goes on: `pulling smollm2-135m`
 */
export function createProgress(what: string, options: ProgressOptions = {}): Progress {
  if (options.quiet) return { update() {}, finish() {} };
  const label = printable(what);
  const { terminal, columns, write, now } = withDefaults(options);
  const meter = new Meter(now());
  let shownAt = -Infinity;
  let shownDone = 0;
  let open = false; // an unfinished line is on the terminal
  let last: [number, number | undefined] | undefined;

  function draw(done: number, total: number | undefined, time: number): void {
    const figures = progressFigures(done, total, meter.rate(done, time));
    if (terminal) {
      const bar = total === undefined ? ":" : ` ${progressBar(done, total)}`;
      write(`\r${`${label}${bar} ${figures}`.slice(0, columns - 1)}${CLEAR_LINE}`);
    } else {
      write(`${label}: ${figures}\n`);
    }
    open = terminal;
    shownAt = time;
    shownDone = done;
    last = undefined;
  }

  return {
    update(done, total) {
      const time = now();
      meter.add(done, time);
      if (time - meter.start < PATIENCE_MS) return;
      last = [done, total];
      const complete = total !== undefined && done >= total && shownDone < total;
      const due = terminal
        ? time - shownAt >= REDRAW_MS
        : total === undefined
        ? time - Math.max(shownAt, meter.start) >= LINE_MS
        : done - shownDone >= LINE_SHARE * total;
      if (due || complete) draw(done, total, time);
    },
    finish() {
      if (terminal && last !== undefined) draw(...last, now());
      if (open) write("\n");
      open = false;
    },
  };
}

/** Shows what goes on while a model is loaded: can be spread into the options of loading. */
export interface LoadProgress {
  readonly onProgress: (phase: LoadPhase, done: number, total?: number) => void;
  readonly onWait: () => void;
  /** To be called whatever happens. */
  readonly finish: () => void;
}

/**
 * Shows how far loading a model got, each phase under its own name. Kernels are checked only once on a device, so of that there
 * is a single line, where it takes long.
 */
export function createLoadProgress(model: string, options: ProgressOptions = {}): LoadProgress {
  const begin: Record<LoadPhase, () => Progress> = {
    pull: () => createProgress(`pulling ${model}`, options),
    load: () => createProgress(`loading ${model}`, options),
    check: () => createNotice("checking the GPU's kernels (first time on this device)", options),
    tune: () => createNotice("timing the GPU's kernels (first time on this device)", options),
  };
  let phase: LoadPhase | undefined;
  let progress: Progress | undefined;
  return {
    onProgress(next, done, total) {
      if (phase !== next) {
        progress?.finish();
        progress = begin[phase = next]();
      }
      progress!.update(done, total);
    },
    onWait() {
      const line = `waiting for another process to pull ${model}\n`;
      if (!options.quiet) withDefaults(options).write(line);
    },
    finish: () => progress?.finish(),
  };
}

/**
 * Says one thing, once, about what takes longer than a second. Drivers compile while a pipeline is made, when no timer runs, or
 * while it runs for the first time, when nobody calls `update`.
 */
function createNotice(line: string, options: ProgressOptions): Progress {
  if (options.quiet) return { update() {}, finish() {} };
  const { write, now } = withDefaults(options);
  const start = now();
  let said = false;
  const say = () => {
    if (!said) write(`${line}\n`);
    said = true;
  };
  const timer = setTimeout(say, NOTICE_MS);
  return {
    update() {
      if (now() - start >= NOTICE_MS) say();
    },
    finish: () => clearTimeout(timer),
  };
}

/** Shows what goes on. */
export interface Status {
  readonly update: (text: string) => void;
  /** Takes the line away. To be called whatever happens. */
  readonly finish: () => void;
}

/** Shows what goes on, on stderr: in a line that is drawn over on a terminal, else in a plain line every ten seconds. */
export function createStatus(options: ProgressOptions = {}): Status {
  if (options.quiet) return { update() {}, finish() {} };
  const { terminal, columns, write, now } = withDefaults(options);
  let shownAt = now();
  return {
    update(text) {
      const line = printable(text);
      if (terminal) {
        write(`\r${line.slice(0, columns - 1)}${CLEAR_LINE}`);
      } else if (now() - shownAt >= LINE_MS) {
        write(`${line}\n`);
        shownAt = now();
      }
    },
    finish() {
      if (terminal) write(`\r${CLEAR_LINE}`);
    },
  };
}

function withDefaults(options: ProgressOptions): Required<Omit<ProgressOptions, "quiet">> {
  const { terminal = Deno.stderr.isTerminal() } = options;
  return {
    terminal,
    columns: terminal ? terminalColumns() : 80,
    write: printErrorText,
    now: () => performance.now(),
    ...options,
  };
}

function progressFigures(
  done: number,
  total: number | undefined,
  rate: number | undefined,
): string {
  const figures: string[] = [];
  if (total === undefined) {
    figures.push(formatBytes(done));
  } else {
    figures.push(`${Math.floor(share(done, total) * 100)} %`, formatBytesOf(done, total));
  }
  if (rate !== undefined) figures.push(`${formatBytes(Math.round(rate))}/s`);
  if (rate !== undefined && total !== undefined && done < total) {
    figures.push(`${formatDuration((total - done) / rate)} left`);
  }
  return figures.join(", ");
}

function progressBar(done: number, total: number): string {
  const full = Math.floor(share(done, total) * BAR_COLUMNS);
  return `[${"#".repeat(full)}${"-".repeat(BAR_COLUMNS - full)}]`;
}

function share(done: number, total: number): number {
  return total > 0 ? Math.min(1, done / total) : 1;
}

function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80; // stdout is no terminal
  }
}

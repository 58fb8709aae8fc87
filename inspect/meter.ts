/** The rate is that of about the last seconds. */
const RATE_MS = 3_000;
const SAMPLE_MS = 50;

/** How much is done per second, smoothed. */
export class Meter {
  readonly start: number;
  #samples: { done: number; time: number }[] = [];

  constructor(start: number) {
    this.start = start;
  }

  add(done: number, time: number): void {
    // A pull that starts again counts backwards: what was before says nothing.
    const latest = this.#samples.at(-1);
    if (latest !== undefined && done < latest.done) this.#samples = [];
    else if (latest !== undefined && time - latest.time < SAMPLE_MS) return;
    this.#samples.push({ done, time });
    while (this.#samples.length > 2 && time - this.#samples[1].time >= RATE_MS) {
      this.#samples.shift();
    }
  }

  /** Undefined while nothing can be said. */
  rate(done: number, time: number): number | undefined {
    const first = this.#samples[0];
    if (first === undefined || time <= first.time || done <= first.done) return undefined;
    return (done - first.done) / (time - first.time) * 1000;
  }
}

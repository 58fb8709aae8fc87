/** How long what others use is there: a model's weights, a session's buffers. */

/** What can be disposed of. */
export type Owner = "model" | "session" | "step run";

/** Something was asked of a model, or of a session of it, that has been given back. */
export class DisposedError extends Error {
  /** The class's name. */
  override readonly name = "DisposedError";
  /**
   * Thrown by whatever is asked of it afterwards.
   *
   * @param asked what was asked: `run`, `share it`
   * @param owner what had been given back
   */
  constructor(readonly asked: string, readonly owner: Owner = "model") {
    super(
      `Cannot ${asked}: the ${owner} was disposed` + (owner === "model" ? "; load it again" : ""),
    );
  }
}

/**
 * Counts the work that holds something. Once it has ended nothing new begins; what had begun finishes, and then it is freed.
 * Lifetimes nest: one that ends takes those within along, and is freed after them.
 */
export class Lifetime {
  readonly #owner: Owner;
  readonly #free: () => void;
  readonly #outer: Lifetime | undefined;
  readonly #inner = new Set<Lifetime>();
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.abandon();
  #working = 0;
  #endedBy: Owner | undefined;
  #abandoned = false;
  #freed = false;

  /** @param signal abandons it; what is asked of it afterwards fails with the signal's reason */
  constructor(owner: Owner, free: () => void, outer?: Lifetime, signal?: AbortSignal) {
    this.#owner = owner;
    this.#free = free;
    this.#outer = outer;
    this.#signal = signal;
    if (outer) outer.#inner.add(this);
    signal?.addEventListener("abort", this.#onAbort);
  }

  /** @throws {DisposedError} once it has ended */
  check(asked: string): void {
    this.#signal?.throwIfAborted();
    if (this.#endedBy) throw new DisposedError(asked, this.#endedBy);
  }

  /** For work in several parts: @throws {DisposedError} when nobody waits for it any more */
  checkAbandoned(asked: string): void {
    this.#signal?.throwIfAborted();
    if (this.#abandoned) throw new DisposedError(asked, this.#endedBy);
  }

  /**
   * Does work that needs it.
   *
   * @throws {DisposedError} once it has ended
   */
  async use<T>(asked: string, work: () => Promise<T>): Promise<T> {
    this.check(asked);
    this.#working++;
    try {
      return await work();
    } finally {
      this.#working--;
      this.#freeWhenIdle();
    }
  }

  /** Lets nothing new begin. */
  end(): void {
    this.#end(this.#owner);
  }

  /** Ends it, and stops what had begun at its next part: nobody waits for it any more. */
  abandon(): void {
    this.#abandon();
    this.#end(this.#owner);
  }

  #end(by: Owner): void {
    this.#endedBy ??= by;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    for (const inner of [...this.#inner]) inner.#end(by);
    this.#freeWhenIdle();
  }

  #abandon(): void {
    this.#abandoned = true;
    for (const inner of this.#inner) inner.#abandon();
  }

  #freeWhenIdle(): void {
    const idle = this.#working === 0 && this.#inner.size === 0;
    if (!this.#endedBy || !idle || this.#freed) return;
    this.#freed = true;
    this.#free();
    if (!this.#outer) return;
    this.#outer.#inner.delete(this);
    this.#outer.#freeWhenIdle();
  }
}

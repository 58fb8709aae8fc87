/** Probes: what they are on every device. */

/** Measures something of the device. The first time all variants are tried; the best of them is measured from then on. */
export interface Probe {
  /** A figure, in the unit of whoever made the probe. */
  measure(): Promise<number>;
  /** The best variant; undefined before it was measured. */
  readonly variant: string | undefined;
  /** Frees what is its own. */
  dispose(): void;
}

/** A probe that is shown as it is. */
export interface NamedProbe {
  readonly what: string;
  readonly unit: "µs" | "ms";
  readonly probe: Probe;
}

/** Something that was not measured, and why. */
export interface NotMeasured {
  readonly name: string;
  readonly problem: string;
}

/** The probes of what a model runs on: of a GPU, or of the processor. */
export interface DeviceProbes extends Disposable {
  /** The best streaming read, in GB/s (10⁹ bytes). */
  readonly read: Probe;
  /** The best plain f32 products, in GFLOP/s (a multiplication and an addition are two), in the order of the shapes that they were made for. */
  readonly products: readonly Probe[];
  /** What else a pass pays for here. */
  readonly others: readonly NamedProbe[];
  /** What only another kind of device has. */
  readonly missing: readonly NotMeasured[];
}

/** One way to do it. */
export interface Variant {
  readonly name: string;
  /** Milliseconds of a few times in a row. */
  times(): Promise<readonly number[]>;
}

/** The best of some variants. */
export class BestProbe implements Probe {
  #best: Variant | undefined;

  constructor(
    /** Made ready when they are first needed. */
    readonly variants: () => readonly Variant[],
    /** The figure from milliseconds: more is better. */
    readonly figure: (ms: number) => number,
    readonly dispose: () => void = () => {},
  ) {}

  get variant(): string | undefined {
    return this.#best?.name;
  }

  async measure(): Promise<number> {
    if (this.#best) return this.figure(await least(this.#best));
    let fastest = Infinity;
    for (const variant of this.variants()) {
      // The first time code is compiled, and memory is touched.
      await variant.times();
      const ms = await least(variant);
      if (ms < fastest) [fastest, this.#best] = [ms, variant];
    }
    return this.figure(fastest);
  }
}

/** Of a few times in a row: it is the device's limit, whatever else the machine does. */
async function least(variant: Variant): Promise<number> {
  return Math.min(...await variant.times());
}

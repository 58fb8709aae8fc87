/** A model's speed as a share of what its device can do. */
import type { Config } from "../../engine/model/config.ts";
import type { ProductShape } from "../../kernels/probes/probes.ts";
import type { Model } from "../run/model.ts";
import type { Bars } from "./bars.ts";
import type { BenchRow } from "./bench_row.ts";
import { deviceProbes, type ProbeOptions } from "./device_probes.ts";
import type { DeviceProbes, NotMeasured } from "./probe.ts";
import { profileModel } from "./profile.ts";
import { ratios, type Sample, spread } from "./rounds.ts";

/** The products of each layer's weights with so many positions, as the plan fuses them. */
export function layerProducts(config: Config, positions: number): ProductShape[] {
  const { width, ffnWidth, heads, kvHeads, headWidth } = config;
  return [
    { positions, rows: (heads + 2 * kvHeads) * headWidth, columns: width },
    { positions, rows: width, columns: heads * headWidth },
    { positions, rows: 2 * ffnWidth, columns: width },
    { positions, rows: width, columns: ffnWidth },
  ];
}

function flops({ positions, rows, columns }: ProductShape): number {
  return 2 * positions * rows * columns;
}

/** A model held against the probes of its device. */
export class DeviceShare implements Disposable {
  readonly #model: Model;
  readonly #positions: number;
  readonly #shapes: readonly ProductShape[];
  readonly #probes: DeviceProbes;
  /** Bytes of weights that a token reads, as they lie on the device. */
  #weightBytes = 0;

  /** @param positions of the prompt */
  constructor(model: Model, positions: number, options: ProbeOptions) {
    this.#model = model;
    this.#positions = positions;
    this.#shapes = layerProducts(model.config, positions);
    this.#probes = deviceProbes(model, this.#shapes, options);
  }

  /** What is taken beside decoding. */
  get decodeSamples(): Sample[] {
    return [
      async () => ({ "device read": await this.#probes.read.measure() }),
      async () => {
        const figures: Record<string, number> = {};
        for (const { what, probe } of this.#probes.others) figures[what] = await probe.measure();
        return figures;
      },
    ];
  }

  /** What is taken beside the prompt. */
  get prefillSamples(): Sample[] {
    return [
      async () => {
        let [ms, all] = [0, 0];
        for (const [i, shape] of this.#shapes.entries()) {
          all += flops(shape);
          ms += flops(shape) / await this.#probes.products[i].measure() / 1e6;
        }
        const { layers } = this.#model.config;
        return { "device products": layers * ms, "device gflops": all / ms / 1e6 };
      },
      async () => {
        const profile = await profileModel(this.#model, this.#positions);
        this.#weightBytes = profile.decode.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
        const products = profile.prefill.filter(({ flops, name }) =>
          flops > 0 && name !== "logits"
        );
        return { "prefill products": products.reduce((sum, { ms }) => sum + ms, 0) };
      },
    ];
  }

  /** What was not measured. */
  get missing(): readonly NotMeasured[] {
    return this.#probes.missing;
  }

  /**
   * The lines.
   *
   * @param decode milliseconds per token after a short context, in each round
   * @param prefill milliseconds of a prompt of as many tokens as the probes were made for
   */
  rows(
    of: (name: string) => readonly number[],
    decode: readonly number[],
    prefill: readonly number[],
    bars: Bars,
  ): BenchRow[] {
    const { read, products, others } = this.#probes;
    const rates = decode.map((ms) => this.#weightBytes / ms / 1e6);
    const share = percent(rates, of("device read"));
    const variants = [...new Set(products.map(({ variant }) => variant))].join("; ");
    return [
      {
        section: "against the device",
        what: "weights read while decoding, of the streaming read",
        ...{ unit: "%", ...share, atLeast: bars.read },
        note: share.note ?? `${spread(rates).median.toPrecision(3)} GB/s`,
      },
      {
        section: "against the device",
        what: `prefill, ${this.#positions} tokens, of plain f32 products of its shapes`,
        ...{ unit: "%", ...percent(of("device products"), prefill), atLeast: bars.products },
      },
      {
        ...{ section: "against the device", what: "its products alone, of the same" },
        ...{ unit: "%", ...percent(of("device products"), of("prefill products")) },
      },
      {
        ...{ section: "device", what: "streaming read", unit: "GB/s" },
        ...{ ...spread(of("device read")), note: read.variant },
      },
      {
        ...{ section: "device", what: "f32 matrix products", unit: "GFLOP/s" },
        ...{ ...spread(of("device gflops")), note: variants },
      },
      ...others.map(({ what, unit }): BenchRow => ({
        ...{ section: "device", what, unit },
        ...spread(of(what)),
      })),
    ];
  }

  [Symbol.dispose](): void {
    this.#probes[Symbol.dispose]();
  }
}

/** Shares in percent; of more than all of a limit there is a note: then it is none. */
function percent(parts: readonly number[], wholes: readonly number[]) {
  const shares = spread(ratios(parts, wholes).map((share) => 100 * share));
  const note = shares.median > 100 ? "faster than the probe, which is no limit then" : undefined;
  return { ...shares, note };
}

/** A model's speed as a share of what its device can do. */
import type { Config } from "../../engine/model/config.ts";
import type { Device } from "../../engine/webgpu/device.ts";
import type { ProductShape } from "../../kernels/probes/probes.ts";
import type { Model } from "../run/model.ts";
import { dispatchProbe, type Probe, productProbe, readBackProbe, readProbe } from "./probes.ts";
import { profileModel } from "./profile.ts";
import { ratios, type Sample, spread } from "./rounds.ts";
import type { BenchRow } from "./bench_row.ts";

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

/** The probes of a device for a model. */
export class DeviceShare implements Disposable {
  readonly #model: Model;
  readonly #positions: number;
  readonly #shapes: readonly ProductShape[];
  readonly #read: Probe;
  readonly #products: readonly Probe[];
  readonly #dispatch: Probe;
  readonly #readBack: Probe;
  /** Bytes of weights that a token reads, as they lie on the device. */
  #weightBytes = 0;

  /**
   * @param positions of the prompt
   * @param bytes that the read probe reads
   */
  constructor(model: Model, device: Device, positions: number, bytes: number) {
    const { info } = device;
    this.#model = model;
    this.#positions = positions;
    this.#shapes = layerProducts(model.config, positions);
    const subgroup = info.subgroupSize || 32;
    this.#read = readProbe(device, subgroup, bytes);
    this.#products = this.#shapes.map((shape) => productProbe(device, shape));
    this.#dispatch = dispatchProbe(device);
    this.#readBack = readBackProbe(device.gpu);
  }

  /** What is taken beside decoding. */
  get decodeSamples(): Sample[] {
    return [
      async () => ({ "device read": await this.#read.measure() }),
      async () => ({
        "device dispatch": await this.#dispatch.measure(),
        "device read-back": await this.#readBack.measure(),
      }),
    ];
  }

  /** What is taken beside the prompt. */
  get prefillSamples(): Sample[] {
    return [
      async () => {
        let [ms, all] = [0, 0];
        for (const [i, shape] of this.#shapes.entries()) {
          all += flops(shape);
          ms += flops(shape) / await this.#products[i].measure() / 1e6;
        }
        const { layers } = this.#model.config;
        return { "device products": layers * ms, "device gflops": all / ms / 1e6 };
      },
      async (): Promise<Record<string, number>> => {
        const profile = await profileModel(this.#model, this.#positions);
        if (!profile) return {};
        this.#weightBytes = profile.decode.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
        const products = profile.prefill.filter(({ flops, name }) =>
          flops > 0 && name !== "logits"
        );
        return { "prefill products": products.reduce((sum, { ms }) => sum + ms, 0) };
      },
    ];
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
  ): BenchRow[] {
    const read = of("device read");
    const bytes = this.#weightBytes;
    const rates = decode.map((ms) => bytes / ms / 1e6);
    const percent = (parts: readonly number[], wholes: readonly number[]) => {
      const shares = spread(ratios(parts, wholes).map((share) => 100 * share));
      // More than all of a limit: then it is none.
      const note = shares.median > 100
        ? "faster than the probe, which is no limit then"
        : undefined;
      return { ...shares, note };
    };
    const variants = [...new Set(this.#products.map(({ variant }) => variant))].join("; ");
    return [
      {
        ...{
          section: "against the device",
          what: "weights read while decoding, of the streaming read",
        },
        ...{ unit: "%", ...percent(rates, read), atLeast: this.#leastOfRead() },
        ...(percent(rates, read).note
          ? {}
          : { note: `${spread(rates).median.toPrecision(3)} GB/s` }),
      },
      {
        section: "against the device",
        what: `prefill, ${this.#positions} tokens, of plain f32 products of its shapes`,
        ...{ unit: "%", ...percent(of("device products"), prefill), atLeast: 70 },
      },
      {
        section: "against the device",
        what: `its products alone, of the same`,
        ...{ unit: "%", ...percent(of("device products"), of("prefill products")) },
      },
      {
        ...{ section: "device", what: "streaming read", unit: "GB/s", ...spread(read) },
        note: this.#read.variant,
      },
      {
        ...{ section: "device", what: "f32 matrix products", unit: "GFLOP/s" },
        ...{ ...spread(of("device gflops")), note: variants },
      },
      { section: "device", what: "empty dispatch", unit: "µs", ...spread(of("device dispatch")) },
      { section: "device", what: "read-back", unit: "ms", ...spread(of("device read-back")) },
    ];
  }

  /** What of the streaming read is to be reached: where arithmetic is slow it counts too. */
  #leastOfRead(): number {
    const { fallback = false } = this.#model.device ?? {};
    const types = [...this.#model.loaded.file.tensors.values()]
      .filter(({ shape }) => shape.length > 1).map(({ type }) => type.blockSize > 1);
    const quantized = types.filter((is) => is).length > types.length / 2;
    return fallback ? (quantized ? 35 : 60) : (quantized ? 70 : 80);
  }

  [Symbol.dispose](): void {
    for (const probe of [this.#read, ...this.#products, this.#dispatch, this.#readBack]) {
      probe.dispose();
    }
  }
}

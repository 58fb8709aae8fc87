/** Quantized weights that are read wrongly. */
import type { Cause } from "../../../../checkpoints/diagnosis/causes.ts";
import { type EngineFault, type Faults, seen } from "../fault.ts";
import { TYPED_WEIGHTS, WRONG_READINGS } from "../block_layouts.ts";
import { misread, weight } from "./mistakes.ts";
import type { Mistakes } from "../../engines/engine_mistakes.ts";

const ON = { on: ["mixed"] } as const;

/** Where the weight of a type shows. */
function seenIn(type: keyof typeof TYPED_WEIGHTS, also: readonly Cause[] = []) {
  const [, checkpoint, point] = TYPED_WEIGHTS[type];
  return { ...ON, ...seen(checkpoint, point, "block-layout", ...also) };
}

/** A number added to each, by its block: what an offset that is left out adds. */
function offset(
  type: keyof typeof TYPED_WEIGHTS,
  bytes: number,
  size: number,
  by: (view: DataView, inBlock: number, right: number) => number,
): Mistakes {
  const name = `${TYPED_WEIGHTS[type][0]}.weight`;
  return {
    weight(each, right, layer) {
      const changed = weight(name, (data) => {
        const { stored } = right;
        const view = (i: number) =>
          new DataView(
            stored!.bytes.buffer,
            stored!.bytes.byteOffset + Math.floor(i / size) * bytes,
          );
        return data.map((w, i) => w + by(view(i), i % size, w));
      });
      return changed.weight!(each, right, layer);
    },
  };
}

export const BLOCKS: Faults<EngineFault> = {
  ...Object.fromEntries(
    Object.entries(WRONG_READINGS).map(([name, { type, change, also = [] }]) => [
      name,
      { make: () => misread(`${TYPED_WEIGHTS[type][0]}.weight`, change), ...seenIn(type, also) },
    ]),
  ),
  "Q4_0's offset of 8 left out": {
    make: () => offset("Q4_0", 18, 32, (view) => 8 * view.getFloat16(0, true)),
    ...seenIn("Q4_0"),
  },
  "Q5_0's offset of 16 left out": {
    make: () => offset("Q5_0", 22, 32, (view) => 16 * view.getFloat16(0, true)),
    ...seenIn("Q5_0"),
  },
  "Q8_0's numbers as unsigned": {
    make: () =>
      offset(
        "Q8_0",
        34,
        32,
        (view, i) => view.getInt8(2 + i) < 0 ? 256 * view.getFloat16(0, true) : 0,
      ),
    ...seenIn("Q8_0"),
  },
  "Q6_K's offset of 32 left out": {
    make: () =>
      offset(
        "Q6_K",
        210,
        256,
        (view, i) => 32 * view.getInt8(192 + Math.floor(i / 16)) * view.getFloat16(208, true),
      ),
    ...seenIn("Q6_K"),
  },
  "Q8_0's scale left out": {
    make: () => offset("Q8_0", 34, 32, (view, i, w) => view.getInt8(2 + i) / 127 - w),
    ...seenIn("Q8_0"),
  },
};

/** Caches of keys and values that do not hold what was computed. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import { e4m3, made, madeDecoding, slots, toBits } from "./mistakes.ts";

const K = seen("3", "cache_k", "cache-slot");
const V = seen("3", "cache_v", "cache-slot");
const DECODING = { step: 1 } as const;

export const CACHES: Faults<EngineFault> = {
  "decoding overwrites the newest slot": {
    make: ({ shape }) =>
      slots(shape, "cache_k", (slot, { start }) => start > 0 && slot === start - 1 ? start : slot),
    ...K,
    ...DECODING,
  },
  "decoding overwrites the newest slot of V": {
    make: ({ shape }) =>
      slots(shape, "cache_v", (slot, { start }) => start > 0 && slot === start - 1 ? start : slot),
    ...V,
    ...DECODING,
  },
  "decoding writes one slot early": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_k",
        (slot, { start }) =>
          start === 0 || slot < start - 1 ? slot : slot === start - 1 ? start : undefined,
      ),
    ...K,
    ...DECODING,
  },
  "decoding writes one slot late": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_k",
        (slot, { start }) => start > 0 && slot === start ? undefined : slot,
      ),
    ...seen("3", "cache_k", "cache-slot", "zeros"),
    ...DECODING,
  },
  "the prompt's V goes one slot too far": {
    make: ({ shape }) =>
      slots(shape, "cache_v", (slot, { start }) => start > 0 ? slot : Math.max(0, slot - 1)),
    ...seen("3", "cache_v", "cache-slot", "position-offset"),
  },
  "the second token's slot holds the first one's": {
    make: ({ shape, model }) =>
      slots(
        shape,
        "cache_k",
        (slot) => slot === model.ids.length + 1 ? model.ids.length : slot,
      ),
    ...K,
    step: 2,
  },
  "all slots move down by one while decoding": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_k",
        (slot, { start }) => start > 0 && slot < start - 1 ? slot + 1 : slot,
      ),
    ...K,
    ...DECODING,
  },
  "decoding writes slot 0": {
    make: ({ shape }) =>
      slots(shape, "cache_k", (slot, { start }) => start > 0 && slot === 0 ? start : slot),
    ...K,
    ...DECODING,
  },
  "slots of V that the window has left are reused while decoding": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_v",
        (slot, { start }) => start > 0 && slot === start % 16 ? start : slot,
      ),
    ...V,
    ...DECODING,
  },
  "the prompt is forgotten when decoding begins": {
    make: ({ shape }) =>
      slots(shape, "cache_k", (slot, { start }) => slot < start ? undefined : slot),
    ...seen("3", "cache_k", "cache-slot", "zeros"),
    ...DECODING,
  },
  "the last token of the prompt is not stored": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_v",
        (slot, { start, count }) => start === 0 && slot === count - 1 ? undefined : slot,
      ),
    ...seen("3", "cache_v", "cache-slot", "zeros"),
  },
  "two tokens of the prompt in each other's slots": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_k",
        (slot, { start }) => start > 0 ? slot : slot === 20 ? 21 : slot === 21 ? 20 : slot,
      ),
    ...K,
  },
  "the prompt is stored backwards": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_v",
        (slot, { start, count }) => start > 0 ? slot : count - 1 - slot,
      ),
    ...seen("3", "cache_v", "cache-slot", "reordered"),
  },
  "the second batch of 32 overwrites the first": {
    make: ({ shape }) =>
      slots(
        shape,
        "cache_k",
        (slot, { start, count }) => start === 0 && slot + 32 < count ? slot + 32 : slot,
      ),
    ...K,
  },
  "K is stored before RoPE": {
    on: ["random"],
    make: () => made("cache_k", (x, pass) => pass.start > 0 ? x : pass.of("k")),
    ...seen("3", "cache_k", "left-out", "cache-slot", "other-tensor"),
  },
  "V's cache holds keys": {
    make: () => made("cache_v", (x, pass) => pass.start > 0 ? x : pass.of("cache_k")),
    ...seen("3", "cache_v", "other-tensor", "cache-slot"),
  },
  "the cache of the block before": {
    where: "not first",
    make: () => made("cache_k", (_, pass) => pass.at(`blk.${pass.layer! - 1}.cache_k`)),
    ...seen("3", "cache_k", "other-tensor", "cache-slot"),
  },
  "V of the block before": {
    where: "not first",
    on: ["random"],
    make: () => made("cache_v", (_, pass) => pass.at(`blk.${pass.layer! - 1}.cache_v`)),
    ...seen("3", "cache_v", "other-tensor", "cache-slot"),
  },
  "the caches are one buffer": {
    make: () =>
      madeDecoding(
        "cache_v",
        (x, pass) => x.map((v, i) => i < x.length / 2 ? v : pass.of("cache_k")[i]),
      ),
    ...V,
    ...DECODING,
  },
  "heads of the cached V exchanged": {
    make: ({ shape: { headWidth, kvHeads } }) =>
      made("cache_v", (x, { start }) =>
        start > 0 ? x : x.map((_, i) => {
          const width = headWidth * kvHeads;
          const head = kvHeads - 1 - Math.floor(i % width / headWidth);
          return x[i - i % width + head * headWidth + i % headWidth];
        })),
    ...seen("3", "cache_v", "head-grouping", "reordered"),
  },
  "the cache is written head by head and read slot by slot": {
    make: ({ shape: { headWidth, kvHeads } }) =>
      made("cache_v", (x, { start, count }) =>
        start > 0 ? x : x.map((_, i) => {
          const place = Math.floor(i / headWidth);
          const [head, slot] = [Math.floor(place / count), place % count];
          return x[(slot * kvHeads + head) * headWidth + i % headWidth];
        })),
    ...seen("3", "cache_v", "cache-slot", "reordered", "transposed"),
  },
  "the cache in f16": {
    make: () => made("cache_k", (x) => Float32Array.from(new Float16Array(x))),
    ...seen("3", "cache_k", "rounded"),
    detail: /f16/i,
  },
  "the cache in an 8-bit float": {
    make: () => made("cache_v", (x) => x.map(e4m3)),
    ...seen("3", "cache_v", "rounded"),
  },
  "the cache in 8-bit blocks": {
    make: () =>
      made("cache_k", (x) => {
        const out = new Float32Array(x.length);
        for (let at = 0; at < x.length; at += 32) {
          const block = x.subarray(at, at + 32);
          const d = Math.f16round(Math.max(...block.map(Math.abs)) / 127);
          out.set(block.map((v) => d ? Math.round(v / d) * d : 0), at);
        }
        return out;
      }),
    ...seen("3", "cache_k", "rounded"),
  },
  "the cache in bf16 while decoding": {
    make: () => madeDecoding("cache_v", (x) => x.map((v) => toBits(v, 7))),
    ...seen("3", "cache_v", "rounded", "cache-slot"),
    ...DECODING,
  },
};

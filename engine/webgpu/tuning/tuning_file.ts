/** The file that remembers which knobs are fastest, by device and product. */
import type { Knobs } from "../../../kernels/kernel.ts";
import { readCacheFile, writeCacheFile } from "../cache_file.ts";
import type { DeviceInfo } from "../device.ts";

/** What was found out about a product. */
export interface TunedProduct {
  /** Hash of the sources of all its candidates: what was found out about others does not count. */
  readonly source: string;
  /** Those that were chosen. */
  readonly knobs: TunedKnobs;
  /** What each candidate took, in milliseconds, the built-in one first. */
  readonly times: readonly { readonly knobs: TunedKnobs; readonly ms: number }[];
}

/** The knobs that candidates differ in. */
export type TunedKnobs = Pick<Knobs, "dotLanes" | "columnLanes" | "broadcast">;

/** Products of one device by kernel, weight type and class of shapes: `linear_qkv Q4_K 4096×4096`. */
export type TunedProducts = Map<string, TunedProduct>;

/** What is known of a device; nothing where the file cannot be read, or is not what was written. */
export async function readTuning(path: string, info: DeviceInfo): Promise<TunedProducts> {
  const all = (await readAll(path))[deviceKey(info)] ?? {};
  return new Map(Object.entries(all).filter(([, each]) => isTuned(each)));
}

/** Adds to what the file knows. Says whether it could be written. */
export async function writeTuning(
  path: string,
  info: DeviceInfo,
  found: TunedProducts,
): Promise<boolean> {
  const all = await readAll(path);
  const key = deviceKey(info);
  const own = { ...all[key], ...Object.fromEntries(found) };
  // A line for each product: people read it too.
  const text = object({ ...all, [key]: own }, (products) => object(products, JSON.stringify));
  return await writeCacheFile(path, text + "\n");
}

function object<T>(values: Record<string, T>, text: (value: T) => string): string {
  const lines = Object.entries(values).map(([name, value]) =>
    `${JSON.stringify(name)}: ${text(value)}`
  );
  return `{\n${lines.join(",\n")}\n}`;
}

/** Knobs in words. */
export function knobsText({ dotLanes, columnLanes, broadcast }: TunedKnobs): string {
  return `${dotLanes} lanes, ${columnLanes} to a row${broadcast ? ", handing columns on" : ""}`;
}

/** The device and its driver in words. */
function deviceKey({ vendor, architecture, device, description, driver }: DeviceInfo): string {
  return [vendor, architecture, device, description, driver].filter((each) => each !== "")
    .join(", ");
}

async function readAll(path: string): Promise<Record<string, Record<string, TunedProduct>>> {
  const text = await readCacheFile(path);
  try {
    const all = JSON.parse(text ?? "{}");
    return isObject(all) && Object.values(all).every(isObject) ? all as never : {};
  } catch {
    return {}; // it is written anew
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTuned(each: unknown): each is TunedProduct {
  return isObject(each) && typeof each.source === "string" && isKnobs(each.knobs) &&
    Array.isArray(each.times) &&
    each.times.every((time) =>
      isObject(time) && isKnobs(time.knobs) && typeof time.ms === "number"
    );
}

/** Whether they are knobs that a kernel can run with. */
function isKnobs(knobs: unknown): knobs is TunedKnobs {
  if (!isObject(knobs)) return false;
  const { dotLanes, columnLanes, broadcast } = knobs;
  const lanes = [dotLanes, columnLanes] as number[];
  return typeof broadcast === "boolean" &&
    lanes.every((n) =>
      Number.isInteger(n) && n >= 1 && n <= 256 && Number.isInteger(Math.log2(n))
    ) &&
    lanes[1] <= lanes[0] && (!broadcast || (lanes[0] === 8 && lanes[1] === 1));
}

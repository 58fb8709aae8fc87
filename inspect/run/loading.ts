/** Opening models so that the same file is on a device once, however often it is loaded. */
import { cpuEngine } from "../../engine/cpu/engine.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import type { Engine } from "../../engine/backend.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { type GgufFile, openGguf, openGgufFile } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { Device, DeviceError, type DeviceInfo, hasGpu } from "../../engine/webgpu/device.ts";
import { readTuning, type TunedProducts } from "../../engine/webgpu/tuning/tuning_file.ts";
import type { TuneMode } from "../../engine/webgpu/tuning/tuning.ts";
import type { Config } from "../../engine/model/config.ts";
import { unfused } from "../../engine/model/unfused.ts";
import { homeFile } from "../../models/cache.ts";
import { type Identity, identityOf } from "../../models/identity.ts";
import { findModel, type FoundModel } from "../../models/mod.ts";

/** How a model is loaded. */
export interface LoadModelOptions {
  /** `auto` (default) takes the GPU where there is a real one, else the CPU; `webgpu` takes a software GPU too. */
  readonly backend?: "auto" | "webgpu" | "cpu";
  /**
   * Which settings the products with weights run with. `auto` (default): those that were found to be the fastest on this GPU; what
   * was not tried yet is timed now, for a few seconds at most, and remembered, unless the device is a software driver, whose built-in
   * settings are known to serve. `now`: all are timed anew. `known`: nothing is timed. `never`: the
   * built-in ones.
   */
  readonly tune?: TuneMode;
  /**
   * Called while a model that is not there is pulled, and while weights stream in, with bytes; and while kernels are compiled
   * to be checked, the first time on a device, with cases, or to be tuned, with products.
   */
  readonly onProgress?: (phase: LoadPhase, done: number, total?: number) => void;
  /** Called once when another process pulls the same model and this one waits for it. */
  readonly onWait?: () => void;
  /**
   * `llama.cpp`: the model is computed as llama.cpp does it where that is not what it was trained with (`./denow task model info` says
   * of a file where that is so). By default a model is computed as it was trained.
   */
  readonly like?: "llama.cpp";
  /** Threads of the CPU backend; by default as many as there are cores. The numbers are the same whatever their number. */
  readonly threads?: number;
  /** Ends loading and pulling; {@linkcode loadModel} then fails with its reason. */
  readonly signal?: AbortSignal;
}

/** A file that is open already, and what was read from it. */
interface OpenFile {
  readonly file?: GgufFile;
  readonly config?: Config;
}

/** What goes on while a model is loaded. */
export type LoadPhase = "pull" | "load" | "check" | "tune";

/** A model on a device, shared by all who loaded the same file. */
export interface Loaded {
  /** As it was found: other engines read the file themselves. */
  readonly found: FoundModel;
  readonly file: GgufFile;
  /** Of the content that was loaded. */
  readonly identity: Identity;
  readonly engine: Engine;
  /** Of the GPU; undefined on the CPU. */
  readonly device?: Device;
  /** As {@linkcode modelSha256} says. */
  sha256(): Promise<string | undefined>;
  /** Gives the model back: what runs on its engine ends with the next pass. The last one frees the weights. */
  release(): void;
}

/** What all who loaded the same file have in common. */
type Shared = Omit<Loaded, "found" | "release">;

interface Entry {
  readonly device: Device | undefined;
  /** With the engine's first handle; each user gets one of their own. */
  readonly loading: Promise<Shared>;
  users: number;
}

const entries = new Map<string, Entry>();
let opening: Promise<Device> | undefined;
let opened: Device | undefined;

/** The GPU device of this process; a fresh one where the last one has failed. */
export function openDevice(): Promise<Device> {
  if (opened?.failed) {
    opened.trim();
    opened = opening = undefined;
  }
  return opening ??= Device.open().then((device) => opened = device, (error) => {
    // Asked again the next time: a driver may have been installed in between.
    opening = undefined;
    throw error;
  });
}

const processors = new Map<number | undefined, Processor>();

/**
 * The processor of this process with so many threads, as many as cores by default. It stays open: threads that wait cost nothing, and
 * end with the process.
 */
export function openProcessor(threads?: number): Processor {
  let processor = processors.get(threads);
  if (!processor) processors.set(threads, processor = new Processor(threads));
  return processor;
}

/**
 * Loads a model by name or path, or one that was found already; or hands over the one that is loaded already.
 *
 * @param options the found model's file too, where it is open already; it is the loaded model's from then on
 * @throws {UnknownModelError | PullError} when there is no such model
 * @throws {GgufError} when its file is no model that can be run
 * @throws {DeviceError} when the GPU is asked for and there is none
 */
export async function load(
  model: string | FoundModel,
  options: LoadModelOptions & OpenFile = {},
): Promise<Loaded> {
  const { onProgress, onWait, signal } = options;
  const found = typeof model !== "string" ? model : await findModel(model, {
    signal,
    onWait,
    onProgress: (done, total) => onProgress?.("pull", done, total),
  });
  const device = await chooseDevice(options.backend ?? "auto");
  const { tune = "auto" } = options;
  const identity = await identityOf(found);
  // The processor's threads start while the file is looked at.
  const where = device ? `webgpu ${tune}` : `cpu ${openProcessor(options.threads).mostThreads}`;
  const key = `${where} ${identity.key} ${options.like ?? ""}`;
  let entry = entries.get(key);
  // What lies on a device that has failed serves nobody any more.
  if (!entry || entry.device !== device) {
    entry = { device, loading: open(found, identity, device, options), users: 0 };
    entries.set(key, entry);
  } else {
    options.file?.close();
  }
  const own = entry;
  const forget = () => {
    if (entries.get(key) === own) entries.delete(key);
  };
  own.users++;
  const loaded = await own.loading.catch((error) => {
    forget();
    throw error;
  });
  const engine = loaded.engine.share();
  let released = false;
  return {
    ...loaded,
    found,
    engine,
    release() {
      if (released) return;
      released = true;
      engine.dispose();
      if (--own.users > 0) return;
      forget();
      loaded.engine.dispose();
      loaded.file.close();
    },
  };
}

/**
 * Opens the GGUF of a model that was found; the caller closes it.
 *
 * @throws {GgufError} for anything that is not a whole, consistent GGUF file
 */
export async function openFound(found: FoundModel): Promise<GgufFile> {
  return found.path === undefined
    ? await openGguf(bytesSource(found.name, found.bytes))
    : await openGgufFile(found.path);
}

async function open(
  found: FoundModel,
  identity: Identity,
  device: Device | undefined,
  options: LoadModelOptions & OpenFile,
): Promise<Shared> {
  const { signal, onProgress } = options;
  const during = (phase: LoadPhase) => (done: number, total: number) =>
    onProgress?.(phase, done, total);
  const file = options.file ?? await openFound(found);
  try {
    const config = options.config ?? readConfig(file, { like: options.like });
    const loadOptions = { signal, onProgress: during("load") };
    // What only a GPU needs is half as much code as all the rest: loading it takes time too.
    const engine = device
      ? await (await import("../../engine/webgpu/engine.ts")).webgpuEngine(file, config, device, {
        ...loadOptions,
        adapterCheck: { cacheFile: homeFile("adapters.txt"), onProgress: during("check") },
        tuning: { mode: options.tune, file: homeFile("tuning.json"), onProgress: during("tune") },
      })
      : await cpuEngine(file, config, openProcessor(options.threads), loadOptions);
    let checksum: Promise<string | undefined> | undefined;
    return {
      ...{ file: unfused(file, config), identity, engine, device },
      sha256: () => checksum ??= modelSha256(identity),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** What tuning has found out about a device, by product. */
export async function tunedProducts(info: DeviceInfo): Promise<TunedProducts> {
  const file = homeFile("tuning.json");
  return file === undefined ? new Map() : await readTuning(file, info);
}

/** Larger files would be read for seconds to be hashed. */
const MOST_HASHED = 2 ** 30;

/** SHA-256 of a model's content, as {@linkcode Identity} says; undefined where finding it would take long. */
export async function modelSha256(identity: Identity): Promise<string | undefined> {
  return await identity.sha256({ atMost: MOST_HASHED });
}

async function chooseDevice(backend: "auto" | "webgpu" | "cpu"): Promise<Device | undefined> {
  if (backend === "cpu" || backend === "auto" && !await hasGpu()) return undefined;
  try {
    return await openDevice();
  } catch (error) {
    if (backend === "webgpu" || !(error instanceof DeviceError)) throw error;
    return undefined;
  }
}

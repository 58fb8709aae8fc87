/** Opening models so that the same file is on a device once, however often it is loaded. */
import { join } from "node:path";
import { cpuEngine } from "../engine/cpu.ts";
import type { Engine } from "../engine/backend.ts";
import { readConfig } from "../engine/config.ts";
import { type GgufFile, openGguf, openGgufFile } from "../engine/gguf/reader.ts";
import { bytesSource } from "../engine/gguf/source.ts";
import { isGranted } from "../engine/permission.ts";
import { Device, DeviceError } from "../engine/webgpu/device.ts";
import { webgpuEngine } from "../engine/webgpu/engine.ts";
import { hashFile, laminaHome, recordedChecksum, sha256 } from "../models/cache.ts";
import { findModel, type FoundModel, ModelError } from "../models/mod.ts";

/** How a model is loaded. */
export interface LoadModelOptions {
  /** `auto` (default) takes the GPU where there is one, else the CPU: slow, correct. */
  readonly backend?: "auto" | "webgpu" | "cpu";
  /** Called while a model that is not there is pulled, and while weights stream in, with bytes. */
  readonly onProgress?: (phase: "pull" | "load", done: number, total?: number) => void;
  readonly signal?: AbortSignal;
}

/** A model on a device, shared by all who loaded the same file. */
export interface Loaded {
  readonly file: GgufFile;
  readonly engine: Engine;
  /** Of the GPU; undefined on the CPU. */
  readonly device?: Device;
  /** As {@linkcode modelSha256} says. */
  sha256(): Promise<string | undefined>;
  /** Gives the model back; the last one frees the weights. */
  release(): void;
}

interface Entry {
  readonly loading: Promise<Omit<Loaded, "release">>;
  users: number;
}

const entries = new Map<string, Entry>();
let sharedDevice: Promise<Device> | undefined;

/** The GPU device of this process. */
export function openDevice(): Promise<Device> {
  sharedDevice ??= Device.open();
  // Asked again after a failure: a driver may have been installed in between.
  sharedDevice.catch(() => sharedDevice = undefined);
  return sharedDevice;
}

/**
 * Loads a model by name or path, or hands over the one that is loaded already.
 *
 * @throws {UnknownModelError | PullError} when there is no such model
 * @throws {GgufError} when its file is no model that can be run
 * @throws {DeviceError} when the GPU is asked for and there is none
 */
export async function load(nameOrPath: string, options: LoadModelOptions = {}): Promise<Loaded> {
  const { onProgress, signal } = options;
  const found = await findModel(nameOrPath, {
    signal,
    onProgress: (done, total) => onProgress?.("pull", done, total),
  });
  const device = await chooseDevice(options.backend ?? "auto");
  const key = `${device ? "webgpu" : "cpu"} ${await identity(found)}`;
  let entry = entries.get(key);
  if (!entry) {
    const onLoad = (done: number, total: number) => onProgress?.("load", done, total);
    entry = { loading: open(found, device, { onProgress: onLoad, signal }), users: 0 };
    entries.set(key, entry);
    entry.loading.catch(() => entries.delete(key));
  }
  entry.users++;
  const loaded = await entry.loading;
  let released = false;
  return {
    ...loaded,
    release() {
      if (released) return;
      released = true;
      if (--entry.users > 0) return;
      entries.delete(key);
      loaded.engine.dispose();
      loaded.file.close();
    },
  };
}

async function open(
  found: FoundModel,
  device: Device | undefined,
  options: { onProgress(done: number, total: number): void; signal?: AbortSignal },
): Promise<Omit<Loaded, "release">> {
  const file = found.bytes
    ? await openGguf(bytesSource(found.name, found.bytes))
    : await openGgufFile(found.path);
  try {
    const config = readConfig(file);
    const engine = device
      ? await webgpuEngine(file, config, device, {
        ...options,
        adapterCheck: { cacheFile: adapterFile() },
      })
      : await cpuEngine(file, config, options);
    let checksum: Promise<string | undefined> | undefined;
    return { file, engine, device, sha256: () => checksum ??= modelSha256(found, file.size) };
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Where it is remembered which kernels passed on which adapter; undefined where the environment may not be read, or names no
 * place for it.
 */
function adapterFile(): string | undefined {
  let readable = true;
  const readEnv = (variable: string) => {
    readable &&= isGranted({ name: "env", variable });
    return readable ? Deno.env.get(variable) : undefined;
  };
  try {
    const home = laminaHome(readEnv);
    return readable ? join(home, "adapters.txt") : undefined;
  } catch (error) {
    if (error instanceof ModelError) return undefined;
    throw error;
  }
}

/** Larger files would be read for seconds to be hashed. */
const MOST_HASHED = 2 ** 30;

/**
 * SHA-256 of a model's file: the recorded one, else computed, else (where that would take long) undefined.
 *
 * @param size in bytes, of all parts
 */
export async function modelSha256(found: FoundModel, size: number): Promise<string | undefined> {
  const hash = sha256();
  if (found.bytes) {
    hash.update(found.bytes);
    return hash.digest();
  }
  const recorded = await recordedChecksum(found.path);
  if (recorded || size > MOST_HASHED) return recorded;
  await hashFile(found.path, hash);
  return hash.digest();
}

async function chooseDevice(backend: "auto" | "webgpu" | "cpu"): Promise<Device | undefined> {
  if (backend === "cpu") return undefined;
  try {
    return await openDevice();
  } catch (error) {
    if (backend === "webgpu" || !(error instanceof DeviceError)) throw error;
    return undefined;
  }
}

/** What makes two loads the same: the embedded model's name, or a file and its last change. */
async function identity(found: FoundModel): Promise<string> {
  if (found.path === undefined) return found.name;
  const path = await Deno.realPath(found.path);
  const { size, mtime } = await Deno.stat(path);
  return `${path} ${size} ${mtime?.getTime()}`;
}

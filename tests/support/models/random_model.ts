import type { Engine } from "../../../engine/backend.ts";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { cpuEngine } from "../../../engine/cpu/engine.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import type { Device } from "../../../engine/webgpu/device.ts";
import { webgpuEngine } from "../../../engine/webgpu/engine.ts";
import { openDevice, openProcessor } from "../../../inspect/run/loading.ts";
import { Model } from "../../../inspect/run/model.ts";
import { identityOf } from "../../../models/identity.ts";
import { randomFile, randomLlama, type RandomLlamaOptions } from "./random_llama.ts";

/** A model with random weights on a backend, and its file for computations beside it. */
export interface RandomModel extends Disposable {
  readonly model: Model;
  readonly file: GgufFile;
  /** A whole weight, dequantized. */
  weight(name: string): Promise<Float32Array>;
}

export async function randomModel(
  options: RandomLlamaOptions,
  backend: "cpu" | "webgpu" | Device = "cpu",
): Promise<RandomModel> {
  return await modelOf(randomLlama(options), backend);
}

/** A model out of a GGUF file's bytes, on a backend or on a device of one's own. */
export async function modelOf(
  bytes: Uint8Array,
  backend: "cpu" | "webgpu" | Device = "cpu",
): Promise<RandomModel> {
  const file = await openGguf(bytesSource("bytes", bytes));
  const config = readConfig(file);
  const device = backend === "cpu"
    ? undefined
    : backend === "webgpu"
    ? await openDevice()
    : backend;
  const engine: Engine = device
    ? await webgpuEngine(file, config, device)
    : await cpuEngine(file, config, openProcessor());
  const found = { name: "bytes", bytes };
  const model = new Model({
    found,
    identity: await identityOf(found),
    file,
    engine,
    device,
    sha256: () => Promise.resolve(undefined),
    release: () => engine.dispose(),
  });
  return {
    model,
    file,
    async weight(name) {
      const tensor = file.tensors.get(name)!;
      return dequantize(tensor.type, await file.readTensor(tensor));
    },
    [Symbol.dispose]() {
      model.dispose();
      file.close();
    },
  };
}

/** One file on both backends. */
export interface BothEngines extends Disposable {
  readonly file: GgufFile;
  readonly config: Config;
  readonly gpu: Engine;
  readonly cpu: Engine;
}

/** A random model on a device, usually the one that all share, and on the CPU. */
export async function bothEngines(
  options: RandomLlamaOptions,
  device?: Device,
): Promise<BothEngines> {
  const file = await randomFile(options);
  const config = readConfig(file);
  const gpu = await webgpuEngine(file, config, device ?? await openDevice());
  const cpu = await cpuEngine(file, config, openProcessor());
  return {
    ...{ file, config, gpu, cpu },
    [Symbol.dispose]() {
      gpu.dispose();
      cpu.dispose();
    },
  };
}

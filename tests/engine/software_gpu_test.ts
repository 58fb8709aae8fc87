/** GPUs in name only: known as such, installed by a script, never taken for a GPU. */
import assert from "node:assert/strict";
import { Device, hasGpu } from "../../engine/webgpu/device.ts";
import { isSoftware } from "../../engine/webgpu/driver.ts";
import { installSoftwareGpu } from "../../engine/webgpu/software_gpu.ts";
import { command } from "../support/command.ts";

Deno.test("software is known by what WebGPU says, or by its name", () => {
  const named = (description: string, device = "0") => isSoftware({ description, device });
  for (
    const name of [
      "llvmpipe (LLVM 15.0.6, 256 bits)",
      "SwiftShader Device (Subzero)",
      "Microsoft Basic Render Driver",
    ]
  ) assert.ok(named(name) && named("", name), name);
  for (const name of ["NVIDIA H200", "AMD Radeon RX 7900 XTX (RADV NAVI31)", "Apple M3", ""]) {
    assert.ok(!named(name), name);
    assert.ok(isSoftware({ description: name, device: "", isFallbackAdapter: true }), name);
  }
});

Deno.test("a GPU is there where the best device is no software", async () => {
  const device = await Device.open();
  device.dispose();
  assert.equal(await hasGpu(), !device.info.fallback);
});

const SCRIPT = "engine/webgpu/software_gpu.sh";
const ignore = Deno.build.os !== "linux";

Deno.test({
  name: "what the script installs is software, and is installed once",
  ignore,
  async fn() {
    assert.equal(await installSoftwareGpu(), true);
    const device = await Device.open(undefined, undefined, { software: true });
    device.dispose();
    assert.equal(device.info.fallback, true);
    const { code, out, err } = await command("sh", [SCRIPT], { env: { LAMINA_NO_INSTALL: "1" } });
    assert.deepEqual([code, out, err], [0, "", ""]);
  },
});

Deno.test({
  name: "where drivers are named to the loader, nothing is installed beside them",
  ignore,
  async fn() {
    const env = { VK_DRIVER_FILES: "/nonexistent.json" };
    const { code, out, err } = await command("sh", [SCRIPT], { env });
    assert.deepEqual([code, out, err], [0, "", ""]);
  },
});

/** What is said about the driver: only what the system's files state. */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { Device } from "../../engine/webgpu/device.ts";
import { interfaceName, vendorName, vulkanDrivers } from "../../engine/webgpu/driver.ts";
import { Folder } from "../support/folder.ts";

const LIBRARIES = `/usr/lib/${Deno.build.arch}-linux-gnu`;
const MANIFESTS = "/usr/share/vulkan/icd.d";

/** A system with files (their texts by path); a text that begins with "->" is a link. */
async function withSystem(
  files: Readonly<Record<string, string>>,
  run: (root: string) => void,
): Promise<void> {
  using folder = new Folder();
  const root = folder.path;
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(root + path), { recursive: true });
    if (text.startsWith("->")) await Deno.symlink(text.slice(2), root + path);
    else await Deno.writeTextFile(root + path, text);
  }
  run(root);
}

function manifest(library: string, version: string): string {
  return JSON.stringify({ ICD: { library_path: library, api_version: version } });
}

function driverTest(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, ignore: Deno.build.os !== "linux", fn });
}

driverTest(
  "Mesa's version is that of its libraries, in the manifest's own folder or the system's",
  async () => {
    await withSystem({
      [`${MANIFESTS}/lvp_icd.json`]: manifest("libvulkan_lvp.so", "1.4.305"),
      [`${MANIFESTS}/intel_icd.json`]: manifest("../../../lib/own/libvulkan_intel.so", "1.4.2"),
      [`${LIBRARIES}/libvulkan_lvp.so`]: "",
      [`${LIBRARIES}/libgallium-25.0.7-2~bpo12+1.so`]: "",
      "/usr/lib/own/libvulkan_intel.so": "",
      "/usr/lib/own/libgallium-26.1.0.so": "",
    }, (root) => {
      const mesa = "Mesa 25.0.7-2~bpo12+1 (libvulkan_lvp.so, Vulkan 1.4.305)";
      assert.equal(vulkanDrivers("65541", root), mesa);
      assert.equal(
        vulkanDrivers(`${0x8086}`, root),
        "Mesa 26.1.0 (libvulkan_intel.so, Vulkan 1.4.2)",
      );
      assert.equal(vulkanDrivers(`${0x1002}`, root), "", "no driver for this vendor");
      assert.equal(vulkanDrivers("some name", root), "");
    });
  },
);

driverTest(
  "NVIDIA's version is in its library's name; without a version there is the manifest's",
  async () => {
    await withSystem({
      [`${MANIFESTS}/nvidia_icd.json`]: manifest("libGLX_nvidia.so.0", "1.3.242"),
      [`${MANIFESTS}/radeon_icd.json`]: manifest("libvulkan_radeon.so", "1.3.230"),
      [`${MANIFESTS}/amd_icd64.json`]: manifest("/opt/amd/amdvlk64.so", "1.3.1"),
      [`${MANIFESTS}/broken.json`]: "{",
      [`${MANIFESTS}/other.json`]: "{}",
      [`${LIBRARIES}/libGLX_nvidia.so.0`]: "->libGLX_nvidia.so.535.104.05",
      [`${LIBRARIES}/libGLX_nvidia.so.535.104.05`]: "",
      [`${LIBRARIES}/libvulkan_radeon.so`]: "",
    }, (root) => {
      const nvidia = "535.104.05 (libGLX_nvidia.so.0, Vulkan 1.3.242)";
      assert.equal(vulkanDrivers(`${0x10de}`, root), nvidia);
      const amd = ["amdvlk64.so (Vulkan 1.3.1)", "libvulkan_radeon.so (Vulkan 1.3.230)"];
      assert.deepEqual(vulkanDrivers(`${0x1002}`, root).split(" or ").sort(), amd);
    });
  },
);

driverTest("the manifests that the environment names are the ones that count", async () => {
  const file = { "/own/lvp.json": manifest("./libvulkan_lvp.so", "1.4.9") };
  await withSystem(file, (root) => {
    Deno.env.set("VK_DRIVER_FILES", `${root}/none.json:${root}/own/lvp.json`);
    try {
      assert.equal(vulkanDrivers("65541"), "libvulkan_lvp.so (Vulkan 1.4.9)");
    } finally {
      Deno.env.delete("VK_DRIVER_FILES");
    }
  });
});

Deno.test("vendors have names", () => {
  assert.equal(vendorName("65541"), "Mesa (0x10005)");
  assert.equal(vendorName(`${0x10de}`), "NVIDIA (0x10de)");
  assert.equal(vendorName("12345"), "12345");
  assert.equal(vendorName(""), "not stated");
});

Deno.test("of the interface nothing is said that is not known", async () => {
  const device = await Device.open();
  device.dispose();
  assert.ok(device.info.interface.length > 0);
});

Deno.test({
  name: "on Linux the size of subgroups says which interface it is",
  ignore: Deno.build.os !== "linux",
  fn() {
    assert.equal(interfaceName({ subgroupMinSize: 8, subgroupMaxSize: 8 }), "Vulkan");
    assert.match(interfaceName({ subgroupMinSize: 4, subgroupMaxSize: 128 }), /^OpenGL, or Vulkan/);
  },
});

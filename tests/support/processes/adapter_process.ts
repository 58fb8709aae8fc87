// Checks the adapter for the embedded model and prints "checked"; run without any permission, and with a cache file that it
// may not write.
import { ensureAdapterChecked } from "../../../engine/webgpu/check/adapter_check.ts";
import { Device } from "../../../engine/webgpu/device.ts";
import { KERNELS } from "../../../kernels/mod.ts";

const device = await Device.open();
const variants = [{ kernel: KERNELS.get("add")!, taps: false }];
await ensureAdapterChecked(device, variants);
await ensureAdapterChecked(device, [{ kernel: KERNELS.get("store")!, taps: false }], {
  cacheFile: "/somewhere/lamina/adapters.txt",
});
console.log("checked");

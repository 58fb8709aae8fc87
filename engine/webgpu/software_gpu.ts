/** Mesa's software Vulkan driver, a GPU in name only: for what checks kernels on one. */

/**
 * Installs the software GPU where it is missing, on Linux as root, with `software_gpu.sh`, which says on stderr what it does.
 * Needs the permissions to read the script and to run `sh`. Other systems have none to install.
 *
 * @returns false where it could not be had
 */
export async function installSoftwareGpu(): Promise<boolean> {
  if (Deno.build.os !== "linux") return true;
  const script = decodeURIComponent(new URL("software_gpu.sh", import.meta.url).pathname);
  const { success } = await new Deno.Command("sh", {
    args: [script],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn().status;
  return success;
}

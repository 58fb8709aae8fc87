/** What is behind an adapter: vendor, interface and driver. WebGPU states the first as a number and the others not at all. */
import { isGranted } from "../../base/permission.ts";

interface Vendor {
  readonly name: string;
  /** The libraries of Vulkan drivers for its devices. */
  readonly libraries: RegExp;
}

/** By the numbers that drivers give, of PCI and of Khronos. */
const VENDORS: Readonly<Record<number, Vendor>> = {
  0x1002: { name: "AMD", libraries: /radeon|amd/ },
  0x1010: { name: "Imagination", libraries: /powervr/ },
  0x106b: { name: "Apple", libraries: /asahi/ },
  0x10de: { name: "NVIDIA", libraries: /nvidia|nouveau/ },
  0x13b5: { name: "ARM", libraries: /panfrost|mali/ },
  0x1414: { name: "Microsoft", libraries: /dzn/ },
  0x14e4: { name: "Broadcom", libraries: /broadcom/ },
  0x5143: { name: "Qualcomm", libraries: /freedreno|adreno/ },
  0x8086: { name: "Intel", libraries: /intel/ },
  0x10005: { name: "Mesa", libraries: /lvp/ },
};

/** An adapter in words. */
export function adapterName(
  { vendor, description, device }: Readonly<Record<"vendor" | "description" | "device", string>>,
): string {
  return description || `${vendor} ${device}`;
}

/** A vendor in words, where it is known: `Mesa (0x10005)`. */
export function vendorName(vendor: string): string {
  const known = VENDORS[Number(vendor)];
  return known ? `${known.name} (0x${Number(vendor).toString(16)})` : vendor || "not stated";
}

/** What Deno gives as subgroup sizes where an interface does not say: the least and the most that there may be. */
const [LEAST_SUBGROUP, MOST_SUBGROUP] = [4, 128];

/** The interface that WebGPU goes through, as far as it can be told. */
export function interfaceName(
  { subgroupMinSize, subgroupMaxSize }: { subgroupMinSize?: number; subgroupMaxSize?: number },
): string {
  if (Deno.build.os === "windows") return "DirectX 12 or Vulkan";
  if (Deno.build.os === "darwin") return "Metal";
  const unknown = subgroupMinSize === LEAST_SUBGROUP && subgroupMaxSize === MOST_SUBGROUP;
  return unknown ? "OpenGL, or Vulkan before 1.3" : "Vulkan";
}

/** Drivers that compute on the CPU, by the names that they give their devices: Mesa's, Google's, Microsoft's. */
const SOFTWARE = /llvmpipe|lavapipe|softpipe|swiftshader|microsoft basic render/i;

/**
 * Whether a GPU is one in name only: software that computes on the CPU. WebGPU says so (`isFallbackAdapter`), or the name does.
 */
export function isSoftware(
  { description, device, isFallbackAdapter = false }: {
    readonly description: string;
    readonly device: string;
    readonly isFallbackAdapter?: boolean;
  },
): boolean {
  return isFallbackAdapter || SOFTWARE.test(`${description} ${device}`);
}

/** Variables that name other drivers to the Vulkan loader than those that are installed. */
export const VULKAN_VARIABLES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/** Where the Vulkan loader looks for drivers' manifests, and the linker for their libraries. */
const MANIFESTS = ["/etc", "/usr/local/share", "/usr/share", "/run/opengl-driver/share"]
  .map((folder) => `${folder}/vulkan/icd.d`);
const LIBRARIES = [`/usr/lib/${Deno.build.arch}-linux-gnu`, "/usr/lib64", "/usr/lib"];

/**
 * The installed Vulkan drivers for a vendor's devices on Linux, in words; empty where that cannot be read, with the permissions
 * that there are. `Mesa 25.0.7 (libvulkan_lvp.so, Vulkan 1.4.305)`
 *
 * @param root folder in which the system's files are looked for: none but in tests
 */
export function vulkanDrivers(vendor: string, root = ""): string {
  const known = VENDORS[Number(vendor)];
  if (!known || Deno.build.os !== "linux") return "";
  const drivers = manifests(root).map(readManifest)
    .filter((manifest) => manifest !== undefined)
    .filter(({ library }) => known.libraries.test(library))
    .map((manifest) => describe(manifest, root));
  return [...new Set(drivers)].join(" or ");
}

interface Manifest {
  readonly path: string;
  /** Name or path of the driver's library. */
  readonly library: string;
  /** Vulkan version. */
  readonly version: string;
}

/** Paths of the manifests; none where it may not be known whether the environment names others. */
function manifests(root: string): string[] {
  if (!VULKAN_VARIABLES.every((variable) => isGranted({ name: "env", variable }))) return [];
  const named = VULKAN_VARIABLES.map((variable) => Deno.env.get(variable)).find(Boolean);
  if (named) return named.split(":");
  return MANIFESTS.flatMap((folder) =>
    namesIn(root + folder).filter((name) => name.endsWith(".json"))
      .map((name) => `${root}${folder}/${name}`)
  );
}

function readManifest(path: string): Manifest | undefined {
  const text = tryTo(path, Deno.readTextFileSync);
  if (text === undefined) return undefined;
  try {
    const { ICD: { library_path: library, api_version: version } } = JSON.parse(text);
    if (typeof library === "string" && typeof version === "string") {
      return { path, library, version };
    }
  } catch { /* not a manifest */ }
  return undefined;
}

function describe({ path, library, version }: Manifest, root: string): string {
  const name = library.slice(library.lastIndexOf("/") + 1);
  const candidates = library.includes("/")
    ? [new URL(library, `file://${path}`).pathname]
    : LIBRARIES.map((folder) => `${root}${folder}/${library}`);
  for (const candidate of candidates) {
    const file = tryTo(candidate, Deno.realPathSync);
    if (file === undefined) continue;
    // NVIDIA's libraries end in their version, as in libGLX_nvidia.so.535.104.05; of Mesa's, which lie in one folder, one does.
    const own = file.match(/\.so\.(\d+\.\d[\d.]*)$/)?.[1];
    const mesa = name.startsWith("libvulkan_") && namesIn(file.slice(0, file.lastIndexOf("/")))
      .map((each) => each.match(/^libgallium-(.+)\.so$/)?.[1]).find(Boolean);
    if (own || mesa) return `${own ?? `Mesa ${mesa}`} (${name}, Vulkan ${version})`;
  }
  return `${name} (Vulkan ${version})`;
}

function namesIn(folder: string): string[] {
  return tryTo(folder, (path) => Array.from(Deno.readDirSync(path), ({ name }) => name)) ?? [];
}

/** What reading a path gives; undefined where it is not allowed or fails. */
function tryTo<T>(path: string, read: (path: string) => T): T | undefined {
  if (!isGranted({ name: "read", path })) return undefined;
  try {
    return read(path);
  } catch {
    return undefined;
  }
}

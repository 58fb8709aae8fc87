/** A headless Chromium, the machine's own; installed by apt where there is none, as root on Debian and its kin. */
import assert from "node:assert/strict";
import { type Browser, chromium, type Locator, type Page } from "npm:playwright-core@1.65.1";

const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"];

/** Starts it. @throws {Error} one line that says what to install */
export async function launchBrowser(): Promise<Browser> {
  const own = Deno.build.os === "linux"
    ? { executablePath: await findChromium() }
    : { channel: "chrome" };
  // In a container root has no sandbox, and /dev/shm is small.
  return await chromium.launch({ ...own, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

async function findChromium(): Promise<string> {
  const found = await onPath();
  if (found) return found;
  const advice = "no Chromium for the browser tests: install it (on Debian: apt install chromium)";
  if (Deno.uid() !== 0 || Deno.env.get("LAMINA_NO_INSTALL")) throw new Error(advice);
  console.error("installing Chromium with apt for the browser tests");
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await output("apt-get", ["-q", "update"], env);
  const options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"];
  const said = await output(
    "apt-get",
    [...options, "install", "chromium", "fonts-dejavu-core"],
    env,
  );
  const installed = await onPath();
  if (!installed) throw new Error(`${advice}; apt says: ${said.trim().split("\n").at(-1)}`);
  return installed;
}

async function onPath(): Promise<string | undefined> {
  for (const program of PROGRAMS) {
    const path = (await output("sh", ["-c", `command -v ${program}`])).trim();
    if (path) return path;
  }
}

async function output(command: string, args: string[], env = {}): Promise<string> {
  const run = new Deno.Command(command, { args, env, stdin: "null" });
  const { stdout, stderr } = await run.output()
    .catch((error) => ({ stdout: new Uint8Array(), stderr: new TextEncoder().encode(`${error}`) }));
  return new TextDecoder().decode(stdout) || new TextDecoder().decode(stderr);
}

/** A page whose requests and complaints are kept; requests that would leave this machine are refused. */
export interface WatchedPage extends AsyncDisposable {
  readonly page: Page;
  /** Addresses of refused requests. */
  readonly refused: string[];
  /** What went wrong in scripts, and errors on the console. */
  readonly errors: string[];
}

/** Opens an empty page in a context of its own. */
export async function watchedPage(
  browser: Browser,
  { scripts = true, allow }: { readonly scripts?: boolean; readonly allow: RegExp },
): Promise<WatchedPage> {
  const context = await browser.newContext({
    javaScriptEnabled: scripts,
    viewport: { width: 1400, height: 1000 },
  });
  const refused: string[] = [];
  await context.route(/^(?!data:|blob:)/, async (route) => {
    const url = route.request().url();
    if (allow.test(url)) return await route.continue();
    refused.push(url);
    await route.abort();
  });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => void errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  return { page, refused, errors, [Symbol.asyncDispose]: () => context.close() };
}

/** How many colours a thing on the page has, and a number that changes with its picture. */
export interface Look {
  readonly colors: number;
  readonly hash: string;
}

/** Looks at a part of the page, pixel by pixel. */
export async function look(locator: Locator): Promise<Look> {
  await locator.scrollIntoViewIfNeeded();
  const png = await locator.screenshot({ animations: "disabled" });
  const blank = await locator.page().context().browser()!.newPage();
  try {
    return await blank.evaluate(`(${LOOK})("${png.toBase64()}")`);
  } finally {
    await blank.close();
  }
}

/** In the browser, which can decode PNGs. */
const LOOK = `async (png) => {
  const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const pixels = new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer);
  let hash = 2166136261;
  for (const pixel of pixels) hash = Math.imul(hash ^ pixel, 16777619);
  return { colors: new Set(pixels).size, hash: String(hash) };
}`;

/** Checks that something has been drawn there: a picture has more than a ground and a colour. */
export async function assertDrawn(locator: Locator, what: string): Promise<void> {
  const { colors } = await look(locator);
  assert.ok(colors > 8, `${what} has ${colors} colours`);
}

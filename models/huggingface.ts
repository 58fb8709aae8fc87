import { basename, join } from "node:path";
import { type Environment, isFile, type ProgressListener, userCache } from "./cache.ts";
import { PullError, reasonOf } from "./error.ts";
import type { PartFile } from "./part_file.ts";
import type { ModelSource } from "./registry.ts";

type HubSource = ModelSource & { kind: "huggingface" };

const DEFAULT_ENDPOINT = "https://huggingface.co";
const REVISION = "main";
const SHA256 = /^[0-9a-f]{64}$/;
const MOST_REDIRECTS = 5;
/** How often in a row a download may break off without a byte having come. */
const MOST_FAILURES = 5;
/** A connection on which nothing comes for this long is given up. */
const STALL_MS = 60_000;

/** A file to pull from Hugging Face and where it goes. */
export interface HubPull {
  readonly model: string;
  readonly source: HubSource;
  readonly part: PartFile;
  /** SHA-256 that the list of models states, if it does. */
  readonly sha256?: string;
  readonly env: Environment;
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
  /** Pause in ms before the first new try; it doubles with each. Default 1000. */
  readonly retryDelay?: number;
}

/**
 * Finds a file that Hugging Face's own tools have downloaded already: in HF_HUB_CACHE, else in
 * `hub` of HF_HOME. Layout: "Understand caching" in huggingface_hub's guides.
 *
 * @returns its path, or undefined
 */
export async function findInHubCache(
  source: HubSource,
  env: Environment,
): Promise<string | undefined> {
  const home = huggingFaceHome(env);
  const hub = env("HF_HUB_CACHE") || env("HUGGINGFACE_HUB_CACHE") || (home && join(home, "hub"));
  if (!hub) return undefined;
  const folder = join(hub, `models--${source.repository.replace("/", "--")}`);
  const reference = join(folder, "refs", REVISION);
  if (!await isFile(reference)) return undefined;
  const commit = (await Deno.readTextFile(reference)).trim();
  const path = join(folder, "snapshots", commit, ...source.file.split("/"));
  return await isFile(path) ? path : undefined;
}

/** The SHA-256 by which the hub's cache calls the file behind one of its links, if it does. */
export async function hubChecksum(path: string): Promise<string | undefined> {
  const name = basename(await Deno.realPath(path));
  return SHA256.test(name) ? name : undefined;
}

/**
 * Downloads a file into the part file, from where an earlier pull broke off. Honours HF_ENDPOINT
 * and HF_TOKEN, else the token in HF_HOME, which goes to the endpoint and to nobody else.
 *
 * @returns the SHA-256 that the whole must have
 * @throws {PullError} when the server refuses, cannot be reached or states no checksum
 */
export async function pullFromHuggingFace(pull: HubPull): Promise<string> {
  const { part, signal, onProgress } = pull;
  const server = await connect(pull);
  const { sha256, bytes } = await fileFacts(pull, server);
  if (bytes !== undefined && part.bytes > bytes) await part.restart();
  onProgress?.(part.bytes, bytes);
  let failures = 0;
  while (bytes === undefined || part.bytes < bytes) {
    const before = part.bytes;
    try {
      await downloadRest(pull, server, bytes);
      if (bytes === undefined || part.bytes >= bytes) break;
      throw new RetryableError("the connection ended too early");
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RetryableError)) throw error;
      failures = part.bytes > before ? 1 : failures + 1;
      if (failures === MOST_FAILURES) {
        throw new PullError(
          pull.model,
          "network",
          `the download from ${server.origin} broke off at byte ${part.bytes}` +
            `${bytes === undefined ? "" : ` of ${bytes}`}: ${error.message}; ` +
            "the same command goes on from there",
          { cause: error },
        );
      }
      await pause((pull.retryDelay ?? 1000) * 2 ** (failures - 1), signal);
    }
  }
  return sha256;
}

/** A failure that may be gone a moment later. */
class RetryableError extends Error {}

interface Server {
  readonly url: URL;
  readonly origin: string;
  readonly token?: string;
}

async function connect({ model, source, env }: HubPull): Promise<Server> {
  const endpoint = (env("HF_ENDPOINT") || DEFAULT_ENDPOINT).replace(/\/+$/, "");
  const path = [source.repository, "resolve", REVISION, source.file].join("/");
  if (!URL.canParse(endpoint)) {
    throw new PullError(model, "network", `HF_ENDPOINT is no URL: ${endpoint}`);
  }
  const url = new URL(`${endpoint}/${path}`);
  return { url, origin: url.origin, token: await readToken(env) };
}

async function readToken(env: Environment): Promise<string | undefined> {
  const token = env("HF_TOKEN")?.trim();
  if (token) return token;
  const home = huggingFaceHome(env);
  if (!home || !await isFile(join(home, "token"))) return undefined;
  return (await Deno.readTextFile(join(home, "token"))).trim() || undefined;
}

function huggingFaceHome(env: Environment): string | undefined {
  const own = env("HF_HOME");
  if (own) return own;
  const cache = userCache(env);
  return cache && join(cache, "huggingface");
}

/** Asks the server for the file's SHA-256 and size, which it states where it redirects to storage. */
async function fileFacts(
  pull: HubPull,
  server: Server,
): Promise<{ sha256: string; bytes?: number }> {
  let response: Response;
  try {
    response = await request(
      pull,
      server,
      "HEAD",
      {},
      (answer) => answer.headers.has("x-linked-etag"),
    );
  } catch (error) {
    if (!(error instanceof RetryableError)) throw error;
    throw new PullError(
      pull.model,
      "network",
      `cannot reach ${server.origin}: ${error.message}; check the network (or HF_ENDPOINT), or ` +
        "give the path of a GGUF file",
      { cause: error },
    );
  }
  const { headers } = response;
  const etag = (headers.get("x-linked-etag") ?? headers.get("etag") ?? "")
    .replace(/^W\//, "").replaceAll('"', "").toLowerCase();
  const stated = SHA256.test(etag) ? etag : undefined;
  const length = headers.get("x-linked-size") ??
    (response.ok ? headers.get("content-length") : null);
  const bytes = length !== null && /^\d+$/.test(length) ? Number(length) : undefined;
  const sha256 = pull.sha256 ?? stated;
  if (sha256 === undefined) {
    throw new PullError(
      pull.model,
      "checksum",
      `${server.origin} states no SHA-256 for ${server.url.pathname}, so that a download could ` +
        "not be checked; download it yourself and give its path",
    );
  }
  if (stated !== undefined && stated !== sha256) {
    throw new PullError(
      pull.model,
      "checksum",
      `checksum mismatch: ${server.origin} states SHA-256 ${stated} where this version of Lamina ` +
        `expects ${sha256}; the file has changed, update Lamina`,
    );
  }
  return { sha256, bytes };
}

async function downloadRest(
  pull: HubPull,
  server: Server,
  total: number | undefined,
): Promise<void> {
  const { part, onProgress } = pull;
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), STALL_MS);
  const signal = pull.signal ? AbortSignal.any([pull.signal, stall.signal]) : stall.signal;
  const headers: Record<string, string> = part.bytes > 0 ? { range: `bytes=${part.bytes}-` } : {};
  try {
    const response = await request({ ...pull, signal }, server, "GET", headers);
    const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
    const resumed = response.status === 206 && range !== null && Number(range[1]) === part.bytes;
    if (!resumed && part.bytes > 0) await part.restart();
    if (!resumed && response.status !== 200) {
      await response.body?.cancel();
      throw new RetryableError(`it answers a range with status ${response.status}`);
    }
    for await (const chunk of body(response)) {
      clearTimeout(timer);
      timer = setTimeout(() => stall.abort(), STALL_MS);
      await part.write(chunk);
      onProgress?.(part.bytes, total);
      if (total !== undefined && part.bytes > total) break; // the checksum will tell
    }
  } catch (error) {
    if (stall.signal.aborted) throw new RetryableError(`nothing came for ${STALL_MS / 1000} s`);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function* body(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body!.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw new RetryableError(reasonOf(error));
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/**
 * Sends a request and follows redirects by hand, as the token must not travel to where they lead.
 *
 * @param enough tells a redirect that already says what is asked for
 */
async function request(
  { model, source, signal }: HubPull,
  server: Server,
  method: "GET" | "HEAD",
  extraHeaders: Record<string, string>,
  enough: (response: Response) => boolean = () => false,
): Promise<Response> {
  let url = server.url;
  for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
    const headers = new Headers({ ...extraHeaders, "accept-encoding": "identity" });
    if (server.token !== undefined && url.origin === server.origin) {
      headers.set("authorization", `Bearer ${server.token}`);
    }
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        redirect: "manual",
        // A timeout would cut a body off as well, which has a watch of its own.
        signal: method === "HEAD" ? withTimeout(signal) : signal,
      });
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      signal?.throwIfAborted();
      throw new RetryableError(reasonOf(error));
    }
    const location = response.headers.get("location");
    if (response.status >= 300 && response.status < 400 && location !== null && !enough(response)) {
      await response.body?.cancel();
      url = new URL(location, url);
      continue;
    }
    if (response.status < 400) return response;
    await response.body?.cancel();
    if (response.status === 416) return response;
    throw refusal(model, source, server, response.status);
  }
  throw new PullError(model, "network", `${server.origin} redirects in a circle`);
}

function refusal(model: string, source: HubSource, server: Server, status: number): Error {
  const page = `${server.origin}/${source.repository}`;
  switch (status) {
    case 401:
      return new PullError(
        model,
        "unauthorized",
        `${page} refuses (401): ` +
          (server.token === undefined
            ? "it is private, gated or not there; set HF_TOKEN to a token that may read it"
            : "the token in HF_TOKEN or HF_HOME is wrong or may not read it"),
      );
    case 403:
      return new PullError(
        model,
        "unauthorized",
        `${page} refuses (403): accept its licence on that page, and set HF_TOKEN to a token that ` +
          "may read it",
      );
    case 404:
      return new PullError(
        model,
        "not-found",
        `there is no ${source.file} at ${page} (404); give the path of a GGUF file`,
      );
  }
  if (status === 408 || status === 429 || status >= 500) {
    return new RetryableError(`it answers with status ${status}`);
  }
  return new PullError(model, "network", `${page} answers with status ${status}`);
}

function withTimeout(signal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(STALL_MS);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

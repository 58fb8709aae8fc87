/**
 * A local stand-in for Hugging Face: a hub that redirects to a storage server on another origin,
 * as the real one does, and that can be told to misbehave.
 */
import { createHash } from "node:crypto";

/** What the server was asked. */
export interface SeenRequest {
  readonly server: "hub" | "storage";
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

/** How the server behaves; change it between requests. */
export interface HubBehaviour {
  /** The file that every path under `resolve` gives. */
  content: Uint8Array<ArrayBuffer>;
  /** Answers with this status instead. */
  status?: number;
  /** Breaks each of the next downloads off after this many bytes. */
  cuts: number[];
  /** Answers the next downloads with status 503. */
  unavailable: number;
  /** Ignores ranges. */
  wholeOnly: boolean;
  /** What the hub states instead of the content's SHA-256; "" for nothing. */
  statedSha256?: string;
  /** Accepts only this token. */
  token?: string;
  /** Sends a request for this path on, as the hub does for a renamed repository. */
  renamed?: { readonly from: string; readonly to: string };
  /** Pause in ms before each 16 KiB. */
  delay: number;
}

/** A running stand-in. */
export interface HubServer extends AsyncDisposable {
  /** For HF_ENDPOINT. */
  readonly endpoint: string;
  readonly behaviour: HubBehaviour;
  readonly seen: SeenRequest[];
}

/** Computes a SHA-256 in hexadecimal. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Starts the two servers on free local ports. */
export function startHub(content: Uint8Array<ArrayBuffer>): HubServer {
  const behaviour: HubBehaviour = { content, cuts: [], unavailable: 0, wholeOnly: false, delay: 0 };
  const seen: SeenRequest[] = [];
  const note = (server: "hub" | "storage", request: Request) =>
    seen.push({
      server,
      method: request.method,
      path: new URL(request.url).pathname,
      range: request.headers.get("range"),
      authorization: request.headers.get("authorization"),
    });
  const listen = { hostname: "127.0.0.1", port: 0, onListen() {} };

  const storage = Deno.serve(listen, (request) => {
    note("storage", request);
    return answerDownload(request, behaviour);
  });
  const hub = Deno.serve(listen, (request) => {
    note("hub", request);
    const { pathname } = new URL(request.url);
    const { renamed, token, status, statedSha256 } = behaviour;
    if (renamed && pathname.startsWith(renamed.from)) {
      const location = pathname.replace(renamed.from, renamed.to);
      return new Response(null, { status: 307, headers: { location } });
    }
    if (token !== undefined && request.headers.get("authorization") !== `Bearer ${token}`) {
      return new Response("Access restricted", { status: 401 });
    }
    if (status !== undefined) return new Response("no", { status });
    if (!pathname.includes("/resolve/main/")) return new Response("no", { status: 404 });
    const stated = statedSha256 ?? sha256Of(behaviour.content);
    return new Response(null, {
      status: 302,
      headers: {
        location: `http://127.0.0.1:${storage.addr.port}/blob`,
        "x-linked-size": String(behaviour.content.length),
        ...(stated === "" ? {} : { "x-linked-etag": `"${stated}"` }),
      },
    });
  });
  return {
    endpoint: `http://127.0.0.1:${hub.addr.port}`,
    behaviour,
    seen,
    async [Symbol.asyncDispose]() {
      await Promise.all([hub.shutdown(), storage.shutdown()]);
    },
  };
}

function answerDownload(request: Request, behaviour: HubBehaviour): Response {
  if (behaviour.unavailable > 0) {
    behaviour.unavailable--;
    return new Response("later", { status: 503 });
  }
  const { content, wholeOnly, delay } = behaviour;
  const range = wholeOnly ? null : /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "");
  const start = range === null ? 0 : Number(range[1]);
  if (start >= content.length && start > 0) return new Response(null, { status: 416 });
  const cut = request.method === "GET" ? behaviour.cuts.shift() : undefined;
  let at = start;
  const body = new ReadableStream({
    async pull(controller) {
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
      const end = Math.min(content.length, at + 16 * 1024, start + (cut ?? Infinity));
      if (end > at) controller.enqueue(content.subarray(at, end));
      at = end;
      // Less than content-length promises: the client sees the connection break off.
      if (at === content.length || (cut !== undefined && at >= start + cut)) controller.close();
    },
  });
  return new Response(request.method === "HEAD" ? null : body, {
    status: range === null ? 200 : 206,
    headers: {
      "content-length": String(content.length - start),
      ...(range === null
        ? {}
        : { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` }),
    },
  });
}

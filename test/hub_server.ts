/**
 * A server on this machine that speaks the hub's protocol, as far as downloads go, and its storage on another
 * port. It keeps a record of what is asked of it, and misbehaves on demand.
 */

import { createHash } from "node:crypto";

/**
 * What a request is for: what the hub knows of a repository, where a file's content is, or the content, which
 * the hub itself has of small files and its storage of large ones.
 */
export type Errand = "api" | "resolve" | "content";

/** A request as it came in. */
export interface SeenRequest {
  readonly server: "hub" | "storage";
  readonly errand: Errand;
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly ifRange: string | null;
  readonly authorization: string | null;
  readonly encoding: string | null;
}

/** What to do wrong, and when. */
export interface Fault {
  /** The end of the path that it happens to. */
  readonly path: string;
  /** What for; "content" unless given. */
  readonly errand?: Errand;
  /** How often; once unless given. */
  readonly times?: number;
  /** Answer this instead. */
  readonly answer?: () => Response;
  /** Close the connection after so many bytes of the body. */
  readonly cutAfter?: number;
  /** Send no more after so many bytes, and keep the connection. */
  readonly hangAfter?: number;
  /** Say nothing about the length, so that a cut looks like an end. */
  readonly noLength?: boolean;
  /** Send the whole file whatever was asked for. */
  readonly ignoreRange?: boolean;
  /** Say that the range is another than it is. */
  readonly contentRange?: string;
  /** Send other bytes. */
  readonly bytes?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
  /** Wait before each chunk, in milliseconds. */
  readonly chunkMs?: number;
  /** Call the content something else. */
  readonly etag?: string;
}

/** A file of a repository. */
interface StoredFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sha1: string;
  readonly sha256: string;
  readonly isLarge: boolean;
}

/** A repository: its files by commit, and its commits by name. */
interface Repo {
  readonly commits: Map<string, Map<string, StoredFile>>;
  readonly revisions: Map<string, string>;
  readonly isPrivate: boolean;
}

/** Token of an account that may see private repositories. */
export const MEMBER = "hf_member";

/** `/api/models/owner/name/tree/main` and its like. */
const API_ROUTE = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree|paths-info)\/([^/]+)$/;

/** `/owner/name/resolve/main/config.json`, and the address of the same content that it redirects to. */
const FILE_ROUTE =
  /^\/(?:api\/resolve-cache\/models\/)?([^/]+\/[^/]+?)(?:\/(resolve))?\/([^/]+)\/([^/]+)$/;

/** Bytes of a chunk of a body. */
const CHUNK = 16 * 1024;

/** The hub and its storage, until they are disposed. */
export class HubServer implements AsyncDisposable {
  /** What came in, in order. */
  readonly requests: SeenRequest[] = [];
  /** Entries on a page of a list. */
  pageSize = 1000;
  readonly #stop = new AbortController();
  readonly #repos = new Map<string, Repo>();
  #faults: { fault: Fault; left: number }[] = [];
  readonly #hub = this.#serve("hub", (request, fault) => this.#answerHub(request, fault));
  readonly #storage = this.#serve(
    "storage",
    (request, fault) => this.#answerStorage(request, fault),
  );

  /** The hub's address. */
  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  /** Makes a commit of these files, which a revision is from now on; files with weights are large. */
  commit(
    repo: string,
    files: Readonly<Record<string, string | Uint8Array<ArrayBuffer>>>,
    { revision = "main", isPrivate = false } = {},
  ): string {
    const stored = new Map<string, StoredFile>();
    for (const [name, content] of Object.entries(files)) {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      stored.set(name, {
        bytes,
        sha1: createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex"),
        sha256: createHash("sha256").update(bytes).digest("hex"),
        isLarge: /\.(safetensors|bin|gguf)$/.test(name),
      });
    }
    const entry = this.#repos.get(repo) ??
      { commits: new Map(), revisions: new Map(), isPrivate };
    const names = [...stored].map(([name, { sha256 }]) => name + sha256).join();
    const commit = createHash("sha1").update(names).digest("hex");
    entry.commits.set(commit, stored);
    entry.revisions.set(revision, commit).set(commit, commit);
    this.#repos.set(repo, entry);
    return commit;
  }

  /** The name by which the hub calls the content of a file on main. */
  hashOf(repo: string, name: string): string {
    const { commits, revisions } = this.#repos.get(repo)!;
    const { isLarge, sha1, sha256 } = commits.get(revisions.get("main")!)!.get(name)!;
    return isLarge ? sha256 : sha1;
  }

  /** Does this wrong from now on. Of several faults that fit, the oldest happens. */
  misbehave(fault: Fault): void {
    this.#faults.push({ fault, left: fault.times ?? 1 });
  }

  /** Does everything right from now on. */
  behave(): void {
    this.#faults = [];
  }

  /** Requests for contents, as `file range`, since the record was last emptied. */
  takeDownloads(): string[] {
    const downloads = this.requests.filter(({ errand }) => errand === "content");
    this.requests.length = 0;
    return downloads.map(({ path, range }) =>
      path.split("/").at(-1)! + (range === null ? "" : ` ${range}`)
    );
  }

  /** Goes off the network. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#hub.finished, this.#storage.finished]);
  }

  #serve(
    server: "hub" | "storage",
    answer: (request: Request, fault: Fault) => Response | Promise<Response>,
  ): Deno.HttpServer<Deno.NetAddr> {
    const { signal } = this.#stop;
    return Deno.serve({ hostname: "127.0.0.1", port: 0, signal, onListen() {} }, (request) => {
      const { headers, method } = request;
      const path = new URL(request.url).pathname;
      const errand = server === "storage" || path.startsWith("/api/resolve-cache/")
        ? "content"
        : path.startsWith("/api/")
        ? "api"
        : "resolve";
      this.requests.push({
        server,
        errand,
        method,
        path,
        range: headers.get("range"),
        ifRange: headers.get("if-range"),
        authorization: headers.get("authorization"),
        encoding: headers.get("accept-encoding"),
      });
      const fault = this.#take(errand, path);
      return fault.answer?.() ?? answer(request, fault);
    });
  }

  /** A fault that is due, which is then done with. */
  #take(errand: Errand, path: string): Fault {
    const due = this.#faults.find(({ fault, left }) =>
      left > 0 && path.endsWith(fault.path) && errand === (fault.errand ?? "content")
    );
    if (due === undefined) return { path };
    due.left--;
    return due.fault;
  }

  async #answerHub(request: Request, fault: Fault): Promise<Response> {
    const { pathname, searchParams, origin } = new URL(request.url);
    const [, name = "", action, revision = "", path = ""] = API_ROUTE.exec(pathname) ??
      FILE_ROUTE.exec(pathname) ?? [];
    const repo = this.#repos.get(name);
    const token = request.headers.get("authorization");
    if (repo === undefined || repo.isPrivate && token !== `Bearer ${MEMBER}`) {
      const status = token === null ? 401 : repo === undefined ? 404 : 403;
      const code = status === 403 ? "GatedRepo" : "RepoNotFound";
      return new Response(null, { status, headers: { "x-error-code": code } });
    }
    const commit = repo.revisions.get(decodeURIComponent(revision));
    if (commit === undefined) {
      return new Response(null, { status: 404, headers: { "x-error-code": "RevisionNotFound" } });
    }
    const files = repo.commits.get(commit)!;
    switch (action) {
      case "revision":
        return Response.json({ _id: "1", id: name, sha: commit, private: repo.isPrivate });
      case "tree":
        return this.#tree(files, Number(searchParams.get("cursor") ?? 0), origin + pathname);
      case "paths-info": {
        const { paths } = await request.json() as { paths: string[] };
        return Response.json(
          paths.filter((path) => files.has(path)).map((path) => entryOf(path, files.get(path)!)),
        );
      }
    }
    const file = files.get(path);
    if (file === undefined) {
      return new Response(null, { status: 404, headers: { "x-error-code": "EntryNotFound" } });
    }
    const linked = {
      "x-repo-commit": commit,
      "x-linked-size": String(file.bytes.byteLength),
      "x-linked-etag": `"${fault.etag ?? (file.isLarge ? file.sha256 : file.sha1)}"`,
    };
    if (action === undefined) return send(request, file, `"${file.sha1}"`, fault, linked);
    const location = file.isLarge
      ? `http://127.0.0.1:${this.#storage.addr.port}/${name}/${commit}/${path}?signature=open`
      : `/api/resolve-cache/models/${name}/${commit}/${path}`;
    const status = file.isLarge ? 302 : 307;
    return new Response(null, { status, headers: { location, ...linked } });
  }

  #answerStorage(request: Request, fault: Fault): Response {
    const { pathname, searchParams } = new URL(request.url);
    const [, owner, name, commit = "", path = ""] = pathname.split("/");
    const file = this.#repos.get(`${owner}/${name}`)?.commits.get(commit)?.get(path);
    if (file === undefined || searchParams.get("signature") !== "open") {
      return new Response(null, { status: 403 });
    }
    // Storage names what it holds in its own way.
    return send(request, file, `"${file.sha1.slice(0, 32)}-2"`, fault);
  }

  #tree(files: ReadonlyMap<string, StoredFile>, start: number, address: string): Response {
    const entries = [...files].map(([path, file]) => entryOf(path, file));
    entries.push({ type: "directory", path: "runs", size: 0, oid: "0".repeat(40) });
    const end = start + this.pageSize;
    const headers = new Headers();
    if (end < entries.length) headers.set("link", `<${address}?cursor=${end}>; rel="next"`);
    return Response.json(entries.slice(start, end), { headers });
  }
}

function entryOf(path: string, { bytes, sha1, sha256, isLarge }: StoredFile): {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs?: { oid: string; size: number; pointerSize: number };
} {
  const size = bytes.byteLength;
  const entry = { type: "file", path, size, oid: sha1 };
  return isLarge ? { ...entry, lfs: { oid: sha256, size, pointerSize: 134 } } : entry;
}

/** Sends a file or a range of it. */
function send(
  request: Request,
  file: StoredFile,
  etag: string,
  fault: Fault,
  linked: Readonly<Record<string, string>> = {},
): Response {
  const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  const condition = request.headers.get("if-range");
  const isRange = asked !== null && !fault.ignoreRange && (condition ?? etag) === etag;
  const bytes = fault.bytes?.(file.bytes) ?? file.bytes;
  const total = bytes.byteLength;
  const first = isRange ? Number(asked[1]) : 0;
  if (first >= total && isRange) {
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${total}` } });
  }
  const end = isRange && asked[2] !== "" ? Number(asked[2]) + 1 : total;
  const headers = new Headers({ ...linked, etag, "accept-ranges": "bytes" });
  if (!fault.noLength) headers.set("content-length", String(end - first));
  if (isRange) {
    headers.set("content-range", fault.contentRange ?? `bytes ${first}-${end - 1}/${total}`);
  }
  const body = request.method === "HEAD" ? null : stream(bytes.subarray(first, end), fault);
  return new Response(body, { status: isRange ? 206 : 200, headers });
}

function stream(
  bytes: Uint8Array<ArrayBuffer>,
  { cutAfter = Infinity, hangAfter = Infinity, chunkMs = 0 }: Fault,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const end = Math.min(bytes.byteLength, cutAfter, hangAfter);
  let at = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  return new ReadableStream({
    async pull(controller) {
      if (chunkMs > 0) await new Promise((resolve) => timer = setTimeout(resolve, chunkMs));
      if (at >= end) {
        // A body that ends before its announced length makes the server close the connection.
        if (end === hangAfter) return await new Promise(() => {});
        return controller.close();
      }
      const next = Math.min(at + CHUNK, end);
      controller.enqueue(bytes.slice(at, next));
      at = next;
    },
    cancel() {
      clearTimeout(timer);
    },
  });
}

const made = new Map<string, Uint8Array<ArrayBuffer>>();

/** Bytes that no two seeds share. */
export function someBytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const key = `${length} ${seed}`;
  const bytes = made.get(key) ?? new Uint8Array(length);
  if (made.has(key)) return bytes;
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = Math.imul(state, 1103515245) + 12345 >>> 0;
    bytes[i] = state >>> 16;
  }
  made.set(key, bytes);
  return bytes;
}

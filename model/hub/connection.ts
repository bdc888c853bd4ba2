/**
 * Requests to the hub and to the storage that it points to.
 *
 * The access token goes to the hub's own origin and nowhere else, however a redirect leads; a redirect never
 * leads from https to http.
 *
 * @module
 */

import { ModelDownloadError } from "../../runtime/errors.ts";
import { retryAfterMs, type RetryPolicy, TransientFault, withRetries } from "./retry.ts";

/** Where to connect, and as whom. */
export interface ConnectionOptions {
  /** Name of the repository, for messages. */
  readonly repo: string;
  /** The hub's address, without a slash at its end. */
  readonly endpoint: string;
  /** Token of an account. */
  readonly accessToken: string | undefined;
  /** What sends a request. */
  readonly fetch: typeof fetch;
  /** How often it is tried. */
  readonly retry: RetryPolicy;
  /** Stops it. */
  readonly signal: AbortSignal | undefined;
}

/** Headers of a request. */
export interface RequestHeaders {
  /** For every server that the request is led to. */
  readonly everywhere?: Readonly<Record<string, string>>;
  /** For the hub alone. */
  readonly hub?: Readonly<Record<string, string>>;
}

/** What came back. */
export interface HubResponse {
  /** A success, or 416. */
  readonly status: number;
  /** Headers of the server that sends the body. */
  readonly headers: Headers;
  /** The hub's own word for the content, without quotes; undefined if it sent none. */
  readonly etag: string | undefined;
  /** The body as it comes; a connection that breaks or stalls is a {@linkcode TransientFault}. */
  readonly chunks: AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** Redirects that a request follows. The hub itself needs one or two. */
const MOST_REDIRECTS = 8;

/** An answer of the hub's API is read whole: this much of it. */
const MOST_ANSWER_BYTES = 32 * 1024 * 1024;

/** One call's connection to a hub. */
export class HubConnection {
  readonly #options: ConnectionOptions;
  readonly #origin: string;

  /** Takes where to connect. */
  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#origin = new URL(options.endpoint).origin;
  }

  /**
   * Sends one GET request and hands its answer to `receive`, after which the connection is let go.
   *
   * @throws {TransientFault} If the connection breaks, or the server is busy
   * @throws {ModelDownloadError} If the server refuses
   */
  async get<T>(
    address: string,
    asked: RequestHeaders,
    receive: (response: HubResponse) => Promise<T>,
  ): Promise<T> {
    using watch = new StallWatch(this.#options.retry.stallMs, this.#options.signal);
    const { response, etag } = await this.#follow(address, asked, watch);
    const reader = response.body?.getReader();
    try {
      const chunks = this.#chunks(reader, watch);
      const { status, headers } = response;
      return await receive({ status, headers, etag, chunks });
    } finally {
      // The body may be broken or done already; either way there is nothing left to say about it.
      await reader?.cancel().catch(() => {});
    }
  }

  /**
   * A `fetch` for the hub's API: with the token where it belongs, with retries, and with an answer that is here
   * as a whole.
   */
  fetchWhole(tries: number): typeof fetch {
    const { retry, signal } = this.#options;
    const headers = { everywhere: { accept: "application/json" } };
    return ((input: string | URL | Request) =>
      withRetries(
        { ...retry, tries },
        signal,
        () => this.get(String(input), headers, (response) => this.#whole(response)),
      )) as typeof fetch;
  }

  async #whole({ headers, chunks }: HubResponse): Promise<Response> {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let length = 0;
    for await (const chunk of chunks) {
      length += chunk.byteLength;
      if (length > MOST_ANSWER_BYTES) {
        this.#refuse(`an answer must be at most ${MOST_ANSWER_BYTES} bytes: it goes on`);
      }
      parts.push(chunk);
    }
    const link = headers.get("link");
    return new Response(new Blob(parts), link === null ? {} : { headers: { link } });
  }

  async #follow(
    address: string,
    { everywhere = {}, hub = {} }: RequestHeaders,
    watch: StallWatch,
  ): Promise<{ response: Response; etag: string | undefined }> {
    const { accessToken } = this.#options;
    const authorization: Record<string, string> = accessToken === undefined
      ? {}
      : { authorization: `Bearer ${accessToken}` };
    let url = new URL(address);
    let etag: string | undefined;
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      const atHub = url.origin === this.#origin;
      const response = await this.#send(url, {
        // A compressed body could be neither resumed nor counted.
        headers: {
          "accept-encoding": "identity",
          ...everywhere,
          ...(atHub ? { ...hub, ...authorization } : {}),
        },
        redirect: "manual",
        signal: watch.signal,
      });
      if (atHub) etag ??= etagOf(response);
      if (![301, 302, 303, 307, 308].includes(response.status)) {
        if (response.ok || response.status === 416) {
          watch.rest();
          return { response, etag };
        }
        await response.body?.cancel().catch(() => {});
        throw this.#refusal(response, atHub);
      }
      await response.body?.cancel().catch(() => {});
      url = this.#redirected(url, response.headers.get("location"));
    }
    return this.#refuse(`the hub must not redirect more than ${MOST_REDIRECTS} times: it does`);
  }

  async #send(url: URL, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
    const { fetch } = this.#options;
    try {
      return await fetch(url.href, init);
    } catch (error) {
      throw this.#fault(error, init.signal);
    }
  }

  #redirected(from: URL, location: string | null): URL {
    if (location === null || !URL.canParse(location, from.href)) {
      return this.#refuse("a redirect must say where it leads: it does not");
    }
    const to = new URL(location, from);
    const allowed = from.protocol === "https:" ? ["https:"] : ["http:", "https:"];
    if (allowed.includes(to.protocol)) return to;
    return this.#refuse(
      `a redirect from ${from.protocol} must stay there: it leads to ${to.protocol}`,
    );
  }

  async *#chunks(
    reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined,
    watch: StallWatch,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    while (reader !== undefined) {
      let read: ReadableStreamReadResult<Uint8Array<ArrayBuffer>>;
      try {
        watch.touch();
        read = await reader.read();
        watch.rest();
        watch.signal.throwIfAborted();
      } catch (error) {
        throw this.#fault(error, watch.signal);
      }
      if (read.done) return;
      yield read.value;
    }
  }

  /** What to throw for something that `fetch` or a body threw. */
  #fault(error: unknown, watched: AbortSignal): unknown {
    const { signal, retry } = this.#options;
    if (signal?.aborted) return signal.reason;
    if (watched.aborted) return new TransientFault(`nothing came for ${retry.stallMs / 1000} s`);
    const { name, message, cause } = error as Error;
    if (name === "NotCapable" || name === "PermissionDenied") return error;
    const inner = cause instanceof Error ? `: ${cause.message}` : "";
    // Addresses of the storage carry signatures that open it, which have no place in a message.
    return new TransientFault(`${message}${inner}`.replace(/\?[^\s)]*/g, ""));
  }

  /** What to throw for an answer that is no success. */
  #refusal({ status, headers }: Response, atHub: boolean): Error {
    if (status === 408 || status === 429 || status >= 500) {
      const wait = retryAfterMs(headers.get("retry-after"));
      const asks = wait === undefined ? "" : ` and asks for ${Math.ceil(wait / 1000)} s`;
      return new TransientFault(`the server answers ${status}${asks}`, wait);
    }
    const { repo, endpoint, accessToken } = this.#options;
    const reason = headers.get("x-error-code") ?? headers.get("x-error-message");
    const told = reason === null ? "" : ` (${reason})`;
    if (!atHub) return this.#error(`its storage answers ${status}${told}: it must be a success`);
    const answer = `the hub answers ${status}${told}`;
    switch (status) {
      case 401:
      case 403: {
        const terms = status === 403 ? `accept its terms at ${endpoint}/${repo}, and ` : "";
        const token = accessToken === undefined ? 'pass { accessToken: "hf_…" }' : "use a token";
        return this.#error(
          `${answer}: the name must be right, and a private or gated repository open to you: ` +
            `${terms}${token} of an account that may read it`,
        );
      }
      case 404:
        return this.#error(`${answer}: the repository must exist, with this revision: check both`);
      default:
        return this.#error(`${answer}: it must be a success`);
    }
  }

  #refuse(rule: string): never {
    throw this.#error(rule);
  }

  #error(rule: string): ModelDownloadError {
    return new ModelDownloadError(`Cannot download ${this.#options.repo}: ${rule}`);
  }
}

/** Aborts a request that brings nothing for a while. */
class StallWatch implements Disposable {
  /** Aborted by a stall, and by the caller's signal. */
  readonly signal: AbortSignal;
  readonly #stall = new AbortController();
  readonly #ms: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, signal: AbortSignal | undefined) {
    this.#ms = ms;
    this.signal = signal === undefined
      ? this.#stall.signal
      : AbortSignal.any([signal, this.#stall.signal]);
    this.touch();
  }

  /** Starts counting anew. */
  touch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stall.abort(), this.#ms);
  }

  /** Stops counting, while it is not the server that is waited for. */
  rest(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.rest();
  }
}

/** The hub's name for a file's content: of what it points to, or else of what it sends. */
function etagOf({ ok, headers }: Response): string | undefined {
  const header = headers.get("x-linked-etag") ?? (ok ? headers.get("etag") : null);
  return header?.replace(/^W\//, "").replaceAll('"', "");
}

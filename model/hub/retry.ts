/**
 * Trying again: what went wrong for now is told apart from what will go wrong again.
 *
 * @module
 */

/** How often and how patiently a request is tried. */
export interface RetryPolicy {
  /** Tries in a row that may fail before the call does. */
  readonly tries: number;
  /** Milliseconds before the second try; each further wait is twice the last. */
  readonly firstWaitMs: number;
  /** Milliseconds that a wait grows to at most. */
  readonly longestWaitMs: number;
  /** A server that asks for a longer wait than this is not waited for. */
  readonly longestAskedWaitMs: number;
  /** A connection that brings nothing for so long counts as cut. */
  readonly stallMs: number;
}

/** What is used unless a test asks for another. */
export const RETRY_POLICY: RetryPolicy = {
  tries: 5,
  firstWaitMs: 500,
  longestWaitMs: 8_000,
  longestAskedWaitMs: 120_000,
  stallMs: 30_000,
};

/** Something that may work when it is tried again: a cut connection, a server that is busy. */
export class TransientFault extends Error {
  /** Milliseconds that the server asks to be left alone for. */
  readonly waitMs: number | undefined;

  /** Takes what happened, and the wait that the server asks for. */
  constructor(message: string, waitMs?: number) {
    super(message);
    this.name = "TransientFault";
    this.waitMs = waitMs;
  }
}

/**
 * Runs `attempt` until it succeeds, or fails for good, or has met as many transient faults in a row as
 * the policy allows.
 *
 * @param advanced true if the last attempt, though it failed, came far enough not to count as a failure
 * @throws {TransientFault} The last one
 */
export async function withRetries<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T>,
  advanced: () => boolean = () => false,
): Promise<T> {
  for (let failures = 1;; failures++) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TransientFault)) throw error;
      if (advanced()) failures = 1;
      const { waitMs = backoff(policy, failures) } = error;
      const asksTooMuch = (error.waitMs ?? 0) > policy.longestAskedWaitMs;
      if (failures >= policy.tries || asksTooMuch) throw error;
      await sleep(waitMs, signal);
    }
  }
}

/**
 * The wait that a `Retry-After` header asks for: seconds, or a date.
 *
 * @returns milliseconds from 0, or undefined if there is no such header or it makes no sense
 */
export function retryAfterMs(header: string | null): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : NaN;
  const wait = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1000;
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

/** Waits, or rejects with the signal's reason. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Doubles from try to try; half of it is drawn, so that many clients do not come back at once. */
function backoff({ firstWaitMs, longestWaitMs }: RetryPolicy, failures: number): number {
  return Math.min(longestWaitMs, firstWaitMs * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
}

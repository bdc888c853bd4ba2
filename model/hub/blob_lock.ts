/**
 * One download of a file at a time, in this process and in others.
 *
 * @module
 */

import type { Host, HostLock } from "./host.ts";
import { sleep } from "./retry.ts";

/** Milliseconds between two looks at a lock that somebody has. */
const LOOK_MS = 100;

/**
 * Runs `body` while nobody else runs theirs on the same lock file, here or in another process; the system
 * takes the lock back from a process that dies.
 *
 * @param body is told whether there was a lock to be had: some runtimes and disks have none
 * @throws The signal's reason, if it is aborted while waiting
 */
export async function withBlobLock<T>(
  { lock, fs, path }: Host,
  file: string,
  signal: AbortSignal | undefined,
  body: (exclusive: boolean) => Promise<T>,
): Promise<T> {
  await fs.mkdir(path.dirname(file), { recursive: true });
  using held = await lock(file);
  return await body(held !== undefined && await acquire(held, signal));
}

/** Waits for a lock; false if the disk has none. */
async function acquire(lock: HostLock, signal: AbortSignal | undefined): Promise<boolean> {
  const tryLock = () => lock.tryLock().catch(() => undefined);
  let taken = await tryLock();
  while (taken === false) {
    await sleep(LOOK_MS, signal);
    taken = await tryLock();
  }
  return taken ?? false;
}

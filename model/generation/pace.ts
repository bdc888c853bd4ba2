/**
 * Keeps a long computation from starving everything else on its event loop.
 *
 * @module
 */

/** Longest time in milliseconds that nothing else gets a turn. */
const MOST = 25;

let last = 0;

/** Lets timers, signals and requests have their turn, if their last one is long past. */
export async function breathe(): Promise<void> {
  if (performance.now() - last < MOST) return;
  await new Promise<void>((resolve) => setTimeout(resolve));
  last = performance.now();
}

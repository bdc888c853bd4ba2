/**
 * Order statistics of a handful of samples.
 *
 * @module
 */

/** What a report says of a set of samples, in their unit. */
export interface Summary {
  /** Half of the samples are below. */
  readonly median: number;
  /** A tenth of the samples is below. */
  readonly p10: number;
  /** A tenth of the samples is above. */
  readonly p90: number;
}

/**
 * The value below which a share of the samples lies, between neighbours by linear interpolation.
 *
 * @param samples at least one number, in any order
 * @param share from 0 to 1
 */
export function quantile(samples: readonly number[], share: number): number {
  if (samples.length === 0) throw new RangeError("Cannot take a quantile: no samples");
  const sorted = samples.toSorted((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const low = sorted[below]!;
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return low + (high - low) * (place - below);
}

/** Median, p10 and p90. */
export function summarize(samples: readonly number[]): Summary {
  return {
    median: quantile(samples, 0.5),
    p10: quantile(samples, 0.1),
    p90: quantile(samples, 0.9),
  };
}

import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { KvAppendAttributes, KvAppendInput } from "./kv_append.ts";

/** Fills the slots from `position` on; the outputs already hold what the caches held. */
export function reference(
  { keys, values }: Inputs<ReferenceInput, KvAppendInput, never>,
  { position }: KvAppendAttributes,
  { keyCache, valueCache }: {
    readonly keyCache: ReferenceOutput;
    readonly valueCache: ReferenceOutput;
  },
  rows: Iterable<number>,
): void {
  const [, heads, capacity, columns] = keyCache.shape as [number, number, number, number];
  const tokens = keys.shape[1]!;
  for (const row of rows) {
    const token = row % capacity - position;
    if (token < 0 || token >= tokens) continue;
    const head = Math.floor(row / capacity) % heads;
    const batch = Math.floor(row / (capacity * heads));
    const from = ((batch * tokens + token) * heads + head) * columns;
    for (let c = 0; c < columns; c++) {
      keyCache.values[row * columns + c] = keys.values[from + c]!;
      valueCache.values[row * columns + c] = values.values[from + c]!;
    }
  }
}

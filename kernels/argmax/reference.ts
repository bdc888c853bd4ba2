import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";

/** Walks each row once; a number is taken where it is larger than all before it. */
export function reference(
  { x }: Inputs<ReferenceInput, "x", never>,
  _attributes: object,
  { ids }: { readonly ids: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const columns = x.shape.at(-1)!;
  // A row of ids is a row of rows of x.
  const width = ids.shape.at(-1) ?? 1;
  for (const row of rows) {
    for (let at = row * width; at < (row + 1) * width; at++) {
      let best = NaN, id = 0;
      for (let i = 0; i < columns; i++) {
        const value = x.values[at * columns + i]!;
        if (value > best || (Number.isNaN(best) && !Number.isNaN(value))) {
          best = value;
          id = i;
        }
      }
      ids.values[at] = id;
    }
  }
}

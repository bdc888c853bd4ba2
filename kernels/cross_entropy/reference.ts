import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { CrossEntropyInput } from "./cross_entropy.ts";

/** The row's maximum, then the sum of its exponentials, then its logarithm. */
export function reference(
  { logits, labels, ignored }: Inputs<ReferenceInput, CrossEntropyInput, "ignored">,
  _attributes: object,
  { loss }: { readonly loss: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const classes = logits.shape.at(-1)!;
  // A row of losses is a row of rows of logits.
  const width = loss.shape.at(-1) ?? 1;
  for (const row of rows) {
    for (let at = row * width; at < (row + 1) * width; at++) {
      if (ignored && ignored.values[at] !== 0) {
        loss.values[at] = loss.scale[at] = 0;
        continue;
      }
      const first = at * classes;
      let highest = -Infinity;
      for (let j = 0; j < classes; j++) highest = Math.max(highest, logits.values[first + j]!);
      let total = 0;
      for (let j = 0; j < classes; j++) total += Math.exp(logits.values[first + j]! - highest);
      loss.values[at] = Math.log(total) + (highest - logits.values[first + labels.values[at]!]!);
    }
  }
}

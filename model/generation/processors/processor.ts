/**
 * What a logits processor is.
 *
 * @module
 */

/**
 * Changes the scores of a row's next token in place.
 *
 * `scores` are [V], with −∞ for tokens that must not come: logits, or log-probabilities in a beam search.
 * `ids` are the row's tokens so far, padding on its left included. `row` is the row's number in the
 * batch, where each prompt has as many rows as it has beams or sequences to return.
 */
export type LogitsProcessor = (
  scores: Float32Array,
  ids: readonly number[],
  row: number,
) => void;

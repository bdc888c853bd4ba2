/**
 * What a chat template may take. A template comes with a checkpoint, from whoever made that.
 *
 * @module
 */

/** Evaluation steps of one rendering. Walking `n` elements takes `n` steps, and 64 characters take one. */
export const MOST_STEPS = 1_000_000;
/** UTF-16 code units of one string, the rendered text among them. */
export const MOST_TEXT = 8 * 2 ** 20;
/** Numbers in one `range`. */
export const MOST_RANGE = 100_000;
/** Open blocks and brackets in the source; macro calls within each other; levels of a value. */
export const MOST_NESTING = 64;
/** Evaluations within each other: what the stack holds many times over. */
export const MOST_DEPTH = 400;
/** Code units of the source. */
export const MOST_SOURCE = 256 * 2 ** 10;
/** White space in a row in the source, in which the package's search for tags is quadratic. */
export const MOST_WHITESPACE = 1024;
/** Messages of one conversation. */
export const MOST_MESSAGES = 2048;

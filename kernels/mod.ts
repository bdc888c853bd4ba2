/**
 * The kernels: one line per op, and the sizes that they are timed at. Besides its own folder this is
 * the only place that an op is added to.
 *
 * @module
 */

export * from "./add/add.ts";
export * from "./argmax/argmax.ts";
export * from "./attention_values/attention_values.ts";
export * from "./attention_weights/attention_weights.ts";
export * from "./cross_entropy/cross_entropy.ts";
export * from "./embedding/embedding.ts";
export * from "./embedding_piece/embedding_piece.ts";
export * from "./flash_attention/flash_attention.ts";
export * from "./kv_append/kv_append.ts";
export * from "./layer_norm/layer_norm.ts";
export * from "./matmul/matmul.ts";
export * from "./rope/rope.ts";
export * from "./softmax/softmax.ts";
export * from "./swiglu/swiglu.ts";
export * from "./write_columns/write_columns.ts";

export * from "./model_shapes.ts";

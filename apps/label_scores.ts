/**
 * From the logits of a classification head to labels with scores.
 *
 * @module
 */

import type { StableLmConfig } from "../model/config.ts";
import { printable } from "../runtime/errors.ts";
import { shortestF32 } from "./text_rows.ts";

/** A label and how sure the model is of it. */
export interface LabelScore {
  /** Its name, from `id2label`. */
  readonly label: string;
  /** Its probability; the value itself where the model predicts values. */
  readonly score: number;
}

/**
 * What logits become: `softmax`, where one label holds; `sigmoid`, where each may hold or not; `none`, where they are
 * values.
 */
export type Scoring = "softmax" | "sigmoid" | "none";

/**
 * The scoring of whole sequences, as transformers' text-classification pipeline chooses it: what `problem_type` says,
 * else `sigmoid` for one label and `softmax` for several.
 */
export function scoringOf({ problem_type: problem, num_labels: labels }: StableLmConfig): Scoring {
  if (problem === "regression") return "none";
  return problem === "multi_label_classification" || labels === 1 ? "sigmoid" : "softmax";
}

/**
 * Labels of one row of logits, the likeliest first; values stay in the config's order.
 *
 * @param most how many to give at most
 */
export function labelScores(
  config: StableLmConfig,
  logits: ArrayLike<number>,
  scoring: Scoring,
  most: number,
): LabelScore[] {
  const values = Array.from(logits);
  const scores = scoring === "softmax"
    ? softmax(values)
    : scoring === "sigmoid"
    ? values.map((value) => 1 / (1 + Math.exp(-value)))
    : values;
  const all = scores.map((score, id): LabelScore => {
    return { label: config.id2label[id] ?? `LABEL_${id}`, score: shortestF32(score) };
  });
  if (scoring !== "none") all.sort((a, b) => b.score - a.score);
  return all.slice(0, most);
}

/** Labels with their scores between tabs, each probability to four places. */
export function formatLabels(labels: readonly LabelScore[], scoring: Scoring): string {
  return labels.map(({ label, score }) => {
    return `${printable(label)}\t${scoring === "none" ? score : score.toFixed(4)}`;
  }).join("\t");
}

function softmax(values: readonly number[]): number[] {
  const most = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const parts = values.map((value) => Math.exp(value - most));
  const sum = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / sum);
}

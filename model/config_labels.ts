/**
 * Names of the classes that a classification head tells apart.
 *
 * @module
 */

import { type JsonFields, shown } from "./json_fields.ts";

/** Classes, in both directions. */
export interface Labels {
  /** How many. */
  readonly num_labels: number;
  /** Names by number. */
  readonly id2label: Readonly<Record<string, string>>;
  /** Numbers by name. */
  readonly label2id: Readonly<Record<string, number>>;
}

const MOST_LABELS = 2 ** 16;
const COUNT = { whole: true, least: 1, most: MOST_LABELS };

/**
 * Resolves `num_labels`, `id2label` and `label2id`. Names tell the number; a number alone makes the
 * names LABEL_0, LABEL_1 and so on.
 *
 * @throws {ModelConfigError} If a value breaks a rule or two keys contradict each other
 */
export function resolveLabels(fields: JsonFields): Labels {
  const num_labels = fields.number("num_labels", COUNT, null);
  if (!fields.states("id2label")) {
    if (fields.states("label2id")) {
      fields.refuse("label2id", "contradiction", "must come together with id2label");
    }
    const count = num_labels ?? 2;
    return labelsOf(Array.from({ length: count }, (_, i) => [String(i), `LABEL_${i}`]));
  }
  const entries = readNames(fields);
  if (num_labels !== null && num_labels !== entries.length) {
    fields.refuse(
      "num_labels",
      "contradiction",
      `must be the number of labels in id2label, ${entries.length}`,
    );
  }
  const labels = labelsOf(entries);
  if (!fields.states("label2id")) return labels;
  return { ...labels, label2id: readNumbers(fields) };
}

// Object.fromEntries defines keys as they are, so that "__proto__" is a label like any other.
function labelsOf(entries: readonly (readonly [id: string, label: string])[]): Labels {
  return {
    num_labels: entries.length,
    id2label: Object.freeze(Object.fromEntries(entries)),
    label2id: Object.freeze(Object.fromEntries(entries.map(([id, label]) => [label, Number(id)]))),
  };
}

function readNames(fields: JsonFields): [id: string, label: string][] {
  const names = fields.object("id2label");
  const ids = names.keys();
  if (ids.length < 1 || ids.length > MOST_LABELS) {
    const rule = `must have 1 to ${MOST_LABELS} entries`;
    fields.refuse("id2label", "wrong-list", rule, String(ids.length));
  }
  return ids.map((id) => {
    if (!isLabelNumber(id)) {
      names.refuse(id, "label-number", "must be a whole number from 0, as a key", shown(id));
    }
    return [id, names.text(id, "")];
  });
}

function readNumbers(fields: JsonFields): Readonly<Record<string, number>> {
  const numbers = fields.object("label2id");
  return Object.freeze(Object.fromEntries(
    numbers.keys().map((label) => {
      const value = numbers.get(label);
      // Some writers spelled the numbers as strings.
      const id = typeof value === "string" && isLabelNumber(value) ? Number(value) : value;
      if (typeof id !== "number" || !isLabelNumber(String(id))) {
        return numbers.refuse(label, "label-number", "must be a whole number from 0");
      }
      return [label, id + 0];
    }),
  ));
}

function isLabelNumber(text: string): boolean {
  return /^(0|[1-9]\d{0,8})$/.test(text);
}

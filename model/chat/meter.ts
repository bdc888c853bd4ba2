/**
 * Counts what a rendering takes, before it is taken.
 *
 * @module
 */

import { TemplateError } from "../../runtime/errors.ts";
import { MOST_NESTING, MOST_STEPS, MOST_TEXT } from "./limits.ts";

/** A value of the package's interpreter: strings, numbers, arrays and maps are in `value`. */
export interface RuntimeValue {
  /** Its class, such as `StringValue`. */
  readonly type: string;
  /** What it holds. */
  value: unknown;
}

/** Size of a value with all that it holds. */
interface Extent {
  /** Steps to walk it. */
  readonly steps: number;
  /** Levels of lists and objects. */
  readonly levels: number;
}

/** Steps left of one rendering. */
export class Meter {
  readonly #file: string;
  #left = MOST_STEPS;

  /** Takes the template's name, for messages. */
  constructor(file: string) {
    this.#file = file;
  }

  /** Takes steps. */
  take(steps: number): void {
    this.#left -= steps;
    // Not `< 0`: what is not a number must not pass either.
    if (!(this.#left >= 0)) this.refuse(`at most ${MOST_STEPS} evaluation steps`, "more");
  }

  /** Takes the steps for characters, and refuses a text that is too long. */
  takeText(length: number, eachStep = 64): void {
    if (!(length <= MOST_TEXT)) {
      this.refuse(`texts of at most ${MOST_TEXT} UTF-16 code units`, String(length));
    }
    this.take(Math.ceil(length / eachStep));
  }

  /** Takes the steps to walk a value with all that it holds. What is held twice is walked twice. */
  walk(value: RuntimeValue, times = 1): Extent {
    const before = this.#left;
    const open: [unknown, number][] = [[value, 1]];
    let levels = 1;
    while (open.length > 0) {
      const [each, level] = open.pop()!;
      const held = (each as RuntimeValue | undefined)?.value;
      levels = Math.max(levels, level);
      if (level > MOST_NESTING) this.refuse(`values of at most ${MOST_NESTING} levels`, "more");
      this.take(times);
      if (typeof held === "string") this.takeText(held.length, 64 / times);
      else if (Array.isArray(held)) {
        this.take(held.length);
        for (const item of held) open.push([item, level + 1]);
      } else if (held instanceof Map) {
        this.take(held.size);
        for (const [key, item] of held) {
          this.takeText(String(key).length, 64 / times);
          open.push([item, level + 1]);
        }
      }
    }
    return { steps: (before - this.#left) / times, levels };
  }

  /** Takes the steps to walk a value's own elements or characters. */
  step(value: RuntimeValue, times: number): void {
    const { value: held } = value;
    if (typeof held === "string") this.takeText(held.length, 64 / times);
    else this.take(times * sizeOf(value));
  }

  /** Takes the steps to search a text for another, which are as the product of their lengths at worst. */
  search(text: RuntimeValue, sought: RuntimeValue): void {
    const cost = typeof text.value === "string" ? sizeOf(text) * sizeOf(sought) / 256 : 0;
    this.take(Math.ceil(cost));
  }

  /** Takes the steps of a filter that repeats an argument for every part of its operand. */
  repeat(filter: string, operand: RuntimeValue, argument: RuntimeValue): void {
    if (filter === "default") return;
    const { value } = argument;
    const isList = Array.isArray(value) || value instanceof Map;
    const length = typeof value === "number"
      ? Math.abs(value)
      : isList
      ? 64 * this.walk(argument).steps
      : sizeOf(argument);
    if (filter === "int" || filter === "float" || length <= 1) return;
    const { steps, levels } = this.walk(operand);
    // A text may consist of line ends only, each of which is indented, or be joined by its characters.
    const isText = typeof operand.value === "string";
    const parts = isText ? sizeOf(operand) : steps * (filter === "tojson" ? levels : 1);
    const times = filter === "sort" ? 40 : filter === "map" || filter === "selectattr" ? 4 : 1;
    this.takeText(parts * length, 64 / times);
  }

  /** Takes the steps of a method of a text or an object. */
  call(name: string, receiver: RuntimeValue, args: readonly RuntimeValue[]): void {
    const [first, second] = args;
    const text = receiver.value;
    if (typeof text !== "string") {
      if (name === "dictsort") this.walk(receiver, 20);
      else if (name !== "get") this.take(2 * sizeOf(receiver));
      return;
    }
    // The package calls a function for every word of a title.
    this.takeText(text.length, name === "title" ? 4 : 64);
    if (name === "split" || name === "replace") {
      const sought = typeof first?.value === "string" ? first.value : undefined;
      if (first !== undefined) this.search(receiver, first);
      const found = this.#occurrences(text, sought);
      if (name === "replace") {
        // More than the result where old text goes; that old text is at most all of this one.
        this.takeText(text.length + found * (second === undefined ? 0 : sizeOf(second)));
      }
    } else if (Array.isArray(first?.value)) {
      // startswith and endswith, of one text of several
      this.walk(first);
    } else if (first !== undefined) {
      this.step(first, 1);
    }
  }

  /** Throws that a limit is exceeded. */
  refuse(limit: string, value: string): never {
    const rule = `must render within its budget: ${limit}`;
    throw new TemplateError({ file: this.#file, reason: "template-budget", rule, value });
  }

  /** Counts where a text occurs, or gaps between words where none is sought: a step for each. */
  #occurrences(text: string, sought: string | undefined): number {
    if (sought === "") {
      this.take(text.length + 1);
      return text.length + 1;
    }
    let count = 0;
    if (sought === undefined) {
      const word = /\s\S/g;
      while (word.test(text)) this.take(1), count++;
      return count;
    }
    for (let at = text.indexOf(sought); at >= 0; at = text.indexOf(sought, at + sought.length)) {
      this.take(1);
      count++;
    }
    return count;
  }
}

/** Characters, elements or entries of a value; 1 for one that has none. */
function sizeOf({ value }: RuntimeValue): number {
  if (typeof value === "string" || Array.isArray(value)) return value.length;
  return value instanceof Map ? value.size : 1;
}

/**
 * `deno task classify`: labels for each text, or for each of its tokens, from a model with a classification head.
 *
 * Permissions: `--allow-read` of the model and of texts; `--allow-write` of the files that `--json` and `--out`
 * name; for a model of the hub see {@linkcode fetchCheckpoint}.
 *
 * @module
 */

import { loadParts } from "../model/loading.ts";
import { headOf } from "../model/parameters.ts";
import { StableLmForSequenceClassification } from "../model/sequence_classification.ts";
import { StableLmForTokenClassification } from "../model/token_classification.ts";
import { ModelFormatError, requireInput } from "../runtime/errors.ts";
import {
  type CommandSpec,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";
import {
  formatLabels,
  type LabelScore,
  labelScores,
  type Scoring,
  scoringOf,
} from "./label_scores.ts";
import { type ModelChoice, type OpenedModel, openModel, type OpenOptions } from "./text_model.ts";
import { runTexts, TEXT_OPTIONS, type TextSurroundings, type TextWork } from "./text_results.ts";
import { inputsOf, type TextRow } from "./text_rows.ts";
import { visibleBytes } from "./visible_bytes.ts";

const OPTIONS = {
  ...TEXT_OPTIONS,
  model: {
    ...TEXT_OPTIONS.model,
    summary:
      "a folder, a .gguf file, or owner/name on the hub, of a model with a classification head",
  },
  top: {
    type: "integer",
    value: "N",
    summary: "labels to give; 1 unless given, and all of them where several may hold",
    least: 1,
    most: 2 ** 16,
  },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const CLASSIFY_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "classify",
  summary: "Labels texts, or each token of them, with a model that has a classification head.",
  operands: { name: "text", summary: "texts; - or none is standard input, as one text" },
  options: OPTIONS,
  notes: [
    "Prints a line for each text: labels and scores between tabs, the likeliest first. A StableLmForSequence-",
    "Classification gives probabilities of labels of which one holds or, if problem_type says so, each may hold;",
    "for regression, all values as they are. A StableLmForTokenClassification gives a line for each token, and an",
    "empty line between texts. For an empty text, the bos token stands. Files and standard input are UTF-8; one",
    "newline at their end is not part of the text.",
    "",
    '  deno task classify --model ./reviews "A fine play." "Two hours of rain."',
    "  deno task classify --model ./reviews --top 3 --file review.txt --json scores.json",
    "  deno task classify --model ./reviews --batch texts.jsonl --out labels.jsonl --batch-size 16",
    "",
    "Exits 1 if a line of --batch could not be done, 3 if the model's files are bad or have no such head, 4",
    "without a GPU.",
  ],
};

/** What becomes of a text: labels of all of it, or of each token. */
export type Classification =
  | {
    /** The labels that were asked for, the likeliest first. */
    readonly labels: readonly LabelScore[];
  }
  | {
    /** The text's tokens, in order. */
    readonly tokens: readonly TokenLabels[];
  };

/** Labels of a token. */
export interface TokenLabels {
  /** Its id. */
  readonly id: number;
  /** The bytes that it stands for, with escapes. */
  readonly token: string;
  /** The labels that were asked for, the likeliest first. */
  readonly labels: readonly LabelScore[];
}

type Classifier = StableLmForSequenceClassification | StableLmForTokenClassification;

/** Classifies texts and prints their labels. */
export async function classify(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
  surroundings: TextSurroundings = Deno,
): Promise<number> {
  const { top } = options;
  if (options.model === undefined) {
    throw new UsageError("--model must name a model with a classification head; the demo has none");
  }
  const open = async (opening: OpenOptions): Promise<TextWork<Classification>> => {
    const opened = await openModel(options, chooseClassifier(top), opening);
    const { model } = opened;
    const ofTokens = model instanceof StableLmForTokenClassification;
    const scoring = ofTokens ? "softmax" : scoringOf(model.config);
    const most = top ?? (scoring === "softmax" ? 1 : Infinity);
    let count = 0;
    return {
      opened,
      canPad: ofTokens || model.config.pad_token_id !== null,
      method: { scoring },
      run: (rows) => classifyRows(opened, rows, scoring, most),
      format: (_text, result) => formatResult(result, scoring, count++ > 0),
    };
  };
  return await runTexts({ kind: "classify", operands, options, open }, signal, surroundings);
}

/** The class of the head that a checkpoint has; refuses those without one. */
function chooseClassifier(top: number | undefined): ModelChoice<Classifier> {
  return ({ config, source }, name) => {
    const head = headOf(config, new Set(source.tensors.keys()));
    if (head === "token-classification") {
      return async (loading) => new StableLmForTokenClassification(await loadParts(head, loading));
    }
    if (head === "sequence-classification") {
      if (top !== undefined && scoringOf(config) === "none") {
        throw new UsageError("--top must not be given for regression, whose values have no order");
      }
      return async (loading) =>
        new StableLmForSequenceClassification(await loadParts(head, loading));
    }
    throw new ModelFormatError({
      file: name,
      reason: "no-classification-head",
      rule:
        "must have a classification head (score.weight), as a StableLmForSequenceClassification " +
        "or a StableLmForTokenClassification does",
      value: head === "none" ? "a StableLmModel" : "a StableLmForCausalLM",
    });
  };
}

/** Runs texts together. */
async function classifyRows(
  { backend, model, tokenizer }: OpenedModel<Classifier>,
  rows: readonly TextRow[],
  scoring: Scoring,
  most: number,
): Promise<Classification[]> {
  const { config } = model;
  using output = await model.forward(inputsOf(rows, config.pad_token_id));
  const { numbers } = await backend.read(output.logits); //                    [B, L] or [B, S, L]
  const width = config.num_labels;
  const labelsAt = (place: number) => {
    const logits = numbers.subarray(place * width, (place + 1) * width);
    const bad = logits.find((value) => !Number.isFinite(value));
    const rule = `must give finite numbers in ${model.activationDtype}`;
    requireInput(bad === undefined, "classify", "the text", rule, bad);
    return labelScores(config, logits, scoring, most);
  };
  if (!(model instanceof StableLmForTokenClassification)) {
    return rows.map((_, i) => ({ labels: labelsAt(i) }));
  }
  return rows.map(({ ids, rowLength }, i) => {
    const tokens = ids.map((id, at): TokenLabels => {
      const token = visibleBytes(tokenizer.tokenBytes(id));
      return { id, token, labels: labelsAt(i * rowLength + at) };
    });
    return { tokens };
  });
}

function formatResult(result: Classification, scoring: Scoring, isNext: boolean): string {
  if ("labels" in result) return `${formatLabels(result.labels, scoring)}\n`;
  const lines = result.tokens.map(({ token, labels }) => {
    return `"${token}"\t${formatLabels(labels, scoring)}\n`;
  });
  return (isNext ? "\n" : "") + lines.join("");
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(CLASSIFY_COMMAND, (command, signal) => classify(command, signal)));
}

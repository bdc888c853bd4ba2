/**
 * `deno task embed`: a vector for each text, from the last hidden state of a model.
 *
 * Permissions: `--allow-read` of the model and of texts; `--allow-write` of the files that `--json` and `--out`
 * name; for a model of the hub see {@linkcode fetchCheckpoint}.
 *
 * @module
 */

import { StableLmModel } from "../model/base_model.ts";
import { loadParts } from "../model/loading.ts";
import { requireInput } from "../runtime/errors.ts";
import {
  type CommandSpec,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";
import { type ModelChoice, type OpenedModel, openModel, type OpenOptions } from "./text_model.ts";
import { runTexts, TEXT_OPTIONS, type TextSurroundings, type TextWork } from "./text_results.ts";
import { inputsOf, shortestF32, type TextRow } from "./text_rows.ts";

const OPTIONS = {
  ...TEXT_OPTIONS,
  pooling: {
    type: "text",
    value: "mean|last",
    summary: "the mean over a text's tokens, which is the default, or its last token",
    choices: ["mean", "last"],
  },
  normalize: { type: "flag", summary: "scale each vector to length 1" },
  similarity: {
    type: "flag",
    summary: "print the cosine between the first text and each other one, in place of vectors",
  },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const EMBED_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "embed",
  summary: "Makes a vector of each text: the model's last hidden state, after the final norm.",
  operands: { name: "text", summary: "texts; - or none is standard input, as one text" },
  options: OPTIONS,
  notes: [
    'Prints {"text": …, "embedding": [numbers]} for each text, on a line of its own; the numbers are those of the',
    "f32 exactly. Of an empty text, the bos token is taken. Files and standard input are UTF-8; one newline at",
    "their end is not part of the text. A checkpoint of any kind will do; a head that it has is left out.",
    "",
    '  deno task embed "To be, or not to be"',
    "  deno task embed --pooling last --normalize --file speech.txt --json speech.json",
    '  deno task embed --similarity "a king" "a queen" "a turnip"',
    "  deno task embed --batch texts.jsonl --out vectors.jsonl --batch-size 16 --shard 1/2",
    "",
    "Exits 1 if a line of --batch could not be done, 3 if the model's files are bad, 4 without a GPU.",
  ],
};

/** What becomes of a text. */
export interface Embedding {
  /** Its vector; each number is the shortest decimal that is the f32. */
  readonly embedding: readonly number[];
}

/** How the states of tokens become one vector. */
interface Pooling {
  /** `mean` or `last`. */
  readonly pooling: string;
  /** Whether the vector is scaled to length 1. */
  readonly normalize: boolean;
}

/** Embeds texts and prints their vectors. */
export async function embed(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
  surroundings: TextSurroundings = Deno,
): Promise<number> {
  const { pooling = "mean", normalize, similarity } = options;
  if (similarity && options.batch !== undefined) {
    throw new UsageError("--similarity must not be given with --batch");
  }
  if (similarity && operands.length < 2) {
    throw new UsageError(`--similarity must have two texts or more: ${operands.length}`);
  }
  const open = async (opening: OpenOptions): Promise<TextWork<Embedding>> => {
    const opened = await openModel(options, chooseDecoder, opening);
    const method = { pooling, normalize };
    return {
      opened,
      canPad: true,
      method,
      run: (rows) => embedRows(opened, rows, method),
      format: similarity
        ? cosines()
        : (text, { embedding }) => `${JSON.stringify({ text, embedding })}\n`,
    };
  };
  return await runTexts({ kind: "embed", operands, options, open }, signal, surroundings);
}

/** Any checkpoint has a decoder. */
const chooseDecoder: ModelChoice<StableLmModel> = () => async (loading) =>
  new StableLmModel(await loadParts("none", loading));

/** Runs texts together. */
async function embedRows(
  { backend, model }: OpenedModel<StableLmModel>,
  rows: readonly TextRow[],
  method: Pooling,
): Promise<Embedding[]> {
  const inputs = inputsOf(rows, model.config.pad_token_id);
  using output = await model.forward({ ...inputs, useCache: false });
  const { numbers } = await backend.read(output.lastHiddenState); //           [B, S, H]
  const { hidden_size: width } = model.config;
  return rows.map(({ row, rowLength }, i) => {
    const states = numbers.subarray(i * rowLength * width, (i * rowLength + row.length) * width);
    const vector = pooled(states, width, method);
    const bad = vector.find((value) => !Number.isFinite(value));
    const rule = `must give finite numbers in ${model.activationDtype}`;
    requireInput(bad === undefined, "embed", "the text", rule, bad);
    return { embedding: Array.from(vector, shortestF32) };
  });
}

/** One vector of a text's states [tokens, H], in f64 until the end. */
function pooled(
  states: ArrayLike<number>,
  width: number,
  { pooling, normalize }: Pooling,
): Float32Array {
  const tokens = states.length / width;
  const first = pooling === "last" ? tokens - 1 : 0;
  const sum = new Float64Array(width);
  for (let i = first * width; i < states.length; i++) sum[i % width]! += states[i]!;
  const vector = sum.map((value) => value / (tokens - first));
  const length = normalize ? Math.hypot(...vector) : 1;
  // A vector of zeros has no direction, and stays.
  return Float32Array.from(vector, (value) => length === 0 ? value : value / length);
}

/** Lines of cosines with the first vector, which has no line of its own. */
function cosines(): (text: string, result: Embedding) => string {
  let first: readonly number[] | undefined;
  return (_text, { embedding }) => {
    if (first === undefined) {
      first = embedding;
      return "";
    }
    return `${cosine(first, embedding).toFixed(6)}\n`;
  };
}

function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  return dot / (Math.hypot(...a) * Math.hypot(...b));
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(EMBED_COMMAND, (command, signal) => embed(command, signal)));
}

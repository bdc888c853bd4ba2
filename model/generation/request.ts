/**
 * A call of `generate`, checked and complete.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import { HostTensor, type Tensor } from "../../runtime/tensor.ts";
import type { StableLmConfig } from "../config.ts";
import type { GenerationConfig } from "../generation_config.ts";
import { type IdMatrix, requireIds } from "../inputs.ts";
import type { GenerativeModel } from "./generative_model.ts";
import { type GenerateOptions, type GenerationInputs, resolveSettings } from "./options.ts";
import { Stopping } from "./stopping.ts";

/** Rows of tokens of one length. */
export interface Prompts {
  /** Tokens, padded on the left. */
  readonly prompts: readonly (readonly number[])[];
  /** 1 for each token that is seen and 0 for padding; absent where all are. */
  readonly mask: readonly (readonly number[])[] | undefined;
}

/** Everything that a way of generating needs to know. */
export interface GenerationRequest<T extends Tensor = Tensor> extends Prompts {
  /** The model. */
  readonly model: GenerativeModel<T>;
  /** What the caller gave beside settings. */
  readonly inputs: GenerationInputs<T>;
  /** Settings of the call, the checkpoint, and the defaults. */
  readonly config: GenerationConfig;
  /** What to be guided away from, if the caller says. */
  readonly negative: Prompts | undefined;
  /** Tokens of a prompt, padding included. */
  readonly promptLength: number;
  /** Most tokens, the prompt's included. */
  readonly maxLength: number;
  /** Fewest tokens, the prompt's included. */
  readonly minLength: number;
  /** Tokens that end a row; there may be none. */
  readonly eos: readonly number[];
  /** Fills rows up that ended early; null if nothing is known to. */
  readonly pad: number | null;
  /** What draws depend on. */
  readonly seed: number | bigint;
  /** What the draws of each prompt depend on, where each has a seed of its own. */
  readonly seeds: readonly (number | bigint)[] | undefined;
  /** What ends a row. */
  readonly stopping: Stopping;
}

/** New tokens where no length is stated. */
const NEW_TOKENS = 20;

/**
 * Checks a call; nothing has been computed when it throws.
 *
 * @throws {ModelInputError} naming option, rule and value
 */
export function makeRequest<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
): GenerationRequest<T> {
  const config = resolveSettings(model, options);
  const eos = [config.eos_token_id ?? []].flat();
  const pad = config.pad_token_id ?? eos[0] ?? null;
  requireKnownIds(model.config, "eosTokenId", eos);
  requireKnownIds(model.config, "padTokenId", [pad ?? []].flat());
  const { prompts, mask } = readPrompts(model.config, config, options, pad, eos);
  const negative = readNegative(model.config, options, prompts.length);
  const promptLength = prompts[0]!.length;
  const { maxLength, minLength } = lengthsOf(model.config, config, options, promptLength);
  requireOneRow(options, prompts.length, config);
  requireNoPadding(options, mask);
  requireFiller(options, prompts.length, config, pad);
  const stopping = new Stopping({
    maxLength,
    maxTime: config.max_time,
    stopStrings: config.stop_strings,
    tokenizer: options.tokenizer,
    eos,
    criteria: options.stoppingCriteria,
  });
  const seeds = Array.isArray(options.seed) ? readSeeds(options.seed, prompts.length) : undefined;
  const seed = seeds?.[0] ?? readSeed(options.seed as number | bigint | undefined);
  const lengths = { promptLength, maxLength, minLength };
  return {
    model,
    inputs: options,
    config,
    prompts,
    mask,
    negative,
    ...lengths,
    eos,
    pad,
    seed,
    seeds,
    stopping,
  };
}

/** Most tokens that a model's positions are made for; RoPE that is scaled by a factor at run time has more. */
export function contextLength(
  { max_position_embeddings: stated, rope_parameters }: StableLmConfig,
): number {
  const isStretched = rope_parameters.rope_type === "dynamic";
  return isStretched ? Math.floor(stated * rope_parameters.factor) : stated;
}

function lengthsOf<T extends Tensor>(
  model: StableLmConfig,
  config: GenerationConfig,
  options: GenerateOptions<T>,
  promptLength: number,
): { maxLength: number; minLength: number } {
  const { max_length, max_new_tokens, min_length, min_new_tokens } = config;
  const context = contextLength(model);
  const place = "inputIds";
  const fits = `must have at most ${context} tokens, as the model has no more positions`;
  requireInput(promptLength <= context, "generate", place, fits, promptLength);
  if (max_length !== null && max_new_tokens === null) {
    const rule = `must have fewer tokens than maxLength, ${max_length}`;
    requireInput(promptLength < max_length, "generate", place, rule, promptLength);
  }
  const byDefault = Math.max(promptLength + 1, Math.min(promptLength + NEW_TOKENS, context));
  const maxLength = max_new_tokens === null
    ? max_length ?? byDefault
    : promptLength + max_new_tokens;
  const wanted = min_new_tokens === null ? min_length : promptLength + min_new_tokens;
  // What the checkpoint says gives way to how much this call asks for.
  const isCallers = (options.minLength ?? options.minNewTokens ?? null) !== null;
  const minLength = isCallers ? wanted : Math.min(wanted, maxLength);
  const name = min_new_tokens === null ? "minLength" : "minNewTokens";
  const rule = `must leave at most ${maxLength} tokens, which is where rows end`;
  requireInput(minLength <= maxLength, "generate", name, rule, minLength);
  return { maxLength, minLength };
}

function requireKnownIds(
  { vocab_size: vocabulary }: StableLmConfig,
  name: string,
  ids: readonly number[],
): void {
  const rule = `must be below ${vocabulary} (vocab_size)`;
  for (const id of ids) requireInput(id < vocabulary, "generate", name, rule, id);
}

function requireOneRow<T extends Tensor>(
  { assistantModel, promptCache }: GenerationInputs<T>,
  prompts: number,
  { prompt_lookup_num_tokens: lookup }: GenerationConfig,
): void {
  const needs = { assistantModel, promptLookupNumTokens: lookup ?? undefined, promptCache };
  for (const [name, given] of Object.entries(needs)) {
    const rule = "must be given with one prompt only";
    requireInput(
      given === undefined || prompts === 1,
      "generate",
      name,
      rule,
      `${prompts} prompts`,
    );
  }
}

/** What a prompt cache holds is known by its tokens, and not by which of them were seen. */
function requireNoPadding<T extends Tensor>(
  { promptCache }: GenerationInputs<T>,
  mask: Prompts["mask"],
): void {
  const isKept = promptCache === undefined || mask === undefined;
  const rule = "must be given with a prompt without padding";
  requireInput(isKept, "generate", "promptCache", rule, "a prompt with padding");
}

/** Rows that end apart from each other have to be filled up with something. */
function requireFiller<T extends Tensor>(
  { stoppingCriteria }: GenerationInputs<T>,
  prompts: number,
  { num_return_sequences: returned, num_beams: beams, stop_strings }: GenerationConfig,
  pad: number | null,
): void {
  const rows = prompts * Math.max(returned, beams);
  const endApart = rows > 1 && (stop_strings !== null || stoppingCriteria !== undefined);
  const rule = "must be given, as rows may end apart and there is no eos token";
  requireInput(pad !== null || !endApart, "generate", "padTokenId", rule, pad);
}

function readNegative<T extends Tensor>(
  { vocab_size: below }: StableLmConfig,
  { negativePromptIds, negativePromptAttentionMask }: GenerationInputs<T>,
  batch: number,
): Prompts | undefined {
  if (negativePromptIds === undefined) {
    const isAlone = negativePromptAttentionMask !== undefined;
    const rule = "must come with negativePromptIds";
    requireInput(!isAlone, "generate", "negativePromptAttentionMask", rule, "alone");
    return undefined;
  }
  const rule = { below, bound: "vocab_size" };
  const ids = requireIds("generate", "negativePromptIds", negativePromptIds, rule);
  const rows = `must have as many rows as inputIds, ${batch}`;
  requireInput(ids.batch === batch, "generate", "negativePromptIds", rows, ids.batch);
  if (negativePromptAttentionMask === undefined) {
    return { prompts: matrixRows(ids), mask: undefined };
  }
  const mask = requireIds("generate", "negativePromptAttentionMask", negativePromptAttentionMask, {
    below: 2,
    bound: "1 is a token, 0 is padding",
    batch,
    tokens: ids.tokens,
  });
  return { prompts: matrixRows(ids), mask: matrixRows(mask) };
}

function readPrompts<T extends Tensor>(
  { vocab_size: vocabulary }: StableLmConfig,
  { bos_token_id: bos }: GenerationConfig,
  { inputIds, attentionMask }: GenerationInputs<T>,
  pad: number | null,
  eos: readonly number[],
): Prompts {
  if (inputIds === undefined) {
    requireInput(
      bos !== null,
      "generate",
      "inputIds",
      "must be given, as there is no bos token",
      bos,
    );
    requireInput(
      attentionMask === undefined,
      "generate",
      "attentionMask",
      "must come with inputIds",
      "alone",
    );
  }
  const given = inputIds ?? [[bos!]];
  const below = { below: vocabulary, bound: "vocab_size" };
  if (isRagged(given)) {
    const rule =
      "must not be given where rows differ in length: padding and its mask are made then";
    requireInput(attentionMask === undefined, "generate", "attentionMask", rule, "a mask");
    const rows = given.map((row, i) =>
      matrixRows(requireIds("generate", `inputIds[${i}]`, [row], below))[0]!
    );
    return padded(rows, pad);
  }
  const ids = requireIds("generate", "inputIds", given as IdMatrix, below);
  const { batch, tokens } = ids;
  const prompts = matrixRows(ids);
  if (attentionMask === undefined) {
    // A pad token that also ends texts may be a token of the prompt.
    const isPadding = (id: number) => id === pad && !eos.includes(id);
    if (!ids.values.some(isPadding)) return { prompts, mask: undefined };
    const last = prompts.findIndex((row) => isPadding(row.at(-1)!));
    const rule = "must be given where a prompt ends in the pad token, which may be one of its own";
    requireInput(last < 0, "generate", "attentionMask", rule, `row ${last} of inputIds`);
    const mask = prompts.map((row) => row.map((id) => isPadding(id) ? 0 : 1));
    return { prompts, mask };
  }
  const rule = { below: 2, bound: "1 is a token, 0 is padding", batch, tokens };
  const mask = matrixRows(requireIds("generate", "attentionMask", attentionMask, rule));
  const blind = mask.findIndex((row) => row.at(-1) === 0);
  requireInput(
    blind < 0,
    "generate",
    "attentionMask",
    "must end in 1 in every row, as prompts are padded on the left",
    `0 in row ${blind}`,
  );
  return { prompts, mask: mask.some((row) => row.includes(0)) ? mask : undefined };
}

function isRagged(
  ids: NonNullable<GenerationInputs["inputIds"]>,
): ids is readonly ArrayLike<number>[] {
  if (ids instanceof HostTensor || !Array.isArray(ids)) return false;
  return ids.some((row) => row?.length !== ids[0]?.length);
}

function padded(rows: readonly (readonly number[])[], pad: number | null): Prompts {
  const length = Math.max(...rows.map((row) => row.length));
  const rule = "must be given, as prompts differ in length and there is no eos token";
  requireInput(pad !== null, "generate", "padTokenId", rule, pad);
  const missing = (row: readonly number[], filler: number) =>
    new Array<number>(length - row.length).fill(filler);
  return {
    prompts: rows.map((row) => [...missing(row, pad), ...row]),
    mask: rows.map((row) => [...missing(row, 0), ...row.map(() => 1)]),
  };
}

function matrixRows(
  { batch, tokens, values }: { batch: number; tokens: number; values: Int32Array },
): number[][] {
  return Array.from(
    { length: batch },
    (_, row) => [...values.subarray(row * tokens, (row + 1) * tokens)],
  );
}

function readSeeds(seeds: readonly (number | bigint)[], prompts: number): (number | bigint)[] {
  const rule = `must be one, or one for each of ${prompts} prompts`;
  requireInput(seeds.length === prompts, "generate", "seed", rule, `${seeds.length} seeds`);
  // A gap in the list is no seed, where no seed at all is a random one.
  return Array.from(seeds, (seed) => readSeed(seed ?? null));
}

function readSeed(seed: number | bigint | undefined): number | bigint {
  // A number, as JSON and most programs have no others.
  if (seed === undefined) return Number(crypto.getRandomValues(new BigUint64Array(1))[0]! >> 11n);
  const isSeed = typeof seed === "bigint"
    ? seed >= 0n && seed < 2n ** 64n
    : Number.isSafeInteger(seed) && seed >= 0;
  const rule = "must be a whole number from 0 to 2^53 - 1, or a bigint below 2^64";
  requireInput(isSeed, "generate", "seed", rule, seed);
  return seed;
}

/**
 * The model that the text commands run: which one, on what, and its tokenizer.
 *
 * Permissions: `--allow-read` of the model's files; a model that is named `owner/name` needs besides what
 * {@linkcode fetchCheckpoint} does.
 *
 * @module
 */

import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { type LoadOptions, loadParts } from "../model/loading.ts";
import { findFolder, findPretrained, type PretrainedFiles } from "../model/pretrained_files.ts";
import { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import type { LoadProgress } from "../model/weights/parameter_store.ts";
import type { WeightDtype } from "../model/weights/weight_source.ts";
import type { Backend } from "../runtime/backend.ts";
import { GpuUnavailableError, TokenizerError } from "../runtime/errors.ts";
import { GpuBackend } from "../runtime/gpu_backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import type { OptionSpec, OptionValues } from "./command_line.ts";
import { ProgressLine } from "./progress_line.ts";

/** What every text command takes. */
export const MODEL_OPTIONS = {
  model: {
    type: "text",
    value: "MODEL",
    summary: "a folder, a .gguf file, or owner/name on the hub; the project's demo unless given",
  },
  tokenizer: {
    type: "text",
    value: "FOLDER",
    summary: "where tokenizer.json is, if not beside the model's weights",
  },
  backend: {
    type: "text",
    value: "gpu|cpu",
    summary: "what to run on: the GPU, unless the f64 references are asked for, which are slow",
    choices: ["gpu", "cpu"],
  },
  dtype: {
    type: "text",
    value: "f32|f16|bf16",
    summary: "element type to hold the weights in; the checkpoint's unless given",
    choices: ["f32", "f16", "bf16"],
  },
} as const satisfies Record<string, OptionSpec>;

/** Values of {@linkcode MODEL_OPTIONS}, or of some of them. */
export type ModelValues = Partial<OptionValues<typeof MODEL_OPTIONS>>;

/** The checkpoint that comes with the project. */
const DEMO = new URL("../model/demo", import.meta.url);

/** A model with its tokenizer, ready to run. It owns all that it is made of. */
export interface OpenedModel<M extends Disposable, T extends Tensor = Tensor> extends Disposable {
  /** What the user calls it. */
  readonly name: string;
  /** Where it runs. */
  readonly backend: Backend<T>;
  /** The model. */
  readonly model: M;
  /** Its tokenizer, all of whose ids the model knows. */
  readonly tokenizer: Tokenizer;
  /** Where the tokenizer is, and a chat template, if there is one. */
  readonly folder: string;
}

/** A model that reads and writes text. */
export type TextModel<T extends Tensor = Tensor> = OpenedModel<StableLmForCausalLM<T>, T>;

/**
 * Says which model files are opened as, or throws if they are of none that will do.
 *
 * @param name what the user calls it
 * @returns loads it
 */
export type ModelChoice<M extends Disposable> = (
  files: PretrainedFiles,
  name: string,
) => (loading: LoadOptions<Tensor>) => Promise<M>;

/** How to open a model. */
export interface OpenOptions {
  /** Ends it between two reads. */
  readonly signal?: AbortSignal | undefined;
  /** Shows how far it has come; a line on standard error unless given. */
  readonly progress?: Pick<ProgressLine, "show" | "clear"> | undefined;
  /** Told what is odd about the files, as a sentence; `warning: …` on standard error unless given. */
  readonly onWarning?: ((warning: string) => void) | undefined;
}

/**
 * Opens backend, language model and tokenizer; see {@linkcode openModel}.
 */
export function openTextModel(
  chosen: ModelValues,
  options: OpenOptions = {},
): Promise<TextModel> {
  const choose: ModelChoice<StableLmForCausalLM> = ({ generationConfig }) => async (loading) =>
    new StableLmForCausalLM({ ...await loadParts("causal-lm", loading), generationConfig });
  return openModel(chosen, choose, options);
}

/**
 * Opens backend, model and tokenizer, with progress on standard error where that is a terminal.
 *
 * @throws {GpuUnavailableError} If there is no adapter and the backend is not the CPU's
 * @throws {TokenizerError} If there is no tokenizer, or it has ids that the model does not know
 * @throws {ModelDownloadError | ModelConfigError | ModelFormatError | ModelUnsupportedError} If the model cannot
 * be had, or a file breaks a rule
 */
export async function openModel<M extends Disposable>(
  chosen: ModelValues,
  choose: ModelChoice<M>,
  options: OpenOptions = {},
): Promise<OpenedModel<M>> {
  const { signal } = options;
  const { name, progress, onProgress, warn } = watch(chosen, options);
  using made = new DisposableStack();
  try {
    progress.show(`loading ${name}`);
    // What can be wrong with the files is found out before the device is asked for.
    const fetching = { signal, onProgress, onWarning: warn };
    const where = isGguf(chosen) ? name : await findFolder("open", chosen.model ?? DEMO, fetching);
    using files = await findPretrained(where, { signal });
    for (const warning of files.warnings) warn(warning);
    const { config, source } = files;
    const folder = chosen.tokenizer ?? (isGguf(chosen) ? folderOf(where) : where);
    const tokenizer = await Tokenizer.fromPretrained(folder, { signal, localFilesOnly: true });
    requireKnownIds(tokenizer, folder, config.vocab_size);
    const load = choose(files, name);
    const backend = made.use(await openBackend(chosen.backend));
    const dtype = chosen.dtype as WeightDtype | undefined;
    const model = made.use(await load({ backend, config, source, dtype, signal, onProgress }));
    const owned = made.move();
    const opened = { name, backend, model, tokenizer, folder };
    return { ...opened, [Symbol.dispose]: () => owned.dispose() };
  } finally {
    progress.clear();
  }
}

/**
 * Opens the tokenizer alone, without looking at the model's weights. One that is named `owner/name` is fetched with
 * them all the same, unless it is here.
 *
 * @throws {TokenizerError} If there is none, or a file breaks a rule
 * @throws {ModelDownloadError} If it cannot be had
 */
export async function openTokenizer(
  chosen: Pick<ModelValues, "model" | "tokenizer">,
  options: OpenOptions = {},
): Promise<{ readonly name: string; readonly tokenizer: Tokenizer }> {
  const { signal } = options;
  const { name: model, progress, onProgress, warn } = watch(chosen, options);
  try {
    const folder = isGguf(chosen) ? folderOf(model) : chosen.model ?? DEMO;
    const fetching = { signal, onProgress, onWarning: warn };
    const tokenizer = await Tokenizer.fromPretrained(chosen.tokenizer ?? folder, fetching);
    return { name: chosen.tokenizer ?? model, tokenizer };
  } finally {
    progress.clear();
  }
}

/** What a user sees of the opening of a model. */
function watch(chosen: ModelValues, options: OpenOptions) {
  const { progress = new ProgressLine(Deno.stderr) } = options;
  const { onWarning = (warning: string) => console.error(`warning: ${warning}`) } = options;
  const name = chosen.model ?? "model/demo";
  const onProgress = throttled((state) => progress.show(formatProgress(name, state)));
  const warn = (warning: string): void => {
    progress.clear();
    onWarning(warning);
  };
  return { name, progress, onProgress, warn };
}

function isGguf({ model }: ModelValues): boolean {
  return /\.gguf$/i.test(model ?? "");
}

async function openBackend(name: string | undefined): Promise<Backend> {
  if (name === "cpu") {
    const { CpuBackend } = await import("../runtime/cpu_backend.ts");
    return new CpuBackend();
  }
  try {
    return await GpuBackend.create();
  } catch (error) {
    if (!(error instanceof GpuUnavailableError)) throw error;
    throw new GpuUnavailableError(`${error.message}; --backend cpu needs none, and is slow`);
  }
}

/** A model's vocabulary may have room for more ids than there are, and not for fewer. */
function requireKnownIds({ vocabSize }: Tokenizer, folder: string, most: number): void {
  if (vocabSize <= most) return;
  throw new TokenizerError({
    file: `${folder}/tokenizer.json`,
    reason: "other-model",
    rule: `must have at most ${most} tokens, as the model's vocab_size is`,
    value: `${vocabSize}`,
  });
}

function folderOf(file: string): string {
  return /^(.*)[/\\][^/\\]*$/.exec(file)?.[1] || ".";
}

function formatProgress(
  name: string,
  { phase, loadedBytes, totalBytes, bytesPerSecond }: LoadProgress,
): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  const done = `${megabytes(loadedBytes)} of ${megabytes(totalBytes)} MB`;
  return `${phase}ing ${name}: ${done}, ${megabytes(bytesPerSecond)} MB/s`;
}

/** A terminal is written to ten times a second at most. */
function throttled(show: (state: LoadProgress) => void): (state: LoadProgress) => void {
  let last = -Infinity;
  return (state) => {
    const now = performance.now();
    if (now - last < 100) return;
    last = now;
    show(state);
  };
}

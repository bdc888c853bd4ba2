/**
 * Writes a checkpoint of random weights, with the sizes of a released model: something to load, time
 * and profile where the real weights are not at hand. What it generates is noise.
 *
 * Permissions: `--allow-read` and `--allow-write` of the folder that `--out` names.
 *
 * @module
 */

import { MODEL_SHAPES } from "../kernels/model_shapes.ts";
import { StableLmConfig } from "../model/config.ts";
import { parametersOf } from "../model/parameters.ts";
import { type NewTensor, writeSafetensorsShards } from "../model/weights/safetensors_writer.ts";
import type { WeightDtype } from "../model/weights/weight_source.ts";
import { elementCount } from "../runtime/tensor.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { ProgressLine } from "./progress_line.ts";
import { RandomWeights } from "./random_weights.ts";

/** A model whose sizes a checkpoint can have. */
export type ShapeName = keyof typeof MODEL_SHAPES;

/** What a model has beside the sizes of its kernels. */
interface ModelTraits {
  readonly layers: number;
  /** As it was released. */
  readonly dtype: WeightDtype;
  readonly eosTokenId: number;
  readonly hasQkvBias?: boolean;
  readonly hasQkNorm?: boolean;
  readonly isParallel?: boolean;
}

const TRAITS: Readonly<Record<ShapeName, ModelTraits>> = {
  "3b": { layers: 32, dtype: "bf16", eosTokenId: 0 },
  "1.6b": { layers: 24, dtype: "f16", eosTokenId: 100_257, hasQkvBias: true },
  "12b": { layers: 40, dtype: "bf16", eosTokenId: 100_257, hasQkNorm: true, isParallel: true },
  "tiny": { layers: 4, dtype: "bf16", eosTokenId: 0 },
};

/** Hugging Face's words for the dtypes. */
const TORCH_DTYPES: Readonly<Record<WeightDtype, string>> = {
  f32: "float32",
  f16: "float16",
  bf16: "bfloat16",
};

const OPTIONS = {
  out: { type: "text", value: "FOLDER", summary: "where to write; a new folder or an empty one" },
  shape: {
    type: "text",
    value: "NAME",
    summary: "model whose sizes it has (tiny unless given)",
    choices: Object.keys(MODEL_SHAPES),
  },
  layers: {
    type: "integer",
    value: "N",
    summary: "decoder layers (as many as the model has unless given)",
    least: 1,
    most: 1000,
  },
  dtype: {
    type: "text",
    value: "NAME",
    summary: "element type (the released model's unless given)",
    choices: Object.keys(TORCH_DTYPES),
  },
  "shard-megabytes": {
    type: "integer",
    value: "N",
    summary: "most millions of bytes in a file (5000 unless given)",
    least: 1,
    most: 1_000_000,
  },
  seed: {
    type: "integer",
    value: "N",
    summary: "seed of the weights (0 unless given)",
    least: 0,
    most: 2 ** 32 - 1,
  },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const MAKE_CHECKPOINT_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "make-checkpoint",
  summary: "Writes a checkpoint of random weights, with the sizes of a released model.",
  options: OPTIONS,
};

/** Writes and prints what it wrote. What an error or Ctrl-C cuts short is taken away again. */
export async function makeCheckpoint(
  { options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
): Promise<number> {
  const shape = (options.shape ?? "tiny") as ShapeName;
  const layers = options.layers ?? TRAITS[shape].layers;
  const dtype = (options.dtype ?? TRAITS[shape].dtype) as WeightDtype;
  if (options.out === undefined) throw new UsageError("--out must name a folder to write to");
  const folder = options.out.replace(/(?<=.)\/+$/, "");
  await makeEmptyFolder(folder);
  const config = checkpointConfig(shape, layers, dtype);
  const tensors = checkpointTensors(shape, layers, dtype);
  const parameters = tensors.reduce((sum, tensor) => sum + elementCount(tensor.shape), 0);
  const total = parameters * (dtype === "f32" ? 4 : 2);

  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const progress = new ProgressLine();
  const written: string[] = [];
  const create = async (name: string) => {
    const { writable } = await Deno.open(`${folder}/${name}`, { write: true, createNew: true });
    written.push(name);
    return writable;
  };
  try {
    const { bos_token_id, eos_token_id } = config;
    await writeJson(create, "config.json", config);
    await writeJson(create, "generation_config.json", { bos_token_id, eos_token_id });
    const weights = new RandomWeights(options.seed ?? 0);
    await writeSafetensorsShards(create, tensors, (tensor) => weights.bytesOf(tensor), {
      maxShardBytes: (options["shard-megabytes"] ?? 5000) * 1e6,
      signal,
      onProgress: (bytes) => progress.show(formatProgress(bytes, total, seconds())),
    });
  } catch (error) {
    for (const name of written) await Deno.remove(`${folder}/${name}`).catch(() => {});
    throw error;
  } finally {
    progress.clear();
  }
  const sum = formatProgress(total, total, seconds());
  console.log(`${folder}: ${parameters.toLocaleString("en")} parameters in ${dtype}, ${sum}`);
  for (const name of written) console.log(`  ${name}`);
  return EXIT.ok;
}

/** `config.json` as the model was released with it. */
export function checkpointConfig(
  shape: ShapeName,
  layers: number = TRAITS[shape].layers,
  dtype: WeightDtype = TRAITS[shape].dtype,
): Readonly<Record<string, unknown>> {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, rotaryDim, vocabSize } =
    MODEL_SHAPES[shape];
  const { eosTokenId, hasQkvBias, hasQkNorm, isParallel } = TRAITS[shape];
  return {
    architectures: ["StableLmForCausalLM"],
    bos_token_id: eosTokenId,
    eos_token_id: eosTokenId,
    hidden_act: "silu",
    hidden_size: hiddenSize,
    initializer_range: 0.02,
    intermediate_size: intermediateSize,
    layer_norm_eps: 1e-5,
    max_position_embeddings: 4096,
    model_type: "stablelm",
    num_attention_heads: numHeads,
    num_hidden_layers: layers,
    num_key_value_heads: numKvHeads,
    partial_rotary_factor: rotaryDim / headDim,
    qk_layernorm: hasQkNorm ?? false,
    rope_scaling: null,
    rope_theta: 10_000,
    tie_word_embeddings: false,
    torch_dtype: TORCH_DTYPES[dtype],
    use_cache: true,
    use_parallel_residual: isParallel ?? false,
    use_qkv_bias: hasQkvBias ?? false,
    vocab_size: vocabSize,
  };
}

/** The tensors that Hugging Face's model of this shape has, in the order of the forward pass. */
export function checkpointTensors(
  shape: ShapeName,
  layers: number = TRAITS[shape].layers,
  dtype: WeightDtype = TRAITS[shape].dtype,
): NewTensor[] {
  const config = StableLmConfig.fromJson(checkpointConfig(shape, layers, dtype));
  return parametersOf(config, "causal-lm").flatMap(({ tensors, tensorShape }) =>
    tensors.map((name) => ({ name, dtype, shape: tensorShape }))
  );
}

/** Makes the folder unless it is there; what is in it already must not be mixed with what is new. */
async function makeEmptyFolder(folder: string): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(folder)) {
      throw new UsageError(`--out must be a new or an empty folder: ${folder} holds ${name}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await Deno.mkdir(folder, { recursive: true });
  }
}

async function writeJson(
  create: (name: string) => Promise<WritableStream<Uint8Array<ArrayBuffer>>>,
  name: string,
  value: object,
): Promise<void> {
  const writer = (await create(name)).getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n"));
  await writer.close();
}

function formatProgress(bytes: number, total: number, seconds: number): string {
  const size = `${(bytes / 1e9).toFixed(3)} GB`;
  const rate = `${(bytes / 1e6 / Math.max(seconds, 1e-3)).toFixed(0)} MB/s`;
  return `${size}${bytes < total ? ` of ${(total / 1e9).toFixed(3)}` : ""}, ` +
    `${seconds.toFixed(1)} s, ${rate}`;
}

if (import.meta.main) Deno.exit(await runCommand(MAKE_CHECKPOINT_COMMAND, makeCheckpoint));

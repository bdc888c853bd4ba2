/** Model folders made of the recipe's weights, for tests that need files. */

import { writeSafetensorsShards } from "../model/weights/safetensors_writer.ts";
import type { StableLmConfig } from "../model/config.ts";
import type { WeightSource } from "../model/weights/weight_source.ts";
import { type RecipeOptions, recipeSource } from "./recipe.ts";

/** Where tests write. */
const SCRATCH = new URL("scratch/", import.meta.url);

/** A folder that is removed with its scope. */
export interface ScratchFolder extends AsyncDisposable {
  /** Where it is. */
  readonly path: string;
}

/** An empty folder of one's own. */
export async function scratchFolder(): Promise<ScratchFolder> {
  const path = new URL(`${crypto.randomUUID()}/`, SCRATCH).pathname;
  await Deno.mkdir(path, { recursive: true });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Writes `config.json` and the recipe's weights into a folder. */
export async function writeCheckpoint(
  folder: string,
  config: StableLmConfig,
  options: RecipeOptions & { readonly maxShardBytes?: number } = {},
): Promise<readonly string[]> {
  const { maxShardBytes = 5e9, ...recipe } = options;
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  return await writeWeights(folder, recipeSource(config, recipe), maxShardBytes);
}

/** Writes every tensor of a source as safetensors. */
export async function writeWeights(
  folder: string,
  source: WeightSource,
  maxShardBytes: number,
): Promise<readonly string[]> {
  return await writeSafetensorsShards(
    async (name) => (await Deno.create(`${folder}/${name}`)).writable,
    Array.from(source.tensors, ([name, { shape, dtype }]) => ({ name, shape, dtype })),
    async function* ({ name }) {
      yield (await source.read(name)).bytes;
    },
    { maxShardBytes },
  );
}

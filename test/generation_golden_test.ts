/** `generate` against that of Hugging Face transformers, on both backends. */

import { assert, assertEquals } from "@std/assert";
import {
  checkGeneration,
  checkSolo,
  GENERATION_FAMILIES,
  type GenerationFamily,
  GenerationModels,
  type GenerationRun,
  readGenerations,
  shortened,
} from "./generation_golden.ts";
import { type Place, PLACES } from "./golden_run.ts";

/** Models whose batches are run row by row too. */
const SOLO: readonly string[] = ["base", "parallel_qk_norm", "head_80"];

/** Steps that are enough to see that a model of another shape runs on the GPU as on the CPU. */
const FEW_TOKENS = 10;

for (const place of PLACES) {
  for (const family of GENERATION_FAMILIES) {
    Deno.test(`generate as transformers: ${family} on the ${place}`, async (t) => {
      const file = readGenerations(family);
      using models = new GenerationModels(place, file);
      const runs = file.runs.flatMap((run) => chosenRuns(place, family, run));
      for (const [model, ofModel] of Map.groupBy(runs, ({ model }) => model)) {
        await t.step(`${model}, ${ofModel.length} runs`, async () => {
          const failed: string[] = [];
          for (const run of ofModel) {
            const message = await failure(models, place, run);
            if (message !== undefined) failed.push(`${run.name}: ${message}`);
          }
          assert(failed.length === 0, `${failed.length} differ\n${failed.join("\n")}`);
        });
      }
    });
  }
}

/**
 * Everything on the CPU. The GPU of a machine without one takes ten times as long: it has the base model, but for
 * settings that only the host sees, and of the others what depends on their shapes.
 */
function chosenRuns(place: Place, family: GenerationFamily, run: GenerationRun): GenerationRun[] {
  if (place === "CPU") return [run];
  if (run.model === "base") return HOST_ONLY[family]?.test(run.name) ? [] : [run];
  if (family === "greedy" && run.name === "padded batch, 64 tokens") {
    return [shortened(run, FEW_TOKENS)];
  }
  return family === "beams" && run.name === "2 beams, padded batch" ? [run] : [];
}

/** Runs whose settings make the GPU do nothing that other runs do not. */
const HOST_ONLY: Readonly<Partial<Record<GenerationFamily, RegExp>>> = {
  options: /^(?!batch|guidance_scale|random|texts that end rows)/,
  beams: /^[23] beams, length_penalty/,
  assisted: /^lookup of [23]/,
};

/** Why a run is not what it should be; undefined if it is. */
async function failure(
  models: GenerationModels,
  place: Place,
  run: GenerationRun,
): Promise<string | undefined> {
  try {
    await checkGeneration(models, place, run);
    if (place === "CPU" && run.solo_lengths && SOLO.includes(run.model)) {
      await checkSolo(models, run);
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

Deno.test("the golden runs of generate are all there", () => {
  const counts = GENERATION_FAMILIES.map((family) => readGenerations(family).runs.length);
  assertEquals(counts, [149, 37, 181, 169, 100]);
});

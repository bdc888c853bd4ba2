/** Classification heads and losses against Hugging Face transformers, on both backends. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { CpuBackend, ModelInputError } from "../mod.ts";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig } from "../model/config.ts";
import { StableLmForSequenceClassification } from "../model/sequence_classification.ts";
import { goldenModel, readGolden } from "./golden_files.ts";
import { checkModels, PLACES } from "./golden_run.ts";
import { recipeSource, recipeTensor } from "./recipe.ts";

for (const kind of ["sequence", "token"]) {
  for (const place of PLACES) {
    Deno.test(`${kind} classification on the ${place}`, async (t) => {
      await checkModels(t, place, readGolden(`${kind}_classification`));
    });
  }

  for (const dtype of ["f16", "bf16"] as const) {
    Deno.test(`${kind} classification with ${dtype} weights`, async (t) => {
      const golden = readGolden(`${kind}_classification`);
      await checkModels(t, "CPU", golden, { dtype });
    });
  }
}

Deno.test("several sequences are not classified without a padding id", async () => {
  const golden = readGolden("sequence_classification");
  const config = StableLmConfig.fromJson(goldenModel(golden, "no_pad").config);
  const head = "sequence-classification";
  using source = recipeSource(config, { head });
  const backend = new CpuBackend();
  using model = await StableLmForSequenceClassification.load({ backend, config, source });
  const inputsEmbeds = recipeTensor("inputs_embeds", [2, 3, config.hidden_size]);
  for (const inputs of [{ inputIds: [[5, 17], [3, 96]] }, { inputsEmbeds }]) {
    await assertRejects(() => model.forward(inputs), ModelInputError, "pad_token_id");
  }
});

Deno.test("a causal loss counts what transformers counts", async () => {
  const config = StableLmConfig.fromJson(goldenModel(readGolden("base")).config);
  using source = recipeSource(config);
  const backend = new CpuBackend();
  using model = await StableLmForCausalLM.load({ backend, config, source });
  const inputIds = [[5, 17, 3, 96, 42, 8, 60, 23]];
  const loss = async (inputs: Parameters<typeof model.forward>[0]) => {
    using output = await model.forward({ inputIds, ...inputs });
    return output.loss;
  };
  const labels = [[-100, -100, -100, -100, 42, 8, 60, 23]];
  const shiftLabels = [[-100, -100, -100, 42, 8, 60, 23, -100]];
  const mean = (await loss({ labels }))!;
  assertEquals(await loss({ shiftLabels }), mean);
  const sum = (await loss({ labels, numItemsInBatch: 1 }))!;
  assert(Math.abs(sum / 4 - mean) < 1e-6 * mean);
  assertEquals(await loss({}), undefined);
});

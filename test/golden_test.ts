/** The decoder and its language-model head against Hugging Face transformers, on both backends. */

import { assert, assertEquals } from "@std/assert";
import { CpuBackend } from "../mod.ts";
import { StableLmModel } from "../model/base_model.ts";
import { StableLmConfig } from "../model/config.ts";
import { sharedBackend } from "./device.ts";
import { CAUSAL_FILES, goldenFileNames, OTHER_FILES, readGolden } from "./golden_files.ts";
import { checkModels, checkRun, loadGolden, PLACES } from "./golden_run.ts";
import { recipeSource } from "./recipe.ts";

Deno.test("every golden file is read by a test", () => {
  assertEquals(goldenFileNames().sort(), [...CAUSAL_FILES, ...OTHER_FILES].sort());
});

for (const place of PLACES) {
  for (const file of CAUSAL_FILES) {
    Deno.test(`causal model ${file} on the ${place}`, async (t) => {
      await checkModels(t, place, readGolden(file));
    });
  }

  Deno.test(`RoPE scalings on the ${place}`, async (t) => {
    await checkModels(t, place, readGolden("rope"));
  });

  Deno.test(`the decoder without a head on the ${place}`, async (t) => {
    await checkModels(t, place, readGolden("base_models"));
  });

  Deno.test(`f16 on the ${place} is about as near to f64 as transformers in f16`, async (t) => {
    await checkModels(t, place, readGolden("half"), { dtype: "f16", activationDtype: "f16" });
  });

  for (const dtype of ["bf16", "f16"] as const) {
    Deno.test(`${dtype} weights with f32 activations on the ${place}`, async (t) => {
      const runs = ["prompt", "left_padded", "chunks"];
      for (const file of ["base", "parallel_qk_norm", "head_80"]) {
        await checkModels(t, place, readGolden(file), { dtype, runs });
      }
    });
  }
}

Deno.test("the decoder of a causal checkpoint gives that checkpoint's hidden states", async () => {
  const { models, tensors } = readGolden("base");
  const [entry] = models;
  const [prompt] = entry!.runs;
  const { labels: _, ...call } = prompt!.calls[0]!;
  const hidden = new Map([...tensors].filter(([name]) => !/logits|loss/.test(name)));
  const config = StableLmConfig.fromJson(entry!.config);
  using source = recipeSource(config);
  using model = await StableLmModel.load({ backend: new CpuBackend(), config, source });
  const run = { ...prompt!, calls: [call] };
  const compared = await checkRun(model, { models, tensors: hidden }, entry!, run, "CPU");
  assertEquals(compared, 7); // 3 hidden states, 2 layers of attention weights, keys and values
});

Deno.test("a config says the same in the form of transformers 4", () => {
  const forms = [...CAUSAL_FILES, "rope"].flatMap((file) => readGolden(file).models)
    .filter(({ config_v4 }) => config_v4 !== undefined);
  assertEquals(forms.length, 11);
  for (const { name, config, config_v4 } of forms) {
    const [older, newer] = [config_v4, config].map((form) => StableLmConfig.fromJson(form));
    assertEquals(older!.toJSON(), newer!.toJSON(), name);
  }
});

Deno.test("running golden models leaves no tensor behind", async (t) => {
  const { memory: before } = await sharedBackend();
  const golden = readGolden("base");
  {
    using _ = await loadGolden("GPU", golden.models[0]!);
    const { memory } = await sharedBackend();
    assert(memory.liveTensors > before.liveTensors);
  }
  await checkModels(t, "GPU", golden);
  const { memory: after } = await sharedBackend();
  assertEquals([after.liveTensors, after.liveBytes], [before.liveTensors, before.liveBytes]);
});

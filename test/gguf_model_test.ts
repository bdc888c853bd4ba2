/** GGUF files as whole models, against Hugging Face's StableLM with the same weights. */

import { assert, assertEquals } from "@std/assert";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { CpuBackend } from "../runtime/cpu_backend.ts";
import { parseSafetensors } from "../runtime/safetensors.ts";

const FOLDER = new URL("testdata/gguf/", import.meta.url).pathname;
const IDS = [5, 17, 3, 60, 42, 8, 50, 23];

/** Of the largest logit; both sides were seen to differ by 6e-7 of it, ten roundings of f32. */
const TOLERANCE = 4e-6;

const golden = parseSafetensors(
  Deno.readFileSync(`${FOLDER}tiny_logits.safetensors`),
  "tiny_logits.safetensors",
).tensors;

for (const [file, { numbers: wanted, shape }] of golden) {
  Deno.test(`${file} gives the logits that Hugging Face computes from its weights`, async () => {
    using backend = new CpuBackend();
    using model = await StableLmForCausalLM.fromPretrained(FOLDER + file, {
      backend,
      dtype: "f32",
    });
    using output = await model.forward({ inputIds: [IDS] });
    const logits = await backend.read(output.logits);
    assertEquals(logits.shape, shape);
    const largest = Math.max(...Array.from(wanted, Math.abs));
    const error = Math.max(...Array.from(logits.numbers, (x, i) => Math.abs(x - wanted[i]!)));
    assert(largest > 1, "the logits say something");
    assert(error <= TOLERANCE * largest, `${error} is above ${TOLERANCE} of ${largest}`);
  });
}

// A StableLM from a folder, token by token: what comes after "The weather is always wonderful"?
import { argmax, GpuBackend, StableLmForCausalLM } from "../mod.ts";

using backend = await GpuBackend.create();
using model = await StableLmForCausalLM.fromPretrained("./stablelm-3b-4e1t", {
  backend,
  dtype: "bf16", // how weights are held: f32, f16 or bf16; the checkpoint's own unless given
});

let inputIds = [[510, 8588, 310, 1900, 9386]]; // the words, as the model's tokenizer has them
using cache = model.createCache({ capacity: 64 });
for (let step = 0; step < 4; step++) {
  // The prompt first, then one token at a time; the cache holds what came before.
  using output = await model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 });
  using ids = backend.run(argmax, { x: output.logits }, {}).ids;
  const [next = 0] = (await backend.read(ids)).numbers;
  console.log(`after ${cache.length} tokens: ${next}`);
  inputIds = [[next]];
}

// Text from a StableLM of the hub, or of a folder, as it comes.
import { GpuBackend, StableLmForCausalLM, Tokenizer } from "../mod.ts";

const where = "stabilityai/stablelm-3b-4e1t";
using backend = await GpuBackend.create();
const tokenizer = await Tokenizer.fromPretrained(where);
using model = await StableLmForCausalLM.fromPretrained(where, {
  backend,
  dtype: "bf16", // how weights are held: f32, f16 or bf16; the checkpoint's own unless given
});

const stream = model.stream({
  inputIds: [tokenizer.encode("The weather is always wonderful")],
  tokenizer,
  maxNewTokens: 40,
  doSample: true, // false takes the likeliest token each time; else the checkpoint says
  temperature: 0.7,
  topP: 0.9,
  seed: 7,
});
const encoder = new TextEncoder();
for await (const { text } of stream) await Deno.stdout.write(encoder.encode(text));

const { finishReasons, newTokens } = await stream.output;
console.log(`\n${newTokens[0]!.length} tokens, ended by ${finishReasons[0]}`);

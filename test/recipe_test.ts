import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { StableLmConfig } from "../model/config.ts";
import { fnv1a, mixed, recipeSource, recipeTensor, recipeValues } from "./recipe.ts";

const SIZES = {
  vocab_size: 97,
  hidden_size: 96,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  qk_layernorm: true,
  use_parallel_residual: true,
};
const TINY = new StableLmConfig(SIZES);

Deno.test("the recipe's hashes are the known ones", () => {
  const seed = fnv1a("model.embed_tokens.weight");
  assertEquals(seed, 1077599862);
  const hashes = [0, 1, 2, 3].map((i) => mixed(seed, i));
  assertEquals(hashes, [3196210859, 4067136565, 2710917819, 1360899373]);
});

Deno.test("the recipe's values are the known ones", () => {
  const known: Readonly<Record<string, readonly number[]>> = {
    "model.embed_tokens.weight": [0.484375, 0.890625, 0.2578125, -0.3671875, -0.4765625, 0.1953125],
    "model.norm.weight": [0.515625, 0.703125, 1.34375],
    "model.norm.bias": [-0.0546875, 0.248046875, 0.12109375],
    "model.layers.0.self_attn.q_proj.weight": [0.1796875, 0.001953125, -0.23828125],
    "lm_head.weight": [0.154296875, -0.03515625, -0.25],
  };
  for (const [name, values] of Object.entries(known)) {
    assertEquals([...recipeValues(name, values.length)], values, name);
  }
});

Deno.test("all dtypes hold the recipe's values exactly", async () => {
  using single = recipeSource(TINY);
  for (const dtype of ["f16", "bf16"] as const) {
    using half = recipeSource(TINY, { dtype });
    for (const name of single.tensors.keys()) {
      const exact = (await single.read(name)).numbers;
      const stored = await half.read(name);
      assertEquals(stored.dtype, dtype);
      assertEquals(Array.from(stored.numbers), Array.from(exact), name);
    }
  }
});

Deno.test("the recipe's tensors are those of a checkpoint", async () => {
  using source = recipeSource(TINY);
  assertEquals(source.tensors.size, 34);
  assertEquals(source.tensors.get("lm_head.weight")?.shape, [97, 96]);
  const keyNorm = "model.layers.1.self_attn.k_layernorm.norms.1.weight";
  assertEquals(source.tensors.get(keyNorm)?.shape, [24]);
  let end = 0;
  let elements = 0;
  for (const [name, { shape, byteOffset, byteLength }] of source.tensors) {
    assertEquals(byteOffset, end, name);
    end += byteLength;
    const tensor = await source.read(name);
    assertEquals(tensor.shape, shape);
    elements += tensor.values.length;
  }
  assertEquals([elements, end], [100_128, 400_512]);
});

Deno.test("names follow head and prefix", () => {
  const names = (options: Parameters<typeof recipeSource>[1], tie = false) => {
    const config = new StableLmConfig({ ...SIZES, tie_word_embeddings: tie });
    using source = recipeSource(config, options);
    return new Set(source.tensors.keys());
  };
  assert(!names({}, true).has("lm_head.weight"));
  assert(names({ head: "token-classification" }).has("score.bias"));
  const sequence = names({ head: "sequence-classification" });
  assertEquals([sequence.has("score.weight"), sequence.has("score.bias")], [true, false]);
  const decoder = names({ head: "none", prefix: false });
  assertEquals([decoder.size, decoder.has("layers.0.mlp.up_proj.weight")], [33, true]);
});

Deno.test("rows of a recipe's tensor are the rows of the whole", async () => {
  using source = recipeSource(TINY, { dtype: "bf16" });
  const name = "model.layers.1.mlp.gate_proj.weight";
  const whole = Array.from((await source.read(name)).numbers);
  const range = fc.tuple(fc.nat(44), fc.nat(44)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
  await fc.assert(fc.asyncProperty(range, async ([begin, end]) => {
    const rows = await source.read(name, { begin: begin!, end: end! });
    assertEquals(rows.shape, [end! - begin!, 96]);
    assertEquals(Array.from(rows.numbers), whole.slice(begin! * 96, end! * 96));
  }));
  for (const rows of [{ begin: -1, end: 1 }, { begin: 2, end: 1 }, { begin: 0, end: 45 }]) {
    await assertRejects(() => source.read(name, rows), RangeError, "has 44 rows");
  }
  await assertRejects(() => source.read("lm_head.bias"), RangeError, "no tensor lm_head.bias");
  await assertRejects(() => source.read(name, undefined, AbortSignal.abort()), DOMException);
});

Deno.test("a recipe's tensor by itself has the values of its name", () => {
  const tensor = recipeTensor("inputs_embeds", [1, 2, 3]);
  assertEquals(tensor.shape, [1, 2, 3]);
  assertEquals(Array.from(tensor.numbers), [...recipeValues("inputs_embeds", 6)]);
});

/** A seed for each prompt: rows draw what they would draw alone. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelInputError } from "../mod.ts";
import { tinyCpuModel } from "./tiny_model.ts";

const PROMPTS = [[5, 9, 2], [7, 7, 40], [5, 9, 2]];
const DRAWN = { doSample: true, temperature: 2, topK: 0, maxNewTokens: 6, padTokenId: 0 };

Deno.test("prompts with seeds of their own draw as alone, whatever is beside them", async () => {
  using model = await tinyCpuModel();
  for (const numReturnSequences of [1, 2]) {
    const settings = { ...DRAWN, numReturnSequences };
    const seed = [3, 4n, 5];
    const together = await model.generate({ inputIds: PROMPTS, seed, ...settings });
    const alone: (readonly number[])[] = [];
    for (const [i, ids] of PROMPTS.entries()) {
      const { newTokens } = await model.generate({ inputIds: [ids], seed: seed[i]!, ...settings });
      alone.push(...newTokens);
    }
    assertEquals(together.newTokens, alone);
    assertEquals(new Set(alone.map(String)).size, 3 * numReturnSequences);
    const turned = await model.generate({
      inputIds: PROMPTS.toReversed(),
      seed: seed.toReversed(),
      ...settings,
    });
    const groups = (rows: readonly unknown[]) =>
      PROMPTS.map((_, i) => rows.slice(i * numReturnSequences, (i + 1) * numReturnSequences));
    assertEquals(groups(turned.newTokens).reverse(), groups(together.newTokens));
  }
});

Deno.test("seeds have to be as many as prompts, each of them one, and are not for beams", async () => {
  using model = await tinyCpuModel();
  const rows: [options: object, words: string][] = [
    [{ seed: [1, 2] }, "seed must be one, or one for each of 3 prompts: 2 seeds"],
    [{ seed: [1, 2, -3] }, "seed must be a whole number"],
    [{ seed: [1, undefined, 3] }, "seed must be a whole number"],
    [{ seed: [1, 2, 3], numBeams: 2 }, "seed must be one with numBeams above 1: 3"],
  ];
  for (const [options, words] of rows) {
    const call = () => model.generate({ inputIds: PROMPTS, ...DRAWN, ...options });
    const { message } = await assertRejects(call, ModelInputError);
    assert(message.includes(words), message);
  }
});
